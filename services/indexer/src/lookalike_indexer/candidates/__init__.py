"""Sources of candidates: which rows may be among the nearest of a query. What they propose is ranked exactly afterwards."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.records import PlanEntry, Source

# Share of live rows from which their number alone is thought of, and candidates a hit below it.
_NEARLY_ALL = 0.9
_MARGIN = 3


class Proposal(NamedTuple):
    """Rows for each query, int64, none of them absent. `search_k` is the nodes looked at, 0 by any source but Annoy.

    `entry` is what was followed, of the build's plan or of what it measured; None if nothing was.
    """

    rows: list[NDArray[np.int64]]
    search_k: int
    source: Source = "exact"
    entry: PlanEntry | None = None


class Effort(NamedTuple):
    """The best `depth` rows are candidates; `search_k` is what is looked at for them, in what the source counts."""

    search_k: int
    depth: int


class Asked(NamedTuple):
    """What a search asks for beside the source's own effort: nodes that Annoy looks at, or a recall over 0 to below 1.

    `left_out` of the best `k` rows, at most, are left out afterwards: exact search gives so many more.
    """

    search_k: int | None = None
    recall: float | None = None
    left_out: int = 0


NOTHING_ASKED = Asked()


class Candidates(Protocol):
    """One source. Its rows are those of the vectors that it was made of."""

    def propose(self, queries: NDArray[np.float32], k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> Proposal:
        """Propose rows for unit `queries` [q, d] so that the best `k` of them are likely the nearest; none is `absent`.

        `asked` is followed by sources that can; a recall is known to the plan alone.
        """
        ...

    def effort(self, queries: int, k: int, absent: Absent, asked: Asked = NOTHING_ASKED) -> int:
        """Return how many rows or nodes `propose` with so many queries and the same arguments looks at for each, as full vectors cost."""
        ...


class ReducedCandidates(Candidates, Protocol):
    """A source over reduced vectors, or full ones, which can be asked for more or less."""

    def at(self, effort: Effort) -> Self:
        """Return this source with another effort, over the same files."""
        ...

    def ordered(self, queries: NDArray[np.float32], effort: Effort) -> list[NDArray[np.int64]]:
        """Return the candidates of each of `queries` [q, d], best first: those of a lesser depth are the first of a greater's."""
        ...


def depth_among(depth: int, k: int, absent: Absent) -> int:
    """Return how many candidates to look for, raised for many hits and for the share of rows that are absent."""
    count, alive = len(absent), max(1, absent.alive)
    return min(count, -(-max(depth, least_depth(k, alive, count)) * count // alive))


def effort_among(effort: Effort, k: int, absent: Absent) -> Effort:
    """Return an effort with its depth raised as `depth_among` does, and what is looked at in proportion."""
    # As most searches are, and a lone query's time shows it: there is nothing to raise.
    if not absent.count and k <= effort.depth <= len(absent):
        return effort
    depth = depth_among(effort.depth, k, absent)
    return Effort(math.ceil(effort.search_k * max(1.0, depth / effort.depth)), depth)


def least_depth(k: int, alive: int, count: int) -> int:
    """Return how many live candidates to look for at least: more than `k` where filters or deletions may have left them unevenly."""
    return k if alive >= _NEARLY_ALL * count else _MARGIN * k


def present(found: list[NDArray[np.int64]], absent: Absent) -> list[NDArray[np.int64]]:
    """Return those of the rows `found` for each query that count."""
    return [rows[~absent.rows[rows]] for rows in found] if absent.count else found
