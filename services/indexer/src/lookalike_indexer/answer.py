"""What a search of a collection answers: the hits, and the items that they name, all of one revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates import Asked
from lookalike_indexer.expansion import Expansion, expand
from lookalike_indexer.filters import Filter
from lookalike_indexer.grouping import rank_groups
from lookalike_indexer.labels import Labels, Overtaken
from lookalike_indexer.queries import Pictures, Queries, make_queries
from lookalike_indexer.search import Found, Ranking, found_of, rank
from lookalike_indexer.store import Columns, Store, StoredItem, layout_of
from lookalike_indexer.view import View
from lookalike_runtime.errors import NotFound

# No cosine is below it.
_ANY_SCORE = -1.0


@dataclass(frozen=True)
class Options:
    """What a search may want beside the nearest items: `min_score` is inclusive; `group_by_label` keeps the best hit of each label."""

    min_score: float | None = None
    expansion: Expansion | None = None
    group_by_label: bool = False


NO_OPTIONS: Final = Options()


class Wanted(NamedTuple):
    """One search: `exact` compares every vector, `asked` says how else to look than the plan does."""

    pictures: Pictures
    k: int
    columns: Columns
    exact: bool
    asked: Asked
    options: Options
    item_filter: Filter | None


@dataclass(frozen=True)
class Answer:
    """Hits of each query, and the items that they name, none where ids are enough; `queries` is what was searched for in the end."""

    view: View
    queries: Queries
    found: Found
    items: dict[str, StoredItem]


def answer(store: Store, view: View, wanted: Wanted, raw: NDArray[np.float32]) -> Answer:
    """Search `view` for the pictures with the vectors `raw` [p, dim].

    Raises Overtaken where a hit was written meanwhile, InvalidArgument for a query without direction.
    """
    queries = make_queries(wanted.pictures, raw)
    if wanted.options.expansion is not None:
        queries = expand(view, queries, wanted.options.expansion, exact=wanted.exact, asked=wanted.asked)
    found = found_of(view, _ranking(store, view, wanted, queries))
    return Answer(view, queries, found, _items(store, view, found, wanted.columns))


def read_vectors(store: Store, ids: Sequence[str], dim: int) -> tuple[int, NDArray[np.float32]]:
    """Return the revision and the raw vectors [n, dim] of items; raises NotFound naming the first that is not there."""
    revision, items = store.get(set(ids), Columns(vector=True))
    for each in ids:
        if each not in items:
            message = f"item {each!r} is not in the collection: search with one that is, or with a vector"
            raise NotFound("ITEM_NOT_FOUND", message, metadata={"id": each})
    layout = layout_of(len(items[ids[0]].vector), dim)
    raw = np.frombuffer(b"".join(items[each].vector for each in ids), layout).reshape(-1, dim)
    return revision, raw.astype(np.float32, copy=False)


def _items(store: Store, view: View, found: Found, columns: Columns) -> dict[str, StoredItem]:
    """Return the items that are hits, by id, as of the view's revision; raises Overtaken where one was written meanwhile."""
    if not columns.rest:
        return {}
    ids = {each for hits in found.hits for each in hits.ids}
    _, items = store.get(ids, columns)
    if len(items) < len(ids) or any(item.revision > view.revision for item in items.values()):
        raise Overtaken
    return items


def _ranking(store: Store, view: View, wanted: Wanted, queries: Queries) -> Ranking:
    least = _ANY_SCORE if wanted.options.min_score is None else wanted.options.min_score
    if wanted.options.group_by_label:
        labels = Labels(store, view, wanted.item_filter)
        return rank_groups(view, queries, wanted.k, labels, exact=wanted.exact, asked=wanted.asked, min_score=least)
    ranking = rank(view, queries, wanted.k, exact=wanted.exact, asked=wanted.asked)
    return ranking._replace(ranked=[each.at_least(least) for each in ranking.ranked])
