"""Augmentation of items that are newer than the build, as the build augmented its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates.exact import rows_of
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.store import Rows
from lookalike_indexer.view import Averaged, View
from lookalike_retrieval import exact_topk, neighbour_weights, weighted_mean


class AugmentedItems(NamedTuple):
    """Augmented rows [n, dim] of the fresh items that came in under `arrivals` [n].

    `neighbours` int64 [n, k] are rows of the build where `built` bool [n, k] is true, else the arrivals under which they came in.
    """

    rows: Rows
    arrivals: NDArray[np.int64]
    averaged: list[Averaged]
    built: NDArray[np.bool_]
    neighbours: NDArray[np.int64]

    def still_true(self, view: View) -> AugmentedItems:
        """Return those of which neither the item nor a neighbour was replaced or deleted up to `view`, which has the same build."""
        there = np.zeros(self.built.shape, np.bool_)
        there[self.built] = ~view.dead[self.neighbours[self.built]]
        there[~self.built] = view.fresh.holds(self.neighbours[~self.built])
        kept = np.flatnonzero(there.all(axis=1) & view.fresh.holds(self.arrivals))
        return AugmentedItems(
            Rows([self.rows.ids[place] for place in kept], self.rows.units[kept]),
            self.arrivals[kept],
            [self.averaged[place] for place in kept],
            self.built[kept],
            self.neighbours[kept],
        )


class _Nearest(NamedTuple):
    """Neighbours of some items, nearest first: `places` int64 [n, k] are rows of the build, behind them slots; `scores` float32 [n, k]."""

    places: NDArray[np.int64]
    scores: NDArray[np.float32]


def augment_waiting(view: View, most: int) -> AugmentedItems | None:
    """Augment the first fresh items that wait for it, at most `most`; None if none does or the build is not augmented.

    The neighbours of an item are the nearest others among all that count, of the build or fresh, by their raw vectors. Where the build
    took several rounds, those after the first go by the vectors that are served.
    """
    build = view.build
    slots = view.fresh.waiting[:most]
    if build is None or build.augmentation is None or len(slots) == 0:
        return None
    dba = build.augmentation.dba
    units = view.fresh.units[slots]
    for done in range(dba.rounds):
        fresh_slots = view.fresh.raw_slots if done == 0 else np.arange(len(view.fresh.dead))
        vectors = build.raw if done == 0 else build.vectors
        nearest = _nearest(view, units, slots, dba.k, vectors, fresh_slots)
        weights = neighbour_weights(nearest.scores, dba.weights, dba.power)
        places, inverse = np.unique(nearest.places, return_inverse=True)
        first_slot = np.searchsorted(places, len(view.dead))
        rows = np.concatenate([vectors[places[:first_slot]], view.fresh.units[fresh_slots[places[first_slot:] - len(view.dead)]]])
        units = weighted_mean(units, rows, inverse.reshape(nearest.places.shape).astype(np.uint32), weights)
    return _described(view, build, slots, units, nearest, weights)


def _nearest(
    view: View,
    units: NDArray[np.float32],
    slots: NDArray[np.int64],
    k: int,
    vectors: NDArray[np.float32],
    fresh_slots: NDArray[np.int64],
) -> _Nearest:
    """Rank the others of each item by `vectors` [n, dim] of the build and, of slot s, the row `fresh_slots[s]`."""
    fresh, built = view.fresh, np.flatnonzero(~view.dead)
    of_build = exact_topk(units, rows_of(vectors, built), k)
    of_fresh = exact_topk(units, rows_of(fresh.units, fresh_slots[fresh.live]), k, exclude=np.searchsorted(fresh.live, slots))
    places = np.concatenate([built[of_build.indices], len(view.dead) + fresh.live[of_fresh.indices]], axis=1)
    scores = np.concatenate([of_build.scores, of_fresh.scores], axis=1)
    ids = [[_id_of(view, place) for place in row] for row in places.tolist()]
    best = [sorted(range(len(row)), key=lambda at, row=row, of=of: (-of[at], row[at]))[:k] for row, of in zip(ids, scores, strict=True)]  # type: ignore[misc]
    order = np.array(best, np.int64).reshape(len(units), -1)
    return _Nearest(np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _described(
    view: View,
    build: ServedBuild,
    slots: NDArray[np.int64],
    units: NDArray[np.float32],
    nearest: _Nearest,
    weights: NDArray[np.float32],
) -> AugmentedItems:
    fresh, count = view.fresh, len(build.ids)
    neighbours = nearest.places.copy()
    built = neighbours < count
    neighbours[~built] = fresh.arrivals[neighbours[~built] - count]
    ids = [[_id_of(view, place) for place in row] for row in nearest.places.tolist()]
    averaged = [Averaged(*each) for each in zip(ids, np.array(weights), nearest.scores, strict=True)]
    return AugmentedItems(Rows([fresh.ids[slot] for slot in slots.tolist()], units), fresh.arrivals[slots], averaged, built, neighbours)


def _id_of(view: View, place: int) -> str:
    if view.build is not None and place < len(view.build.ids):
        return view.build.ids[place]
    return view.fresh.ids[place - len(view.dead)]
