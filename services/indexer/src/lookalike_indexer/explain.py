"""Why a hit is one: what it scores without augmentation, its place with and without it, and what was averaged into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer._ranking import exact_scores
from lookalike_indexer.candidates.exact import rows_of
from lookalike_indexer.ranking import vectors_at
from lookalike_indexer.search import NOISE, Hits
from lookalike_indexer.view import Averaged, View

# Rows scored at once.
_TILE = 4096
_NOTHING = Averaged([], np.empty(0, np.float32), np.empty(0, np.float32))


class Explanation(NamedTuple):
    """`rank` and `raw_rank` are places, from 1, by the vectors served and by the raw ones, among all items of the view."""

    raw_score: float
    rank: int
    raw_rank: int
    averaged: Averaged


class _Vectors(NamedTuple):
    """The vectors of all items of a view: those of the build, and of slot s of what is fresh the row `fresh_slots[s]`."""

    built: NDArray[np.float32]
    fresh: NDArray[np.float32]
    fresh_slots: NDArray[np.int64]

    def tiles(self, view: View) -> Iterator[NDArray[np.float32]]:
        """Yield the vectors of the items that count."""
        slots = self.fresh_slots[view.fresh.live]
        for vectors, rows in ((self.built, view.absent.live), (self.fresh, slots)):
            chosen = rows_of(vectors, rows)
            for start in range(0, len(rows), _TILE):
                yield np.asarray(chosen[start : start + _TILE])

    def of(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at `places`: rows of the build, behind them slots."""
        places = places.copy()
        fresh = places >= len(self.built)
        places[fresh] = len(self.built) + self.fresh_slots[places[fresh] - len(self.built)]
        return vectors_at(self.built, self.fresh, places)


def explain(view: View, queries: NDArray[np.float32], hits: Sequence[Hits]) -> list[list[Explanation]]:
    """Explain the `hits` in `view` of each of the unit `queries` [q, dim]. All vectors are compared, twice where some are augmented."""
    fresh, count = view.fresh, len(view.dead)
    slots = {fresh.ids[slot]: count + slot for slot in fresh.live.tolist()}
    rows = view.build.rows if view.build else {}
    places = [np.array([slots[each] if each in slots else rows[each] for each in found.ids], np.int64) for found in hits]
    served = _Vectors(view.built, fresh.units, np.arange(len(fresh.dead)))
    scores, ranks = _ranks(view, served, queries, places)
    raw_scores, raw_ranks = scores, ranks
    if view.build is not None and view.build.augmentation is not None:
        raw_scores, raw_ranks = _ranks(view, _Vectors(view.build.raw, fresh.units, fresh.raw_slots), queries, places)
    return [
        [
            Explanation(float(score), int(rank), int(raw_rank), _averaged(view, place))
            for place, score, rank, raw_rank in zip(*columns, strict=True)
        ]
        for columns in zip((each.tolist() for each in places), raw_scores, ranks, raw_ranks, strict=True)
    ]


def _ranks(
    view: View, vectors: _Vectors, queries: NDArray[np.float32], places: Sequence[NDArray[np.int64]]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int64]]]:
    """Return the score of each hit with its query and its place by that."""
    scores = [exact_scores(vectors.of(each), query[None]) for each, query in zip(places, queries, strict=True)]
    orders = [np.argsort(each) for each in scores]
    ahead = [np.zeros(len(each) + 1, np.int64) for each in scores]
    for tile in vectors.tiles(view):
        for query, quick, hit_scores, order, counts in zip(queries, queries @ tile.T, scores, orders, ahead, strict=True):
            beaten = _beaten(query, tile, quick, hit_scores[order])
            counts += np.bincount(beaten, minlength=len(counts))
    ranks = [np.empty(len(each), np.int64) for each in scores]
    for rank, order, counts in zip(ranks, orders, ahead, strict=True):
        # Who beats i hits beats those with the i lowest scores.
        rank[order] = 1 + np.cumsum(counts[::-1])[::-1][1:]
    return scores, ranks


def _beaten(
    query: NDArray[np.float32], tile: NDArray[np.float32], quick: NDArray[np.float32], rising: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return how many of the scores `rising` each row of `tile` is above; those too near to tell by `quick` scores are scored again."""
    surely, perhaps = np.searchsorted(rising + NOISE, quick), np.searchsorted(rising - NOISE, quick)
    near = np.flatnonzero(surely != perhaps)
    surely[near] = np.searchsorted(rising, exact_scores(tile[near], query[None]))
    return surely


def _averaged(view: View, place: int) -> Averaged:
    build = view.build
    if build is None or place >= len(build.ids):
        return view.fresh.averaged[place - len(view.dead)] or _NOTHING
    made_of = build.augmentation
    if made_of is None:
        return _NOTHING
    ids = [build.ids[row] for row in made_of.neighbours[place].tolist()]
    return Averaged(ids, made_of.weights[place], made_of.similarities[place])
