"""Candidates of a query in their true order: scored one and all with the vectors served.

A place is a row of the build, or, from the number of those on, a slot of what is newer.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.view import View

# More than twice the error of a float32 inner product of unit rows.
NOISE = 2e-6
_ROWS_AT_ONCE = 4096
_ONE = np.float32(1)
_NOTHING = np.empty(0, np.float32)


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
        parts = (served_vectors(self._view, part, self._room[: len(part)]) for part in _parts(places))
        scores = np.concatenate([_NOTHING, *(best_scores(part, pictures) for part in parts)])
        return settle(self._view, pictures, places[_worth_ranking(scores, k)]).first(k)


def served_vectors(view: View, places: NDArray[np.int64], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the unit vectors that are served at `places`, rows of the build first, in `out` [n, dim] if given."""
    out = np.empty((len(places), view.dim), np.float32) if out is None else out
    rows = len(view.dead)
    split = int(np.count_nonzero(places < rows))
    if view.build is not None and split:
        view.build.vectors.take(places[:split], axis=0, out=out[:split], mode="clip")
    if split < len(places):
        view.fresh.units.take(places[split:] - rows, axis=0, out=out[split:], mode="clip")
    return out


def best_scores(vectors: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best score of each of `vectors` [n, dim] with any of `pictures` [p, dim], as far as `NOISE` allows."""
    scores: NDArray[np.float32] = vectors @ pictures[0] if len(pictures) == 1 else (vectors @ pictures.T).max(axis=1)
    return scores


def settle(view: View, pictures: NDArray[np.float32], places: NDArray[np.int64]) -> Ranked:
    """Rank the items at `places`, rows of the build first, all of them."""
    scores = [exact_scores(served_vectors(view, part), pictures) for part in _parts(places)]
    return _sorted(view, places, np.concatenate([_NOTHING, *scores]))


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + _ROWS_AT_ONCE] for start in range(0, len(places), _ROWS_AT_ONCE)]


def id_at(view: View, place: int) -> str:
    rows = len(view.dead)
    return view.fresh.ids[place - rows] if view.build is None or place >= rows else view.build.ids[place]


def exact_scores(vectors: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best score of each of `vectors` [n, dim] with any of `pictures` [p, dim], as it is answered."""
    # In float64, each row by itself, they tie wherever they lie.
    wide = vectors.astype(np.float64)
    scores = (np.einsum("ij,j->i", wide, picture.astype(np.float64)) for picture in pictures)
    best: NDArray[np.float32] = functools.reduce(np.maximum, scores).astype(np.float32)
    return np.maximum(np.minimum(best, _ONE), -_ONE)


def _sorted(view: View, places: NDArray[np.int64], scores: NDArray[np.float32]) -> Ranked:
    ids = [id_at(view, place) for place in places.tolist()]
    best = sorted(zip((-scores).tolist(), ids, places.tolist(), strict=True))
    return Ranked([place for _, _, place in best], [each for _, each, _ in best], [-score for score, _, _ in best])


def _worth_ranking(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    if len(scores) <= k:
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k] - NOISE
    return np.flatnonzero(scores >= threshold)
