"""Collections for benchmarks: made, filled and built through a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer.builds import space_of
from benchmarks.process import IndexerProcess
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1 import operations_pb2, space_pb2

_CHUNK_BYTES = 1 << 20
_CHUNK_ITEMS = 1_000


def space_message(dim: int) -> space_pb2.Space:
    """Return the space of all vectors of `dim` dimensions."""
    return space_pb2.Space(**space_of(dim).model_dump(), metric=space_pb2.METRIC_COSINE)


def filled(server: IndexerProcess, name: str, vectors: NDArray[np.float32]) -> collections_pb2.Collection:
    """Make the collection `collections/name` of `vectors` [n, dim], mapped or not, whose ids rise with the rows."""
    space = space_message(vectors.shape[1])
    request = collections_pb2.CreateCollectionRequest(collection_id=name, collection=collections_pb2.Collection(space=space))
    collection: collections_pb2.Collection = server.collections.CreateCollection(request)
    for _ in server.items.UpsertItems(_requests(collection.name, vectors, space)):
        pass
    return collection


def begin_build(server: IndexerProcess, name: str, spec: builds_pb2.BuildSpec | None = None) -> str:
    """Queue a build of `collections/name`, and return its name."""
    request = builds_pb2.CreateBuildRequest(collection=f"collections/{name}", spec=spec, request_id=uuid.uuid4().hex)
    return server.builds.CreateBuild(request).name


def wait_for_build(server: IndexerProcess, build: str) -> None:
    """Return once a build has succeeded; raises RuntimeError if it ends otherwise."""
    for _ in server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=build)):
        pass
    ended = server.builds.GetBuild(builds_pb2.GetBuildRequest(name=build))
    if ended.state != operations_pb2.STATE_SUCCEEDED:
        raise RuntimeError(f"{build} did not succeed: {ended.error.message}")


def _requests(collection: str, vectors: NDArray[np.float32], space: space_pb2.Space) -> Iterator[items_pb2.UpsertItemsRequest]:
    yield items_pb2.UpsertItemsRequest(collection=collection)
    step = max(1, min(_CHUNK_ITEMS, _CHUNK_BYTES // (4 * space.dim)))
    for first in range(0, len(vectors), step):
        part = vectors[first : first + step]
        items = [items_pb2.Item(id=f"{place:08d}") for place in range(first, first + len(part))]
        yield items_pb2.UpsertItemsRequest(chunk=items_pb2.UpsertChunk(items=items, vectors=pack_vectors(part, space)))
