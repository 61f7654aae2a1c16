"""What recall an effort buys, and at what time: probes are items, left out on both sides, against exact search over the served vectors."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import Candidates
from lookalike_indexer.search import search
from lookalike_indexer.view import View
from lookalike_retrieval import TopK, exact_topk

MAX_PROBES = 1_000
BATCH = 32
# Searches that are timed after one that is not.
_TIMED_SINGLES = 30
_TIMED_BATCHES = 4
_SEED = 1
_TIE = 1e-6
# Places kept beyond the last, for its equals.
_SPARE = 16
_Z = 1.96


class Probes(NamedTuple):
    """`rows` of the build, their raw unit vectors as queries, and their nearest others."""

    rows: NDArray[np.int64]
    queries: NDArray[np.float32]
    truth: TopK

    def nearest(self, place: int, k: int) -> NDArray[np.uint32]:
        """Return the rows that may be among the nearest `k` of a probe: equals of the last count, as they do in the re-rank."""
        scores = self.truth.scores[place]
        last = scores[min(k, len(scores)) - 1]
        return np.asarray(self.truth.indices[place][scores >= last - _TIE])


class Recall(NamedTuple):
    """A mean share, and the lower end of its 95 % interval."""

    mean: float
    low: float


def choose_probes(raw: NDArray[np.float32], served: NDArray[np.float32], places: int, most: int = MAX_PROBES) -> Probes:
    """Draw min(`most`, n / 10) probes, at least one, and search `places` others exactly; `raw` and `served` are unit rows [n, d], n ≥ 2."""
    count = min(most, max(1, len(served) // 10))
    rows = np.sort(np.random.default_rng(_SEED).choice(len(served), count, replace=False))
    queries = np.asarray(raw[rows])
    return Probes(rows, queries, exact_topk(queries, served, places + _SPARE, exclude=rows))


def recalls(
    ordered: Iterable[NDArray[np.int64]], probes: Probes, places: Sequence[tuple[int, Sequence[int]]], count: int
) -> list[list[Recall]]:
    """Return, for each k of `places` (k, depths), the recall at min(k, n - 1) of the first `depth` candidates.

    `ordered` are the candidates of each probe, best first, which may hold the probe; `count` is n, the rows of the build.
    """
    shares = [np.zeros((len(probes.rows), len(depths))) for _, depths in places]
    near = np.zeros(count, np.bool_)
    for place, rows in enumerate(ordered):
        for share, (k, depths) in zip(shares, places, strict=True):
            nearest = probes.nearest(place, k)
            near[nearest] = True
            # The probe itself is not among its nearest.
            found = np.concatenate([[0], np.cumsum(near[rows])])
            near[nearest] = False
            share[place] = np.minimum(1.0, found[np.minimum(depths, len(rows))] / min(k, count - 1))
    return [[Recall(float(column.mean()), lower_bound(column)) for column in share.T] for share in shares]


def median_milliseconds(
    view: View, sources: Sequence[Candidates], probes: Probes, k: int, batch: bool, runs: int | None = None
) -> list[float]:
    """Return the median milliseconds a query of searching `view` by each of `sources`: the search itself, as it will be served.

    They take turns, so that what else the machine does meets all of them. All have the same queries, but never in the same turn: what
    one has just read, the next would find in the processor's caches.
    """
    assert view.build is not None
    views = [replace(view, build=replace(view.build, candidates=source)) for source in sources]
    size = BATCH if batch else 1
    times: list[list[float]] = [[] for _ in views]
    turns = 1 + (runs or (_TIMED_BATCHES if batch else _TIMED_SINGLES))
    for turn in range(turns):
        for place, (mine, each) in enumerate(zip(times, views, strict=True)):
            step = (turn + place * turns // len(views)) % turns
            queries = probes.queries.take(range(step * size, (step + 1) * size), axis=0, mode="wrap")
            started = time.perf_counter()
            search(each, queries, k)
            mine.append(time.perf_counter() - started)
    return [float(np.median(mine[1:])) * 1e3 / size for mine in times]


def lower_bound(shares: NDArray[np.float64]) -> float:
    """Return the lower end of the 95 % interval of a mean of `shares` [n], each 0 to 1, by the normal approximation.

    A probe's recall varies less than a yes or no does, so that the interval of a proportion would ask for more than is needed. A probe
    that found nothing is added: where all that were drawn found everything, the interval still has a width.
    """
    cautious = np.append(shares, 0.0)
    spread = float(cautious.std(ddof=1)) / math.sqrt(len(cautious))
    return max(0.0, float(cautious.mean()) - _Z * spread)
