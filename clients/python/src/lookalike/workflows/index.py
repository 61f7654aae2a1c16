"""From a folder of pictures to a searchable collection."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from lookalike._client import AsyncClient
from lookalike._exceptions import AlreadyExists, FailedPrecondition, NotFound
from lookalike._folders import LeftOut, scan
from lookalike._models import Build, BuildSpec, Collection, DbaSpec, DType, Engine
from lookalike._names import resource_id
from lookalike.workflows._collection import Created, Fixed, check_fixed, make
from lookalike.workflows._dba import DbaChoice, choose_dba, same_dba
from lookalike.workflows._ingest import ingest
from lookalike.workflows._observer import SILENT, Observer


@dataclass(frozen=True)
class Indexed:
    """What indexing a folder came to.

    model: `models/M/versions/V` that the collection pins; model_why: why that one.
    left_out: files that are no pictures or could not be read. gone: items whose picture is in the folder no more; they are left alone.
    dba_source: `given`, `profile`, `default`, or `collection` where an earlier run decided. build: None if nothing had to be built.
    """

    collection: Collection
    created: bool
    model: str
    model_why: str
    embedded_count: int
    unchanged_count: int
    left_out: tuple[LeftOut, ...]
    hidden_count: int
    gone: tuple[str, ...]
    dba_source: str
    build: Build | None


async def index(
    client: AsyncClient,
    folder: Path,
    collection: str,
    *,
    model: str | None = None,
    dba: int | DbaSpec | None = None,
    engine: Engine | None = None,
    force_engine: bool = False,
    recall_target: float | None = None,
    dtype: DType | None = None,
    purge: bool = False,
    observer: Observer = SILENT,
) -> Indexed:
    """Embed what is new or changed in `folder`, write it into `collection`, and build.

    A collection that is not there is made as `create_collection` does. One that is there is embedded with what it pins; another `model`,
    `engine`, `recall_target` or `dtype` is an error, while another DBA goes for this build alone.
    `force_engine` builds the engine's index and uses it even where exact search would be chosen. `purge` builds in any case, and leaves
    nothing of deleted items anywhere.
    """
    name, fixed = resource_id("collections", collection), Fixed(model, engine, recall_target, dtype)
    listing = await asyncio.to_thread(scan, folder)
    opened, created = await _opened(client, name, fixed, dba, observer)
    there, choice = opened.collection, opened.dba
    observer.say(f"embedding with {there.space.model_version}, {opened.model_why}")
    ingested = await ingest(client, listing, there, observer, thumbnails=True)
    spec = BuildSpec(dba=choice.spec or DbaSpec(0), force_engine=force_engine, purge=purge)
    build = await _build(client, there.name, spec, observer)
    return Indexed(
        collection=await client.indexer.get_collection(there.name),
        created=created,
        model=there.space.model_version,
        model_why=opened.model_why,
        embedded_count=ingested.embedded_count,
        unchanged_count=ingested.unchanged_count,
        left_out=(*listing.left_out, *ingested.failed),
        hidden_count=listing.hidden_count,
        gone=ingested.gone,
        dba_source=choice.source,
        build=build,
    )


async def _opened(
    client: AsyncClient, collection_id: str, fixed: Fixed, dba: int | DbaSpec | None, observer: Observer
) -> tuple[Created, bool]:
    """Return a collection as it would have been made, and whether it was made now."""
    name = f"collections/{collection_id}"
    try:
        there = await client.indexer.get_collection(name)
    except NotFound:
        with contextlib.suppress(AlreadyExists):  # somebody was faster
            return await make(client, collection_id, fixed, dba, observer), True
        there = await client.indexer.get_collection(name)
    await check_fixed(client, there, fixed)
    choice = choose_dba(dba, there.dba) if dba is not None else DbaChoice(there.dba, "collection")
    return Created(there, "pinned by the collection", choice), False


async def _build(client: AsyncClient, collection: str, spec: BuildSpec, observer: Observer) -> Build | None:
    """Build unless the active build is of all items, augmented alike, and nothing is to be purged."""
    while spec.purge or not await _is_built(client, collection, spec):
        try:
            build = await client.indexer.create_build(collection, spec)
            return await client.indexer.wait_for_build(build.name, observer.event)
        except FailedPrecondition as error:
            if error.reason != "BUILD_RUNNING":
                raise
        await _wait_for_running(client, collection, observer)
    return None


async def _is_built(client: AsyncClient, collection: str, spec: BuildSpec) -> bool:
    now = await client.indexer.get_collection(collection)
    if now.item_count == 0:
        return True
    if not now.active_build:
        return False
    active = await client.indexer.get_build(now.active_build)
    augmented = active.report.dba if active.report else None
    forced = active.spec is not None and active.spec.force_engine
    return active.revision == now.revision and same_dba(augmented, spec.dba) and forced >= spec.force_engine


async def _wait_for_running(client: AsyncClient, collection: str, observer: Observer) -> None:
    for build in await client.indexer.list_builds(collection):
        if not build.state.ended:
            observer.say(f"waiting for {build.name}, which is under way")
            async for event in client.indexer.watch_build(build.name):
                observer.event(event)
