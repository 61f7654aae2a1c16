"""Candidates of a query in their true order: scored one and all with the vectors served.

A place is a row of the build, or, from the number of those on, a slot of what is newer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.view import View

# More than twice the error of a float32 inner product of unit rows.
NOISE = 2e-6
_ROWS_AT_ONCE = 4096
# To score so few exactly costs less than to find out which of them are worth it.
_SETTLED_AT_ONCE = 64
_ONE = np.float32(1)


class Ranked(NamedTuple):
    """Hits of one query, best first, ties by id: their places, ids and scores, −1 to 1, as exact as float32 is."""

    places: list[int]
    ids: list[str]
    scores: list[float]

    def first(self, count: int) -> Ranked:
        return Ranked(self.places[:count], self.ids[:count], self.scores[:count])

    def at_least(self, score: float) -> Ranked:
        """Return the hits with at least this score."""
        return self.first(sum(each >= score for each in self.scores))


class Bench:
    """Room for the vectors of one query's candidates, used again for the next: fresh pages for each would cost more than the copy."""

    def __init__(self, view: View, rows: int) -> None:
        self._view = view
        self._room = np.empty((min(rows, _ROWS_AT_ONCE), view.dim), np.float32)

    def ranked(self, pictures: NDArray[np.float32], places: NDArray[np.int64], k: int) -> Ranked:
        """Rank the items at `places` by the best score that a row of `pictures` gives them, and keep `k`."""
        if len(places) > max(k, _SETTLED_AT_ONCE):
            parts = (served_vectors(self._view, part, self._room) for part in _parts(places))
            places = places[_near_the_best(np.concatenate([best_scores(part, pictures) for part in parts]), k)]
        return settle(self._view, pictures, places, k, self._room)


def served_vectors(view: View, places: NDArray[np.int64], room: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the unit vectors that are served at `places`, rows of the build first, in `room` [n or more, dim] if given."""
    out = np.empty((len(places), view.dim), np.float32) if room is None else room[: len(places)]
    rows = len(view.dead)
    split = int(np.count_nonzero(places < rows)) if view.fresh.ids else len(places)
    if view.build is not None and split:
        view.build.vectors.take(places[:split], axis=0, out=out[:split], mode="clip")
    if split < len(places):
        view.fresh.units.take(places[split:] - rows, axis=0, out=out[split:], mode="clip")
    return out


def best_scores(vectors: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best score of each of `vectors` [n, dim] with any of `pictures` [p, dim], as far as `NOISE` allows."""
    scores: NDArray[np.float32] = vectors @ pictures[0] if len(pictures) == 1 else (vectors @ pictures.T).max(axis=1)
    return scores


def settle(view: View, pictures: NDArray[np.float32], places: NDArray[np.int64], k: int, room: NDArray[np.float32] | None = None) -> Ranked:
    """Rank the items at `places`, rows of the build first, by their exact scores, and keep `k`; in `room` as `served_vectors`."""
    parts = [exact_scores(served_vectors(view, part, room), pictures) for part in _parts(places)]
    falling = -np.concatenate(parts)
    order = falling.argsort()
    if len(order) > k:
        order = order[: np.count_nonzero(falling <= falling[order[k - 1]])]
    numbers = places[order].tolist()
    best = sorted(zip(falling[order].tolist(), _ids(view, numbers), numbers, strict=True))[:k]
    return Ranked([place for _, _, place in best], [each for _, each, _ in best], [-score for score, _, _ in best])


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + _ROWS_AT_ONCE] for start in range(0, max(1, len(places)), _ROWS_AT_ONCE)]


def _ids(view: View, places: list[int]) -> list[str]:
    rows, built, fresh = len(view.dead), view.build.ids if view.build else [], view.fresh.ids
    return [built[place] if place < rows else fresh[place - rows] for place in places]


def exact_scores(vectors: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best score of each of `vectors` [n, dim] with any of `pictures` [p, dim], as it is answered."""
    # In float64, each row by itself, they tie wherever they lie.
    wide = vectors.astype(np.float64)
    best = np.vecdot(wide, pictures[0])
    for each in pictures[1:]:
        best = np.maximum(best, np.vecdot(wide, each))
    scores: NDArray[np.float32] = best.astype(np.float32)
    return np.maximum(np.minimum(scores, _ONE), -_ONE)


def _near_the_best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the places of the `k` best of more `scores` [n], and of all that are within the noise of the last of them."""
    last = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= last - np.float32(NOISE))
