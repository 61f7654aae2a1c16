"""Augmentation of items that are newer than the build, and of those that they are now neighbours of, as the build augmented its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates.exact import rows_of
from lookalike_indexer.served_build import Augmentation, ServedBuild
from lookalike_indexer.store import Rows
from lookalike_indexer.view import Averaged, View
from lookalike_retrieval import exact_topk, neighbour_weights, weighted_mean

# Rows of the build that are compared with a batch at once.
_TILE = 4096
# Items augmented anew for each of a batch, at most, on average: an item may be near to very many.
_MOST_TOUCHED = 8
# More than twice the error of a float32 inner product of unit rows.
_NOISE = 1e-6
_BELOW_EVERY_COSINE = np.float32(-2)


class AugmentedItems(NamedTuple):
    """Augmented rows [n, dim] of the build's rows `origins` [n] where `of_build` [n] is true, else of what came under these arrivals.

    In the same way `neighbours` int64 [n, k], with `built` bool [n, k], are what was averaged into each.
    """

    rows: Rows
    of_build: NDArray[np.bool_]
    origins: NDArray[np.int64]
    averaged: list[Averaged]
    built: NDArray[np.bool_]
    neighbours: NDArray[np.int64]

    def still_true(self, view: View) -> AugmentedItems:
        """Return those of which neither the item nor a neighbour was replaced or deleted up to `view`, which has the same build."""
        there = _counts(view, self.built, self.neighbours).all(axis=1) & _counts(view, self.of_build, self.origins)
        kept = np.flatnonzero(there)
        return AugmentedItems(
            Rows([self.rows.ids[place] for place in kept], self.rows.units[kept]),
            self.of_build[kept],
            self.origins[kept],
            [self.averaged[place] for place in kept],
            self.built[kept],
            self.neighbours[kept],
        )


class _Nearest(NamedTuple):
    """Neighbours of some items, nearest first: `places` int64 [n, k] are rows of the build, behind them slots; `scores` float32 [n, k]."""

    places: NDArray[np.int64]
    scores: NDArray[np.float32]


class _Pool(NamedTuple):
    """Where neighbours are looked for: `vectors` [n, dim] of the build and, of slot s, the fresh row `slots[s]`."""

    vectors: NDArray[np.float32]
    slots: NDArray[np.int64]

    def of(self, view: View, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at `places` [m], which rise."""
        count = len(self.vectors)
        first_slot = np.searchsorted(places, count)
        return np.concatenate([self.vectors[places[:first_slot]], view.fresh.units[self.slots[places[first_slot:] - count]]])


def augment_waiting(view: View, most: int) -> AugmentedItems | None:
    """Augment the first fresh items that wait for it, at most `most`; None if none does or the build is not augmented.

    The neighbours of an item are the nearest others among all that count, of the build or fresh, by their raw vectors. Items that are
    augmented already and have one of the new ones among their nearest now are augmented anew with them. Where the build took several
    rounds, that is not done, and rounds after the first go by the vectors that are served.
    """
    build = view.build
    slots = view.fresh.waiting[:most]
    if build is None or build.augmentation is None or len(slots) == 0:
        return None
    dba, count = build.augmentation.dba, len(view.dead)
    raw = _Pool(build.raw, view.fresh.raw_slots)
    places = count + slots
    if dba.rounds == 1:
        touched = _touched(view, build.augmentation, view.fresh.units[slots])[: _MOST_TOUCHED * most]
        places = np.sort(np.concatenate([places, touched]))
    units = raw.of(view, places)
    for done in range(dba.rounds):
        pool = raw if done == 0 else _Pool(build.vectors, np.arange(len(view.fresh.dead)))
        nearest = _nearest(view, units, places, dba.k, pool)
        weights = neighbour_weights(nearest.scores, dba.weights, dba.power)
        used, inverse = np.unique(nearest.places, return_inverse=True)
        units = weighted_mean(units, pool.of(view, used), inverse.reshape(nearest.places.shape).astype(np.uint32), weights)
    return _described(view, build, places, units, nearest, weights)


