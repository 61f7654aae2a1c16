"""`lookalike collections`: what can be searched."""

from __future__ import annotations

from typing import Annotated

import typer

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
    session.answer({"collection": found, "build": build}, *lines)


@command(collections, "delete", "lookalike collections delete photos --yes")
async def delete(session: Session, collection: _Collection, yes: Yes = False) -> None:
    """Delete a collection with all it holds. Pictures are not touched."""
    name = resource_name("collections", collection)
    found = await session.client.indexer.get_collection(name)
    session.confirm(f"Delete {name} with its {found.item_count:,} items for good?", yes)
    await session.client.indexer.delete_collection(name)
    session.answer({"deleted": name}, f"{name} was deleted")
