"""`lookalike submit`: a ranked submission."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike.cli._app import PROVE, app
from lookalike.cli._arguments import Dba, DbaPower, DbaRounds, DbaWeighting, ModelName, Queries, QueryDba, RankK, References, asked_dba
from lookalike.cli._documents import document
from lookalike.cli._session import Session, command
from lookalike.workflows._dba import dba_document, said_dba


@command(
    app,
    "submit",
    "lookalike submit --queries ./query --references ./reference --model shoes -o submission.csv",
    "lookalike submit --queries ./query --references ./reference --model shoes --dba 3 --query-dba 3 -k 1000 -o submission.csv",
    panel=PROVE,
)
async def submit(
    session: Session,
    queries: Queries,
    references: References,
    model: ModelName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.", show_default=False)],
    dba: Dba = None,
    query_dba: QueryDba = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
    k: RankK = 1000,
) -> None:
    """Rank all references for every query, exactly, and write a line `name,ref1 ref2 …` for each.

    Both folders are flat; names lose their extension. FILE appears whole and checked, or not at all. A second run goes on where the first
    one stopped.
    """
    on_references, on_queries = asked_dba([dba, query_dba], dba_weights, dba_power, dba_rounds)
    done = await workflows.submit(
        session.client, queries, references, model, output, k=k, dba=on_references, query_dba=on_queries, observer=session.observer
    )
    session.note_left_out(done.left_out_queries, "query files are not in the ranking")
    session.note_left_out(done.left_out_references, "reference files are not in the ranking")
    if done.missing:
        session.note(f"{done.missing:,} queries could not be read: their lines have no references")
    session.answer(
        {**document(done), "dba": dba_document(done.dba), "query_dba": dba_document(done.query_dba)},
        f"{done.path}: {done.rows:,} queries × {min(done.k, done.references):,} references with {done.model}",
        f"DBA of references: {_augmentation(done.dba)}; of queries: {_augmentation(done.query_dba)}",
    )


def _augmentation(choice: workflows.DbaChoice) -> str:
    return f"{said_dba(choice.spec)} ({choice.source})"
