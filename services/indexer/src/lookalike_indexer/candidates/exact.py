"""Every live vector is compared."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Proposal
from lookalike_indexer.candidates.absent import Absent
from lookalike_retrieval import exact_topk


class ExactCandidates:
    """The nearest rows themselves, ties by row."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """`vectors` are unit rows [n, d], memory-mapped or not."""
        self._vectors = vectors
        self.count = len(vectors)

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        live = absent.live
        if len(live) == 0:
            return Proposal([live] * len(queries), 0)
        top = exact_topk(queries, rows_of(self._vectors, live), k + asked.left_out)
        return Proposal(list(live[top.indices]), 0)

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return absent.alive


def rows_of(vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `vectors[rows]` for reading tile by tile, without a copy of the whole; `rows` are all of them or a choice, in any order."""
    if len(rows) == len(vectors) and np.array_equal(rows, np.arange(len(rows))):
        return vectors
    return cast(NDArray[np.float32], _ChosenRows(vectors, rows))


class _ChosenRows:
    """As much of an array as exact search reads."""

    ndim = 2

    def __init__(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        self._vectors = vectors
        self._rows = rows
        self.shape = (len(rows), vectors.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | NDArray[np.uint32]) -> NDArray[np.float32]:
        return self._vectors[self._rows[which]]
