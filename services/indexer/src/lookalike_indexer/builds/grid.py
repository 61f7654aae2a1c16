"""Which indexes of a source a build tries: a small grid, one after another, cut short by what the first ones cost and find."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from lookalike_indexer.builds.contest import Contest
from lookalike_indexer.builds.snapshot import Tell
from lookalike_indexer.candidates.reduction import Reduction
from lookalike_indexer.candidates.sources import file_of, open_index, write_index
from lookalike_indexer.records import Index, Progress, Source

Stage = Callable[[str], AbstractContextManager[None]]

SCAN_DIMS: Final = (32, 64, 128, 256)
IVF_DIMS: Final = (64, 32, 128)
# Of each source that is an engine's: dimensions, the likeliest first; and trees or links, the first for all dimensions, the others for the
# best of them. Few trees, of which more nodes are looked at, find as much in less time than many: each tree's way down costs.
ENGINE_DIMS: Final[dict[Source, Sequence[int]]] = {"annoy": (64, 32, 128), "hnsw": (96, 64, 192)}
ENGINE_SIZES: Final[dict[Source, Sequence[int]]] = {"annoy": (25, 12, 50, 100), "hnsw": (12, 6, 16, 32)}
# Vectors of so many dimensions are indexed unreduced, too. hnswlib looks at few of them, so that they may be longer.
_FULL_UP_TO: Final[dict[Source, int]] = {"annoy": 256, "ivf": 256, "hnsw": 16_384}
# Seconds for all indexes of a build; what is estimated to take longer than what is left of them is not tried, but the first always is.
MOST_SECONDS = 150.0
# An engine that costs so many times what a scan or exact search does is not tried any further.
_HOPELESS = 3.0


class Grid:
    """The indexes of one build, written into `folder` and entered into a contest."""

    def __init__(self, folder: Path, reduction: Reduction, dim: int, count: int, contest: Contest, stage: Stage, tell: Tell) -> None:
        """`stage` measures the seconds of a stage by its name."""
        self._folder = folder
        self._reduction = reduction
        self._dim = dim
        self._count = count
        self._contest = contest
        self._stage = stage
        self._tell = tell
        self._reducer = reduction.reducer()
        self._seconds: dict[Index, float] = {}

    def scans(self) -> None:
        """Try scans of all dimensions."""
        for dims in self._reduction.dims:
            if dims in SCAN_DIMS:
                self._try(Index("scan", dims))

    def cells(self) -> None:
        """Try inverted files of all dimensions."""
        self.engine("ivf", IVF_DIMS, (0,), forced=False)

    def engine(self, source: Source, dims: Sequence[int], sizes: Sequence[int], *, forced: bool) -> None:
        """Try indexes of an engine's source: all `dims` with the first of `sizes`, then the best of them with the others."""
        usable = [each for each in dims if each in self._reduction.dims]
        if not usable or (len(dims) > 1 and self._dim <= _FULL_UP_TO[source]):
            usable.append(self._dim)
        hopeful = all(self._goes_on(source, _index(source, each, sizes[0]), forced=forced) for each in usable)
        leader = self._contest.leader(source)
        if hopeful and leader:
            all(self._goes_on(source, _index(source, leader.reduced_dim, size), forced=forced) for size in sizes[1:])

    def _goes_on(self, source: Source, index: Index, *, forced: bool) -> bool:
        """Try an index unless it would take too long; returns whether to try others."""
        if self._estimate(index) <= MOST_SECONDS - sum(self._seconds.values()):
            self._try(index)
        if forced:
            return True
        mine = self._contest.milliseconds(source)
        others = [each for name in ("scan", "exact") if (each := self._contest.milliseconds(name)) is not None]
        return mine is None or mine <= _HOPELESS * min(others)

    def _estimate(self, index: Index) -> float:
        """Return the seconds that an index will take, from those of its source that were made: 0 for the first."""
        made = [(each, seconds) for each, seconds in self._seconds.items() if each.source == index.source]
        return max((seconds * _work(index) / _work(each) for each, seconds in made), default=0.0)

    def _try(self, index: Index) -> None:
        self._tell(Progress(stage="index", done=len(self._seconds), unit="indexes"))
        started = time.perf_counter()
        with self._stage("index"):
            write_index(self._reduction.rows(index.reduced_dim), self._folder, index)
        self._seconds[index] = time.perf_counter() - started
        self._tell(Progress(stage="measure", done=len(self._seconds), unit="indexes"))
        with self._stage("measure"):
            source = open_index(self._folder, index, self._dim, self._count, self._reducer)
            self._contest.enter(index, source, self._folder / file_of(index))


def _index(source: Source, dims: int, size: int) -> Index:
    return Index(source, dims, trees=size) if source == "annoy" else Index(source, dims, links=size)


def _work(index: Index) -> float:
    """Return how the time for an index grows: with trees or links, and from some dimensions on with these, as rows are then read."""
    return max(1, index.trees, index.links) * (64 + index.reduced_dim)
