"""What a server adds to a search: batches through a real one against the library's call on the same build, turn by turn."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexer.builds import space_of
from benchmarks.indexer.contenders import K, Vectors, view_of
from benchmarks.indexer.filling import begin_build, filled, wait_for_build
from benchmarks.process import IndexerProcess, running_indexer
from lookalike_indexer.search import search
from lookalike_indexer.served_build import open_build
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.packing import pack_vectors

BATCH = 32
# A call is packed, sent, read and answered beside the search of another: more of them in flight keep the searching thread at work.
_IN_FLIGHT = (1, 2, 3, 4)
_VIEWS = {"grpc": items_pb2.ITEM_VIEW_ID, "grpc_with_items": items_pb2.ITEM_VIEW_BASIC}


def measure_grpc(vectors: Vectors, out: Path, *, runs: int = 20, turns: int = 9) -> dict[str, Any]:
    """Build `vectors`, unit rows [n, d], in a server of their own and search batches of 32 both ways. Returns JSON values.

    One thread searches on either side: the library's caller, and that of a server with one. `grpc_vs_library` is the queries a second
    over gRPC, with the best number of calls in flight of those tried, against the library's, where the client asks for what the library
    answers, ids and scores; `grpc_with_items_vs_library` that of one who gets the items, too. The same with `_one_by_one` for a client
    who waits for each answer.
    """
    data = out / f"server-{uuid.uuid4().hex[:8]}"
    with running_indexer(data, threads="1") as server:
        collection = filled(server, "benchmark", vectors)
        wait_for_build(server, begin_build(server, "benchmark"))
        folder = data / "indexer" / "collections" / collection.uid / "builds" / "1"
        view = view_of(open_build(folder, 1, space_of(vectors.shape[1])))
        ways: dict[str, Callable[[Sequence[Vectors]], object]] = {
            "library": lambda batches: [search(view, queries, K) for queries in batches],
            **{
                f"{name}_{calls}": partial(_in_flight, calls, partial(_call, server, collection, shown))
                for name, shown in _VIEWS.items()
                for calls in _IN_FLIGHT
            },
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(turns):
            batches = [_batch(vectors, turn * runs + run) for run in range(runs)]
            for name, way in ways.items():
                rates[name].append(_rate(way, batches))
        source = _call(server, collection, items_pb2.ITEM_VIEW_ID, _batch(vectors, 0)).source
    return {
        **_ratios({name: float(np.median(each)) for name, each in rates.items()}),
        "batch": BATCH,
        "k": K,
        "searching_threads": 1,
        "source": builds_pb2.Source.Name(source),
        "turns": rates,
    }


def _ratios(rates: Mapping[str, float]) -> dict[str, Any]:
    best = {name: max(rates[f"{name}_{calls}"] for calls in _IN_FLIGHT) for name in _VIEWS}
    return {
        **{f"{name}_vs_library": best[name] / rates["library"] for name in _VIEWS},
        **{f"{name}_one_by_one_vs_library": rates[f"{name}_1"] / rates["library"] for name in _VIEWS},
        "library_queries_per_second": rates["library"],
        "queries_per_second_by_calls_in_flight": {name: {str(calls): rates[f"{name}_{calls}"] for calls in _IN_FLIGHT} for name in _VIEWS},
    }


def _in_flight(calls: int, call: Callable[[Vectors], object], batches: Sequence[Vectors]) -> None:
    """Make a call for each of `batches`, so many at a time."""
    with ThreadPoolExecutor(calls) as pool:
        for _ in pool.map(call, batches):
            pass


def _call(
    server: IndexerProcess, collection: collections_pb2.Collection, shown: items_pb2.ItemView.ValueType, queries: Vectors
) -> search_pb2.SearchResponse:
    return server.searches.Search(_request(collection, queries, shown))


def _request(collection: collections_pb2.Collection, queries: Vectors, view: items_pb2.ItemView.ValueType) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(collection=collection.name, queries=pack_vectors(queries, collection.space), k=K, view=view)


def _batch(vectors: Vectors, number: int) -> Vectors:
    rows = np.random.default_rng(number).choice(len(vectors), min(BATCH, len(vectors)), replace=False)
    return np.ascontiguousarray(vectors[rows])


def _rate(way: Callable[[Sequence[Vectors]], object], batches: Sequence[Vectors]) -> float:
    """Return queries a second."""
    started = time.perf_counter()
    way(batches)
    return sum(map(len, batches)) / (time.perf_counter() - started)