def _touched(view: View, augmentation: Augmentation, units: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the places of augmented items that have one of `units` among their nearest now, those first to which that matters most."""
    fresh, k = view.fresh, augmentation.dba.k
    built = view.absent.live
    last = augmentation.similarities[:, -1] if augmentation.similarities.shape[1] == k else np.full(len(view.dead), _BELOW_EVERY_COSINE)
    slots = np.setdiff1d(fresh.live, fresh.waiting, assume_unique=True)
    contents = [fresh.averaged[slot] for slot in slots.tolist()]
    last_of_slots = [each.similarities[-1] if each and len(each.ids) == k else _BELOW_EVERY_COSINE for each in contents]
    gains = [
        _best(rows_of(vectors, rows), units) - np.asarray(least, np.float32)
        for vectors, rows, least in ((augmentation.raw, built, last[built]), (fresh.units, fresh.raw_slots[slots], last_of_slots))
    ]
    gain, places = np.concatenate(gains), np.concatenate([built, len(view.dead) + slots])
    order = np.argsort(-gain, kind="stable")
    return places[order[: int((gain > _NOISE).sum())]]


def _best(rows: NDArray[np.float32], units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest cosine of each of `rows` with one of `units`."""
    best = [np.max(rows[start : start + _TILE] @ units.T, axis=1) for start in range(0, len(rows), _TILE)]
    return np.concatenate([np.empty(0, np.float32), *best])


def _nearest(view: View, units: NDArray[np.float32], places: NDArray[np.int64], k: int, pool: _Pool) -> _Nearest:
    """Rank the others of each of the items `units` [n, dim] at `places` [n], which rise."""
    first_slot = int(np.searchsorted(places, len(view.dead)))
    live, built = view.fresh.live, view.absent.live
    rows, slots = places[:first_slot], places[first_slot:] - len(view.dead)
    # Each is left out of the pool that it is in, and only there.
    parts = []
    if len(rows):
        parts.append(_merged(view, units[:first_slot], k, pool, np.searchsorted(built, rows), None))
    if len(slots):
        parts.append(_merged(view, units[first_slot:], k, pool, None, np.searchsorted(live, slots)))
    return _Nearest(np.concatenate([each.places for each in parts]), np.concatenate([each.scores for each in parts]))


def _merged(
    view: View,
    units: NDArray[np.float32],
    k: int,
    pool: _Pool,
    not_built: NDArray[np.int64] | None,
    not_fresh: NDArray[np.int64] | None,
) -> _Nearest:
    fresh, built = view.fresh, view.absent.live
    of_build = exact_topk(units, rows_of(pool.vectors, built), k, exclude=not_built)
    of_fresh = exact_topk(units, rows_of(fresh.units, pool.slots[fresh.live]), k, exclude=not_fresh)
    places = np.concatenate([built[of_build.indices], len(view.dead) + fresh.live[of_fresh.indices]], axis=1)
    scores = np.concatenate([of_build.scores, of_fresh.scores], axis=1)
    order = np.empty((len(units), min(k, scores.shape[1])), np.int64)
    for item, (row, of) in enumerate(zip(places.tolist(), scores.tolist(), strict=True)):
        best = sorted((-score, _id_of(view, place), at) for at, (place, score) in enumerate(zip(row, of, strict=True)))
        order[item] = [at for _, _, at in best[:k]]
    return _Nearest(np.take_along_axis(places, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _described(
    view: View,
    build: ServedBuild,
    places: NDArray[np.int64],
    units: NDArray[np.float32],
    nearest: _Nearest,
    weights: NDArray[np.float32],
) -> AugmentedItems:
    of_build, origins = _named(view, build, places)
    ids = [[_id_of(view, place) for place in row] for row in nearest.places.tolist()]
    averaged = [Averaged(*each) for each in zip(ids, np.array(weights), nearest.scores, strict=True)]
    rows = Rows([_id_of(view, place) for place in places.tolist()], units)
    return AugmentedItems(rows, of_build, origins, averaged, *_named(view, build, nearest.places))


def _named(view: View, build: ServedBuild, places: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which of `places` are rows of the build, and what names them in later views too: the row, or the arrival of the slot."""
    of_build, names = places < len(build.ids), places.copy()
    names[~of_build] = view.fresh.arrivals[names[~of_build] - len(build.ids)]
    return of_build, names


def _counts(view: View, of_build: NDArray[np.bool_], names: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of what `_named` returned counts in `view`."""
    there = np.zeros(names.shape, np.bool_)
    there[of_build] = ~view.dead[names[of_build]]
    there[~of_build] = view.fresh.holds(names[~of_build])
    return there


def _id_of(view: View, place: int) -> str:
    if view.build is not None and place < len(view.build.ids):
        return view.build.ids[place]
    return view.fresh.ids[place - len(view.dead)]
