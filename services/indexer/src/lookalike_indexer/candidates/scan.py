"""A scan of reduced vectors: one matrix product for all queries. Up to tens of thousands of rows it often beats an index."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal, depth_among, least_depth
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.reduction import Reducer
from lookalike_indexer.records import Index

# Scores held at once: 32 MiB.
_TILE_SCORES = 8 << 20
# Below every cosine.
_NEVER = np.float32(-2)


class ScanCandidates:
    """The best `depth` rows by the cosine of reduced vectors. Absent rows are left out before, so that none takes a live one's place."""

    def __init__(self, path: Path, index: Index, reducer: Reducer | None, count: int, effort: Effort = Effort(0, 1)) -> None:  # noqa: B008
        """Open what `write_scan` wrote of `count` rows; raises ValueError for a file of another shape."""
        if reducer is None:
            raise ValueError(f"the projection for {path} is missing")
        self._reducer = reducer
        self._dims = index.reduced_dim
        # A column for each row, as the product takes them: the other way about it spends most of its time on turning them.
        self._columns = np.asarray(np.memmap(path, "<f4", "r")).reshape(self._dims, count)
        self._depth = effort.depth

    def at(self, effort: Effort) -> ScanCandidates:
        other = copy.copy(self)
        other._depth = effort.depth
        return other

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:  # noqa: ARG002
        depth = min(max(self._depth, least_depth(k, absent.alive, len(absent))), absent.alive)
        if depth == 0:
            return Proposal([np.empty(0, np.int64)] * len(queries), 0, "scan")
        rows: list[NDArray[np.int64]] = []
        for scores in self._scores(queries):
            scores[:, absent.places] = _NEVER
            rows += best(scores, depth)
        return Proposal(rows, 0, "scan")

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return len(absent) * self._dims // self._reducer.dim + depth_among(self._depth, k, absent)

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        rows: list[NDArray[np.int64]] = []
        for scores in self._scores(queries):
            found = best(scores, min(effort.depth, self._columns.shape[1]))
            rows += [places[np.argsort(-row[places], kind="stable")] for row, places in zip(scores, found, strict=True)]
        return rows

    def _scores(self, queries: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        reduced = self._reducer.project(queries, self._dims)
        step = max(1, _TILE_SCORES // self._columns.shape[1])
        for start in range(0, len(reduced), step):
            yield reduced[start : start + step] @ self._columns


def write_scan(rows: NDArray[np.float32], path: Path, index: Index) -> None:  # noqa: ARG001 - as every source's writer
    """Write reduced unit `rows` [n, reduced_dim], one dimension after the other."""
    path.write_bytes(rows.tobytes(order="F"))


def best(scores: NDArray[np.float32], depth: int) -> list[NDArray[np.int64]]:
    """Return the places of the `depth` highest of each row of `scores` [q, n], in no order; 1 ≤ depth ≤ n.

    Places stand in groups. Only groups whose maximum is among the `depth` highest maxima can hold any of them, and maxima are found at the
    speed of memory: this looks at about √(n × depth) places instead of n.
    """
    count = scores.shape[1]
    size = math.isqrt(count // depth)
    if size < 2:
        return list(np.argpartition(scores, count - depth, axis=1)[:, count - depth :])
    groups = count // size
    # Groups are strided: a maximum of contiguous slices is vectorised.
    maxima = scores[:, : size * groups].reshape(len(scores), size, groups).max(axis=1)
    least = np.partition(maxima, groups - depth, axis=1)[:, groups - depth]
    offsets, rest = np.arange(size)[:, None] * groups, np.arange(size * groups, count)
    found = []
    for row, tops, low in zip(scores, maxima, least, strict=True):
        places = np.concatenate([(np.flatnonzero(tops >= low) + offsets).ravel(), rest])
        found.append(places[np.argpartition(row[places], len(places) - depth)[len(places) - depth :]])
    return found
