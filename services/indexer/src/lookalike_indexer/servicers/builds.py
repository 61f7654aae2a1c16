# ruff: noqa: N802, ARG002 - gRPC gives the methods their names and arguments
"""BuildService."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc

from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.builds.queue import BuildQueue
from lookalike_indexer.catalog import Catalog
from lookalike_indexer.collections import Collections
from lookalike_indexer.records import Build, BuildSpec, Collection
from lookalike_indexer.servicers.translate import build_message, collection_id, dba_of, event_message, in_range
from lookalike_protos.indexer.v1 import builds_pb2, builds_pb2_grpc
from lookalike_protos.types.v1 import operations_pb2
from lookalike_runtime.errors import InvalidArgument, NotFound, invalid_field
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import parse_name, parse_number

MAX_REQUEST_ID_BYTES = 128
MAX_TREES = 1_000
LEAST_REDUCED_DIM = 2
MAX_REDUCED_DIM = 16_384

Context = grpc.aio.ServicerContext[Any, Any]


class Named(NamedTuple):
    """A build's collection and number."""

    record: Collection
    number: int


class BuildServicer(builds_pb2_grpc.BuildServiceServicer):
    def __init__(self, catalog: Catalog, collections: Collections, builds: BuildLog, queue: BuildQueue) -> None:
        self._catalog = catalog
        self._collections = collections
        self._builds = builds
        self._queue = queue

    async def CreateBuild(self, request: builds_pb2.CreateBuildRequest, context: Context) -> builds_pb2.Build:
        name = collection_id("collection", request.collection)
        in_range("request_id", len(request.request_id.encode()), 1, MAX_REQUEST_ID_BYTES)
        spec = _spec(request.spec)
        collection = await to_thread(self._collections.get, name)
        return await self._message(collection.name, await self._queue.create(collection, spec, request.request_id))

    async def GetBuild(self, request: builds_pb2.GetBuildRequest, context: Context) -> builds_pb2.Build:
        named = await self._find(request.name)
        return await self._message(named.record.name, await to_thread(self._builds.get, named.record.uid, named.number))

    async def ListBuilds(self, request: builds_pb2.ListBuildsRequest, context: Context) -> builds_pb2.ListBuildsResponse:
        size, before = page_size(request.page_size), _before(request.page_token)
        record = await to_thread(self._catalog.resolve, collection_id("parent", request.parent))
        builds = await to_thread(self._builds.page, record.uid, before, size + 1)
        token = encode_token(str(builds[size - 1].number)) if len(builds) > size else ""
        messages = [build_message(record, _without_measured(build)) for build in builds[:size]]
        return builds_pb2.ListBuildsResponse(builds=messages, next_page_token=token)

    async def CancelBuild(self, request: builds_pb2.CancelBuildRequest, context: Context) -> builds_pb2.Build:
        named = await self._find(request.name)
        return await self._message(named.record.name, await self._queue.cancel(named.record.uid, named.number))

    async def WatchBuild(self, request: builds_pb2.WatchBuildRequest, context: Context) -> AsyncIterator[operations_pb2.Event]:
        in_range("after_sequence", request.after_sequence, 0, 2**63 - 1)
        named = await self._find(request.name)
        async for event in self._queue.watch(named.record.uid, named.number, request.after_sequence):
            yield event_message(event)

    async def ActivateBuild(self, request: builds_pb2.ActivateBuildRequest, context: Context) -> builds_pb2.Build:
        named = await self._find(request.name)
        collection = await to_thread(self._collections.open, named.record)
        return await self._message(collection.name, await self._queue.activate(collection, named.number))

    async def _find(self, name: str) -> Named:
        collection, number = parse_name("name", name, "collections", "builds")
        try:
            return Named(await to_thread(self._catalog.resolve, collection), parse_number("name", number))
        except NotFound as error:
            raise NotFound("BUILD_NOT_FOUND", f"no build {name!r}: {error.message}", metadata={"build": name}) from None

    async def _message(self, collection: str, build: Build) -> builds_pb2.Build:
        return build_message(await to_thread(self._catalog.find, collection), build)


def _without_measured(build: Build) -> Build:
    """Return a build as lists have it."""
    return build.model_copy(update={"report": build.report.model_copy(update={"measured": ()})}) if build.report else build


def _spec(message: builds_pb2.BuildSpec) -> BuildSpec:
    if message.reduced_dim:
        in_range("spec.reduced_dim", message.reduced_dim, LEAST_REDUCED_DIM, MAX_REDUCED_DIM)
    return BuildSpec(
        dba=dba_of("spec.dba", message.dba) if message.HasField("dba") else None,
        trees=in_range("spec.trees", message.trees, 0, MAX_TREES),
        reduced_dim=message.reduced_dim,
        force_engine=message.force_engine,
        purge=message.purge,
    )


def _before(token: str) -> int | None:
    key = decode_token(token)
    try:
        return None if key is None else parse_number("page_token", key)
    except InvalidArgument:
        raise invalid_field("page_token", f"{token[:80]!r} is no token of this list: start from the first page") from None
