"""The sources of a build measured against each other over a small grid, for single queries and batches apart.

Measuring is bounded: fewer probes for more hits; an index's effort is raised only until nothing asks for more, it costs more than comparing
all, or the seconds for it are used up; and only what the plan, or a search that asks for a recall, may use is timed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.measure import MAX_PROBES, Probes, Recall, choose_probes, median_milliseconds, recalls
from lookalike_indexer.builds.planning import CURVE_K, LEVELS, PLANNED_K, Plan, cheapest, make_plan, worth_timing
from lookalike_indexer.builds.snapshot import Snapshot
from lookalike_indexer.candidates import Candidates, Effort, ReducedCandidates
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.records import Index, PlanEntry, Source
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.view import Fresh, View

# Efforts of each source that has some, for how many hits they are no more than: nodes of Annoy, candidates of a graph, rows compared.
SEARCH_K: Final[dict[Source, Sequence[int]]] = {
    "annoy": (250, 350, 500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 11_000, 16_000, 32_000),
    "hnsw": (10, 12, 14, 17, 20, 22, 25, 30, 35, 40, 50, 60, 80, 120, 160, 240, 320, 480, 640, 1_000, 1_400, 2_000, 3_000),
    "scan": (0,),
    "ivf": (350, 500, 700, 1_000, 1_400, 2_000, 2_800, 4_000, 5_600, 8_000, 16_000, 32_000),
}
# Depths of the re-rank for each number of hits.
DEPTHS: Final = {
    1: (2, 3, 5, 7, 10, 15, 20, 30, 50, 100),
    10: (12, 14, 17, 20, 22, 25, 30, 35, 40, 50, 70, 100, 200, 300),
    100: (120, 200, 300, 500, 1_000),
    1_000: (1_200, 2_000, 3_000, 5_000),
}
# Numbers of hits that share probes, and how many these are: the more hits, the more each probe tells, and costs.
_GROUPS: Final = (((1, 10), MAX_PROBES), ((100,), 300), ((1_000,), 150))
# Seconds for the efforts of an index in each of those groups: at most, at least, and for each number in the vectors.
_MOST_SECONDS = 10.0
_LEAST_SECONDS = 1.0
_SECONDS_A_NUMBER = 1e-7
# Within so much of the cheapest, what is cheapest is decided by timing again, turn by turn.
_NEAR = 1.25
_FINALISTS = 4
_FINAL_RUNS = {False: 100, True: 12}

Slot = tuple[int, bool]


class Entered(NamedTuple):
    """An index that takes part, and its file."""

    source: ReducedCandidates
    path: Path


class Contest:
    """One build's sources before there is a plan. Files of indexes that have lost are removed."""

    def __init__(self, snapshot: Snapshot, served: NDArray[np.float32], target: float, forced: Source | None) -> None:
        """`served` are the unit rows [n, dim] that searches see; `forced` is the source that wins whatever is measured."""
        self._served = served
        self._seconds = min(_MOST_SECONDS, _LEAST_SECONDS + _SECONDS_A_NUMBER * served.size)
        self._exact = ExactCandidates(served)
        self._target = target
        self._forced = forced
        self._view = _view_of(snapshot, served)
        self._entered: dict[Index, Entered] = {}
        self._measured: list[PlanEntry] = []
        self._lost: set[Index] = set()
        self._probes: dict[int, Probes] = {}
        for hits, most in _GROUPS:
            self._probes |= dict.fromkeys(hits, choose_probes(snapshot.units, served, hits[-1], most))
        for slot in _slots():
            entry = PlanEntry(k=slot[0], batch=slot[1], source="exact", milliseconds=0)
            self._measured.append(entry.model_copy(update={"milliseconds": self._time(entry)}))

    @property
    def probe_count(self) -> int:
        return len(self._probes[CURVE_K].rows)

    def enter(self, index: Index, source: ReducedCandidates, path: Path) -> None:
        """Measure an index, `path` its file, and drop those that lose."""
        self._entered[index] = Entered(source, path)
        for hits, _ in _GROUPS:
            for entry in self._tried(index, source, hits):
                self._measured += [entry, entry.model_copy(update={"batch": True})]
        for slot in _slots():
            mine = [each for each in self._measured if each.index == index and (each.k, each.batch) == slot]
            for entry in worth_timing(mine, self._target):
                self._measured[self._place(entry)] = entry.model_copy(update={"milliseconds": self._time(entry)})
        self._drop({entry.index for slot in _slots() for entry in self._contenders(slot)})

    def milliseconds(self, source: Source) -> float | None:
        """Return what a single query for 10 hits costs at least by a source that meets the target; None if it misses."""
        entry = cheapest((each for each in self._of((CURVE_K, False)) if each.source == source), self._target, None)
        return entry.milliseconds if entry else None

    def leader(self, source: Source) -> Index | None:
        """Return the index of a source that answers single queries for 10 hits best."""
        entry = cheapest(self._of((CURVE_K, False)), self._target, source)
        return entry.index if entry else None

    def plan(self) -> Plan:
        """Time what is nearly the cheapest again, choose, and keep the files of what is chosen."""
        for slot in _slots():
            self._time_again(slot)
        plan = make_plan(self._measured, self._target, forced=self._forced, probe_count=self.probe_count, lost=self._lost)
        self._drop(plan.indexes)
        return plan

    def _of(self, slot: Slot) -> Iterator[PlanEntry]:
        return (each for each in self._measured if (each.k, each.batch) == slot and each.index not in self._lost)

    def _place(self, entry: PlanEntry) -> int:
        return next(place for place, each in enumerate(self._measured) if each is entry)

    def _contenders(self, slot: Slot) -> list[PlanEntry]:
        """Return what may be the cheapest, cheapest first."""
        leader = cheapest(self._of(slot), self._target, self._forced)
        if leader is None:
            return []
        least = min(self._target, leader.recall_low)
        near = (each for each in self._of(slot) if 0 < each.milliseconds <= _NEAR * leader.milliseconds and each.recall_low >= least)
        return sorted((each for each in near if self._forced in (None, each.source)), key=lambda each: each.milliseconds)[:_FINALISTS]

    def _time_again(self, slot: Slot) -> None:
        finalists = self._contenders(slot)
        if len(finalists) > 1:
            for entry, milliseconds in zip(finalists, self._times(finalists, _FINAL_RUNS[slot[1]]), strict=True):
                self._measured[self._place(entry)] = entry.model_copy(update={"milliseconds": milliseconds})

    def _drop(self, kept: set[Index]) -> None:
        for index in self._entered.keys() - kept:
            self._entered.pop(index).path.unlink()
            self._lost.add(index)

    def _tried(self, index: Index, source: ReducedCandidates, hits: Sequence[int]) -> Iterator[PlanEntry]:
        """Measure the recall of one effort after another."""
        started = time.perf_counter()
        probes = self._probes[hits[-1]]
        most = next(self._of((hits[-1], False))).milliseconds
        met: set[int] = set()
        for search_k in (each for each in SEARCH_K[index.source] if each >= hits[-1] or each == 0):
            step_started = time.perf_counter()
            step = self._step(index, source, hits, search_k)
            yield from step
            now = time.perf_counter()
            met |= {each.k for each in step if each.recall_low >= self._target}
            done = met >= set(hits)
            # A lesser depth finds less: the last of each number of hits tells whether there is more to find.
            last = {each.k: each for each in step}.values()
            if all(each.recall_low >= LEVELS[-1] or each.recall == 1.0 for each in last):
                break
            if now - started > (self._seconds / 4 if done else self._seconds):
                break
            if not self._forced and 1e3 * (now - step_started) / len(probes.rows) > (most / 4 if done else most):
                break

    def _step(self, index: Index, source: ReducedCandidates, hits: Sequence[int], search_k: int) -> list[PlanEntry]:
        count, probes = len(self._served), self._probes[hits[-1]]
        # A graph gives no more than are kept in sight.
        most = search_k if index.source == "hnsw" else count
        depths = [(k, sorted({min(depth, count) for depth in DEPTHS[k] if depth <= max(most, DEPTHS[k][0])})) for k in hits]
        ordered = source.ordered(probes.queries, Effort(search_k, max(max(each) for _, each in depths)))
        return [
            _entry(index, k, Effort(search_k, depth), recall)
            for (k, those), found in zip(depths, recalls(ordered, probes, depths, count), strict=True)
            for depth, recall in zip(those, found, strict=True)
        ]

    def _time(self, entry: PlanEntry) -> float:
        (milliseconds,) = self._times([entry], None)
        return milliseconds

    def _times(self, entries: Sequence[PlanEntry], runs: int | None) -> list[float]:
        """Return the milliseconds of each of `entries`, all of one number of hits and one kind."""
        first = entries[0]
        sources = [self._source(each) for each in entries]
        return median_milliseconds(self._view, sources, self._probes[first.k], first.k, first.batch, runs)

    def _source(self, entry: PlanEntry) -> Candidates:
        if entry.source == "exact":
            return self._exact
        return self._entered[entry.index].source.at(Effort(entry.search_k, entry.depth))


def _slots() -> Iterator[Slot]:
    return ((k, batch) for k in PLANNED_K for batch in (False, True))


def _entry(index: Index, k: int, effort: Effort, recall: Recall) -> PlanEntry:
    return PlanEntry(
        k=k, batch=False, **index._asdict(), **effort._asdict(), recall=recall.mean, recall_low=recall.low, milliseconds=0
    )  # fmt: skip


def _view_of(snapshot: Snapshot, served: NDArray[np.float32]) -> View:
    served = np.asarray(served)
    exact = ExactCandidates(served)
    build = ServedBuild(0, snapshot.revision, snapshot.ids, {}, served, exact, exact)
    nothing = Fresh([], np.empty((0, served.shape[1]), np.float32), np.zeros(0, np.bool_))
    return View(snapshot.revision, build, np.zeros(len(served), np.bool_), nothing)
