"""The nearest others of each row of a set: all pairs, each computed once."""

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval._pool import Pool
from lookalike_retrieval.normalise import VectorError
from lookalike_retrieval.topk import Progress, Settling, TopK, leave_out

_TILE = 1024
_SETTLED = 512  # rows put into order at once


def nearest_others(units: NDArray[np.float32], k: int, *, tile: int = _TILE, progress: Progress | None = None) -> TopK:
    """Rank the `k` rows nearest to each row, itself left out.

    The matrix of all cosines is symmetric, so each tile of its upper half serves the rows of either side.

    Args:
        units: [n, d] unit rows, or memory-mapped.
        k: places, 1 to n - 1.
        tile: rows of either side scored at once. Memory beyond the vectors is n × (k + 16) × 16 bytes and a small multiple of
            tile × tile × 8.
        progress: called with (rows done, rows), where a part of the pairs counts as so many rows; what it raises ends the search.

    Returns:
        As `exact_topk` of the set against itself, each row excluding itself.

    Raises:
        VectorError: a row holds a value that is not finite.
    """
    count = len(units)
    own = np.arange(count, dtype=np.int64)
    pool = Pool(count, Settling(units, units, own).kept(k))
    pairs = 0
    for start in range(0, count, tile):
        left = np.asarray(units[start : start + tile], np.float32)
        _refuse_not_finite(left, start)
        for first in range(start, count, tile):
            scores = left @ np.asarray(units[first : first + tile], np.float32).T
            leave_out(scores, own[start : start + tile], first)
            pool.offer(start, scores, first)
            if first != start:
                pool.offer_columns(first, scores, start)
            pairs += scores.size * (1 if first == start else 2)
        if progress is not None:
            progress(pairs // count, count)
    return _settled(units, k, pool)


def _settled(units: NDArray[np.float32], k: int, pool: Pool) -> TopK:
    nearest = TopK(np.empty((len(units), k), np.uint32), np.empty((len(units), k), np.float32))
    for start in range(0, len(units), _SETTLED):
        rows = slice(start, start + _SETTLED)
        own = np.arange(start, min(start + _SETTLED, len(units)), dtype=np.int64)
        nearest.indices[rows], nearest.scores[rows] = Settling(units[rows], units, own).best(k, pool.sorted(rows))
    return nearest


def _refuse_not_finite(rows: NDArray[np.float32], start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise VectorError(start + int(bad[0]), "holds a value that is not finite")
