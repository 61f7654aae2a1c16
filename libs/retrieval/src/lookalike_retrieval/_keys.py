"""Scores and row numbers packed into integers, so that one integer sort orders by score and breaks ties by row."""

import numpy as np
from numpy.typing import NDArray

LAST = np.uint64(2**64 - 1)  # sorts behind every key of a finite score

_SIGN = np.uint32(0x80000000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_ROW_BITS = np.uint64(32)


def pack(scores: NDArray[np.float32], rows: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Keys whose ascending order is: score descending, then row ascending.

    `scores` are finite, of any shape; `rows` has a shape that broadcasts to it.
    """
    # Adding zero turns -0.0 into 0.0: they are the same score but not the same bits.
    bits = (scores + np.float32(0)).view(np.uint32)
    keys = _flip(bits).astype(np.uint64)
    keys <<= _ROW_BITS
    keys |= rows
    return keys


def unpack(keys: NDArray[np.uint64]) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """The scores and rows that `pack` was given."""
    scores = _flip((keys >> _ROW_BITS).astype(np.uint32)).view(np.float32)
    return scores, keys.astype(np.uint32)


def _flip(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Bits of float32 to integers in descending order of value, and back: it is its own inverse."""
    return np.where(bits & _SIGN, bits, bits ^ _MAGNITUDE)
