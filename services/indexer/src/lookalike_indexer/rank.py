"""Ranking of a whole reference collection for a whole query collection, exactly, from one state of each."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.collection import OpenCollection, require_space
from lookalike_indexer.records import Dba, Progress
from lookalike_indexer.store import Rows
from lookalike_retrieval import TopK, augment_blocks, exact_topk_blocks
from lookalike_runtime.errors import FailedPrecondition, ResourceExhausted

_RETRY_SECONDS = 5.0
# A message stays under 2 MiB: at most 1 MiB of ids, and of indices and scores each.
_PART_BYTES = 2**20
_MAX_ID_BYTES = 512


@dataclass(frozen=True)
class Start:
    """What is ranked: revision and number of items of either side."""

    query_revision: int
    query_count: int
    reference_revision: int
    reference_count: int


@dataclass(frozen=True)
class ReferenceIds:
    """The next reference ids, ordered bytewise over all parts."""

    ids: list[str]


@dataclass(frozen=True)
class RankedRows:
    """The next rows, ordered by query id bytewise: `indices` are places among all reference ids, best first."""

    query_ids: list[str]
    top: TopK


Part = Start | ReferenceIds | RankedRows | Progress


@dataclass(frozen=True)
class Task:
    """What to rank for what; `exclude_same_id` leaves the reference with the query's own id out."""

    queries: OpenCollection
    references: OpenCollection
    k: int
    query_dba: Dba
    reference_dba: Dba
    exclude_same_id: bool


class Turn:
    """One ranking at a time."""

    def __init__(self) -> None:
        self._taken = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold the turn during the block; raises ResourceExhausted while another holds it."""
        if not self._taken.acquire(blocking=False):
            raise ResourceExhausted("RANK_RUNNING", "another ranking is under way: try again later", retry_after=_RETRY_SECONDS)
        try:
            yield
        finally:
            self._taken.release()


def rank(task: Task) -> Iterator[Part]:
    """Yield the start, the reference ids, then rows with progress between.

    Raises FailedPrecondition if the spaces differ or a side is empty.
    """
    require_space(task.queries.space, task.references.space, whose=f"the query collection {task.queries.name!r}")
    query_revision, queries = _read(task.queries)
    reference_revision, references = (query_revision, queries) if task.queries is task.references else _read(task.references)
    yield Start(query_revision, len(queries.ids), reference_revision, len(references.ids))
    for start in range(0, len(references.ids), _PART_BYTES // _MAX_ID_BYTES):
        yield ReferenceIds(references.ids[start : start + _PART_BYTES // _MAX_ID_BYTES])
    query_units = yield from _augmented(queries.units, task.query_dba, "augment queries")
    reference_units = yield from _augmented(references.units, task.reference_dba, "augment references")
    exclude = _same_ids(queries.ids, references.ids) if task.exclude_same_id else None
    for start, top in exact_topk_blocks(query_units, reference_units, task.k, exclude=exclude):
        yield from _rows(queries.ids, start, top)
        yield Progress(stage="rank", done=start + len(top.indices), total=len(queries.ids), unit="queries")


def _read(collection: OpenCollection) -> tuple[int, Rows]:
    revision, rows = collection.store.read_all(collection.space.dim)
    if not rows.ids:
        raise FailedPrecondition("COLLECTION_EMPTY", f"collection {collection.name!r} has no items: upsert some first")
    return revision, rows


def _augmented(units: NDArray[np.float32], dba: Dba, stage: str) -> Generator[Progress, None, NDArray[np.float32]]:
    if dba.k == 0:
        return units
    augmented = np.empty_like(units)
    for start, rows in augment_blocks(units, dba.k, dba.weights):
        augmented[start : start + len(rows)] = rows
        yield Progress(stage=stage, done=start + len(rows), total=len(units))
    return augmented


def _same_ids(queries: list[str], references: list[str]) -> NDArray[np.int64]:
    places = {each: place for place, each in enumerate(references)}
    return np.array([places.get(each, -1) for each in queries], np.int64)


def _rows(query_ids: list[str], start: int, top: TopK) -> Iterator[RankedRows]:
    step = _PART_BYTES // max(_MAX_ID_BYTES, 4 * top.indices.shape[1])
    for first in range(0, len(top.indices), step):
        rows = slice(first, first + step)
        part = TopK(top.indices[rows], top.scores[rows])
        yield RankedRows(query_ids[start + first : start + first + len(part.indices)], part)
