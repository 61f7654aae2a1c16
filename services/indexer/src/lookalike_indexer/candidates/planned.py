"""The sources of a build behind its plan: each search goes to the source that the plan names for its number of hits and queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Candidates, Effort, Proposal, ReducedCandidates
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.reduction import open_reducer
from lookalike_indexer.candidates.sources import open_index
from lookalike_indexer.records import Index, PlanEntry

# Queries in a search from which it goes by the entries for batches.
BATCH_FROM = 8

# What may answer a search, and what was measured of it.
Way = tuple[PlanEntry, Candidates]


class PlannedCandidates:
    """What searches of a build ask; it never changes, so that the same build answers the same."""

    def __init__(self, plan: Sequence[Way], exact: ExactCandidates, measured: Sequence[Way] = ()) -> None:
        """`exact` answers what no entry is for; those of `measured` answer what asks for a recall, beside those of the plan."""
        self._plan = sorted(plan, key=_hits)
        # Cheapest first, by hits and kind of search.
        self._measured: dict[tuple[int, bool], list[Way]] = {}
        for way in sorted([*plan, *measured], key=_milliseconds):
            self._measured.setdefault((way[0].k, way[0].batch), []).append(way)
        self._exact = exact

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        entry, source = self._chosen(len(queries), k, asked)
        found = source.propose(queries, k, absent, asked)
        return Proposal(found.rows, found.search_k, found.source, entry)

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:
        return self._chosen(queries, k, asked)[1].effort(queries, k, absent, asked)

    def _chosen(self, queries: int, k: int, asked: Asked) -> tuple[PlanEntry | None, Candidates]:
        batch = queries >= BATCH_FROM
        if asked.search_k is not None and (annoy := self._annoy(k, batch)):
            # What was measured of an entry does not hold for other nodes.
            return None, annoy[1]
        if asked.recall is not None:
            return self._reaching(asked.recall, k, batch)
        return _way(self._plan, k, batch) or (None, self._exact)

    def _annoy(self, k: int, batch: bool) -> Way | None:
        """Return Annoy as the plan has it: by the other entries if there is none for such searches."""
        annoy = [each for each in self._plan if each[0].source == "annoy"]
        return _way(annoy, k, batch) or _way(annoy, k, not batch) or (annoy[-1] if annoy else None)

    def _reaching(self, recall: float, k: int, batch: bool) -> tuple[PlanEntry | None, Candidates]:
        """Return the cheapest that was measured to reach a recall, for the smallest number of hits that suffices."""
        hits = min((each for each, kind in self._measured if kind == batch and each >= k), default=0)
        ways = self._measured.get((hits, batch), [])
        return next((way for way in ways if way[0].recall_low >= recall), (None, self._exact))


def open_plan(
    folder: Path, dim: int, plan: Sequence[PlanEntry], exact: ExactCandidates, measured: Sequence[PlanEntry] = ()
) -> PlannedCandidates:
    """Open what `plan` names in `folder`, each file once; of `measured` there is what was timed of the same files.

    Raises OSError or ValueError for files that are not what the plan says.
    """
    reducer = open_reducer(folder)
    count = exact.count
    opened: dict[Index, ReducedCandidates] = {
        index: open_index(folder, index, dim, count, reducer)
        for index in dict.fromkeys(entry.index for entry in plan)
        if index.source != "exact"
    }

    def way(entry: PlanEntry) -> Way:
        return entry, exact if entry.source == "exact" else opened[entry.index].at(Effort(entry.search_k, entry.depth))

    timed = [each for each in measured if each.milliseconds > 0 and (each.source == "exact" or each.index in opened)]
    return PlannedCandidates([way(each) for each in plan], exact, [way(each) for each in timed])


def _way(ways: Sequence[Way], k: int, batch: bool) -> Way | None:
    """Return the first of `ways`, those for few hits before those for many, that suffices."""
    for way in ways:
        entry = way[0]
        if entry.batch == batch and entry.k >= k:
            return way
    return None


def _hits(way: Way) -> int:
    return way[0].k


def _milliseconds(way: Way) -> float:
    return way[0].milliseconds
