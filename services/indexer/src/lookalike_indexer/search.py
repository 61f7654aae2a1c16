"""Search of a view: candidates of the build ∪ the nearest of what is newer − what was replaced or deleted, ranked exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Proposal
from lookalike_indexer.candidates.exact import rows_of
from lookalike_indexer.queries import Queries, Query
from lookalike_indexer.ranking import Ranked, rerank
from lookalike_indexer.records import PlanEntry, Source
from lookalike_indexer.view import Fresh, View
from lookalike_retrieval import exact_topk

# More than twice the error of a float32 inner product of unit rows.
NOISE = 2e-6
# Rows beyond the k-th, to see whether the k-th place is tied.
_SPARE = 16
# Candidates a hit that a source must find among the items that a filter leaves.
_MARGIN = 2
_NO_ROWS = np.empty(0, np.int64)


class Hits(NamedTuple):
    """The nearest items of one query, best first, ties by id: which are newer than the build, and whose vectors are augmented."""

    ids: list[str]
    scores: list[float]
    fresh: list[bool]
    augmented: list[bool]


class Found(NamedTuple):
    """`source` gave the candidates, by `entry` of the build's plan or of what it measured; `search_k` is 0 by any but Annoy."""

    hits: list[Hits]
    source: Source
    search_k: int
    entry: PlanEntry | None = None

    @property
    def exact(self) -> bool:
        """Whether every vector was compared for every query."""
        return self.source == "exact"


class Ranking(NamedTuple):
    """The hits of each query; `source` gave the candidates, by `entry` of plan or measurement, `search_k` is 0 by any but Annoy."""

    ranked: list[Ranked]
    source: Source
    search_k: int
    entry: PlanEntry | None = None


def search(view: View, queries: NDArray[np.float32], k: int, *, exact: bool = False, asked: Asked = NOTHING_ASKED) -> Found:
    """Find the `k` nearest items of each of the unit `queries` [q, dim]."""
    return found_of(view, rank(view, Queries(queries), k, exact=exact, asked=asked))


def found_of(view: View, ranking: Ranking) -> Found:
    return Found([_hits(view, each) for each in ranking.ranked], ranking.source, ranking.search_k, ranking.entry)


def rank(view: View, queries: Queries, k: int, *, exact: bool = False, asked: Asked = NOTHING_ASKED) -> Ranking:
    """Find the `k` nearest items of each query.

    An item that any picture of a query finds is scored by all of them. What a query leaves out is left out after the source has
    proposed, as it is where recall is measured.
    """
    built = _built(view, queries, k, exact, asked)
    places = built.rows
    if len(view.fresh.live):
        slots = _fresh(view.fresh, queries, k)
        places = [np.concatenate([rows, each + len(view.dead)]) for rows, each in zip(places, slots, strict=True)]
    return Ranking(rerank(view, queries, _together(queries, places), k), built.source, built.search_k, built.entry)


def _together(queries: Queries, places: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Return, for each query, the places that any of its pictures found, each once."""
    return places if queries.sizes is None else [np.unique(np.concatenate(places[span])) for span in queries.spans]


def _built(view: View, queries: Queries, k: int, exact: bool, asked: Asked) -> Proposal:
    """Return rows for each picture."""
    units = queries.units
    build = view.build
    if build is None:
        return Proposal([np.empty(0, np.int64)] * len(units), 0)
    alive = view.alive_rows
    # Where a filter leaves fewer rows than the source would look at, it is cheaper to compare them all.
    few = view.restricted and alive <= build.candidates.effort(len(units), k, view.absent, asked)
    source = build.exact if exact or few else build.candidates
    left_out = _left_out(view, queries)
    if queries.without:
        asked = asked._replace(left_out=max(map(len, left_out), default=0))
    proposal = source.propose(units, k, view.absent, asked)
    rows = proposal.rows
    if queries.without:
        rows[:] = [_less(each, out) for each, out in zip(rows, left_out, strict=True)]
    # A source that finds fewer than there are would hide items: those queries are answered exactly. A filter may besides have left rows
    # far from a query only, where the source saw no more than the edge of them: that shows in less than twice what is asked for.
    wanted = _MARGIN * k if view.restricted and proposal.source != "exact" else k
    short = [place for place, found in enumerate(rows) if len(found) < min(wanted, alive - len(left_out[place]))]
    if short:
        for place, found in zip(short, build.exact.propose(units[short], k, view.absent, asked).rows, strict=True):
            rows[place] = _less(found, left_out[place])
    return proposal


def _left_out(view: View, queries: Queries) -> Sequence[NDArray[np.int64]]:
    """Return the rows that each picture's query leaves out."""
    if not queries.without:
        return [_NO_ROWS] * len(queries.units)
    return [_rows_of(view, query.without) for query in queries.one_by_one.each]


def _rows_of(view: View, ids: Collection[str]) -> NDArray[np.int64]:
    """Return the rows of the build that hold items of these ids and count."""
    assert view.build is not None
    rows = [view.build.rows[each] for each in ids if each in view.build.rows]
    return np.array([row for row in rows if not view.dead[row]], np.int64)


def _less(rows: NDArray[np.int64], left_out: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.isin(rows, left_out, invert=True)] if len(left_out) else rows


def _fresh(fresh: Fresh, queries: Queries, k: int) -> list[NDArray[np.int64]]:
    """Return slots for each picture, where any count."""
    units = queries.units
    each = list(queries.one_by_one.each)
    k += max((len(query.without) for query in each), default=0)
    top = exact_topk(units, rows_of(fresh.units, fresh.live), k + _SPARE)
    slots = fresh.live[top.indices]
    tied = top.scores.shape[1] == k + _SPARE and bool((top.scores[:, k - 1] - top.scores[:, -1] <= NOISE).any())
    if tied:
        # Slots stand in order of arrival; only by id do the right ones of many equals come first.
        slots = fresh.live_by_id[exact_topk(units, rows_of(fresh.units, fresh.live_by_id), k).indices]
    return [_others(fresh, found, query) for found, query in zip(slots, each, strict=True)]


def _others(fresh: Fresh, slots: NDArray[np.int64], query: Query) -> NDArray[np.int64]:
    if not query.without:
        return slots
    return np.array([slot for slot in slots.tolist() if fresh.ids[slot] not in query.without], np.int64)


def _hits(view: View, ranked: Ranked) -> Hits:
    of_build = view.build_augmented
    # What is done for every hit of a lone query shows in its time.
    if view.all_built(ranked.places):
        count = len(ranked.places)
        return Hits(ranked.ids, ranked.scores, [False] * count, [of_build] * count)
    rows, newer, raw_slots = len(view.dead), view.fresh.newer, view.fresh.raw_slots
    fresh = [place >= rows and bool(newer[place - rows]) for place in ranked.places]
    augmented = [of_build if place < rows else bool(raw_slots[place - rows] != place - rows) for place in ranked.places]
    return Hits(ranked.ids, ranked.scores, fresh, augmented)
