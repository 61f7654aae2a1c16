"""Exact scores, compiled from `cpp/ranking.cpp`: float64 sums of float32 products, each row by itself, so that equal rows tie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def exact_scores(rows: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best score, −1 to 1, of each of `rows` [n, d] with any of `pictures` [p, d], p ≥ 1. Raises ValueError for misfits."""

def best(
    built: NDArray[np.float32],
    fresh: NDArray[np.float32],
    places: Sequence[NDArray[np.int64]],
    units: NDArray[np.float32],
    sizes: Sequence[int],
    k: int,
) -> list[tuple[list[int], list[float]]]:
    """Return the `k` best of each query's `places`, all that tie with the last of them, and their scores: best first, ties by place.

    A place is a row of `built` [n, d] or, from n on, one of `fresh` [m, d]. `sizes`, each at least 1, are how many successive ones of
    `units` [p, d] are a query's pictures. Raises ValueError for misfits, IndexError for a place that is neither.
    """
