"""Collections for one ranking: found again by what they are made of, and gone after a day."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from lookalike._client import AsyncClient
from lookalike._exceptions import AlreadyExists, NotFound, WorkIncomplete
from lookalike._folders import Listing
from lookalike._models import Collection, Engine, ItemView, Space
from lookalike.workflows._ingest import Ingested, ingest
from lookalike.workflows._observer import Observer

_LIFETIME = timedelta(hours=24)
_LEAST_LEFT = timedelta(hours=2)


async def scratch_collection(client: AsyncClient, listing: Listing, space: Space, observer: Observer) -> Ingested:
    """Return a collection that holds the readable pictures of `listing` in `space`, and nothing else.

    A second call with an equal listing finds what the first one has done, finished or not.
    """
    collection = await _open(client, scratch_name(listing, space), space)
    ingested = await ingest(client, listing, collection, observer, thumbnails=False)
    readable = {picture.id for picture in listing.pictures} - {each.id for each in ingested.failed}
    stale = {item.id for item in await client.indexer.list_items(collection.name, view=ItemView.ID)} - readable
    if stale:
        await client.indexer.delete_items(collection.name, sorted(stale))
    if not readable:
        raise WorkIncomplete(f"no picture of {listing.root} could be read", reason="NOTHING_READABLE")
    return ingested


def scratch_name(listing: Listing, space: Space) -> str:
    """Return the id of the collection for `listing` in `space`."""
    digest = hashlib.sha256(f"{space.fingerprint} {space.model_version} {space.profile}".encode())
    for picture in listing.pictures:
        digest.update(f"\n{picture.size_bytes} {picture.id}".encode())
    return f"scratch-{digest.hexdigest()[:32]}"


async def _open(client: AsyncClient, name: str, space: Space) -> Collection:
    now = datetime.now(UTC)
    try:
        there = await client.indexer.get_collection(f"collections/{name}")
        if there.expire_time is None or there.expire_time - now > _LEAST_LEFT:
            return there
        await client.indexer.delete_collection(there.name, there.etag)
    except NotFound:
        pass
    try:
        return await client.indexer.create_collection(name, space, engine=Engine.EXACT, expire_time=now + _LIFETIME)
    except AlreadyExists:  # another run was faster
        return await client.indexer.get_collection(f"collections/{name}")
