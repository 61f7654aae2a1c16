"""Candidates of a query in their true order: scored one and all with the vectors served.

A place is a row of the build, or, from the number of those on, a slot of what is newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer._ranking import best
from lookalike_indexer.queries import Queries
from lookalike_indexer.view import View


class Ranked(NamedTuple):
    """Hits of one query, best first, ties by id: their places, ids and scores, −1 to 1, as exact as float32 is."""

    places: list[int]
    ids: list[str]
    scores: list[float]

    def first(self, count: int) -> Ranked:
        return self if len(self.places) <= count else Ranked(self.places[:count], self.ids[:count], self.scores[:count])

    def at_least(self, score: float) -> Ranked:
        """Return the hits with at least this score."""
        return self.first(sum(each >= score for each in self.scores))


def rerank(view: View, queries: Queries, places: Sequence[NDArray[np.int64]], k: int) -> list[Ranked]:
    """Rank, for each query, the items at its `places` by the best score that any of its pictures gives them, and keep `k`."""
    sizes = queries.sizes or (1,) * len(queries.units)
    found = best(view.built, view.fresh.units, places, queries.units, sizes, k)
    return [_by_id(view, numbers, scores).first(k) for numbers, scores in found]


def _by_id(view: View, places: list[int], scores: list[float]) -> Ranked:
    """Return hits whose ties are in the order of their places in the order of their ids: rows have it, slots do not."""
    rows, built, fresh = len(view.dead), view.build.ids if view.build else [], view.fresh.ids
    if view.all_built(places):
        return Ranked(places, list(map(built.__getitem__, places)), scores)
    ids = [built[place] if place < rows else fresh[place - rows] for place in places]
    hits = sorted(zip([-score for score in scores], ids, places, strict=True))
    return Ranked([place for _, _, place in hits], [each for _, each, _ in hits], [-score for score, _, _ in hits])


def served_vectors(view: View, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the unit vectors [n, dim] that are served at `places` [n]."""
    return vectors_at(view.built, view.fresh.units, places)


def vectors_at(built: NDArray[np.float32], fresh: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors at `places` [n]: rows of `built`, and behind them those of `fresh`."""
    newer = places >= len(built)
    found = np.empty((len(places), fresh.shape[1]), np.float32)
    found[~newer] = built[places[~newer]]
    found[newer] = fresh[places[newer] - len(built)]
    return found
