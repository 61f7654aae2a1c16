"""The sources of a build behind its plan: each search goes to the source that the plan names for its number of hits and queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Candidates, Effort, Proposal, ReducedCandidates
from lookalike_indexer.candidates.annoy import AnnoyCandidates
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.scan import ScanCandidates
from lookalike_indexer.records import PlanEntry, Source

# Queries in a search from which it goes by the entries for batches.
BATCH_FROM = 8
_NO_EFFORT = Effort(0, 0)

# How each source opens its files of a build: folder, dimensions of the vectors, dimensions that it sees.
OPENERS: Final[dict[Source, Callable[[Path, int, int], ReducedCandidates]]] = {
    "annoy": lambda folder, dim, _: AnnoyCandidates(folder, dim, _NO_EFFORT),
    "scan": lambda folder, dim, reduced_dim: ScanCandidates(folder, dim, _NO_EFFORT, reduced_dim),
}


class PlannedCandidates:
    """What searches of a build ask; it never changes, so that the same build answers the same."""

    def __init__(self, plan: Sequence[tuple[PlanEntry, Candidates]], exact: ExactCandidates) -> None:
        """`exact` answers what no entry is for."""
        self._plan = plan
        self._exact = exact

    def propose(self, queries: NDArray[np.float32], k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> Proposal:
        return self._chosen(len(queries), k, asked).propose(queries, k, dead, asked)

    def effort(self, queries: int, k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> int:
        return self._chosen(queries, k, asked).effort(queries, k, dead, asked)

    def _chosen(self, queries: int, k: int, asked: Asked) -> Candidates:
        annoy = self._annoy(queries, k) if asked.search_k is not None else None
        if annoy:
            return annoy
        entry = _entry(self._plan, k, queries >= BATCH_FROM)
        if entry is None or (asked.recall is not None and entry[0].recall_low < asked.recall):
            return self._exact
        return entry[1]

    def _annoy(self, queries: int, k: int) -> Candidates | None:
        """Return Annoy as the plan has it: by the other entries if there is none for such searches."""
        annoy = [each for each in self._plan if each[0].source == "annoy"]
        batch = queries >= BATCH_FROM
        entry = _entry(annoy, k, batch) or _entry(annoy, k, not batch) or (annoy[-1] if annoy else None)
        return entry[1] if entry else None


def open_plan(folder: Path, dim: int, plan: Sequence[PlanEntry], exact: ExactCandidates) -> PlannedCandidates:
    """Open what `plan` names in `folder`, each file once; raises OSError or ValueError for files that are not what it says."""
    opened: dict[tuple[Source, int], ReducedCandidates] = {}
    sources: list[tuple[PlanEntry, Candidates]] = []
    for entry in plan:
        if entry.source == "exact":
            sources.append((entry, exact))
            continue
        which = (entry.source, entry.reduced_dim)
        if which not in opened:
            opened[which] = OPENERS[entry.source](folder, dim, entry.reduced_dim)
            if opened[which].reduced_dim != entry.reduced_dim:
                raise ValueError(f"the projection in {folder} has {opened[which].reduced_dim} dimensions instead of {entry.reduced_dim}")
        sources.append((entry, opened[which].at(Effort(entry.search_k, entry.depth))))
    return PlannedCandidates(sources, exact)


def _entry(plan: Sequence[tuple[PlanEntry, Candidates]], k: int, batch: bool) -> tuple[PlanEntry, Candidates] | None:
    fitting = [each for each in plan if each[0].batch == batch and each[0].k >= k]
    return min(fitting, key=lambda each: each[0].k, default=None)
