"""`lookalike items`: what is in a collection."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lookalike._exceptions import InputError
from lookalike._models import Item, ItemChange
from lookalike._names import resource_name
from lookalike.cli._app import items
from lookalike.cli._arguments import Labels, OfCollection, Where, Yes
from lookalike.cli._conditions import wanted
from lookalike.cli._session import Session, command, table


@command(items, "list", "lookalike items list photos", "lookalike items list shoes --label boot --where '!payload.sold?' --limit 20")
async def list_(
    session: Session,
    collection: OfCollection,
    label: Labels = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Items.")] = 100,
) -> None:
    """List items by id."""
    found = await session.client.indexer.list_items(resource_name("collections", collection), filter=wanted(label, where), limit=limit)
    shown = table("id", "label", "uri", "payload")
    for item in found:
        shown.add_row(item.id, item.label, item.uri, json.dumps(dict(item.payload), ensure_ascii=False) if item.payload else "")
    session.answer({"items": found}, shown if found else "no such items")


@command(items, "count", "lookalike items count photos", "lookalike items count shoes --where 'payload.price<100'")
async def count(session: Session, collection: OfCollection, label: Labels = None, where: Where = None) -> None:
    """Count items."""
    found = await session.client.indexer.count_items(resource_name("collections", collection), filter=wanted(label, where))
    session.answer(found, f"{found.count:,} items")


@command(items, "values", "lookalike items values shoes", "lookalike items values shoes --path payload.price --limit 20")
async def values(
    session: Session,
    collection: OfCollection,
    path: Annotated[str, typer.Option("--path", help="label, uri or payload.KEY.")] = "label",
    label: Labels = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Values, the most frequent first.")] = 100,
) -> None:
    """Count how many items have which values of a field."""
    name = resource_name("collections", collection)
    found = await session.client.indexer.count_values(name, path, filter=wanted(label, where), limit=limit)
    shown = table("value", "#items")
    for each in found.values:
        shown.add_row(each.value if isinstance(each.value, str) else json.dumps(each.value), f"{each.count:,}")
    session.note(f"{found.distinct_count:,} different values; {found.missing_count:,} items have none")
    session.answer(found, shown if found.values else "no item has a value")


@command(
    items,
    "update",
    "lookalike items update shoes a/1.png --label boot",
    "lookalike items update shoes a/1.png --set price=9.5 --unset sold",
)
async def update(
    session: Session,
    collection: OfCollection,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Items to change.", show_default=False)],
    label: Annotated[str | None, typer.Option("--label", help="New label.", show_default=False)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Payload's key, a JSON value or a text.")] = None,
    unset: Annotated[list[str] | None, typer.Option("--unset", metavar="KEY", help="Payload's key to take away.")] = None,
) -> None:
    """Change label or payload of items; their vectors stay."""
    payload = dict(_assignment(each) for each in set_ or ())
    mask = (*(["label"] if label is not None else []), *(f"payload.{key}" for key in (*payload, *(unset or ()))))
    if not mask:
        raise InputError("nothing to change: give --label, --set or --unset", reason="WRONG_USAGE")
    changes = [ItemChange(Item(each, label=label or "", payload=payload or None), mask) for each in dict.fromkeys(ids)]
    done = await session.client.indexer.update_items(resource_name("collections", collection), changes)
    for item_id, problem in done.failures.items():
        session.note(f"{item_id}: {problem.message} [{problem.reason}]")
    session.answer(done, f"{done.updated_count:,} items were changed, {len(done.failures):,} were not")


@command(items, "delete", "lookalike items delete photos 2019/17.jpg", "lookalike items delete shoes --where payload.sold=true --yes")
async def delete(
    session: Session,
    collection: OfCollection,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Items to delete.", show_default=False)] = None,
    label: Labels = None,
    where: Where = None,
    yes: Yes = False,
) -> None:
    """Delete items by id, by label or by condition. Pictures are not touched; `lookalike collections purge` wipes the server's disk."""
    name, meant = resource_name("collections", collection), wanted(label, where)
    if bool(ids) == bool(meant):
        raise InputError("give ids, or --label and --where: one of both", reason="WRONG_USAGE")
    number = (await session.client.indexer.count_items(name, filter=meant)).count if meant else len(ids or ())
    session.confirm(f"Delete {number:,} items of {name} for good?", yes)
    deleted = await session.client.indexer.delete_items(name, None if meant else ids, filter=meant)
    session.answer({"deleted_count": deleted}, f"{deleted:,} items were deleted")


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"--set {text!r} is no KEY=VALUE", reason="WRONG_USAGE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
