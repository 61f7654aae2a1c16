# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""SnapshotService."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import grpc

from lookalike_indexer.archives.writing import write_archive
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.lifecycle import Lifecycle
from lookalike_indexer.records import now
from lookalike_indexer.servicers.translate import collection_id, collection_message, collection_name, expire_time_of, timestamp
from lookalike_protos.indexer.v1 import collections_pb2, snapshots_pb2, snapshots_pb2_grpc
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.resource_names import check_id

PIECE_BYTES = 1 << 20
MAX_PIECE_BYTES = 2 << 20

Context = grpc.aio.ServicerContext[Any, Any]


class SnapshotServicer(snapshots_pb2_grpc.SnapshotServiceServicer):
    """Archives pass through files without a name in `scratch`: whatever happens, nothing of them is left."""

    def __init__(self, catalog: Catalog, collections: Collections, lifecycle: Lifecycle, scratch: Path) -> None:
        self._catalog = catalog
        self._collections = collections
        self._lifecycle = lifecycle
        self._scratch = scratch

    async def ExportCollection(
        self, request: snapshots_pb2.ExportCollectionRequest, context: Context
    ) -> AsyncIterator[snapshots_pb2.ExportCollectionResponse]:
        record = await to_thread(self._catalog.resolve, collection_id("collection", request.collection))
        collection = await to_thread(self._collections.open, record)
        with TemporaryFile(dir=self._scratch) as file, refusing_when_full():
            settings = await to_thread(write_archive, collection, record, file)
            start = snapshots_pb2.ExportStart(
                collection=collection_name(record.name),
                revision=settings.revision,
                item_count=settings.item_count,
                time=timestamp(now()),
            )
            yield snapshots_pb2.ExportCollectionResponse(start=start)
            file.seek(0)
            while piece := await to_thread(file.read, PIECE_BYTES):
                yield snapshots_pb2.ExportCollectionResponse(data=piece)

    async def ImportCollection(
        self, requests: AsyncIterator[snapshots_pb2.ImportCollectionRequest], context: Context
    ) -> collections_pb2.Collection:
        start = await _start(requests)
        name = check_id("start.collection_id", start.collection_id)
        expire_time = expire_time_of("start.expire_time", start.expire_time) if start.HasField("expire_time") else None
        await to_thread(self._catalog.require_free, name)
        with TemporaryFile(dir=self._scratch) as file, refusing_when_full():
            await _receive(requests, file)
            return collection_message(await self._lifecycle.restore(name, file, expire_time))


async def _start(requests: AsyncIterator[snapshots_pb2.ImportCollectionRequest]) -> snapshots_pb2.ImportStart:
    async for request in requests:
        if request.WhichOneof("message") == "start":
            return request.start
        break
    raise invalid_field("message", "the first message of the stream is `start`, each later one `data`")


async def _receive(requests: AsyncIterator[snapshots_pb2.ImportCollectionRequest], file: BinaryIO) -> None:
    async for request in requests:
        if request.WhichOneof("message") != "data":
            raise invalid_field("message", "the first message of the stream is `start`, each later one `data`")
        if not 1 <= len(request.data) <= MAX_PIECE_BYTES:
            raise invalid_field("data", f"it has {len(request.data):,} bytes: 1 to {MAX_PIECE_BYTES:,}")
        await to_thread(file.write, request.data)
    await to_thread(file.flush)
