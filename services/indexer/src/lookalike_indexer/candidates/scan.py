"""A scan of reduced vectors: one matrix product for all queries. Up to tens of thousands of rows it often beats an index."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Effort, Proposal
from lookalike_indexer.candidates.reduction import project, reduce_rows, save_projection
from lookalike_retrieval import Projection, VectorError

# Scores held at once: 32 MiB.
_TILE_SCORES = 8 << 20
# Below every cosine.
_NEVER = np.float32(-2)


class ScanCandidates:
    """The best `depth` rows by the cosine of reduced vectors. Dead rows are left out before, so that none takes a live one's place."""

    def __init__(self, folder: Path, dim: int, effort: Effort, reduced_dim: int) -> None:
        """Open what `write_scans` wrote into `folder` for vectors of `dim` dimensions; raises ValueError for files of another shape."""
        vectors, projection = scan_files(reduced_dim)
        self.reduced_dim = reduced_dim
        self._projection = np.load(folder / projection)
        if self._projection.shape != (1 + reduced_dim, dim):
            raise ValueError(f"the projection {folder / projection} is of shape {self._projection.shape}")
        self._reduced = np.asarray(np.memmap(folder / vectors, "<f4", "r")).reshape(-1, reduced_dim)
        self._depth = effort.depth

    def at(self, effort: Effort) -> ScanCandidates:
        other = copy.copy(self)
        other._depth = effort.depth
        return other

    def propose(self, queries: NDArray[np.float32], k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> Proposal:  # noqa: ARG002
        depth = min(max(self._depth, 2 * k), len(dead) - int(np.count_nonzero(dead)))
        rows: list[NDArray[np.int64]] = []
        if depth == 0:
            return Proposal([np.empty(0, np.int64)] * len(queries), 0, "scan")
        for scores in self._scores(queries):
            if dead.any():
                scores[:, dead] = _NEVER
            rows += list(_best(scores, depth))
        return Proposal(rows, 0, "scan")

    def effort(self, queries: int, k: int, dead: NDArray[np.bool_], asked: Asked = NOTHING_ASKED) -> int:  # noqa: ARG002
        return len(dead) * self.reduced_dim // int(self._projection.shape[1]) + max(self._depth, 2 * k)

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        rows: list[NDArray[np.int64]] = []
        for scores in self._scores(queries):
            best = _best(scores, min(effort.depth, len(self._reduced)))
            rows += [places[np.argsort(-row[places], kind="stable")] for row, places in zip(scores, best, strict=True)]
        return rows

    def _scores(self, queries: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        reduced = project(queries, self._projection)
        step = max(1, _TILE_SCORES // len(self._reduced))
        for start in range(0, len(reduced), step):
            yield reduced[start : start + step] @ self._reduced.T


def scan_files(reduced_dim: int) -> tuple[str, str]:
    """Return the names of the files of the reduced vectors and of their projection."""
    return f"scan-{reduced_dim}.f32", f"scan-{reduced_dim}.npy"


def write_scans(vectors: NDArray[np.float32], folder: Path, dims: Sequence[int]) -> list[int]:
    """Reduce unit `vectors` [n, d] to each of `dims` and write that into `folder`; returns those that could be reduced to."""
    usable = sorted({each for each in dims if 2 <= each < min(vectors.shape[1], len(vectors) - 1)})
    reduction = reduce_rows(vectors, usable[-1]) if usable else None
    if reduction is None:
        return []
    return [each for each in usable if _write(vectors, folder, reduction[0], each)]


def _write(vectors: NDArray[np.float32], folder: Path, widest: Projection, dims: int) -> bool:
    # Components come by falling variance: the first of many are those of few.
    projection = Projection(widest.mean, widest.components[:dims])
    try:
        reduced = projection.apply(vectors)
    except VectorError:
        return False
    rows, projection_file = scan_files(dims)
    (folder / rows).write_bytes(reduced.tobytes())
    save_projection(folder / projection_file, projection)
    return True


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return the places of the `depth` highest of each row, in no order."""
    if depth >= scores.shape[1]:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    return np.argpartition(scores, scores.shape[1] - depth, axis=1)[:, scores.shape[1] - depth :]
