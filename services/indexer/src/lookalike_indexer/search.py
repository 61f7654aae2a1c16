"""Search of a view: candidates of the build ∪ the nearest of what is newer − what was replaced or deleted, ranked exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import NOTHING_ASKED, Asked, Proposal
from lookalike_indexer.candidates.exact import rows_of
from lookalike_indexer.records import Source
from lookalike_indexer.view import Fresh, View
from lookalike_retrieval import VectorError, exact_topk, normalise
from lookalike_runtime.errors import InvalidArgument

# More than twice the error of a float32 inner product of unit rows.
_NOISE = 2e-6
# Rows beyond the k-th, to see whether the k-th place is tied.
_SPARE = 16
# Candidates a hit that a source must find among the items that a filter leaves.
_MARGIN = 2


@dataclass(frozen=True)
class Hits:
    """The nearest items of one query, best first, ties by id: which are newer than the build, and whose vectors are augmented."""

    ids: list[str]
    scores: list[float]
    fresh: list[bool]
    augmented: list[bool]


@dataclass(frozen=True)
class Found:
    """`source` gave the candidates; `search_k` is 0 by any but Annoy."""

    hits: list[Hits]
    source: Source
    search_k: int

    @property
    def exact(self) -> bool:
        """Whether every vector was compared for every query."""
        return self.source == "exact"


def unit_queries(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return queries [q, dim] as unit rows; raises InvalidArgument naming the first that has no direction."""
    try:
        return normalise(raw)
    except VectorError as error:
        reason = "ZERO_VECTOR" if np.isfinite(raw[error.row]).all() else "NOT_FINITE"
        raise InvalidArgument(reason, f"query {error.row}: {error.reason}", metadata={"query": str(error.row)}) from None


def search(view: View, queries: NDArray[np.float32], k: int, *, exact: bool = False, asked: Asked = NOTHING_ASKED) -> Found:
    """Find the `k` nearest items of each of the unit `queries` [q, dim]."""
    built = _built(view, queries, k, exact, asked)
    fresh = _fresh(view.fresh, queries, k)
    hits = [_ranked(view, query, rows, slots, k) for query, rows, slots in zip(queries, built.rows, fresh, strict=True)]
    return Found(hits, built.source, built.search_k)


def _built(view: View, queries: NDArray[np.float32], k: int, exact: bool, asked: Asked) -> Proposal:
    if view.build is None:
        return Proposal([np.empty(0, np.int64)] * len(queries), 0)
    alive = len(view.dead) - int(view.dead.sum())
    # Where a filter leaves fewer rows than the source would look at, it is cheaper to compare them all.
    few = view.restricted and alive <= view.build.candidates.effort(len(queries), k, view.dead, asked)
    source = view.build.exact if exact or few else view.build.candidates
    proposal = source.propose(queries, k, view.dead, asked)
    # A source that finds fewer than there are would hide items: those queries are answered exactly. A filter may besides have left rows
    # far from a query only, where the source saw no more than the edge of them: that shows in less than twice what is asked for.
    wanted = min(_MARGIN * k if view.restricted else k, alive)
    short = [place for place, rows in enumerate(proposal.rows) if len(rows) < wanted]
    if short:
        for place, rows in zip(short, view.build.exact.propose(queries[short], k, view.dead).rows, strict=True):
            proposal.rows[place] = rows
    return proposal


def _fresh(fresh: Fresh, queries: NDArray[np.float32], k: int) -> list[NDArray[np.int64]]:
    if len(fresh.live) == 0:
        return [fresh.live] * len(queries)
    top = exact_topk(queries, rows_of(fresh.units, fresh.live), k + _SPARE)
    tied = top.scores.shape[1] == k + _SPARE and bool((top.scores[:, k - 1] - top.scores[:, -1] <= _NOISE).any())
    if tied:
        # Slots stand in order of arrival; only by id do the right ones of many equals come first.
        top = exact_topk(queries, rows_of(fresh.units, fresh.live_by_id), k)
        return list(fresh.live_by_id[top.indices])
    return list(fresh.live[top.indices])


def _ranked(view: View, query: NDArray[np.float32], rows: NDArray[np.int64], slots: NDArray[np.int64], k: int) -> Hits:
    vectors = view.fresh.units[slots]
    ids = [view.fresh.ids[slot] for slot in slots.tolist()]
    if view.build is not None:
        vectors = np.concatenate([view.build.vectors[rows], vectors])
        ids = [view.build.ids[row] for row in rows.tolist()] + ids
    kept = _worth_ranking(vectors @ query, k)
    # Scored in float64, each row by itself, equal vectors tie wherever they lie.
    exact = np.einsum("ij,j->i", vectors[kept].astype(np.float64), query.astype(np.float64)).astype(np.float32)
    fresh = np.concatenate([np.zeros(len(rows), np.bool_), view.fresh.newer[slots]])[kept]
    augmented = np.concatenate([np.full(len(rows), view.build_augmented), view.fresh.raw_slots[slots] != slots])[kept]
    columns = ((-exact).tolist(), [ids[place] for place in kept.tolist()], fresh.tolist(), augmented.tolist())
    best = sorted(zip(*columns, strict=True))[:k]
    scores = [max(-1.0, min(1.0, -each[0])) for each in best]
    return Hits([each[1] for each in best], scores, [each[2] for each in best], [each[3] for each in best])


def _worth_ranking(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    if len(scores) <= k:
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k] - _NOISE
    return np.flatnonzero(scores >= threshold)
