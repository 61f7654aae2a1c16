"""`lookalike collections`: what can be searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from lookalike._models import BuildSpec, PlanEntry
from lookalike._names import resource_name
from lookalike.cli._app import collections
from lookalike.cli._arguments import Yes
from lookalike.cli._session import Session, command, table
from lookalike.workflows._dba import said_dba

_Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection.", show_default=False)]


@command(collections, "list", "lookalike collections list")
async def list_(session: Session) -> None:
    """List collections by name."""
    found = await session.client.indexer.list_collections()
    shown = table("collection", "#items", "#not in build", "engine", "model", "expires")
    for each in found:
        expires = f"{each.expire_time:%Y-%m-%d %H:%M}" if each.expire_time else "never"
        name = each.name.removeprefix("collections/")
        shown.add_row(name, f"{each.item_count:,}", f"{each.fresh_item_count:,}", each.engine.lower(), each.space.model_version, expires)
    session.answer({"collections": found}, shown if found else "no collections yet: lookalike index DIR --collection NAME")


@command(collections, "show", "lookalike collections show photos")
async def show(session: Session, collection: _Collection) -> None:
    """Show a collection and what its active build came to."""
    found = await session.client.indexer.get_collection(resource_name("collections", collection))
    build = await session.client.indexer.get_build(found.active_build) if found.active_build else None
    lines = [
        f"{found.name}: {found.item_count:,} items, {found.fresh_item_count:,} of them newer than the build; revision {found.revision}",
        f"embedded with {found.space.model_version}, profile {found.space.profile}, {found.space.dim} dimensions",
        f"space {found.space.fingerprint}",
    ]
    if build and build.report:
        report = build.report
        lines.append(
            f"{build.name}: {report.item_count:,} items, DBA {said_dba(report.dba)}, answers by {report.engine.lower()}: {report.reason}"
        )
        if report.chosen:
            chosen = report.chosen
            lines.append(
                f"recall@10 {chosen.recall_at_10:.3f} against exact (at least {chosen.recall_at_10_low:.3f}), search_k {chosen.search_k:,}"
            )
    if build:
        lines.append("it is pinned: no automatic build replaces it" if build.pinned else "builds follow by themselves as items change")
    shown = [_plan(build.report.plan)] if build and build.report and build.report.plan else []
    session.answer({"collection": found, "build": build}, *lines, *shown)


def _plan(plan: Sequence[PlanEntry]) -> RenderableType:
    """Return what answers which searches as a table."""
    shown = table("#hits up to", "queries", "source", "#dimensions", "#search_k", "#depth", "#recall", "#at least", "#ms a query")
    for each in plan:
        figures = [f"{number:,}" if number else "" for number in (each.reduced_dim, each.search_k, each.depth)]
        measured = [f"{each.recall:.3f}", f"{each.recall_low:.3f}", f"{each.milliseconds:.2f}"]
        shown.add_row(f"{each.k:,}", "batches" if each.batch else "single", each.source.lower(), *figures, *measured)
    return shown


@command(collections, "purge", "lookalike collections purge photos")
async def purge(session: Session, collection: _Collection) -> None:
    """Build anew, delete older builds, and leave nothing of deleted items on the server's disk."""
    found = await session.client.indexer.get_collection(resource_name("collections", collection))
    active = await session.client.indexer.get_build(found.active_build) if found.active_build else None
    spec = dataclasses.replace(active.spec if active and active.spec else BuildSpec(), purge=True)
    begun = await session.client.indexer.create_build(found.name, spec)
    session.if_interrupted = f"{begun.name} goes on"
    build = await session.client.indexer.wait_for_build(begun.name, session.observer.event)
    items = build.report.item_count if build.report else 0
    session.answer(build, f"{build.name} serves {items:,} items; nothing is left of what was deleted before it, and no older build")


@command(collections, "delete", "lookalike collections delete photos --yes")
async def delete(session: Session, collection: _Collection, yes: Yes = False) -> None:
    """Delete a collection with all it holds. Pictures are not touched."""
    name = resource_name("collections", collection)
    found = await session.client.indexer.get_collection(name)
    session.confirm(f"Delete {name} with its {found.item_count:,} items for good?", yes)
    await session.client.indexer.delete_collection(name)
    session.answer({"deleted": name}, f"{name} was deleted")


@command(collections, "export", "lookalike collections export photos --to photos.tar")
async def export(
    session: Session,
    collection: _Collection,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Archive to write; one that is there is replaced.", show_default=False)],
) -> None:
    """Write a collection with all its items to an archive that anyone with numpy can read."""
    name = resource_name("collections", collection)
    shown = _Bytes(session, "export", 0)
    exported = await session.client.indexer.export_collection(name, to, shown.more)
    document = {"exported": exported, "file": str(to), "bytes": shown.done}
    session.answer(
        document, f"{to}: {exported.item_count:,} items of {exported.collection}, revision {exported.revision}; {shown.done:,} bytes"
    )


@command(collections, "import", "lookalike collections import photos.tar --collection photos-again")
async def import_(
    session: Session,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="Archive that `export` wrote.", show_default=False)],
    collection: Annotated[str, typer.Option("--collection", help="Name of the new collection.", show_default=False)],
) -> None:
    """Make a new collection of an archive. Searches compare every vector until it is built."""
    shown = _Bytes(session, "import", archive.stat().st_size if archive.is_file() else 0)
    collection_id = resource_name("collections", collection).removeprefix("collections/")
    found = await session.client.indexer.import_collection(archive, collection_id, sent=shown.more)
    session.answer({"collection": found}, f"{found.name}: {found.item_count:,} items, not yet indexed")


class _Bytes:
    """Shows how many bytes have passed."""

    def __init__(self, session: Session, stage: str, total: int) -> None:
        self.done = 0
        self._session, self._stage, self._total = session, stage, total

    def more(self, count: int) -> None:
        self.done += count
        self._session.observer.progress(self._stage, self.done, self._total, "bytes")
