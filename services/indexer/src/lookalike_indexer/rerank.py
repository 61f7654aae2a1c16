"""Ranking of candidates by their full vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# More than twice the error of a float32 inner product of unit rows.
NOISE = 2e-6


def rescored(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the places of those `vectors` [n, d] that may be among the best `k` of a unit `query` [d], and their scores.

    Scored in float64, each by itself, equal vectors tie wherever they lie.
    """
    scores = vectors @ query
    places = np.arange(len(scores))
    if len(scores) > k:
        places = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - NOISE)
        vectors = vectors[places]
    return places, np.einsum("ij,j->i", vectors.astype(np.float64), query.astype(np.float64)).astype(np.float32)
