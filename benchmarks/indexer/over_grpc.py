"""What a server adds to a search: batches through a real one against the library's call on the same build, turn by turn."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexer.builds import space_of
from benchmarks.indexer.contenders import K, Vectors, view_of
from benchmarks.indexer.filling import begin_build, filled, wait_for_build
from benchmarks.process import running_indexer
from lookalike_indexer.search import search
from lookalike_indexer.served_build import open_build
from lookalike_protos.indexer.v1 import (
    builds_pb2,
    collections_pb2,
    items_pb2,
    search_pb2,
)
from lookalike_protos.packing import pack_vectors

BATCH = 32


def measure_grpc(vectors: Vectors, out: Path, *, runs: int = 20, turns: int = 9) -> dict[str, Any]:
    """Build `vectors`, unit rows [n, d], in a server of their own and search batches of 32 both ways. Returns JSON values.

    `grpc_vs_library` is the library's time over the server's: what share of the library's queries a second a client gets who asks for
    what the library answers, ids and scores. `grpc_with_items_vs_library` is that of one who gets the items, too.
    """
    data = out / f"server-{uuid.uuid4().hex[:8]}"
    with running_indexer(data) as server:
        collection = filled(server, "benchmark", vectors)
        wait_for_build(server, begin_build(server, "benchmark"))
        folder = data / "indexer" / "collections" / collection.uid / "builds" / "1"
        view = view_of(open_build(folder, 1, space_of(vectors.shape[1])))
        stub = server.searches
        ways: dict[str, Callable[[Vectors], object]] = {
            "library": lambda queries: search(view, queries, K),
            "grpc": lambda queries: stub.Search(_request(collection, queries, items_pb2.ITEM_VIEW_ID)),
            "grpc_with_items": lambda queries: stub.Search(_request(collection, queries, items_pb2.ITEM_VIEW_BASIC)),
        }
        medians: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(turns):
            batches = [_batch(vectors, turn * runs + run) for run in range(runs)]
            for name, way in ways.items():
                medians[name].append(_median(way, batches))
        source = stub.Search(_request(collection, _batch(vectors, 0), items_pb2.ITEM_VIEW_ID)).source
    seconds = {name: float(np.median(times)) for name, times in medians.items()}
    return {
        **{f"{name}_vs_library": seconds["library"] / seconds[name] for name in ("grpc", "grpc_with_items")},
        "batch": BATCH,
        "k": K,
        **{f"{name}_queries_per_second": BATCH / each for name, each in seconds.items()},
        "source": builds_pb2.Source.Name(source),
        "turns": medians,
    }


def _request(collection: collections_pb2.Collection, queries: Vectors, view: items_pb2.ItemView.ValueType) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection=collection.name, queries=pack_vectors(queries, collection.space), k=K, view=view)


def _batch(vectors: Vectors, number: int) -> Vectors:
    rows = np.random.default_rng(number).choice(len(vectors), min(BATCH, len(vectors)), replace=False)
    return np.ascontiguousarray(vectors[rows])


def _median(call: Callable[[Vectors], object], batches: list[Vectors]) -> float:
    times = []
    for queries in batches:
        started = time.perf_counter()
        call(queries)
        times.append(time.perf_counter() - started)
    return float(np.median(times))
