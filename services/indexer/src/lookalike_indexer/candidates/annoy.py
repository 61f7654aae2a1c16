"""Annoy's trees over reduced vectors. What Annoy itself does not guard (dimension, metric, checksum) the build's manifest does.

Source: E. Bernhardsson, "Annoy: Approximate Nearest Neighbors Oh Yeah", github.com/spotify/annoy.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Final

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal
from lookalike_indexer.candidates.reduction import project, reduce_rows, save_projection

METRIC: Final = "angular"
TREES_FILE = "trees.ann"
PROJECTION_FILE = "projection.npy"
_SEED = 20180801


class AnnoyCandidates:
    """The trees of one build, opened with the effort that the build chose."""

    def __init__(self, folder: Path, dim: int, effort: Effort) -> None:
        """Open what `write_trees` wrote into `folder` for vectors of `dim` dimensions; files must have been verified before."""
        projection = folder / PROJECTION_FILE
        self._projection = np.load(projection) if projection.exists() else None
        self.reduced_dim = dim if self._projection is None else len(self._projection) - 1
        self._trees = AnnoyIndex(self.reduced_dim, METRIC)
        self._trees.load(str(folder / TREES_FILE))
        self._effort = effort

    def at(self, effort: Effort) -> AnnoyCandidates:
        other = copy.copy(self)
        other._effort = effort
        return other

    def propose(self, queries: NDArray[np.float32], k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> Proposal:
        effort = self._scaled(k, dead, asked.search_k)
        return Proposal([rows[~dead[rows]] for rows in self.ordered(queries, effort)], effort.search_k, "annoy")

    def effort(self, queries: int, k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return self._scaled(k, dead, asked.search_k).search_k

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        # The angular metric asks for no unit length.
        reduced = queries if self._projection is None else project(queries, self._projection)
        return [np.array(self._trees.get_nns_by_vector(query.tolist(), effort.depth, effort.search_k), np.int64) for query in reduced]

    def _scaled(self, k: int, dead: NDArray[np.bool_], search_k: int | None) -> Effort:
        """Return the chosen effort, raised for many hits and for the share of rows that are dead."""
        alive = max(1, len(dead) - int(np.count_nonzero(dead)))
        depth = min(len(dead), math.ceil(max(self._effort.depth, 2 * k) * len(dead) / alive))
        return Effort(search_k or math.ceil(self._effort.search_k * max(1.0, depth / self._effort.depth)), depth)


def write_trees(vectors: NDArray[np.float32], folder: Path, *, trees: int, reduced_dim: int) -> None:
    """Reduce unit `vectors` [n, d] and write trees over them into `folder`; the same call gives the same bytes.

    Vectors stay as they are where there is nothing to reduce: too few dimensions or rows, or all rows alike.
    """
    reduction = reduce_rows(vectors, reduced_dim)
    reduced = vectors
    if reduction:
        projection, reduced = reduction
        save_projection(folder / PROJECTION_FILE, projection)
    index = AnnoyIndex(reduced.shape[1], METRIC)
    index.set_seed(_SEED)
    for row, vector in enumerate(reduced):
        index.add_item(row, vector.tolist())
    index.build(trees, n_jobs=1)
    index.save(str(folder / TREES_FILE))
