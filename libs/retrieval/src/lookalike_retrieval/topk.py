"""Exact nearest rows by inner product, computed in fixed tiles.

A matrix product in float32 may give two copies of one vector scores that differ in the last bit, depending on where
they lie in the tile. So rows whose scores are closer than that noise are scored again in float64, each by itself;
only then do equal pictures tie, and a query gets the same order alone as in a batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import _keys
from lookalike_retrieval.normalise import VectorError, check_matrix

_TILE = (512, 4096)
_NOISE = np.float32(1e-6)  # more than twice the error of a float32 inner product of unit rows
_SPARE = 16  # rows kept beyond the k-th, to see ties at the k-th place
_PAIRS = 1024  # pairs of rows scored again at once
_MAX_REFERENCES = 2**32 - 1

Progress = Callable[[int, int], None]


class TopK(NamedTuple):
    """The best references of each query, best first: `indices` uint32 [q, k'], `scores` float32 [q, k']."""

    indices: NDArray[np.uint32]
    scores: NDArray[np.float32]


class TopKBlock(NamedTuple):
    """`top` belongs to the queries from row `start` on."""

    start: int
    top: TopK


def exact_topk(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    k: int,
    *,
    tile: tuple[int, int] = _TILE,
    exclude: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> TopK:
    """Rank the `k` best references of each query.

    Args:
        queries: [q, d] unit rows, or memory-mapped.
        references: [n, d] unit rows, or memory-mapped; n < 2**32.
        k: places per query, ≥ 1.
        tile: queries and references scored at once. Memory beyond the vectors and the answer is a small multiple of
            queries × (references + k) × 8 bytes.
        exclude: [q], the reference row left out of the query's ranking, -1 for none.
        progress: called with (queries done, queries) after each block of queries; what it raises ends the search.

    Returns:
        Scores descending (accurate to 1e-6), ties by reference row. k' = min(k, n), or min(k, n - 1) with `exclude`.
        The same call on the same machine gives the same bytes.

    Raises:
        VectorError: a row holds a value that is not finite.
        ValueError: shapes that do not fit, k < 1, a tile side < 1, `exclude` outside -1 … n-1.
    """
    blocks = exact_topk_blocks(queries, references, k, tile=tile, exclude=exclude)
    width = _width(len(references), k, exclude)
    indices = np.empty((len(queries), width), np.uint32)
    scores = np.empty((len(queries), width), np.float32)
    for start, top in blocks:
        stop = start + len(top.indices)
        indices[start:stop], scores[start:stop] = top
        if progress is not None:
            progress(stop, len(queries))
    return TopK(indices, scores)


def exact_topk_blocks(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    k: int,
    *,
    tile: tuple[int, int] = _TILE,
    exclude: NDArray[np.int64] | None = None,
) -> Iterator[TopKBlock]:
    """`exact_topk`, one block of queries at a time, for rankings that are streamed. Arguments are checked at once."""
    _check(queries, references, k, tile, exclude)
    width = _width(len(references), k, exclude)

    def blocks() -> Iterator[TopKBlock]:
        for start in range(0, len(queries), tile[0]):
            rows = slice(start, start + tile[0])
            search = _Search(
                np.asarray(queries[rows], np.float32),
                references,
                np.full(len(queries[rows]), -1, np.int64) if exclude is None else exclude[rows],
                tile=tile[1],
                start=start,
            )
            yield TopKBlock(start, search.best(width))

    return blocks()


class _Search(NamedTuple):
    """One block of queries against all references."""

    queries: NDArray[np.float32]
    references: NDArray[np.float32]
    exclude: NDArray[np.int64]
    tile: int
    start: int  # row of the block's first query

    def best(self, width: int) -> TopK:
        if width == 0:
            nothing = (len(self.queries), 0)
            return TopK(np.empty(nothing, np.uint32), np.empty(nothing, np.float32))
        candidates = len(self.references) - (self.exclude >= 0)
        kept = min(width + _SPARE, int(candidates.min()))
        scores, rows = _keys.unpack(self._rank(kept, np.dtype(np.float32)))
        self._settle_near_ties(scores, rows)
        scores, rows = _keys.unpack(np.sort(_keys.pack(scores, rows), axis=1))
        # Rows that were not kept may tie with the last place.
        crowded = (candidates > kept) & (scores[:, width - 1] - scores[:, -1] <= 2 * _NOISE)
        if crowded.any():
            settled = _keys.unpack(self._only(crowded)._rank(width, np.dtype(np.float64)))
            scores[crowded, :width], rows[crowded, :width] = settled
        return TopK(rows[:, :width], scores[:, :width])

    def _rank(self, kept: int, dtype: np.dtype[np.floating[Any]]) -> NDArray[np.uint64]:
        """Sorted keys [q, kept], scored in `dtype`."""
        pool = np.full((len(self.queries), kept), _keys.LAST)
        queries = self.queries.astype(dtype, copy=False)
        for first in range(0, len(self.references), self.tile):
            block = np.asarray(self.references[first : first + self.tile], dtype)
            scores = (queries @ block.T).astype(np.float32, copy=False)
            self._refuse_not_finite(scores, first)
            keys = _keys.pack(scores, np.arange(first, first + len(block), dtype=np.uint32))
            left_out = np.flatnonzero((self.exclude >= first) & (self.exclude < first + len(block)))
            keys[left_out, self.exclude[left_out] - first] = _keys.LAST
            pool = np.concatenate([pool, keys], axis=1)
            pool.partition(kept - 1, axis=1)
            pool = pool[:, :kept]
        return np.sort(pool, axis=1)

    def _settle_near_ties(self, scores: NDArray[np.float32], rows: NDArray[np.uint32]) -> None:
        """Replace, in place, scores that lie within the noise of a neighbour in the ranking."""
        near = np.zeros((len(scores), scores.shape[1] + 1), np.bool_)
        near[:, 1:-1] = scores[:, :-1] - scores[:, 1:] <= _NOISE
        query, place = np.nonzero(near[:, :-1] | near[:, 1:])
        for first in range(0, len(query), _PAIRS):
            q, p = query[first : first + _PAIRS], place[first : first + _PAIRS]
            left, right = self.queries[q].astype(np.float64), self.references[rows[q, p]].astype(np.float64)
            scores[q, p] = np.einsum("ij,ij->i", left, right)

    def _only(self, chosen: NDArray[np.bool_]) -> "_Search":
        return self._replace(queries=self.queries[chosen], exclude=self.exclude[chosen])

    def _refuse_not_finite(self, scores: NDArray[np.float32], first: int) -> None:
        if np.isfinite(scores).all():
            return
        query, reference = np.argwhere(~np.isfinite(scores))[0]
        if np.isfinite(self.queries[query]).all():
            raise VectorError(first + int(reference), "holds a value that is not finite", "reference row")
        raise VectorError(self.start + int(query), "holds a value that is not finite", "query row")


def _width(references: int, k: int, exclude: NDArray[np.int64] | None) -> int:
    return max(0, min(k, references - (exclude is not None)))


def _check(
    queries: NDArray[np.float32],
    references: NDArray[np.float32],
    k: int,
    tile: tuple[int, int],
    exclude: NDArray[np.int64] | None,
) -> None:
    check_matrix("queries", queries)
    check_matrix("references", references)
    if queries.shape[1] != references.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, references {references.shape[1]}")
    if len(references) > _MAX_REFERENCES:
        raise ValueError(f"{len(references)} references are more than {_MAX_REFERENCES}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if min(tile) < 1:
        raise ValueError(f"both sides of a tile must be at least 1, not {tile}")
    if exclude is not None:
        check_exclude(exclude, len(queries), len(references))


def check_exclude(exclude: NDArray[np.int64], queries: int, references: int) -> None:
    """Raise ValueError unless `exclude` holds, for each query, a reference row or -1."""
    if exclude.shape != (queries,):
        raise ValueError(f"exclude must hold one reference row for each of {queries} queries, not {list(exclude.shape)}")
    if len(exclude) and (exclude.min() < -1 or exclude.max() >= references):
        raise ValueError(f"exclude holds rows from {exclude.min()} to {exclude.max()}; they must be -1 … {references - 1}")
