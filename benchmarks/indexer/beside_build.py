"""Searches while a build runs: their 99th percentile against that of an idle server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer.filling import begin_build, filled, space_message, wait_for_build
from benchmarks.process import IndexerProcess, running_indexer
from lookalike_protos.indexer.v1 import builds_pb2, search_pb2
from lookalike_protos.packing import pack_vectors
from lookalike_protos.types.v1 import dba_pb2, operations_pb2

NAME = "collections/beside"
_WARM_UP = 50


def measure(vectors: NDArray[np.float32], workdir: Path, *, idle_seconds: float = 20.0, dba_k: int = 3) -> dict[str, Any]:
    """Search one query after another over `vectors` [n, d], idle, then beside a build with DBA, then idle again.

    Returns:
        Medians and 99th percentiles in milliseconds (`idle` over both idle spans), `p99_during_build_ratio`, how many searches each is made
        of, and the build's seconds.
    """
    with running_indexer(workdir / "data") as server:
        filled(server, "beside", vectors)
        spec = builds_pb2.BuildSpec(dba=dba_pb2.DbaSpec(k=dba_k))
        wait_for_build(server, begin_build(server, "beside", spec))
        search = _searcher(server, vectors)
        for _ in range(_WARM_UP):
            search()
        idle = _times(search, _for_seconds(idle_seconds))
        started = time.perf_counter()
        build = begin_build(server, "beside", spec)
        during = _times(search, lambda: not _ended(server, build))
        seconds = time.perf_counter() - started
        idle += _times(search, _for_seconds(idle_seconds))
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


def _ended(server: IndexerProcess, build: str) -> bool:
    state = server.builds.GetBuild(builds_pb2.GetBuildRequest(name=build)).state
    return state not in (operations_pb2.STATE_PENDING, operations_pb2.STATE_RUNNING)


def _searcher(server: IndexerProcess, vectors: NDArray[np.float32]) -> Callable[[], None]:
    """Return what searches the next of many queries."""
    space = space_message(vectors.shape[1])
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
