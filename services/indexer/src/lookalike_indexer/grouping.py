"""The best hit of each label: searches that look further until there are enough labels, or nothing is left.

Ranked further and further, the first hit of a label is its best. Where that does not end soon, every vector is compared once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer._ranking import exact_scores
from lookalike_indexer.candidates import Asked
from lookalike_indexer.labels import Labels
from lookalike_indexer.queries import Queries, Query
from lookalike_indexer.ranking import Ranked, rerank, served_vectors
from lookalike_indexer.search import Ranking, rank
from lookalike_indexer.view import View

# Hits for each group that is asked for, at first and in each further look; as many hits as plans are made for.
_FACTOR = 4
_MOST_HITS = 1_000
_ROWS_AT_ONCE = 4096
# Scores held at once: 32 MiB.
_MOST_SCORES = 8 << 20
# Below every cosine.
_NEVER = np.float32(-2)


def rank_groups(view: View, queries: Queries, k: int, labels: Labels, *, exact: bool, asked: Asked, min_score: float) -> Ranking:
    """Find the best hit of the `k` nearest groups of each query: of a label, or an item without one. Raises Overtaken."""
    done: dict[int, Ranked] = {}
    ways: list[Ranking] = []
    pending = list(range(len(queries)))
    depth = max(k, min(_FACTOR * k, _MOST_HITS))
    while pending and depth <= _MOST_HITS:
        looked = rank(view, queries.only(pending), depth, exact=exact, asked=asked)
        settled = dict(_settled(pending, looked.ranked, k, depth, labels, min_score))
        ways += [looked] if settled else []
        done |= settled
        pending = [place for place in pending if place not in settled]
        depth = depth * _FACTOR if looked.source != "exact" else _MOST_HITS + 1
    if pending:
        done |= zip(pending, (each.at_least(min_score) for each in _of_all(view, queries.only(pending), k, labels)), strict=True)
    way = next((each for each in ways if each.source != "exact"), Ranking([], "exact", 0))
    return way._replace(ranked=[done[place] for place in range(len(queries))])


def _settled(
    pending: Sequence[int], looked: Sequence[Ranked], k: int, depth: int, labels: Labels, min_score: float
) -> Iterator[tuple[int, Ranked]]:
    """Yield the answers of those queries that need no further look."""
    known = labels.of(each for ranked in looked for each in ranked.ids)
    for place, ranked in zip(pending, looked, strict=True):
        worthy = ranked.at_least(min_score)
        best = _first_of_each(worthy, [known[each] or (each,) for each in worthy.ids])
        ended = len(ranked.ids) < depth or len(worthy.ids) < len(ranked.ids)
        if ended or len(best.ids) >= k or len(best.ids) >= labels.group_count:
            yield place, best.first(k)


def _first_of_each(ranked: Ranked, groups: Sequence[Hashable]) -> Ranked:
    first: dict[Hashable, int] = {}
    for rank_, group in enumerate(groups):
        first.setdefault(group, rank_)
    chosen = list(first.values())
    return Ranked([ranked.places[i] for i in chosen], [ranked.ids[i] for i in chosen], [ranked.scores[i] for i in chosen])


def _of_all(view: View, queries: Queries, k: int, labels: Labels) -> Iterator[Ranked]:
    """Compare every vector."""
    places = np.flatnonzero(labels.groups >= 0)
    groups = labels.groups[places]
    step = max(1, _MOST_SCORES // max(1, len(places)))
    for start in range(0, len(queries), step):
        part = queries.only(range(start, min(start + step, len(queries))))
        for query, scores in zip(part.each, _scores(view, part, places), strict=True):
            left_out = [labels.places[each] for each in query.without if each in labels.places]
            scores[np.isin(places, left_out)] = _NEVER
            yield _best_of_each(view, query, places, groups, scores, k)


def _scores(view: View, queries: Queries, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the score of each place by each query, [q, n]."""
    scores = np.empty((len(queries), len(places)), np.float32)
    for start in range(0, len(places), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        vectors = served_vectors(view, places[rows])
        for place, query in enumerate(queries.each):
            scores[place, rows] = exact_scores(vectors, query.pictures)
    return scores


def _best_of_each(
    view: View, query: Query, places: NDArray[np.int64], groups: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> Ranked:
    best = np.full(int(groups.max(initial=-1)) + 1, _NEVER)
    np.maximum.at(best, groups, scores)
    k = min(k, int(np.count_nonzero(best > _NEVER)))
    if k == 0:
        return Ranked([], [], [])
    least = np.partition(best, len(best) - k)[len(best) - k]
    worthy = (best[groups] >= least) & (scores == best[groups])
    chosen = places[worthy]
    group_of = dict(zip(chosen.tolist(), groups[worthy].tolist(), strict=True))
    (hits,) = rerank(view, Queries(query.pictures, (len(query.pictures),)), [chosen], len(chosen))
    return _first_of_each(hits, [group_of[place] for place in hits.places]).first(k)
