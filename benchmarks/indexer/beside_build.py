"""Searches while a build runs: their 99th percentile against that of an idle server."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import IndexerProcess
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1 import dba_pb2, operations_pb2, space_pb2

NAME = "collections/beside"
_CHUNK_BYTES = 1 << 20
_WARM_UP = 50


def measure(vectors: NDArray[np.float32], workdir: Path, *, idle_seconds: float = 20.0, dba_k: int = 3) -> dict[str, Any]:
    """Search one query after another over `vectors` [n, d], idle, then beside a build with DBA, then idle again.

    Returns:
        Medians and 99th percentiles in milliseconds (`idle` over both idle spans), `p99_during_build_ratio`, how many searches each is made
        of, and the build's seconds.
    """
    server = IndexerProcess(workdir / "data", auto_build_share="0")
    try:
        _fill(server, vectors)
        _wait(server, _begin(server, dba_k))
        search = _searcher(server, vectors)
        for _ in range(_WARM_UP):
            search()
        idle = _times(search, _for_seconds(idle_seconds))
        started = time.perf_counter()
        build = _begin(server, dba_k)
        during = _times(search, lambda: not _ended(server, build))
        seconds = time.perf_counter() - started
        idle += _times(search, _for_seconds(idle_seconds))
    finally:
        server.stop()
    spans = {"idle": idle, "build": during}
    figures = {f"p{part}_{name}_ms": float(np.percentile(spans[name], part)) * 1e3 for name in spans for part in (50, 99)}
    return {
        "items": len(vectors),
        "dim": vectors.shape[1],
        "dba_k": dba_k,
        **figures,
        "p99_during_build_ratio": figures["p99_build_ms"] / figures["p99_idle_ms"],
        "searches_idle": len(idle),
        "searches_during_build": len(during),
        "build_seconds": seconds,
    }


def _space(dim: int) -> space_pb2.Space:
    return space_pb2.Space(
        fingerprint="ls1:" + "b" * 64, model="bench", version=1, profile="plain", dim=dim, metric=space_pb2.METRIC_COSINE
    )


def _fill(server: IndexerProcess, vectors: NDArray[np.float32]) -> None:
    space = _space(vectors.shape[1])
    collection = collections_pb2.Collection(space=space)
    server.collections.CreateCollection(collections_pb2.CreateCollectionRequest(collection_id="beside", collection=collection))
    step = max(1, min(1_000, _CHUNK_BYTES // (4 * vectors.shape[1])))

    def requests() -> Iterator[items_pb2.UpsertItemsRequest]:
        yield items_pb2.UpsertItemsRequest(collection=NAME)
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            items = [items_pb2.Item(id=f"{number:08d}") for number in range(start, start + len(part))]
            yield items_pb2.UpsertItemsRequest(chunk=items_pb2.UpsertChunk(items=items, vectors=pack_vectors(part, space)))

    for _ in server.items.UpsertItems(requests()):
        pass


def _begin(server: IndexerProcess, dba_k: int) -> str:
    spec = builds_pb2.BuildSpec(dba=dba_pb2.DbaSpec(k=dba_k))
    return server.builds.CreateBuild(builds_pb2.CreateBuildRequest(collection=NAME, spec=spec, request_id=uuid.uuid4().hex)).name


def _wait(server: IndexerProcess, build: str) -> None:
    for _ in server.builds.WatchBuild(builds_pb2.WatchBuildRequest(name=build)):
        pass
    ended = server.builds.GetBuild(builds_pb2.GetBuildRequest(name=build))
    if ended.state != operations_pb2.STATE_SUCCEEDED:
        raise RuntimeError(f"the build did not succeed: {ended.error.message}")


def _ended(server: IndexerProcess, build: str) -> bool:
    state = server.builds.GetBuild(builds_pb2.GetBuildRequest(name=build)).state
    return state not in (operations_pb2.STATE_PENDING, operations_pb2.STATE_RUNNING)


def _searcher(server: IndexerProcess, vectors: NDArray[np.float32]) -> Callable[[], None]:
    """Return what searches the next of many queries."""
    space = _space(vectors.shape[1])
    rng = np.random.default_rng(5)
    queries = itertools.cycle([pack_vectors(vectors[row : row + 1], space) for row in rng.permutation(len(vectors))[:500]])

    def search() -> None:
        server.searches.Search(search_pb2.SearchRequest(collection=NAME, queries=next(queries), k=10))

    return search


def _times(search: Callable[[], None], going_on: Callable[[], bool]) -> list[float]:
    times: list[float] = []
    while going_on():
        for _ in range(20):
            started = time.perf_counter()
            search()
            times.append(time.perf_counter() - started)
    return times


def _for_seconds(seconds: float) -> Callable[[], bool]:
    deadline = time.perf_counter() + seconds
    return lambda: time.perf_counter() < deadline
