"""`lookalike search`: what looks like a picture."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lookalike import workflows
from lookalike._exceptions import InputError
from lookalike._models import Combine, Expansion, Explanation, Hit
from lookalike.cli._app import SEARCH, app
from lookalike.cli._arguments import Labels, Where
from lookalike.cli._conditions import wanted
from lookalike.cli._session import Session, command, table
from lookalike.workflows._rank import MAX_K


class _Combine(StrEnum):
    """As `Combine`, in the words of the command line."""

    mean = "mean"
    best = "best"


@command(
    app,
    "search",
    "lookalike search holiday.jpg --collection photos",
    "lookalike search shoe.png --collection shoes -k 50 --json",
    "lookalike search shoe.png --collection shoes --label boot --label sandal",
    "lookalike search shoe.png --collection shoes --where 'payload.price<100' --where '!payload.sold?'",
    "lookalike search shoe.png --collection shoes --explain",
    "lookalike search front.png side.png --collection shoes --combine best",
    "lookalike search --like boots/17.png --collection shoes --group-by-label --min-score 0.5",
    "lookalike search shoe.png --collection shoes --expand 10,3",
    panel=SEARCH,
)
async def search(
    session: Session,
    collection: Annotated[str, typer.Option("--collection", help="Collection to search, or an alias of it.", show_default=False)],
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE…", help="Picture to look for; several are one query.", show_default=False)
    ] = None,
    like: Annotated[list[str] | None, typer.Option("--like", metavar="ID", help="Item to look like instead; may be repeated.")] = None,
    combine: Annotated[
        _Combine, typer.Option("--combine", help="How several make one query: by their mean, or an item's best score with any.")
    ] = _Combine.mean,
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_K, help="Hits.")] = 10,
    label: Labels = None,
    where: Where = None,
    group_by_label: Annotated[bool, typer.Option("--group-by-label", help="Only the best hit of each label.")] = False,
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=-1, max=1, help="Only hits with at least this score.", show_default=False)
    ] = None,
    expand: Annotated[
        str | None,
        typer.Option(
            "--expand",
            metavar="K[,ALPHA]",
            help="Search again with the mean of the query and its K nearest, each weighing its score to the power of ALPHA (0: all alike).",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare every vector.")] = False,
    recall: Annotated[
        float | None,
        typer.Option("--recall", min=0, max=1, help="Be content with this share of the nearest, as measured; below 1.", show_default=False),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell of each hit why it is one; at most 100 hits then.")] = False,
) -> None:
    """Show the pictures of a collection that are most like IMAGE, which is embedded with what the collection pins."""
    found = await workflows.search(
        session.client,
        images or [],
        collection,
        k,
        like=like or [],
        combine=Combine[combine.name.upper()],
        exact=exact,
        recall=recall,
        min_score=min_score,
        expansion=_expansion(expand) if expand is not None else None,
        group_by_label=group_by_label,
        filter=wanted(label, where),
        explain=explain,
    )
    shown = table("#rank", "#score", "label", "id", "uri")
    for rank, hit in enumerate(found.hits, start=1):
        shown.add_row(str(rank), f"{hit.score:.3f}", hit.item.label, hit.item.id, hit.item.uri)
    how = "every vector was compared" if found.exact else f"candidates by {found.source.lower()}"
    session.note(f"{found.collection}, {found.model}; {1000 * found.seconds:.1f} ms, {how}")
    why = [f"#{rank} {_why(hit, hit.explanation)}" for rank, hit in enumerate(found.hits, start=1) if hit.explanation]
    session.answer(found, *([shown, *why] if found.hits else [_nothing(bool(label or where), min_score)]))


def _expansion(given: str) -> Expansion:
    k, _, alpha = given.partition(",")
    try:
        expansion = Expansion(int(k), float(alpha or 0))
    except ValueError:
        expansion = Expansion(0)
    if not (1 <= expansion.k <= 100 and 0 <= expansion.alpha <= 20):
        raise InputError(f"--expand {given}: it is K, 1 to 100, or K,ALPHA with ALPHA 0 to 20, such as 10,3", reason="BAD_EXPANSION")
    return expansion


def _nothing(filtered: bool, min_score: float | None) -> str:
    meant = "no item that --label and --where let through" if filtered else "no other item"
    return f"{meant} is there" if min_score is None else f"{meant} has a score of {min_score:g} or more"


def _why(hit: Hit, explanation: Explanation) -> str:
    """Say in a line how raw and served score and rank compare, and what was averaged in."""
    scores = f"raw {explanation.raw_score:.3f} (rank {explanation.raw_rank:,}) → served {hit.score:.3f} (rank {explanation.rank:,})"
    state = f"{'newer than the build' if hit.fresh else 'from the build'}, {'augmented' if hit.augmented else 'raw'}"
    neighbours = ", ".join(f"{each.id} × {each.weight:.2f} (cosine {each.similarity:.3f})" for each in explanation.neighbours)
    return escape(f"{scores}; {state}" + (f" with {neighbours}" if neighbours else ""))
