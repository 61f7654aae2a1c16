"""What a server adds to a search: batches through a real one against the library's call on the same build, turn by turn."""

from __future__ import annotations

import itertools
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.indexer.builds import space_of
from benchmarks.indexer.contenders import K, Vectors, view_of
from benchmarks.process import running_indexer
from lookalike_indexer.search import search
from lookalike_indexer.served_build import open_build
from lookalike_protos.indexer.v1 import (
    builds_pb2,
    builds_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    items_pb2,
    items_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1 import space_pb2

BATCH = 32
_CHUNK = 200


def measure_grpc(vectors: Vectors, out: Path, *, runs: int = 20, turns: int = 9) -> dict[str, Any]:
    """Build `vectors`, unit rows [n, d], in a server of their own and search batches of 32 both ways. Returns JSON values.

    `grpc_vs_library` is the library's time over the server's: what share of the library's queries a second a client gets.
    """
    data = out / f"server-{uuid.uuid4().hex[:8]}"
    with running_indexer(data) as server:
        channel = server.channel
        collection = _filled(channel, vectors)
        folder = data / "indexer" / "collections" / collection.uid / "builds" / "1"
        view = view_of(open_build(folder, 1, space_of(vectors.shape[1])))
        stub = search_pb2_grpc.SearchServiceStub(channel)
        medians: dict[str, list[float]] = {"library": [], "grpc": []}
        for turn in range(turns):
            batches = [_batch(vectors, turn * runs + run) for run in range(runs)]
            medians["library"].append(_median(lambda queries: search(view, queries, K), batches))
            medians["grpc"].append(_median(lambda queries: stub.Search(_request(collection, queries)), batches))
        source = stub.Search(_request(collection, _batch(vectors, 0))).source
    library, over_grpc = (float(np.median(medians[name])) for name in ("library", "grpc"))
    return {
        "grpc_vs_library": library / over_grpc,
        "batch": BATCH,
        "k": K,
        "library_queries_per_second": BATCH / library,
        "grpc_queries_per_second": BATCH / over_grpc,
        "source": builds_pb2.Source.Name(source),
        "turns": medians,
    }


def _filled(channel: grpc.Channel, vectors: Vectors) -> collections_pb2.Collection:
    """Make a collection of `vectors` and build it."""
    space = _space(vectors.shape[1])
    wanted = collections_pb2.Collection(space=space, engine=collections_pb2.ENGINE_ANNOY)
    request = collections_pb2.CreateCollectionRequest(collection_id="benchmark", collection=wanted)
    collection: collections_pb2.Collection = collections_pb2_grpc.CollectionServiceStub(channel).CreateCollection(request)
    chunks = (
        items_pb2.UpsertItemsRequest(
            chunk=items_pb2.UpsertChunk(
                items=[items_pb2.Item(id=f"{row:07d}") for row in range(at, min(at + _CHUNK, len(vectors)))],
                vectors=pack_vectors(vectors[at : at + _CHUNK], space),
            )
        )
        for at in range(0, len(vectors), _CHUNK)
    )
    first = items_pb2.UpsertItemsRequest(collection=collection.name)
    for _ in items_pb2_grpc.ItemServiceStub(channel).UpsertItems(itertools.chain([first], chunks)):
        pass
    builds = builds_pb2_grpc.BuildServiceStub(channel)
    build = builds.CreateBuild(builds_pb2.CreateBuildRequest(collection=collection.name, request_id=uuid.uuid4().hex))
    for _ in builds.WatchBuild(builds_pb2.WatchBuildRequest(name=build.name)):
        pass
    return collection


def _space(dim: int) -> space_pb2.Space:
    return space_pb2.Space(**space_of(dim).model_dump(), metric=space_pb2.METRIC_COSINE)


def _request(collection: collections_pb2.Collection, queries: Vectors) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection=collection.name, queries=pack_vectors(queries, collection.space), k=K)


def _batch(vectors: Vectors, number: int) -> Vectors:
    rows = np.random.default_rng(number).choice(len(vectors), min(BATCH, len(vectors)), replace=False)
    return np.ascontiguousarray(vectors[rows])


def _median(call: Any, batches: list[Vectors]) -> float:
    times = []
    for queries in batches:
        started = time.perf_counter()
        call(queries)
        times.append(time.perf_counter() - started)
    return float(np.median(times))
