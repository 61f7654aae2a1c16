"""`lookalike search`: what looks like a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lookalike import Explanation, Hit, filters, workflows
from lookalike.cli._app import SEARCH, app
from lookalike.cli._session import Session, command, table
from lookalike.workflows._rank import MAX_K


@command(
    app,
    "search",
    "lookalike search holiday.jpg --collection photos",
    "lookalike search shoe.png --collection shoes -k 50 --json",
    "lookalike search shoe.png --collection shoes --label boot --label sandal",
    "lookalike search shoe.png --collection shoes --explain",
    panel=SEARCH,
)
async def search(
    session: Session,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture to look for.", show_default=False)],
    collection: Annotated[str, typer.Option("--collection", help="Collection to search.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_K, help="Hits.")] = 10,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only items with this label; may be repeated.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell of each hit why it is one; at most 100 hits then.")] = False,
) -> None:
    """Show the pictures of a collection that are most like IMAGE, which is embedded with what the collection pins."""
    wanted = filters.OneOf("label", label) if label else None
    found = await workflows.search(session.client, image, collection, k, filter=wanted, explain=explain)
    shown = table("#rank", "#score", "label", "id", "uri")
    for rank, hit in enumerate(found.hits, start=1):
        shown.add_row(str(rank), f"{hit.score:.3f}", hit.item.label, hit.item.id, hit.item.uri)
    how = "every vector was compared" if found.exact else f"candidates by {found.source.lower()}"
    session.note(f"{found.collection}, {found.model}; {1000 * found.seconds:.1f} ms, {how}")
    why = [f"#{rank} {_why(hit, hit.explanation)}" for rank, hit in enumerate(found.hits, start=1) if hit.explanation]
    nothing = "no item has such a label" if label else "the collection is empty"
    session.answer(found, *([shown, *why] if found.hits else [nothing]))


def _why(hit: Hit, explanation: Explanation) -> str:
    """Say in a line how raw and served score and rank compare, and what was averaged in."""
    scores = f"raw {explanation.raw_score:.3f} (rank {explanation.raw_rank:,}) → served {hit.score:.3f} (rank {explanation.rank:,})"
    state = f"{'newer than the build' if hit.fresh else 'from the build'}, {'augmented' if hit.augmented else 'raw'}"
    neighbours = ", ".join(f"{each.id} × {each.weight:.2f} (cosine {each.similarity:.3f})" for each in explanation.neighbours)
    return escape(f"{scores}; {state}" + (f" with {neighbours}" if neighbours else ""))
