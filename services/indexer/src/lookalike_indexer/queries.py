"""What a search is for: pictures, given as vectors or as items of the collection, make queries."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_retrieval import VectorError, normalise
from lookalike_runtime.errors import InvalidArgument

Combine = Literal["mean", "best"]

# A mean of unit rows shorter than this is rounding noise.
_VANISHED = 1e-6
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pictures:
    """What queries are made of: `vectors`, raw [p, dim], or items by id, whose raw vectors they are.

    `sizes` successive ones make one query, by the mean of their unit vectors, or so that an item's score is the best that any of
    them gives it; without `sizes` each is a query.
    """

    vectors: NDArray[np.float32] | None = None
    item_ids: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    combine: Combine = "mean"


class Query(NamedTuple):
    """Unit rows [p, dim], of whose scores an item has the best; items of `without` are no hits."""

    pictures: NDArray[np.float32]
    without: Collection[str]


@dataclass(frozen=True)
class Queries:
    """Unit rows `units` [p, dim], `sizes` successive ones of which are one query, each alone if None.

    `without` are for each query the ids of items that are no hits; empty if none are.
    """

    units: NDArray[np.float32]
    sizes: tuple[int, ...] | None = None
    without: tuple[frozenset[str], ...] = ()

    def __len__(self) -> int:
        return len(self.units) if self.sizes is None else len(self.sizes)

    @property
    def spans(self) -> list[slice]:
        """The rows of each query."""
        return spans_of((1,) * len(self.units) if self.sizes is None else self.sizes)

    @property
    def each(self) -> Iterator[Query]:
        return (
            Query(self.units[span], left_out) for span, left_out in zip(self.spans, self.without or (_NOBODY,) * len(self), strict=True)
        )

    @property
    def one_by_one(self) -> Queries:
        """Every picture as a query of its own, which leaves out what its query does."""
        without = tuple(left_out for size, left_out in zip(self.sizes or (), self.without, strict=False) for _ in range(size))
        return self if self.sizes is None else Queries(self.units, None, without)

    def only(self, chosen: Sequence[int]) -> Queries:
        """Return the queries at the places `chosen`."""
        spans = self.spans
        rows = np.concatenate([np.arange(spans[place].start, spans[place].stop) for place in chosen])
        sizes = None if self.sizes is None else tuple(self.sizes[place] for place in chosen)
        return Queries(self.units[rows], sizes, tuple(self.without[place] for place in chosen) if self.without else ())


def unit_queries(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return queries [q, dim] as unit rows; raises InvalidArgument naming the first that has no direction."""
    try:
        return normalise(raw)
    except VectorError as error:
        reason = "ZERO_VECTOR" if np.isfinite(raw[error.row]).all() else "NOT_FINITE"
        raise InvalidArgument(reason, f"query {error.row}: {error.reason}", metadata={"query": str(error.row)}) from None


def make_queries(pictures: Pictures, raw: NDArray[np.float32]) -> Queries:
    """Return the queries that `pictures` with the vectors `raw` [p, dim] are.

    Raises InvalidArgument naming the first vector that has no direction, or the first query whose pictures cancel each other out.
    """
    units = unit_queries(raw)
    spans = spans_of(pictures.sizes or (1,) * len(units))
    without = tuple(frozenset(pictures.item_ids[span]) for span in spans) if pictures.item_ids else ()
    if not pictures.sizes or pictures.combine == "best":
        return Queries(units, pictures.sizes or None, without)
    return Queries(np.stack([_mean(units[span], place) for place, span in enumerate(spans)]), None, without)


def _mean(units: NDArray[np.float32], place: int) -> NDArray[np.float32]:
    mean = units.astype(np.float64).mean(axis=0)
    if np.linalg.norm(mean) < _VANISHED:
        message = (
            f"query {place}: the mean of its {len(units)} pictures vanishes: search with them one by one, or by the best of their scores"
        )
        raise InvalidArgument("ZERO_VECTOR", message, metadata={"query": str(place)})
    unit: NDArray[np.float32] = normalise(mean[None])[0]
    return unit


def spans_of(sizes: Sequence[int]) -> list[slice]:
    """Return the rows that successive parts of these sizes have."""
    return [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
