"""`lookalike collections`: what can be searched, and by which names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike._exceptions import FailedPrecondition, NotFound
from lookalike._models import Alias, BuildSpec, Collection
from lookalike._names import resource_id, resource_name
from lookalike.cli._app import collections
from lookalike.cli._arguments import (
    Dba,
    DbaPower,
    DbaRounds,
    DbaWeighting,
    DTypeOfNew,
    EngineName,
    ModelOfNew,
    OfCollection,
    RecallOfNew,
    Yes,
    asked_dba,
    asked_dtype,
    asked_engine,
)
from lookalike.cli._build_report import plan, said_report
from lookalike.cli._session import Session, command, table
from lookalike.workflows._dba import said_dba

_NoAlias = Annotated[str, typer.Argument(metavar="COLLECTION", help="Collection; no alias.", show_default=False)]


@command(collections, "list", "lookalike collections list")
async def list_(session: Session) -> None:
    """List collections by name, with their aliases."""
    found = await session.client.indexer.list_collections()
    aliases = await session.client.indexer.list_aliases()
    shown = table("collection", "aliases", "#items", "#not in build", "engine", "model", "expires")
    for each in found:
        expires = f"{each.expire_time:%Y-%m-%d %H:%M}" if each.expire_time else "never"
        names = [each.name.removeprefix("collections/"), _said_aliases(each.name, aliases)]
        counts = [f"{each.item_count:,}", f"{each.fresh_item_count:,}"]
        shown.add_row(*names, *counts, each.engine.lower(), each.space.model_version, expires)
    nothing = "no collections yet: lookalike index DIR --collection NAME"
    session.answer({"collections": found, "aliases": aliases}, shown if found else nothing)


@command(collections, "show", "lookalike collections show photos")
async def show(session: Session, collection: OfCollection) -> None:
    """Show a collection, its aliases, and what its active build came to."""
    found = await session.client.indexer.get_collection(resource_name("collections", collection))
    build = await session.client.indexer.get_build(found.active_build) if found.active_build else None
    aliases = [each for each in await session.client.indexer.list_aliases() if each.collection == found.name]
    lines = [
        f"{found.name}: {found.item_count:,} items, {found.fresh_item_count:,} of them newer than the build; revision {found.revision}",
        f"embedded with {found.space.model_version}, profile {found.space.profile}, {found.space.dim} dimensions",
        f"space {found.space.fingerprint}",
        _said_fixed(found),
    ]
    if aliases:
        lines.append(f"aliases: {_said_aliases(found.name, aliases)}")
    if build and build.report:
        lines.append(f"{build.name}: {said_report(build.report)}")
        lines.append("it is pinned: no automatic build replaces it" if build.pinned else "builds follow by themselves as items change")
    session.answer(
        {"collection": found, "build": build, "aliases": aliases}, *lines, *(plan(build.report) if build and build.report else [])
    )


def _said_fixed(collection: Collection) -> str:
    engine, dtype = collection.engine.lower(), collection.dtype.lower()
    return f"engine {engine}, recall target {collection.recall_target:g}, vectors stored as {dtype}"


def _said_aliases(collection: str, aliases: Sequence[Alias]) -> str:
    return ", ".join(each.name.removeprefix("aliases/") for each in aliases if each.collection == collection)


@command(
    collections,
    "create",
    "lookalike collections create shoes --model shoes",
    "lookalike collections create shoes --model shoes@production --engine hnsw --recall 0.99 --dtype float16 --dba 3",
)
async def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new collection.", show_default=False)],
    model: ModelOfNew = None,
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="What its builds index with, where that pays. Default: annoy.", show_default=False)
    ] = None,
    recall: RecallOfNew = None,
    dtype: DTypeOfNew = None,
    dba: Dba = None,
    dba_weights: DbaWeighting = None,
    dba_power: DbaPower = None,
    dba_rounds: DbaRounds = None,
) -> None:
    """Make an empty collection; what is given here is fixed. `lookalike index` makes one by itself where none is there."""
    (augmentation,) = asked_dba([dba], dba_weights, dba_power, dba_rounds)
    created = await workflows.create_collection(
        session.client,
        name,
        model=model,
        dba=augmentation,
        engine=asked_engine(engine),
        recall_target=recall,
        dtype=asked_dtype(dtype),
        observer=session.observer,
    )
    made = created.collection
    session.answer(
        {"collection": made, "model_why": created.model_why, "dba_source": created.dba.source},
        f"{made.name} was made for {made.space.model_version} ({created.model_why})",
        f"{_said_fixed(made)}; DBA: {said_dba(created.dba.spec)} (from: {created.dba.source})",
    )


@command(
    collections,
    "alias",
    "lookalike collections alias live photos-2",
    "lookalike search cat.jpg --collection live",
)
async def alias(
    session: Session,
    alias: Annotated[str, typer.Argument(metavar="NAME", help="Alias: no collection may be called so.", show_default=False)],
    collection: OfCollection,
    etag: Annotated[str, typer.Option("--etag", help="Only if the alias still has this etag.", show_default=False)] = "",
) -> None:
    """Let a name stand for a collection wherever one is asked for; where it stood for another before, it moves at once."""
    alias_id = resource_id("aliases", alias)
    indexer = session.client.indexer
    target = await indexer.get_collection(resource_name("collections", collection))
    try:
        made = await indexer.update_alias(f"aliases/{alias_id}", target.name, etag)
    except NotFound as error:
        if error.reason != "ALIAS_NOT_FOUND" or etag:
            raise
        made = await indexer.create_alias(alias_id, target.name)
    session.answer(made, f"{alias_id} stands for {made.collection} (etag {made.etag})")


@command(collections, "unalias", "lookalike collections unalias live")
async def unalias(session: Session, alias: Annotated[str, typer.Argument(metavar="NAME", help="Alias.", show_default=False)]) -> None:
    """Delete an alias. The collection stays."""
    name = resource_name("aliases", alias)
    await session.client.indexer.delete_alias(name)
    session.answer({"deleted": name}, f"{name} was deleted")


@command(collections, "purge", "lookalike collections purge photos")
async def purge(session: Session, collection: OfCollection) -> None:
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
async def delete(session: Session, collection: _NoAlias, yes: Yes = False) -> None:
    """Delete a collection with all it holds. Pictures are not touched."""
    name = resource_name("collections", collection)
    found = await session.client.indexer.get_collection(name)
    if found.name != name:
        said = f"{collection} is an alias of {found.name}: name the collection itself, or `lookalike collections unalias`"
        raise FailedPrecondition(said, reason="IS_ALIAS")
    session.confirm(f"Delete {name} with its {found.item_count:,} items for good?", yes)
    await session.client.indexer.delete_collection(name)
    session.answer({"deleted": name}, f"{name} was deleted")


@command(collections, "export", "lookalike collections export photos --to photos.tar")
async def export(
    session: Session,
    collection: OfCollection,
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
