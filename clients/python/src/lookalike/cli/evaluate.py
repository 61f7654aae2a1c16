"""`lookalike evaluate`: how good a model ranks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from lookalike import workflows
from lookalike.cli._app import PROVE, app
from lookalike.cli._arguments import Dba, DbaPower, DbaRounds, DbaWeighting, ModelName, Queries, QueryDba, RankK, References, asked_dba
from lookalike.cli._session import Session, command, table


@command(
    app,
    "evaluate",
    "lookalike evaluate --queries ./query --references ./reference --model shoes -o ./report",
    "lookalike evaluate --queries ./query --references ./reference --model zero-shot --dba 0 -o ./zero-shot",
    panel=PROVE,
)
async def evaluate(
    session: Session,
    queries: Queries,
    references: References,
    model: ModelName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the report.", show_default=False)],
    dba: Dba = None,
    query_dba: QueryDba = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
    k: RankK = 1000,
) -> None:
    """Rank references for queries, exactly, and measure against their class folders.

    DIR gets report.json, per_query.json and report.html. Intervals resample whole classes.
    """
    on_references, on_queries = asked_dba([dba, query_dba], dba_weights, dba_power, dba_rounds)
    evaluation = await workflows.evaluate(
        session.client, queries, references, model, k=k, dba=on_references, query_dba=on_queries, observer=session.observer
    )
    report = await asyncio.to_thread(workflows.write_report, evaluation, output)
    session.note_left_out(evaluation.left_out_queries, "query files were left out")
    session.note_left_out(evaluation.left_out_references, "reference files were left out")
    if evaluation.unanswerable:
        session.note(f"{len(evaluation.unanswerable):,} queries have no reference of their class: they are in no mean")
    session.answer(report, _figures(report), f"report: {output / 'report.html'}")


def _figures(report: dict[str, Any]) -> Any:
    shown = table("figure", "#value", "95 % interval")
    for name, key in ((report["map_definition"], "map"), ("R@1", "r1"), ("R@5", "r5")):
        low, high = report[f"{key}_ci95"]
        shown.add_row(name, f"{report[key]:.4f}", f"{low:.4f} – {high:.4f}")
    for name, key in (("DBA of references", "dba"), ("DBA of queries", "query_dba")):
        choice = report[key]
        shown.add_row(name, str(choice["k"]) if choice["k"] else "off", f"from: {choice['source']}")
    return shown
