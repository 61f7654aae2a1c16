"""An inverted file: reduced vectors in cells around centres. Of a query's nearest cells all are compared, of the others none.

Each cell lies in one piece of memory, so that it is compared as fast as it is read: for single queries over tens of thousands of rows often
the quickest.

Source: J. Sivic, A. Zisserman, "Video Google: A Text Retrieval Approach to Object Matching in Videos", 2003; H. Jégou, M. Douze, C. Schmid,
"Product Quantization for Nearest Neighbor Search", 2011, with codes where the reduced vectors are here.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal, effort_among, least_depth
from lookalike_indexer.candidates._cells import Cells
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.reduction import Reducer
from lookalike_indexer.records import Index
from lookalike_retrieval import exact_topk

# Rounds of k-means, and rows a cell that it sees.
_ROUNDS = 10
_SAMPLED = 60
_SEED = 1


class IvfCandidates:
    """The cells of one build. An effort's `search_k` is about how many rows are compared: so many cells as hold these on average."""

    def __init__(self, path: Path, index: Index, reducer: Reducer | None, count: int, effort: Effort = Effort(1, 1)) -> None:  # noqa: B008
        """Open what `write_ivf` wrote of `count` rows; raises ValueError for a file of another shape."""
        self._reducer = reducer
        self._dims = index.reduced_dim
        self._count = count
        words = np.asarray(np.memmap(path, "<u4", "r"))
        cells = cells_of(count)
        ends = np.cumsum([cells * self._dims, cells + 1, count, count * self._dims]).tolist()
        if len(words) != ends[-1]:
            raise ValueError(f"{path} does not hold {count} rows of {self._dims} dimensions")
        centres, starts, order, rows = np.split(words, ends[:-1])
        self._cells = Cells(centres.view("<f4").reshape(cells, -1), starts, order, rows.view("<f4").reshape(count, -1))
        self._effort = effort

    def at(self, effort: Effort) -> IvfCandidates:
        other = copy.copy(self)
        other._effort = effort
        return other

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:  # noqa: ARG002
        return Proposal(self._nearest(queries, self._scaled(k, absent), absent), 0, "ivf")

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        scaled = self._scaled(k, absent)
        dim = self._dims if self._reducer is None else self._reducer.dim
        return (scaled.search_k + cells_of(self._count)) * self._dims // dim + scaled.depth

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        return self._nearest(queries, effort)

    def _scaled(self, k: int, absent: Absent) -> Effort:
        # Absent rows are left out before the best are taken: their share asks for more rows, not for more of them to be kept.
        depth = max(self._effort.depth, least_depth(k, absent.alive, len(absent)))
        return Effort(min(len(absent), effort_among(self._effort, k, absent).search_k), depth)

    def _nearest(self, queries: NDArray[np.float32], effort: Effort, absent: Absent | None = None) -> list[NDArray[np.int64]]:
        reduced = queries if self._reducer is None else self._reducer.project(queries, self._dims)
        mean = self._count / cells_of(self._count)
        left_out = absent.rows if absent is not None and absent.count else None
        return self._cells.nearest(reduced, math.ceil(effort.search_k / mean), effort.depth, left_out)


def cells_of(count: int) -> int:
    """Return the number of cells for `count` rows: a query then looks through as many centres as through rows of a few cells."""
    return min(count, round(2 * math.sqrt(count)))


def write_ivf(rows: NDArray[np.float32], path: Path, index: Index) -> None:  # noqa: ARG001 - as every source's writer
    """Write unit `rows` [n, reduced_dim] cell by cell: centres, where each cell begins, which rows these are, and they themselves.

    The same call gives the same bytes.
    """
    centres = _centres(rows, cells_of(len(rows)))
    cells = _nearest(rows, centres)
    order = np.argsort(cells, kind="stable")
    starts = np.searchsorted(cells[order], np.arange(len(centres) + 1))
    with path.open("wb") as file:
        for part, kind in ((centres, "<f4"), (starts, "<u4"), (order, "<u4"), (rows[order], "<f4")):
            part.astype(kind, copy=False).tofile(file)


def _centres(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `count` unit centres of `rows` [n, d]: spherical k-means of a sample."""
    rng = np.random.default_rng(_SEED)
    sample = rows[np.sort(rng.choice(len(rows), min(len(rows), count * _SAMPLED), replace=False))]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(_ROUNDS):
        cells = _nearest(sample, centres)
        order = np.argsort(cells, kind="stable")
        # A cell that got no row stays where it is.
        used, starts = np.unique(cells[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts)
        centres[used] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return centres


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return which of `centres` [c, d] is nearest to each of `rows` [n, d]."""
    return exact_topk(rows, centres, 1).indices[:, 0]
