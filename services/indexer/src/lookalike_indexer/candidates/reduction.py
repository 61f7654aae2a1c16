"""Reduction of vectors to fewer dimensions, which sources of candidates look at: one fit a build, of which each source takes a part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates._components import Components
from lookalike_retrieval import Projection, VectorError, fit_pca, normalise

PROJECTION_FILE: Final = "projection.npy"


class Reducer:
    """The saved projection. Components come by falling variance: the first of many are those of few."""

    def __init__(self, saved: NDArray[np.float32]) -> None:
        """`saved` is [1 + m, d]: the mean, then the components."""
        self._components = saved[1:]
        self._offset = saved[0] @ saved[1:].T
        self._rounded = Components(self._components, self._offset)
        self.most = len(self._components)

    @property
    def dim(self) -> int:
        """Dimensions of the vectors themselves."""
        return int(self._components.shape[1])

    def project(self, queries: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
        """Return unit queries [q, d] in `dims` dimensions; not of unit length, which changes no query's order.

        A query alone is reduced with less precision, as `Components` says: much less than what reducing itself changes.
        """
        if len(queries) == 1:
            return self._rounded.project(queries, dims)
        reduced: NDArray[np.float32] = queries @ self._components[:dims].T
        reduced -= self._offset[:dims]
        return reduced


def open_reducer(folder: Path) -> Reducer | None:
    """Open what `Reduction.save` wrote; None where nothing was reduced. Raises ValueError for a file that is not what it should be."""
    path = folder / PROJECTION_FILE
    if not path.exists():
        return None
    saved = np.load(path, allow_pickle=False)
    if saved.ndim != 2 or saved.dtype != np.float32 or len(saved) < 2:
        raise ValueError(f"the projection {path} is of shape {saved.shape} and type {saved.dtype}")
    return Reducer(saved)


class Reduction:
    """Unit vectors [n, d] reduced by one PCA to any of some numbers of dimensions."""

    def __init__(self, vectors: NDArray[np.float32], dims: Sequence[int]) -> None:
        """Fit to the most of `dims` that reduce: fewer than the vectors have, and than there are rows by two.

        Without any where there is nothing to reduce: all rows alike, or a row that is the mean of all.
        """
        self._vectors = vectors
        self.dims = sorted({each for each in dims if 2 <= each < min(vectors.shape[1], len(vectors) - 1)})
        self._projection: Projection | None = None
        if self.dims:
            self._fit()

    def _fit(self) -> None:
        try:
            self._projection = fit_pca(self._vectors, self.dims[-1])
            self._widest = self._projection.apply(self._vectors)
            self.dims = [each for each in self.dims if self._widest[:, :each].any(axis=1).all()]
        except (VectorError, ValueError):
            self.dims = []

    def rows(self, dims: int) -> NDArray[np.float32]:
        """Return unit rows [n, dims], for one of `self.dims` or the dimensions of the vectors themselves."""
        if dims == self._vectors.shape[1]:
            return self._vectors
        return normalise(self._widest[:, :dims])

    def reducer(self) -> Reducer | None:
        """Return what reduces queries as `rows` are; None where nothing can be reduced."""
        if self._projection is None or not self.dims:
            return None
        return Reducer(np.vstack([self._projection.mean, self._projection.components]))

    def save(self, folder: Path, dims: int) -> None:
        """Write the projection to `dims` dimensions: the mean as the first row, the components as the others; without any for 0."""
        if dims and self._projection is not None:
            np.save(folder / PROJECTION_FILE, np.vstack([self._projection.mean, self._projection.components[:dims]]))
