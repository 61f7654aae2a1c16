"""Search measured: recall at 10 against queries a second of our engines and of what others would take, on the same vectors in one run.

Probes are items that are not counted on either side; truth is exact search. Times are medians of what ten hits of a query take, one thread
each; what is compared in the end takes turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexer.builds import Built, build_of
from benchmarks.indexer.contenders import (
    Contender,
    K,
    Vectors,
    faiss_flat,
    faiss_hnsw,
    hnswlib_full,
    hnswlib_reduced,
    ours,
    raw_annoy,
)
from benchmarks.indexer.memory import resident_bytes
from lookalike_indexer.candidates import Asked
from lookalike_indexer.records import Engine, PlanEntry
from lookalike_retrieval import exact_topk

TARGET = 0.95
BATCH = 32
_SEED = 7


@dataclass(frozen=True)
class Sweep:
    """What is tried. `runs` queries are timed for each point of a curve, `turns` times `runs` for what is compared."""

    probes: int = 1_000
    runs: int = 60
    turns: int = 9
    trees: Sequence[int] = (10, 25, 50, 100, 200)
    search_k: Sequence[int] = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000)
    links: Sequence[int] = (6, 8, 12, 16, 32)
    considered: Sequence[int] = (100, 200)
    efs: Sequence[int] = (10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
    reduced: Sequence[int] = (64, 128)
    depths: Sequence[int] = (20, 50)
    recalls: Sequence[float] = (0.8, 0.9, 0.95, 0.99)
    faiss_links: int = 32


class Arena:
    """One data set, its probes and the truth."""

    def __init__(self, vectors: Vectors, sweep: Sweep) -> None:
        self._sweep = sweep
        rng = np.random.default_rng(_SEED)
        self._probes = rng.choice(len(vectors), min(sweep.probes, len(vectors) // 2), replace=False)
        self._queries = np.ascontiguousarray(vectors[self._probes])
        self._truth = exact_topk(self._queries, vectors, K, exclude=self._probes).indices

    def points(self, contenders: Iterable[Contender]) -> Iterator[tuple[Contender, dict[str, Any]]]:
        """Measure one contender after another, each for the kinds of search that it is for."""
        for each in contenders:
            recall = self.recall(each)
            for batch in each.kinds:
                seconds = float(np.median(self.seconds(each, batch, self._sweep.runs)))
                yield each, _point(each, batch, recall, seconds)

    def recall(self, contender: Contender) -> float:
        """Return the share of the ten nearest others that a contender finds."""
        rows = contender.found(self._queries, K + 1)
        pairs = zip(rows, self._probes.tolist(), self._truth.tolist(), strict=True)
        return float(np.mean([len((set(found.tolist()) - {probe}) & set(truth)) / K for found, probe, truth in pairs]))

    def seconds(self, contender: Contender, batch: bool, runs: int, start: int = 0) -> list[float]:
        """Return the seconds a query of `runs` searches after one that is not counted."""
        size = BATCH if batch else 1
        runs = max(3, runs // 8) if batch else runs
        times = []
        for step in range(start, start + runs + 1):
            queries = self._queries.take(range(step * size, (step + 1) * size), axis=0, mode="wrap")
            started = time.perf_counter()
            contender.timed(queries)
            times.append((time.perf_counter() - started) / size)
        return times[1:]

    def turns(self, contenders: Mapping[str, Contender], batch: bool) -> dict[str, list[float]]:
        """Return the median seconds a query of each contender in each turn."""
        # Once before: what a contender's files hold may have been paged out while others were measured.
        for each in contenders.values():
            self.seconds(each, batch, self._sweep.turns * self._sweep.runs)
        medians: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(self._sweep.turns):
            for name, each in contenders.items():
                medians[name].append(float(np.median(self.seconds(each, batch, self._sweep.runs, turn * self._sweep.runs))))
        return medians


def measure(data_sets: Mapping[str, Vectors], out: Path, sweep: Sweep = Sweep()) -> dict[str, Any]:
    """Measure every engine and peer on each of `data_sets`, unit rows [n, d]; indexes are written into `out`. Returns JSON values."""
    return {name: _measured(vectors, out / name, sweep) for name, vectors in data_sets.items()}


def _measured(vectors: Vectors, out: Path, sweep: Sweep) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    arena = Arena(vectors, sweep)
    engines: tuple[Engine, ...] = ("annoy", "hnsw", "exact")
    built = {engine: build_of(vectors, out / f"ours-{engine}", engine) for engine in engines}
    curves: dict[str, list[dict[str, Any]]] = {}
    kept: dict[str, list[tuple[Contender, dict[str, Any]]]] = {}
    for contender, point in arena.points(_all(vectors, out, sweep, built)):
        curves.setdefault(contender.method, []).append(point)
        kept.setdefault(contender.method, []).append((contender, point))
    return {
        "items": len(vectors),
        "dim": vectors.shape[1],
        "k": K,
        "threads": 1,
        "curves": curves,
        **_ratios(arena, kept),
        "engines": {engine: _described(each) for engine, each in built.items()},
        "files": {path.name: _bytes(path) for path in sorted(out.iterdir())},
        "memory": {**resident_bytes(out, vectors.shape[1]), "vectors": vectors.nbytes},
    }


def _all(vectors: Vectors, out: Path, sweep: Sweep, built: Mapping[Engine, Built]) -> Iterator[Contender]:
    for engine, each in built.items():
        yield from ours(f"lookalike-{engine}", each.build)
        for recall in sweep.recalls if engine != "exact" else ():
            yield from ours(f"lookalike-{engine}-asked", each.build, Asked(recall=recall))
    for trees in sweep.trees:
        yield from raw_annoy(vectors, out, trees, sweep.search_k)
    for links in sweep.links:
        for considered in sweep.considered:
            yield from hnswlib_full(vectors, out, links, considered, sweep.efs)
    for dims in (each for each in sweep.reduced if each < vectors.shape[1]):
        yield from hnswlib_reduced(vectors, out, dims, 16, 200, sweep.efs, sweep.depths)
    yield from faiss_flat(vectors, out)
    yield from faiss_hnsw(vectors, out, sweep.faiss_links, 200, sweep.efs)


def _ratios(arena: Arena, kept: Mapping[str, Sequence[tuple[Contender, dict[str, Any]]]]) -> dict[str, Any]:
    """Compare engines as they plan themselves with the best of a peer's sweep, each in turn with the other."""
    ratios: dict[str, Any] = {}
    for key, engine, peer in (("vs_annoy_at_95", "annoy", "annoy-full"), ("vs_hnswlib_full_at_95", "hnsw", "hnswlib-full")):
        for batch, suffix in ((False, ""), (True, "_batch")):
            mine = next(each for each in kept[f"lookalike-{engine}"] if each[1]["batch"] == batch)
            around = around_target([each for each in kept[peer] if each[1]["batch"] == batch])
            if not around:
                ratios[key + suffix], ratios[f"{key}{suffix}_of"] = None, f"{peer} never reached a recall of {TARGET:g}"
                continue
            named = {"ours": mine[0], **{f"peer {place}": each[0] for place, each in enumerate(around)}}
            medians = arena.turns(named, batch)
            rates = {name: 1 / float(np.median(times)) for name, times in medians.items()}
            rate = rate_at(TARGET, [(each[1]["recall"], rates[f"peer {place}"]) for place, each in enumerate(around)])
            ratios[key + suffix] = rates["ours"] / rate
            ratios[f"{key}{suffix}_of"] = {
                "ours": {**mine[1], "queries_per_second": rates["ours"]},
                "peer": [{**each[1], "queries_per_second": rates[f"peer {place}"]} for place, each in enumerate(around)],
                "peer_queries_per_second_at_target": rate,
                "turns": medians,
            }
    return ratios


