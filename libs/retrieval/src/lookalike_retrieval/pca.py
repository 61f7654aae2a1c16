"""Principal component analysis: vectors of fewer dimensions that keep most of what tells rows apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.normalise import check_matrix, normalise

_BLOCK_ROWS = 4096
# How far equal rows may differ, of their length: the same picture at another place of a batch does.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map to fewer dimensions: `mean` float32 [d], `components` float32 [m, d], orthonormal rows."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project rows [n, d] (or memory-mapped) to unit rows, float32 [n, m].

        Raises:
            VectorError: a row is not finite, or equal to the mean, so that it has no direction.
            ValueError: the rows have not d dimensions.
        """
        check_matrix("vectors", vectors)
        if vectors.shape[1] != len(self.mean):
            raise ValueError(f"vectors have {vectors.shape[1]} dimensions, the projection takes {len(self.mean)}")
        projected = np.empty((len(vectors), len(self.components)), np.float32)
        for start in range(0, len(vectors), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            projected[rows] = (vectors[rows] - self.mean) @ self.components.T
        return normalise(projected)


def fit_pca(vectors: NDArray[np.float32], dims: int, *, seed: int = 0, max_rows: int = 8000) -> Projection:
    """Fit a projection to the `dims` directions of largest variance, without whitening.

    Fit on training or reference vectors only: a projection fitted on queries has seen what it is tested with.

    Args:
        vectors: [n, d] unit rows, or memory-mapped.
        dims: 1 … min(d, rows used - 1).
        seed: chooses the rows where there are more than `max_rows`.
        max_rows: rows used at most; time grows with them, and with d³.

    Returns:
        Components in descending order of variance, each with its largest value positive.

    Raises:
        ValueError: `dims` out of range, all rows alike but for rounding, or values that are not finite.
    """
    check_matrix("vectors", vectors)
    sample = _sample(vectors, seed, max_rows)
    most = min(sample.shape[1], len(sample) - 1)
    if not 1 <= dims <= most:
        raise ValueError(f"dims must be 1 … {most} for {len(sample)} rows of {sample.shape[1]} dimensions, not {dims}")
    mean = sample.mean(axis=0)
    if not np.isfinite(mean).all():
        raise ValueError("the rows hold values that are not finite")
    noise = _ROUNDING**2 * np.square(sample).sum()
    sample -= mean
    variances, directions = np.linalg.eigh(sample.T @ sample)
    if variances[-1] <= noise:
        raise ValueError("all rows are alike: there is no direction to project on")
    components = directions[:, ::-1].T[:dims]
    # An eigenvector's sign is arbitrary: fix it, so that fits can be compared.
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return Projection(mean.astype(np.float32), (components * np.sign(largest)).astype(np.float32))


def _sample(vectors: NDArray[np.float32], seed: int, max_rows: int) -> NDArray[np.float64]:
    if len(vectors) <= max_rows:
        return np.array(vectors, np.float64)
    chosen = np.random.default_rng(seed).choice(len(vectors), max_rows, replace=False)
    return np.asarray(vectors[np.sort(chosen)], np.float64)
