# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""ItemService."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator
from typing import Any

import grpc

from lookalike_indexer.collection import OpenCollection, require_revision
from lookalike_indexer.collections import Collections
from lookalike_indexer.servicers.filter_messages import field_path, filter_in
from lookalike_indexer.servicers.item_messages import (
    MAX_ITEMS_BYTES,
    batch_message,
    change_of,
    columns_of,
    item_message,
    most_rows,
    offer_of,
    require_room,
    value_message,
)
from lookalike_indexer.servicers.translate import collection_id, collection_name, in_range, vectors_of
from lookalike_protos.indexer.v1 import items_pb2, items_pb2_grpc
from lookalike_runtime.errors import ServiceError, invalid_field
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.status import status_of

MAX_CHUNK_ITEMS = 1_000
MAX_READ_IDS = 1_000
MAX_DELETED_IDS = 10_000
MAX_VALUES = 10_000
DEFAULT_VALUES = 100

Context = grpc.aio.ServicerContext[Any, Any]


class ItemServicer(items_pb2_grpc.ItemServiceServicer):
    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def UpsertItems(
        self, requests: AsyncIterator[items_pb2.UpsertItemsRequest], context: Context
    ) -> AsyncIterator[items_pb2.UpsertItemsResponse]:
        collection: OpenCollection | None = None
        async for request in requests:
            if collection is None:
                name = collection_id("collection", _expect(request, "collection").collection)
                collection = await to_thread(self._collections.get, name)
            else:
                yield await to_thread(_upsert, collection, _expect(request, "chunk").chunk)

    async def BatchGetItems(self, request: items_pb2.BatchGetItemsRequest, context: Context) -> items_pb2.BatchGetItemsResponse:
        in_range("ids", len(request.ids), 1, MAX_READ_IDS)
        columns = columns_of(request.view)
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        revision, found = await to_thread(collection.store.get, request.ids, columns)
        require_revision(revision, request.min_revision)
        items = [found[each] for each in request.ids if each in found]
        require_room(items, columns, collection.space)
        return items_pb2.BatchGetItemsResponse(
            items=map(item_message, items),
            vectors=batch_message(items, collection.space) if columns.vector else None,
            missing_ids=[each for each in request.ids if each not in found],
            revision=revision,
            collection=collection_name(collection.name),
        )

    async def ListItems(self, request: items_pb2.ListItemsRequest, context: Context) -> items_pb2.ListItemsResponse:
        columns = columns_of(request.view)
        size, after, item_filter = page_size(request.page_size), decode_token(request.page_token), filter_in(request)
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        size = min(size, most_rows(columns, collection.space))
        revision, items, more = await to_thread(collection.store.page, after, size, columns, MAX_ITEMS_BYTES, item_filter)
        require_revision(revision, request.min_revision)
        return items_pb2.ListItemsResponse(
            items=map(item_message, items),
            vectors=batch_message(items, collection.space) if columns.vector else None,
            next_page_token=encode_token(items[-1].id) if more else "",
            revision=revision,
            collection=collection_name(collection.name),
        )

    async def CountItems(self, request: items_pb2.CountItemsRequest, context: Context) -> items_pb2.CountItemsResponse:
        item_filter = filter_in(request)
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        revision, count = await to_thread(collection.store.count, item_filter)
        require_revision(revision, request.min_revision)
        return items_pb2.CountItemsResponse(count=count, revision=revision, collection=collection_name(collection.name))

    async def CountValues(self, request: items_pb2.CountValuesRequest, context: Context) -> items_pb2.CountValuesResponse:
        path, item_filter = field_path("path", request.path), filter_in(request)
        if path == ("id",):
            raise invalid_field("path", "every id is there once: count label, uri or payload.KEY")
        limit = in_range("limit", request.limit, 0, MAX_VALUES) or DEFAULT_VALUES
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        try:
            revision, found = await to_thread(collection.store.values, path, item_filter, limit, MAX_ITEMS_BYTES)
        except ValueError as error:
            raise invalid_field("limit", f"{error}: one answer holds {MAX_ITEMS_BYTES:,} bytes of them; ask for fewer") from None
        require_revision(revision, request.min_revision)
        return items_pb2.CountValuesResponse(
            values=[items_pb2.ValueCount(value=value_message(value), count=count) for value, count in found.values],
            distinct_count=found.distinct,
            missing_count=found.missing,
            revision=revision,
            collection=collection_name(collection.name),
        )

    async def UpdateItems(self, request: items_pb2.UpdateItemsRequest, context: Context) -> items_pb2.UpdateItemsResponse:
        in_range("changes", len(request.changes), 1, MAX_CHUNK_ITEMS)
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        written = await to_thread(collection.update, [change_of(each) for each in request.changes])
        return items_pb2.UpdateItemsResponse(
            revision=written.revision,
            updated_count=written.kept,
            failures=[_failure(place, error) for place, error in written.refusals],
            collection=collection_name(collection.name),
        )

    async def DeleteItems(self, request: items_pb2.DeleteItemsRequest, context: Context) -> items_pb2.DeleteItemsResponse:
        item_filter = filter_in(request)
        if item_filter is None:
            in_range("ids", len(request.ids), 1, MAX_DELETED_IDS)
        elif request.ids:
            raise invalid_field("filter", f"{len(request.ids)} ids were sent beside it: send either")
        collection = await to_thread(self._collections.get, collection_id("collection", request.collection))
        if item_filter is None:
            revision, deleted = await to_thread(collection.delete, request.ids)
        else:
            revision, deleted = await to_thread(collection.delete_matching, item_filter)
        return items_pb2.DeleteItemsResponse(revision=revision, deleted_count=deleted, collection=collection_name(collection.name))


def _expect(request: items_pb2.UpsertItemsRequest, field: str) -> items_pb2.UpsertItemsRequest:
    if request.WhichOneof("message") != field:
        raise invalid_field("message", "the first message of the stream is `collection`, each later one a `chunk`")
    return request


def _upsert(collection: OpenCollection, chunk: items_pb2.UpsertChunk) -> items_pb2.UpsertItemsResponse:
    in_range("chunk.items", len(chunk.items), 1, MAX_CHUNK_ITEMS)
    vectors = vectors_of("chunk.vectors", chunk.vectors, collection.space, f"collection {collection.name!r}")
    if len(vectors) != len(chunk.items):
        raise invalid_field("chunk.vectors", f"{len(vectors)} rows for {len(chunk.items)} items: one row an item")
    written = collection.upsert([offer_of(item) for item in chunk.items], vectors)
    return items_pb2.UpsertItemsResponse(
        revision=written.revision,
        kept_count=written.kept,
        failures=[_failure(place, error) for place, error in written.refusals],
        collection=collection_name(collection.name),
    )


def _failure(place: int, error: ServiceError) -> items_pb2.ItemFailure:
    return items_pb2.ItemFailure(index=place, error=status_of(error))
