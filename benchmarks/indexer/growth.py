"""How builds and searches grow with the number of items, and where the planner changes its mind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexer.builds import build_of
from benchmarks.indexer.contenders import ours
from benchmarks.indexer.memory import resident_growth
from benchmarks.indexer.search import Arena, Sweep
from benchmarks.indexer.vectors import drawn
from lookalike_indexer.records import Engine

_QUANTITIES = ("build_seconds", "single_milliseconds", "batch_milliseconds", "memory_bytes", "size_bytes")


def measure_growth(
    sizes: Sequence[int], out: Path, *, dim: int = 512, engines: Sequence[Engine] = ("annoy", "hnsw"), runs: int = 60
) -> dict[str, Any]:
    """Build and search drawn vectors of `dim` dimensions in each of `sizes`. Returns JSON values.

    An exponent e says that a quantity grows as items ** e: the slope of a straight line through the logarithms.
    """
    return {"dim": dim, "threads": 1, "engines": {engine: _of(engine, sizes, out, dim, runs) for engine in engines}}


def _of(engine: Engine, sizes: Sequence[int], out: Path, dim: int, runs: int) -> dict[str, Any]:
    points = [_point(engine, size, out / f"growth-{engine}-{size}", dim, runs) for size in sizes]
    logs = np.log([point["items"] for point in points])
    slopes = {name: np.polyfit(logs, np.log([max(1e-9, point[name]) for point in points]), 1)[0] for name in _QUANTITIES if len(points) > 1}
    exponents = {name: float(slope) for name, slope in slopes.items()}
    return {"points": points, "exponents": exponents, "changes": _changes(points)}


def _point(engine: Engine, size: int, out: Path, dim: int, runs: int) -> dict[str, Any]:
    vectors = drawn(size, dim).vectors
    started = time.perf_counter()
    built = build_of(vectors, out, engine)
    seconds = time.perf_counter() - started
    arena = Arena(vectors, Sweep(runs=runs))
    single, batch = (np.median(arena.turns({engine: each}, kind)[engine]) for each in ours(engine, built.build) for kind in each.kinds)
    return {
        "items": size,
        "build_seconds": seconds,
        "stages": built.report.seconds,
        "single_milliseconds": 1e3 * float(single),
        "batch_milliseconds": 1e3 * float(batch),
        "memory_bytes": resident_growth(out, dim),
        "size_bytes": built.report.size_bytes,
        "plan": [entry.model_dump() for entry in built.report.plan],
    }


def _changes(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return where the source of an entry of the plan is another than with fewer items."""
    changes = []
    for fewer, more in pairwise(points):
        for before, after in zip(fewer["plan"], more["plan"], strict=True):
            if before["source"] != after["source"]:
                what = {"k": after["k"], "batch": after["batch"], "from": before["source"], "to": after["source"]}
                changes.append({"between": [fewer["items"], more["items"]], **what})
    return changes
