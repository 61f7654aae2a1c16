# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""CollectionService."""

from __future__ import annotations

from asyncio import to_thread
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.engines import require_engine
from lookalike_indexer.lifecycle import Lifecycle
from lookalike_indexer.records import Alias, Dba, DType, Engine
from lookalike_indexer.servicers.translate import (
    DTYPES,
    ENGINES,
    collection_id,
    collection_message,
    collection_name,
    dba_of,
    expire_time_of,
    space_of,
)
from lookalike_protos.indexer.v1 import collections_pb2, collections_pb2_grpc
from lookalike_protos.types.v1 import vectors_pb2
from lookalike_runtime.errors import invalid_field
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import check_id, parse_name

DEFAULT_RECALL_TARGET = 0.95
_ENGINES_BY_NUMBER: dict[collections_pb2.Engine.ValueType, Engine] = {
    collections_pb2.ENGINE_UNSPECIFIED: "annoy",
    **{number: name for name, number in ENGINES.items()},
}
_DTYPES_BY_NUMBER: dict[vectors_pb2.DType.ValueType, DType] = {
    vectors_pb2.D_TYPE_UNSPECIFIED: "float32",
    **{number: name for name, number in DTYPES.items()},
}

Context = grpc.aio.ServicerContext[Any, Any]


class CollectionServicer(collections_pb2_grpc.CollectionServiceServicer):
    def __init__(self, catalog: Catalog, collections: Collections, lifecycle: Lifecycle) -> None:
        self._catalog = catalog
        self._collections = collections
        self._lifecycle = lifecycle

    async def CreateCollection(self, request: collections_pb2.CreateCollectionRequest, context: Context) -> collections_pb2.Collection:
        asked = request.collection
        summary = await self._lifecycle.create(
            check_id("collection_id", request.collection_id),
            space_of("collection.space", asked.space),
            _engine(asked.engine),
            dba_of("collection.dba", asked.dba) if asked.HasField("dba") else Dba(),
            _recall_target(asked.recall_target),
            expire_time_of("collection.expire_time", asked.expire_time) if asked.HasField("expire_time") else None,
            _dtype(asked.dtype),
        )
        return collection_message(summary)

    async def GetCollection(self, request: collections_pb2.GetCollectionRequest, context: Context) -> collections_pb2.Collection:
        record = await to_thread(self._catalog.resolve, collection_id("name", request.name))
        return collection_message(await to_thread(self._collections.summary, record))

    async def ListCollections(
        self, request: collections_pb2.ListCollectionsRequest, context: Context
    ) -> collections_pb2.ListCollectionsResponse:
        size = page_size(request.page_size)
        records = await to_thread(self._catalog.page, decode_token(request.page_token), size + 1)
        summaries = await to_thread(self._collections.summaries, records[:size])
        token = encode_token(records[size - 1].name) if len(records) > size else ""
        return collections_pb2.ListCollectionsResponse(collections=map(collection_message, summaries), next_page_token=token)

    async def DeleteCollection(self, request: collections_pb2.DeleteCollectionRequest, context: Context) -> Empty:
        record = await to_thread(self._catalog.find, collection_id("name", request.name))
        await self._lifecycle.delete(record, request.etag)
        return Empty()

    async def CreateAlias(self, request: collections_pb2.CreateAliasRequest, context: Context) -> collections_pb2.Alias:
        name = check_id("alias_id", request.alias_id)
        target = collection_id("alias.collection", request.alias.collection)
        return _alias_message(await to_thread(self._catalog.add_alias, name, target))

    async def GetAlias(self, request: collections_pb2.GetAliasRequest, context: Context) -> collections_pb2.Alias:
        (name,) = parse_name("name", request.name, "aliases")
        return _alias_message(await to_thread(self._catalog.alias, name))

    async def UpdateAlias(self, request: collections_pb2.UpdateAliasRequest, context: Context) -> collections_pb2.Alias:
        (name,) = parse_name("alias.name", request.alias.name, "aliases")
        target = collection_id("alias.collection", request.alias.collection)
        return _alias_message(await to_thread(self._catalog.move_alias, name, target, request.alias.etag))

    async def ListAliases(self, request: collections_pb2.ListAliasesRequest, context: Context) -> collections_pb2.ListAliasesResponse:
        size = page_size(request.page_size)
        aliases = await to_thread(self._catalog.page_of_aliases, decode_token(request.page_token), size + 1)
        token = encode_token(aliases[size - 1].name) if len(aliases) > size else ""
        return collections_pb2.ListAliasesResponse(aliases=map(_alias_message, aliases[:size]), next_page_token=token)

    async def DeleteAlias(self, request: collections_pb2.DeleteAliasRequest, context: Context) -> Empty:
        (name,) = parse_name("name", request.name, "aliases")
        await to_thread(self._catalog.remove_alias, name, request.etag)
        return Empty()


def _alias_message(alias: Alias) -> collections_pb2.Alias:
    return collections_pb2.Alias(name=f"aliases/{alias.name}", collection=collection_name(alias.collection), etag=alias.etag)


def _engine(number: collections_pb2.Engine.ValueType) -> Engine:
    if number not in _ENGINES_BY_NUMBER:
        raise invalid_field("collection.engine", f"{number} is unknown: send ENGINE_ANNOY, ENGINE_EXACT or ENGINE_HNSW")
    return require_engine(_ENGINES_BY_NUMBER[number])


def _dtype(number: vectors_pb2.DType.ValueType) -> DType:
    if number not in _DTYPES_BY_NUMBER:
        raise invalid_field("collection.dtype", f"{number} is unknown: send D_TYPE_FLOAT32 or D_TYPE_FLOAT16")
    return _DTYPES_BY_NUMBER[number]


def _recall_target(target: float) -> float:
    if not 0 <= target <= 1:
        raise invalid_field("collection.recall_target", f"{target} is out of range: over 0 to 1, or 0 for {DEFAULT_RECALL_TARGET}")
    return target or DEFAULT_RECALL_TARGET
