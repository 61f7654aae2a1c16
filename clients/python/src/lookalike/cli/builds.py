"""`lookalike builds`: what answers the searches of a collection."""

from __future__ import annotations

from typing import Annotated

import typer

from lookalike._exceptions import NotFound
from lookalike._models import Build, BuildSpec, DbaSpec, State
from lookalike._names import build_name, resource_name
from lookalike.cli._app import builds
from lookalike.cli._arguments import DbaOfBuild, DbaPower, DbaRounds, DbaWeighting, OfCollection, asked_dba
from lookalike.cli._build_report import curve, plan, planned, said_report, said_seconds, said_use, short_name
from lookalike.cli._session import Session, command, table
from lookalike.workflows import choose_dba
from lookalike.workflows._dba import said_dba

_Build = Annotated[str, typer.Argument(metavar="BUILD", help="Build, such as photos/3.", show_default=False)]
_BuildOrCollection = Annotated[
    str, typer.Argument(metavar="BUILD", help="Build, such as photos/3, or a collection: the build that answers it.", show_default=False)
]


@command(builds, "list", "lookalike builds list photos")
async def list_(session: Session, collection: OfCollection) -> None:
    """List the builds of a collection, newest first."""
    found = await session.client.indexer.list_builds(resource_name("collections", collection))
    shown = table("build", "state", "use", "#items", "answers by", "#recall@10", "DBA", "begun by", "queued")
    for each in found:
        begun_by = "itself" if each.automatic else "a call"
        row = (short_name(each.name), each.state.lower(), said_use(each), *_figures(each))
        shown.add_row(*row, begun_by, f"{each.create_time:%Y-%m-%d %H:%M}")
    session.answer({"builds": found}, shown if found else f"no builds yet: lookalike builds start {collection}")


def _figures(build: Build) -> list[str]:
    report = build.report
    if report is None:
        return [""] * 4
    entry = planned(report)
    return [f"{report.item_count:,}", report.engine.lower(), f"{entry.recall:.3f}" if entry else "1.000", said_dba(report.dba)]


@command(builds, "show", "lookalike builds show photos", "lookalike builds show photos/3 --json")
async def show(session: Session, build: _BuildOrCollection) -> None:
    """Show what a build came to: why it answers as it does, its plan, what recall costs, and how long it took."""
    found = await session.client.indexer.get_build(await _meant(session, build))
    use = said_use(found) or ("its files are no longer kept" if found.state is State.SUCCEEDED else "")
    begun = "began by itself" if found.automatic else "was asked for"
    lines = [f"{found.name}: {found.state.lower()}{', ' if use else ''}{use}", f"{begun} at {found.create_time:%Y-%m-%d %H:%M}"]
    if found.end_time:
        lines[-1] += f", ended at {found.end_time:%Y-%m-%d %H:%M}"
    if found.error:
        lines.append(f"{found.error.message} [{found.error.reason}]")
    if found.progress and not found.state.ended:
        lines.append(f"{found.progress.stage}: {found.progress.done:,} of {found.progress.total:,} {found.progress.unit}")
    if found.report is None:
        return session.answer(found, *lines)
    lines += [f"of revision {found.revision}: {said_report(found.report)}", said_seconds(found.report)]
    return session.answer(found, *lines, *plan(found.report), *curve(found.report))


async def _meant(session: Session, given: str) -> str:
    """Return the name of a build, or that of the one that answers a collection; raises NotFound where none does."""
    if "/" in given.removeprefix("collections/"):
        return build_name(given)
    found = await session.client.indexer.get_collection(resource_name("collections", given))
    if not found.active_build:
        raise NotFound(f"no build answers {found.name} yet: lookalike builds start {given}", reason="BUILD_NOT_FOUND")
    return found.active_build


@command(builds, "start", "lookalike builds start photos", "lookalike builds start shoes --dba 3 --force-engine --detach")
async def start(
    session: Session,
    collection: OfCollection,
    dba: DbaOfBuild = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
    trees: Annotated[
        int, typer.Option("--trees", min=0, max=1000, help="Annoy's trees; 0: several numbers are tried.", show_default=False)
    ] = 0,
    reduced_dim: Annotated[
        int,
        typer.Option(
            "--reduced-dim",
            min=0,
            max=16_384,
            help="Dimensions that the index sees, from 2; 0: several numbers are tried.",
            show_default=False,
        ),
    ] = 0,
    force_engine: Annotated[
        bool, typer.Option("--force-engine", help="Use the engine's index alone, small collection, missed target or not.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Leave nothing of deleted items, and no older build, on the server's disk.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is queued.")] = False,
) -> None:
    """Build a collection anew of all its items, and let the build answer searches. Ctrl-C leaves it running."""
    (asked,) = asked_dba([dba], dba_weights, dba_power, dba_rounds)
    found = await session.client.indexer.get_collection(resource_name("collections", collection))
    choice = choose_dba(asked, found.dba)
    spec = BuildSpec(choice.spec or DbaSpec(0), trees, reduced_dim, force_engine, purge)
    begun = await session.client.indexer.create_build(found.name, spec)
    if detach:
        return session.answer(begun, f"{begun.name} was queued; watch it: lookalike builds watch {short_name(begun.name)}")
    return await _wait(session, begun.name)


@command(builds, "watch", "lookalike builds watch photos/3")
async def watch(session: Session, build: _Build) -> None:
    """Show a build's progress to its end. Ctrl-C leaves it running."""
    await _wait(session, build_name(build))


async def _wait(session: Session, name: str) -> None:
    short = short_name(name)
    session.if_interrupted = f"{name} goes on; watch it: lookalike builds watch {short}; cancel it: lookalike builds cancel {short}"
    done = await session.client.indexer.wait_for_build(name, session.observer.event)
    session.answer(done, f"{name}: {said_report(done.report)}" if done.report else f"{name}: {done.state.lower()}")


@command(builds, "activate", "lookalike builds activate photos/2")
async def activate(session: Session, build: _Build) -> None:
    """Let a kept build answer searches again, with all later changes, and pin it: no automatic build replaces it.

    Starting or activating another build unpins it.
    """
    found = await session.client.indexer.activate_build(build_name(build))
    session.answer(found, f"{found.name} answers searches; it is pinned until another is started or activated")


@command(builds, "cancel", "lookalike builds cancel photos/3")
async def cancel(session: Session, build: _Build) -> None:
    """Ask a build to end; nothing of it is left. A build that has ended stays as it is."""
    found = await session.client.indexer.cancel_build(build_name(build))
    ended = found.state.ended
    session.answer(found, f"{found.name} {'has ended' if ended else 'was asked to end'}: {found.state.lower()}")
