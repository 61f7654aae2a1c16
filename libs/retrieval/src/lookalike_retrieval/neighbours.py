"""The nearest others of each row of a set."""

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval.topk import Progress, TopK, exact_topk


def nearest_others(units: NDArray[np.float32], k: int, *, progress: Progress | None = None) -> TopK:
    """Rank the `k` rows nearest to each row, itself left out."""
    return exact_topk(units, units, k, exclude=np.arange(len(units), dtype=np.int64), progress=progress)
