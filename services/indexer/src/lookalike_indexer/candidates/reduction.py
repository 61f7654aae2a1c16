"""Reduction of vectors to fewer dimensions, which sources of candidates look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import Projection, VectorError, fit_pca


def reduce_rows(vectors: NDArray[np.float32], dims: int) -> tuple[Projection, NDArray[np.float32]] | None:
    """Fit PCA to unit `vectors` [n, d]; returns it with the reduced unit rows [n, m].

    None where there is nothing to reduce: too few dimensions or rows, or all rows alike, or a row that is the mean of all.
    """
    dims = min(dims, len(vectors) - 2)
    if not 2 <= dims < vectors.shape[1]:
        return None
    try:
        projection = fit_pca(vectors, dims)
        return projection, projection.apply(vectors)
    except (VectorError, ValueError):
        return None


def save_projection(path: Path, projection: Projection) -> None:
    """Write the mean as the first row, the components as the others."""
    np.save(path, np.vstack([projection.mean, projection.components]))


def project(queries: NDArray[np.float32], saved: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return queries [q, d] by a saved projection [1 + m, d], [q, m]; not of unit length, which changes no query's order."""
    reduced: NDArray[np.float32] = (queries - saved[0]) @ saved[1:].T
    return reduced
