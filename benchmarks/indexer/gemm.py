"""The yardstick of augmentation and ranking: one float32 matrix product of all pairs in blocks, and argpartition of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer.alone import run_alone


@dataclass(frozen=True)
class Rows:
    """A flat file of float32 rows."""

    path: Path
    count: int
    dim: int

    def map(self) -> NDArray[np.float32]:
        return np.memmap(self.path, np.float32, "r", shape=(self.count, self.dim))


def write_rows(path: Path, vectors: NDArray[np.float32]) -> Rows:
    """Write vectors as a flat file."""
    path.write_bytes(np.ascontiguousarray(vectors, np.float32).tobytes())
    return Rows(path, *vectors.shape)


def rank_by_gemm(queries: Rows, references: Rows, k: int, block: int, ordered: bool) -> None:
    """Find the `k` nearest references of each query, `block` queries at once; sorted by score if `ordered`."""
    left, right = np.array(queries.map()), np.array(references.map())
    for start in range(0, len(left), block):
        scores = left[start : start + block] @ right.T
        best = np.argpartition(scores, len(right) - k, axis=1)[:, -k:]
        if ordered:
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
            np.take_along_axis(best, order, axis=1)


def sweep(queries: Rows, references: Rows, k: int, blocks: Sequence[int], ordered: bool, rows: int) -> list[dict[str, Any]]:
    """Seconds for `rows` of the queries with each block size."""
    part = replace(queries, count=min(rows, queries.count))
    return [{"block": each, "seconds": run_alone(rank_by_gemm, part, references, k, each, ordered).seconds} for each in blocks]
