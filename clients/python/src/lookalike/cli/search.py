"""`lookalike search`: what looks like a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike import filters, workflows
from lookalike.cli._app import SEARCH, app
from lookalike.cli._session import Session, command, table
from lookalike.workflows._rank import MAX_K


@command(
    app,
    "search",
    "lookalike search holiday.jpg --collection photos",
    "lookalike search shoe.png --collection shoes -k 50 --json",
    "lookalike search shoe.png --collection shoes --label boot --label sandal",
    panel=SEARCH,
)
async def search(
    session: Session,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Picture to look for.", show_default=False)],
    collection: Annotated[str, typer.Option("--collection", help="Collection to search.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_K, help="Hits.")] = 10,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only items with this label; may be repeated.")] = None,
) -> None:
    """Show the pictures of a collection that are most like IMAGE, which is embedded with what the collection pins."""
    found = await workflows.search(session.client, image, collection, k, filter=filters.OneOf("label", label) if label else None)
    shown = table("#rank", "#score", "label", "id", "uri")
    for rank, hit in enumerate(found.hits, start=1):
        shown.add_row(str(rank), f"{hit.score:.3f}", hit.item.label, hit.item.id, hit.item.uri)
    how = "every vector was compared" if found.exact else f"candidates by {found.source.lower()}"
    session.note(f"{found.collection}, {found.model}; {1000 * found.seconds:.1f} ms, {how}")
    session.answer(found, shown if found.hits else "no item has such a label" if label else "the collection is empty")
