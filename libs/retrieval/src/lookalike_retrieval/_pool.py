"""The best scored rows so far of each of some rows, gathered tile by tile.

A matrix product costs tens of nanoseconds a score, and so would any sort of all of them. But once a row has some candidates, few of
the scores that come pass the worst of those: one comparison finds them, and only they are packed and sorted.
"""

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import _keys

_LOWEST = np.float32(-np.inf)


class Pool:
    """The `kept` best of each of `rows` rows. At the last place one of several equal scores may be kept, any of them."""

    def __init__(self, rows: int, kept: int) -> None:
        self._kept = kept
        self._keys = np.full((rows, kept), _keys.LAST)
        self._worst = np.full(rows, _LOWEST, np.float32)

    def offer(self, start: int, scores: NDArray[np.float32], first: int) -> None:
        """Take in `scores` [b, c] of the rows from `start` on with the others from `first` on; -inf is never taken."""
        others = scores.shape[1]
        bar = self._bar(start, scores)
        places = np.flatnonzero(scores > bar[:, None])
        own, other = np.divmod(places, others)
        self._merge(start, len(scores), own, _keys.pack(scores.reshape(-1)[places], (other + first).astype(np.uint32)))

    def offer_columns(self, start: int, scores: NDArray[np.float32], first: int) -> None:
        """Take in `scores` [c, b] of the others from `first` on with the rows from `start` on; -inf is never taken."""
        bar = self._bar(start, scores.T)
        places = np.flatnonzero(scores > bar)
        other, own = np.divmod(places, scores.shape[1])
        keys = _keys.pack(scores.reshape(-1)[places], (other + first).astype(np.uint32))
        order = np.argsort(own, kind="stable")
        self._merge(start, scores.shape[1], own[order], keys[order])

    def sorted(self, rows: slice) -> NDArray[np.uint64]:
        """Sorted keys [rows, kept]; what was never filled is `_keys.LAST`."""
        return np.sort(self._keys[rows], axis=1)

    def _bar(self, start: int, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a score must exceed to matter."""
        bar = self._worst[start : start + len(scores)]
        others = scores.shape[1]
        if others <= self._kept or not np.isneginf(bar).any():
            return bar
        best = np.partition(scores, others - self._kept, axis=1)[:, others - self._kept]
        return np.maximum(bar, np.nextafter(best, _LOWEST))

    def _merge(self, start: int, rows: int, own: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        """Keep the best of what is there and the `keys` of the rows `start + own`, which rise."""
        counts = np.bincount(own, minlength=rows)
        touched = np.flatnonzero(counts)
        if not len(touched):
            return
        begins = np.cumsum(counts) - counts
        line = np.cumsum(counts > 0) - 1
        wide = np.full((len(touched), self._kept + int(counts.max())), _keys.LAST)
        wide[:, : self._kept] = self._keys[start + touched]
        wide[line[own], self._kept + np.arange(len(own)) - begins[own]] = keys
        wide.partition(self._kept - 1, axis=1)
        self._keys[start + touched] = wide[:, : self._kept]
        last = wide[:, self._kept - 1]
        self._worst[start + touched] = np.where(last == _keys.LAST, _LOWEST, _keys.unpack(last)[0])
