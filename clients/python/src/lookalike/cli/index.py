"""`lookalike index`: a folder of pictures becomes searchable."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from lookalike import workflows
from lookalike._models import Engine
from lookalike.cli._app import SEARCH, app
from lookalike.cli._arguments import Dba, DbaPower, DbaRounds, DbaWeighting, Folder, asked_dba
from lookalike.cli._session import Session, command
from lookalike.workflows._dba import said_dba


class _Engine(StrEnum):
    annoy = "annoy"
    exact = "exact"


_ENGINE_HELP = (
    "What answers searches of a new collection. Default: annoy, but for small collections and where it would find too little;"
    " annoy given here is used in any case."
)


@command(
    app,
    "index",
    "lookalike index ~/Pictures --collection photos",
    "lookalike index ./shoes --collection shoes --model shoes --dba 3",
    "lookalike index ./shoes --collection shoes --engine exact",
    panel=SEARCH,
)
async def index(
    session: Session,
    folder: Folder,
    collection: Annotated[str, typer.Option("--collection", help="Collection to write into; made if it is not there.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model of a new collection. Default: the newest trained, else the built-in zero-shot one.",
            show_default=False,
        ),
    ] = None,
    dba: Dba = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
    engine: Annotated[_Engine | None, typer.Option("--engine", help=_ENGINE_HELP, show_default=False)] = None,
) -> None:
    """Embed the pictures of a folder, flat or nested, into a collection, and build its index.

    First-level folders become labels. A second run embeds only what is new or changed. Items whose picture is gone are left alone.
    """
    (augmentation,) = asked_dba([dba], dba_weights, dba_power, dba_rounds)
    indexed = await workflows.index(
        session.client,
        folder,
        collection,
        model=model,
        dba=augmentation,
        engine=Engine(engine.upper()) if engine else None,
        force_engine=engine is _Engine.annoy,
        observer=session.observer,
    )
    session.note_left_out(indexed.left_out)
    if indexed.gone:
        session.note(f"{len(indexed.gone):,} items are no longer in the folder, such as {indexed.gone[0]!r}: they are left alone")
    session.answer(indexed, *_lines(indexed))


def _lines(indexed: workflows.Indexed) -> list[str]:
    name = indexed.collection.name.removeprefix("collections/")
    done = f"{indexed.embedded_count:,} were embedded, {indexed.unchanged_count:,} were there already"
    lines = [
        f"{indexed.collection.name}: {indexed.collection.item_count:,} items; {done}, {indexed.hidden_count:,} hidden files skipped",
        f"model: {indexed.model} ({indexed.model_why})",
    ]
    if indexed.build and indexed.build.report:
        report = indexed.build.report
        lines.append(
            f"DBA: {said_dba(report.dba)} (from: {indexed.dba_source}); searches are answered by {report.engine.lower()}: {report.reason}"
        )
    else:
        lines.append("the build is up to date")
    return [*lines, f"search it: lookalike search IMAGE --collection {name}"]
