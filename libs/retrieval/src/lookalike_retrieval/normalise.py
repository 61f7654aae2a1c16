"""Rows of length 1, the form in which vectors are compared everywhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# In float64 they stay in the processor's cache through all steps.
_BLOCK_VALUES = 1 << 15
# Bytes of a number whose square float64 holds.
_SQUARED_SAFELY = 4


class VectorError(ValueError):
    """A vector that cannot be compared. `row` is its row number, `reason` says what is wrong with it."""

    def __init__(self, row: int, reason: str, what: str = "row") -> None:
        super().__init__(f"{what} {row}: {reason}")
        self.row = row
        self.reason = reason


def normalise(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale each row to Euclidean length 1.

    Args:
        vectors: [n, d], any float dtype, n ≥ 0, d ≥ 1; a memory-mapped array is read block by block.

    Returns:
        float32 [n, d], always a copy.

    Raises:
        VectorError: names the first row that is all zeros, or holds a value that is not finite.
        ValueError: `vectors` is not [n, d].
    """
    check_matrix("vectors", vectors)
    units = np.empty(vectors.shape, np.float32)
    rows = max(1, _BLOCK_VALUES // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        block = np.array(vectors[start : start + rows], np.float64)
        if vectors.dtype.itemsize > _SQUARED_SAFELY:
            _shrink(block)
        lengths = np.sqrt(np.vecdot(block, block))
        _refuse_rows(lengths, vectors, start)
        block *= (1 / lengths)[:, None]
        units[start : start + rows] = block
    return units


def _shrink(block: NDArray[np.float64]) -> None:
    """Divide each row by its largest value, which keeps the squares of very large and very small ones in range."""
    largest = np.maximum(block.max(axis=1), -block.min(axis=1))
    with np.errstate(invalid="ignore"):  # rows that are refused afterwards
        block /= largest[:, None]


def check_matrix(name: str, matrix: NDArray[Any]) -> None:
    """Raise ValueError unless `matrix` is [n, d] with d ≥ 1."""
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} must have the shape [rows, dimensions], not {list(matrix.shape)}")


def _refuse_rows(lengths: NDArray[np.float64], vectors: NDArray[np.floating[Any]], start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        row = start + int(bad[0])
        raise VectorError(row, "holds a value that is not finite" if vectors[row].any() else "all values are zero")
