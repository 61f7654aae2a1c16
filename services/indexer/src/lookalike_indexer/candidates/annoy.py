"""Annoy's trees over reduced vectors. What Annoy itself does not guard (dimension, metric, checksum) the build's manifest does.

Source: E. Bernhardsson, "Annoy: Approximate Nearest Neighbors Oh Yeah", github.com/spotify/annoy.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal, effort_among, present
from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.candidates.reduction import Reducer
from lookalike_indexer.records import Index

METRIC: Final = "angular"
_SEED = 20180801


class AnnoyCandidates:
    """The trees of one build, opened with the effort that the build chose."""

    def __init__(self, path: Path, index: Index, reducer: Reducer | None, count: int, effort: Effort = Effort(0, 1)) -> None:  # noqa: B008
        """Open what `write_trees` wrote of `count` rows, which must have been verified before; raises ValueError for another number."""
        self._reducer = reducer
        self._dims = index.reduced_dim
        self._trees = AnnoyIndex(self._dims, METRIC)
        self._trees.load(str(path))
        if self._trees.get_n_items() != count:
            raise ValueError(f"{path} holds {self._trees.get_n_items()} rows instead of {count}")
        self._effort = effort

    def at(self, effort: Effort) -> AnnoyCandidates:
        other = copy.copy(self)
        other._effort = effort
        return other

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        effort = self._scaled(k, absent, asked.search_k)
        return Proposal(present(self.ordered(queries, effort), absent), effort.search_k, "annoy")

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return self._scaled(k, absent, asked.search_k).search_k

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        # The angular metric asks for no unit length.
        reduced = queries if self._reducer is None else self._reducer.project(queries, self._dims)
        return [np.array(self._trees.get_nns_by_vector(query, effort.depth, effort.search_k), np.int64) for query in reduced.tolist()]

    def _scaled(self, k: int, absent: Absent, search_k: int | None) -> Effort:
        scaled = effort_among(self._effort, k, absent)
        return scaled._replace(search_k=search_k or scaled.search_k)


def write_trees(rows: NDArray[np.float32], path: Path, index: Index) -> None:
    """Write `index.trees` trees over `rows` [n, reduced_dim]; the same call gives the same bytes."""
    trees = AnnoyIndex(index.reduced_dim, METRIC)
    trees.set_seed(_SEED)
    for row, vector in enumerate(rows):
        trees.add_item(row, vector.tolist())
    trees.build(index.trees, n_jobs=1)
    trees.save(str(path))
