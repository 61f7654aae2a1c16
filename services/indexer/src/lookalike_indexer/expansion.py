"""Query expansion over what a view serves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lookalike_indexer.candidates import Asked
from lookalike_indexer.queries import Queries
from lookalike_indexer.ranking import served_vectors
from lookalike_indexer.search import rank
from lookalike_indexer.view import View
from lookalike_retrieval import expand_query


@dataclass(frozen=True)
class Expansion:
    """With the `k` nearest items, each weighing its cosine to the power of `alpha`; 0 lets all weigh as much as the query."""

    k: int
    alpha: float = 0.0


def expand(view: View, queries: Queries, expansion: Expansion, *, exact: bool, asked: Asked) -> Queries:
    """Return the queries that a search with `queries` makes of them, each picture for itself."""
    singles = queries.one_by_one
    first = rank(view, singles, expansion.k, exact=exact, asked=asked)
    units = [
        expand_query(unit, served_vectors(view, np.sort(np.array(ranked.places, np.int64))), expansion.alpha)
        for unit, ranked in zip(singles.units, first.ranked, strict=True)
    ]
    return replace(queries, units=np.stack(units))
