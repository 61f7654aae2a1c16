"""Bringing a folder's pictures into a collection: only what is new there, or has changed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lookalike._client import AsyncClient
from lookalike._folders import LeftOut, Listing, PictureFile
from lookalike._models import Collection, Item, Target
from lookalike._threads import map_in_threads
from lookalike.workflows._model import wait_until_served
from lookalike.workflows._observer import Observer
from lookalike_images import PictureError, decode, thumbnail
from lookalike_protos.packing import rows_per_batch

_WRITTEN_AT_ONCE = 500


@dataclass(frozen=True)
class Ingested:
    """What became of a folder's pictures. `failed` could not be read; `gone` are ids of the collection that the folder has no more."""

    collection: str
    embedded_count: int
    unchanged_count: int
    failed: tuple[LeftOut, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class _Loaded:
    picture: PictureFile
    sha256: bytes
    data: bytes
    thumbnail: bytes


@dataclass
class _Tally:
    embedded: int = 0
    unchanged: int = 0
    failed: list[LeftOut] = field(default_factory=list)


async def ingest(client: AsyncClient, listing: Listing, collection: Collection, observer: Observer, *, thumbnails: bool) -> Ingested:
    """Embed the pictures of `listing` with what `collection` pins, and write them into it.

    Pictures that are there with equal content and label are left alone. What was written before an interruption is found by the next run.
    """
    known = {item.id: item for item in await client.indexer.list_items(collection.name)}
    tally = _Tally()
    total = len(listing.pictures)
    writer = _Writer(client, collection, tally)
    await wait_until_served(client, collection.space.model_version)
    source = _changed(listing, known, thumbnails, tally)
    async with aclosing(client.embedder.embed_stream(Target.of(collection.space), source)) as answers:
        async for answer in answers:
            if answer.problem is not None:
                tally.failed.append(LeftOut(answer.key.id, answer.problem.reason, answer.problem.message))
            elif answer.vector is not None:
                await writer.add(answer.key, answer.vector)
            observer.progress("embed", tally.unchanged + len(tally.failed) + writer.taken, total, "pictures")
    await writer.flush()
    observer.progress("embed", total, total, "pictures")
    gone = known.keys() - {picture.id for picture in listing.pictures}
    return Ingested(collection.name, tally.embedded, tally.unchanged, tuple(tally.failed), tuple(sorted(gone)))


async def _changed(listing: Listing, known: Mapping[str, Item], thumbnails: bool, tally: _Tally) -> AsyncIterator[tuple[Item, bytes]]:
    async for loaded in map_in_threads(partial(_load, known=known, thumbnails=thumbnails), listing.pictures):
        match loaded:
            case None:
                tally.unchanged += 1
            case LeftOut():
                tally.failed.append(loaded)
            case _Loaded(picture):
                uri = picture.path.absolute().as_uri()
                yield Item(picture.id, picture.label, uri, loaded.thumbnail, loaded.sha256), loaded.data


def _load(picture: PictureFile, *, known: Mapping[str, Item], thumbnails: bool) -> _Loaded | LeftOut | None:
    try:
        data = picture.path.read_bytes()
    except OSError as error:
        return LeftOut(picture.id, "NOT_READABLE", f"it cannot be read: {error.strerror}")
    digest = hashlib.sha256(data).digest()
    there = known.get(picture.id)
    if there and there.content_sha256 == digest and there.label == picture.label:
        return None
    return _Loaded(picture, digest, data, _thumbnail(data) if thumbnails else b"")


def _thumbnail(data: bytes) -> bytes:
    try:
        return thumbnail(decode(data))
    except PictureError:
        return b""  # the embedder says what is wrong with it


class _Writer:
    """Gathers items and writes them in batches."""

    def __init__(self, client: AsyncClient, collection: Collection, tally: _Tally) -> None:
        self.taken = 0
        self._client = client
        self._collection = collection
        self._tally = tally
        self._most = min(_WRITTEN_AT_ONCE, rows_per_batch(collection.space.dim))
        self._items: list[Item] = []
        self._vectors: list[NDArray[np.float32]] = []

    async def add(self, item: Item, vector: NDArray[np.float32]) -> None:
        self.taken += 1
        self._items.append(item)
        self._vectors.append(vector)
        if len(self._items) == self._most:
            await self.flush()

    async def flush(self) -> None:
        if not self._items:
            return
        space = self._collection.space
        result = await self._client.indexer.upsert_items(self._collection.name, self._items, np.stack(self._vectors), space)
        self._tally.embedded += result.kept_count
        self._tally.failed.extend(LeftOut(each, problem.reason, problem.message) for each, problem in result.failures.items())
        self._items, self._vectors = [], []
