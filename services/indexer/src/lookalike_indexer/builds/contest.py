"""The sources of a build measured against each other over a small grid, for single queries and batches apart.

Measuring is bounded: fewer probes for more hits; Annoy's nodes are raised only until the target is met, nothing is left to find, they cost
more than comparing all, or the seconds for it are used up; and only what the plan may use is timed, besides the curve of the report.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.measure import MAX_PROBES, Probes, choose_probes, milliseconds, recalls
from lookalike_indexer.builds.planning import CURVE_K, Option, Plan, exact_option, make_plan
from lookalike_indexer.builds.snapshot import Snapshot, Tell
from lookalike_indexer.candidates import Candidates, Effort
from lookalike_indexer.candidates.annoy import AnnoyCandidates
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.scan import ScanCandidates
from lookalike_indexer.records import Progress, Source
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.view import Fresh, View

SEARCH_K: Final = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
SCAN_DIMS: Final = (32, 64, 128)
# Depths of the re-rank for each number of hits: at least twice as many, as sources take without being told.
DEPTHS: Final = {1: (20, 50, 100), 10: (50, 100, 300), 100: (200, 400, 1_000), 1_000: (2_000, 3_000, 5_000)}
# Numbers of hits that share probes, and how many these are: the more hits, the more each probe tells, and costs.
_GROUPS: Final = (((1, 10), MAX_PROBES), ((100,), 300), ((1_000,), 150))
# Seconds for Annoy's efforts in each of those groups.
_MOST_SECONDS = 30.0


class Contest:
    """One build's sources before there is a plan."""

    def __init__(
        self,
        snapshot: Snapshot,
        served: NDArray[np.float32],
        annoy: AnnoyCandidates,
        scans: Sequence[ScanCandidates],
        target: float,
        forced: bool,
    ) -> None:
        """`served` are the unit rows [n, dim] that searches see; with `forced` Annoy is alone."""
        self._raw = snapshot.units
        self._served = served
        self._annoy = annoy
        self._scans = () if forced else scans
        self._target = target
        self._forced = forced
        self._view = _view_of(snapshot, served)
        self._probes: dict[int, Probes] = {}
        self._times: dict[tuple[Option, bool], float] = {}

    def plan(self, tell: Tell) -> Plan:
        """Measure, and choose."""
        options: list[Option] = []
        for done, (hits, most) in enumerate(_GROUPS):
            tell(Progress(stage="measure", done=done, total=len(_GROUPS), unit="parts"))
            probes = choose_probes(self._raw, self._served, hits[-1], most)
            self._probes |= dict.fromkeys(hits, probes)
            options += self._of_scans(hits, probes) + self._of_annoy(hits, probes)
        return make_plan(options, self._target, self._time, forced=self._forced, probe_count=len(self._probes[CURVE_K].rows))

    def _of_scans(self, hits: Sequence[int], probes: Probes) -> list[Option]:
        return [option for scan in self._scans for option in self._options(scan, hits, probes, 0)]

    def _of_annoy(self, hits: Sequence[int], probes: Probes) -> list[Option]:
        options: list[Option] = []
        started = time.perf_counter()
        for search_k in (each for each in SEARCH_K if each >= hits[-1]):
            step_started = time.perf_counter()
            options += (step := self._options(self._annoy, hits, probes, search_k))
            now = time.perf_counter()
            met = {each.k for each in options if each.recall.low >= self._target}
            if met >= set(hits) or all(each.recall.mean == 1.0 for each in step) or now - started > _MOST_SECONDS:
                break
            if not self._forced and 1e3 * (now - step_started) / len(probes.rows) > self._time(exact_option(hits[-1]), batch=False):
                break
        return options

    def _options(self, source: AnnoyCandidates | ScanCandidates, hits: Sequence[int], probes: Probes, search_k: int) -> list[Option]:
        count = len(self._served)
        depths = [(k, sorted({min(depth, count) for depth in DEPTHS[k]})) for k in hits]
        ordered = source.ordered(probes.queries, Effort(search_k, max(max(each) for _, each in depths)))
        name: Source = "annoy" if isinstance(source, AnnoyCandidates) else "scan"
        return [
            Option(k, name, source.reduced_dim, Effort(search_k, depth), recall)
            for (k, those), found in zip(depths, recalls(ordered, probes, depths, count), strict=True)
            for depth, recall in zip(those, found, strict=True)
        ]

    def _time(self, option: Option, batch: bool) -> float:
        if (option, batch) not in self._times:
            self._times[option, batch] = milliseconds(self._view, self._source(option), self._probes[option.k], option.k, batch)
        return self._times[option, batch]

    def _source(self, option: Option) -> Candidates:
        if option.source == "annoy":
            return self._annoy.at(option.effort)
        scans = (scan.at(option.effort) for scan in self._scans if scan.reduced_dim == option.reduced_dim)
        return next(scans) if option.source == "scan" else ExactCandidates(self._served)


def _view_of(snapshot: Snapshot, served: NDArray[np.float32]) -> View:
    exact = ExactCandidates(served)
    build = ServedBuild(0, snapshot.revision, snapshot.ids, {}, served, exact, exact)
    nothing = Fresh([], np.empty((0, served.shape[1]), np.float32), np.zeros(0, np.bool_))
    return View(snapshot.revision, build, np.zeros(len(served), np.bool_), nothing)
