"""What recall each effort buys: probes are items, left out on both sides, against exact search over the served vectors."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.snapshot import Tell
from lookalike_indexer.candidates.annoy import AnnoyCandidates, Effort
from lookalike_indexer.records import EffortPoint, Progress
from lookalike_retrieval import exact_topk

PLACES = 10
MAX_PROBES = 1_000
SEARCH_K = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
DEPTHS = (50, 100, 300)
_TIMED_PROBES = 50
_SEED = 1
_TIE = 1e-6
_Z = 1.96


class Probes(NamedTuple):
    """`rows` of the build, their raw unit vectors as queries, and the score of the last of their nearest others."""

    rows: NDArray[np.int64]
    queries: NDArray[np.float32]
    last_scores: NDArray[np.float32]
    places: int


def choose_probes(raw: NDArray[np.float32], served: NDArray[np.float32]) -> Probes:
    """Draw min(1,000, n / 10) probes, at least one, and search them exactly; `raw` and `served` are unit rows [n, d], n ≥ 2."""
    count = min(MAX_PROBES, max(1, len(served) // 10))
    rows = np.sort(np.random.default_rng(_SEED).choice(len(served), count, replace=False))
    queries = np.asarray(raw[rows])
    truth = exact_topk(queries, served, PLACES, exclude=rows)
    return Probes(rows, queries, truth.scores[:, -1], truth.scores.shape[1])


def measure(source: AnnoyCandidates, served: NDArray[np.float32], probes: Probes, target: float, tell: Tell) -> tuple[EffortPoint, ...]:
    """Return the efforts that were tried, cheapest first; more nodes are tried only until the target is met."""
    curve: list[EffortPoint] = []
    for step, search_k in enumerate(SEARCH_K, 1):
        curve += _measure_depths(source, served, probes, search_k)
        tell(Progress(stage="measure", done=step, total=len(SEARCH_K), unit="efforts"))
        if any(point.recall_low >= target for point in curve):
            break
    return tuple(sorted(curve, key=lambda point: point.milliseconds))


def cheapest(curve: tuple[EffortPoint, ...], target: float) -> EffortPoint | None:
    """Return the first effort of a sorted curve that meets the target by the lower end of its interval."""
    return next((point for point in curve if point.recall_low >= target), None)


def wilson_low(share: float, trials: int) -> float:
    """Return the lower end of the 95 % interval of a share.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927. A probe's recall lies
    between 0 and 1, so that it varies at most as a yes or no of the same mean does: with a trial a probe this is on the safe side.
    """
    centre = share + _Z**2 / (2 * trials)
    spread = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    return max(0.0, (centre - spread) / (1 + _Z**2 / trials))


def _measure_depths(source: AnnoyCandidates, served: NDArray[np.float32], probes: Probes, search_k: int) -> list[EffortPoint]:
    """Measure one search_k at every depth: the candidates of a lesser depth are the first of those of a greater."""
    depths = sorted({min(depth, len(served)) for depth in DEPTHS})
    reduced = source.reduce(probes.queries)
    found = np.zeros((len(probes.rows), len(depths)))
    for place, row in enumerate(probes.rows.tolist()):
        candidates = np.array(source.nearest(reduced[place], Effort(search_k, depths[-1])), np.int64)
        right = _right(served, probes, place, candidates) & (candidates != row)
        found[place] = [min(1.0, right[:depth].sum() / probes.places) for depth in depths]
    return [
        EffortPoint(
            search_k=search_k,
            depth=depth,
            recall=float(found[:, column].mean()),
            recall_low=wilson_low(float(found[:, column].mean()), len(probes.rows)),
            milliseconds=_milliseconds(source, served, probes, Effort(search_k, depth)),
        )
        for column, depth in enumerate(depths)
    ]


def _right(served: NDArray[np.float32], probes: Probes, place: int, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which candidates the re-rank will put among the nearest: equals of the last count as it does."""
    return np.asarray(served[candidates] @ probes.queries[place] >= probes.last_scores[place] - _TIE)


def _milliseconds(source: AnnoyCandidates, served: NDArray[np.float32], probes: Probes, effort: Effort) -> float:
    times = []
    for place in range(min(_TIMED_PROBES, len(probes.rows))):
        started = time.perf_counter()
        query = probes.queries[place : place + 1]
        rows = source.nearest(source.reduce(query)[0], effort)
        np.argsort(served[np.sort(rows)] @ query[0])
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3
