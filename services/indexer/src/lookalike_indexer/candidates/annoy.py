"""Annoy's trees over reduced vectors. What Annoy itself does not guard (dimension, metric, checksum) the build's manifest does.

Source: E. Bernhardsson, "Annoy: Approximate Nearest Neighbors Oh Yeah", github.com/spotify/annoy.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from annoy import AnnoyIndex
from numpy.typing import NDArray

from lookalike_indexer.candidates import Proposal
from lookalike_retrieval import Projection, VectorError, fit_pca

METRIC: Final = "angular"
TREES_FILE = "trees.ann"
PROJECTION_FILE = "projection.npy"
_SEED = 20180801


class Effort(NamedTuple):
    """`search_k` nodes are looked at over all trees, the best `depth` of them are candidates."""

    search_k: int
    depth: int


class AnnoyCandidates:
    """The trees of one build, opened with the effort that the build chose."""

    def __init__(self, folder: Path, dim: int, effort: Effort) -> None:
        """Open what `write_trees` wrote into `folder` for vectors of `dim` dimensions; files must have been verified before."""
        projection = folder / PROJECTION_FILE
        # First row: the mean; the others: the components.
        self._projection = np.load(projection) if projection.exists() else None
        self.reduced_dim = dim if self._projection is None else len(self._projection) - 1
        self._trees = AnnoyIndex(self.reduced_dim, METRIC)
        self._trees.load(str(folder / TREES_FILE))
        self._effort = effort

    def propose(self, queries: NDArray[np.float32], k: int, dead: NDArray[np.bool_], search_k: int | None = None) -> Proposal:
        effort = self._scaled(k, dead, search_k)
        nearest = (np.array(self.nearest(query, effort), np.int64) for query in self.reduce(queries))
        return Proposal([rows[~dead[rows]] for rows in nearest], effort.search_k)

    def reduce(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return queries [q, d] as the trees see them, [q, m]; their length means nothing to the angular metric."""
        if self._projection is None:
            return queries
        reduced: NDArray[np.float32] = (queries - self._projection[0]) @ self._projection[1:].T
        return reduced

    def nearest(self, reduced: NDArray[np.float32], effort: Effort) -> list[int]:
        """Return the rows nearest to one reduced query [m], best first."""
        rows: list[int] = self._trees.get_nns_by_vector(reduced.tolist(), effort.depth, effort.search_k)
        return rows

    def _scaled(self, k: int, dead: NDArray[np.bool_], search_k: int | None) -> Effort:
        """Return the chosen effort, raised for many hits and for the share of rows that are dead."""
        alive = max(1, len(dead) - int(dead.sum()))
        depth = min(len(dead), math.ceil(max(self._effort.depth, 2 * k) * len(dead) / alive))
        return Effort(search_k or math.ceil(self._effort.search_k * max(1.0, depth / self._effort.depth)), depth)


def write_trees(vectors: NDArray[np.float32], folder: Path, *, trees: int, reduced_dim: int) -> None:
    """Reduce unit `vectors` [n, d] and write trees over them into `folder`; the same call gives the same bytes.

    Vectors stay as they are where there is nothing to reduce: too few dimensions or rows, or all rows alike.
    """
    projection, reduced = _reduced(vectors, reduced_dim)
    if projection is not None:
        np.save(folder / PROJECTION_FILE, np.vstack([projection.mean, projection.components]))
    index = AnnoyIndex(reduced.shape[1], METRIC)
    index.set_seed(_SEED)
    for row, vector in enumerate(reduced):
        index.add_item(row, vector.tolist())
    index.build(trees, n_jobs=1)
    index.save(str(folder / TREES_FILE))


def _reduced(vectors: NDArray[np.float32], dims: int) -> tuple[Projection | None, NDArray[np.float32]]:
    dims = min(dims, len(vectors) - 2)
    if 2 <= dims < vectors.shape[1]:
        try:
            projection = fit_pca(vectors, dims)
            return projection, projection.apply(vectors)
        except (VectorError, ValueError):  # all rows alike, or a row that is the mean of all
            pass
    return None, vectors
