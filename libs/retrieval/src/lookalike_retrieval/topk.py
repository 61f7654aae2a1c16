"""Exact nearest rows by inner product, computed in fixed tiles.

A matrix product in float32 may give two copies of one vector scores that differ in the last bit, depending on where
they lie in the tile. So rows whose scores are closer than that noise are scored again in float64, each by itself;
only then do equal pictures tie, and a query gets the same order alone as in a batch.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import _keys
from lookalike_retrieval._pool import Pool
from lookalike_retrieval.normalise import VectorError, check_matrix

_TILE = (512, 4096)
_NOISE = np.float32(1e-6)  # more than twice the error of a float32 inner product of unit rows
_SPARE = 16  # rows kept beyond the k-th, to see ties at the k-th place
_PAIRS = 32  # references scored again at once: they stay in the processor's cache
_DOUBLE_TILE = 1024  # references compared at once in float64
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
            queries × (references + k) × 8 bytes, however many rows there are.
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
            block = np.asarray(queries[rows], np.float32)
            left_out = np.full(len(block), -1, np.int64) if exclude is None else exclude[rows]
            yield TopKBlock(start, _best(block, references, width, tile[1], left_out, start))

    return blocks()


class Settling(NamedTuple):
    """Puts candidates that a float32 product found into their order: `queries` [q, d] against `references` [n, d]."""

    queries: NDArray[np.float32]
    references: NDArray[np.float32]
    exclude: NDArray[np.int64]

    def kept(self, width: int) -> int:
        """How many candidates of each query to bring for a ranking of `width` places."""
        return min(width + _SPARE, int(self._candidates().min()))

    def best(self, width: int, keys: NDArray[np.uint64]) -> TopK:
        """Rank `width` places from the sorted `keys` of the best candidates, as many as `kept` says."""
        scores, rows = _keys.unpack(keys)
        self._settle_near_ties(scores, rows)
        scores, rows = _keys.unpack(np.sort(_keys.pack(scores, rows), axis=1))
        # Rows that were not kept may tie with the last place.
        crowded = (self._candidates() > scores.shape[1]) & (scores[:, width - 1] - scores[:, -1] <= 2 * _NOISE)
        if crowded.any():
            rows[crowded, :width], scores[crowded, :width] = self._compare_all(crowded, width)
        return TopK(rows[:, :width], scores[:, :width])

    def _candidates(self) -> NDArray[np.int64]:
        candidates: NDArray[np.int64] = len(self.references) - (self.exclude >= 0).astype(np.int64)
        return candidates

    def _settle_near_ties(self, scores: NDArray[np.float32], rows: NDArray[np.uint32]) -> None:
        """Replace, in place, scores that lie within the noise of a neighbour in the ranking."""
        near = np.zeros((len(scores), scores.shape[1] + 1), np.bool_)
        near[:, 1:-1] = scores[:, :-1] - scores[:, 1:] <= _NOISE
        queries, places = np.nonzero(near[:, :-1] | near[:, 1:])
        ends = np.searchsorted(queries, np.arange(len(scores)), side="right")
        for query, begin in enumerate([0, *ends[:-1]]):
            for first in range(begin, ends[query], _PAIRS):
                chosen = places[first : min(first + _PAIRS, ends[query])]
                scores[query, chosen] = self._precisely(query, rows[query, chosen])

    def _precisely(self, query: int, rows: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Scores of a query with some rows, each by itself, so that equal rows get equal scores."""
        precise: NDArray[np.float64] = np.vecdot(self.references[rows].astype(np.float64), self.queries[query].astype(np.float64))
        return precise

    def _compare_all(self, chosen: NDArray[np.bool_], width: int) -> TopK:
        """Rank all references of some queries in float64."""
        exclude = self.exclude[chosen]
        queries = self.queries[chosen].astype(np.float64)
        pool = Pool(len(queries), width)
        for first in range(0, len(self.references), _DOUBLE_TILE):
            block = self.references[first : first + _DOUBLE_TILE].astype(np.float64)
            scores = (queries @ block.T).astype(np.float32)
            leave_out(scores, exclude, first)
            pool.offer(0, scores, first)
        scores, rows = _keys.unpack(pool.sorted(slice(None)))
        return TopK(rows, scores)


def leave_out(scores: NDArray[np.float32], exclude: NDArray[np.int64], first: int) -> None:
    """Set to -inf, in place, the score of the reference that each query excludes; columns are the references from `first` on."""
    queries = np.flatnonzero((exclude >= first) & (exclude < first + scores.shape[1]))
    scores[queries, exclude[queries] - first] = -np.inf


def _best(
    queries: NDArray[np.float32], references: NDArray[np.float32], width: int, tile: int, exclude: NDArray[np.int64], start: int
) -> TopK:
    """One block of queries, the first of them row `start`, against all references."""
    if width == 0:
        return TopK(np.empty((len(queries), 0), np.uint32), np.empty((len(queries), 0), np.float32))
    settling = Settling(queries, references, exclude)
    pool = Pool(len(queries), settling.kept(width))
    for first in range(0, len(references), tile):
        scores = queries @ np.asarray(references[first : first + tile], np.float32).T
        _refuse_not_finite(scores, queries, start, first)
        leave_out(scores, exclude, first)
        pool.offer(0, scores, first)
    return settling.best(width, pool.sorted(slice(None)))


def _refuse_not_finite(scores: NDArray[np.float32], queries: NDArray[np.float32], start: int, first: int) -> None:
    if np.isfinite(scores).all():
        return
    query, reference = np.argwhere(~np.isfinite(scores))[0]
    if np.isfinite(queries[query]).all():
        raise VectorError(first + int(reference), "holds a value that is not finite", "reference row")
    raise VectorError(start + int(query), "holds a value that is not finite", "query row")


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
