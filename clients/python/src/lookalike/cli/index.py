"""`lookalike index`: a folder of pictures becomes searchable."""

from __future__ import annotations

from typing import Annotated

import typer

from lookalike import workflows
from lookalike.cli._app import SEARCH, app
from lookalike.cli._arguments import (
    Dba,
    DbaPower,
    DbaRounds,
    DbaWeighting,
    DTypeOfNew,
    EngineName,
    Folder,
    ModelOfNew,
    RecallOfNew,
    asked_dba,
    asked_dtype,
    asked_engine,
)
from lookalike.cli._session import Session, command
from lookalike.workflows._dba import said_dba

_ENGINE_HELP = (
    "What answers searches of a new collection. Default: annoy, but for small collections and where it would find too little;"
    " annoy or hnsw given here is used in any case."
)


@command(
    app,
    "index",
    "lookalike index ~/Pictures --collection photos",
    "lookalike index ./shoes --collection shoes --model shoes --dba 3",
    "lookalike index ./shoes --collection shoes --engine hnsw --recall 0.99 --dtype float16",
    panel=SEARCH,
)
async def index(
    session: Session,
    folder: Folder,
    collection: Annotated[
        str, typer.Option("--collection", help="Collection to write into, or an alias of it; made if it is not there.", show_default=False)
    ],
    model: ModelOfNew = None,
    dba: Dba = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
    engine: Annotated[EngineName | None, typer.Option("--engine", help=_ENGINE_HELP, show_default=False)] = None,
    recall: RecallOfNew = None,
    dtype: DTypeOfNew = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Leave nothing of deleted items on the server's disk; builds in any case.")
    ] = False,
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
        engine=asked_engine(engine),
        force_engine=engine not in (None, EngineName.exact),
        recall_target=recall,
        dtype=asked_dtype(dtype),
        purge=purge,
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