def around_target(points: Sequence[tuple[Contender, dict[str, Any]]]) -> list[tuple[Contender, dict[str, Any]]]:
    """Return the quickest points with at least the target's recall, at most three, and of each one's kind the last below it.

    What is between two efforts of one index is thus the peer's, too. Empty if no point reaches the target.
    """
    reaching = sorted((each for each in points if each[1]["recall"] >= TARGET), key=lambda each: -each[1]["queries_per_second"])[:3]
    chosen = list(reaching)
    for each in reaching:
        below = [other for other in points if _same_index(each[1], other[1]) and other[1]["recall"] < TARGET]
        chosen += sorted(below, key=lambda other: -other[1]["recall"])[:1]
    return list({id(each[0]): each for each in chosen}.values())


def rate_at(recall: float, points: Sequence[tuple[float, float]]) -> float:
    """Return the queries a second at a recall: the best on a straight line, in the logarithm, between a point below it and one not."""
    above = [each for each in points if each[0] >= recall]
    rates = [rate for _, rate in above]
    for low_recall, low_rate in (each for each in points if each[0] < recall):
        for high_recall, high_rate in above:
            share = (recall - low_recall) / (high_recall - low_recall)
            rates.append(math.exp((1 - share) * math.log(low_rate) + share * math.log(high_rate)))
    return max(rates)


def _same_index(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    effort = {"search_k", "ef", "depth"}
    return all(one["settings"][name] == other["settings"][name] for name in one["settings"].keys() - effort)


def _point(contender: Contender, batch: bool, recall: float, seconds: float) -> dict[str, Any]:
    return {"settings": contender.settings, "batch": batch, "recall": recall, "queries_per_second": 1 / seconds}


def _described(built: Built) -> dict[str, Any]:
    report = built.report
    return {
        "reason": report.reason,
        "plan": [_entry(each) for each in report.plan],
        "measured": [_entry(each) for each in report.measured if each.milliseconds > 0],
        "seconds": report.seconds,
        "size_bytes": report.size_bytes,
    }


def _entry(entry: PlanEntry) -> dict[str, Any]:
    return entry.model_dump()


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size
