"""One state of a collection in a flat file, by short reads: what changed meanwhile is read again until nothing did."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.snapshot import map_rows
from lookalike_indexer.store import Rows, Store
from lookalike_runtime.errors import Aborted, FailedPrecondition

_FRESH_STARTS = 3
_CATCHING_UP = 100
_ROWS_AT_ONCE = 1_024


class State(NamedTuple):
    """All items at a revision, ordered by id bytewise; `units` float32 [n, dim] is mapped from the file."""

    revision: int
    ids: list[str]
    units: NDArray[np.float32]


def take_state(store: Store, dim: int, path: Path) -> State:
    """Write the unit vectors of all items to `path`, as they were at one revision.

    Raises FailedPrecondition if there are none, Aborted if writers are too fast to be caught between two writes.
    """
    for _ in range(_FRESH_STARTS):
        with path.open("wb") as file:
            copy = _Copy(file)
            revision = copy.follow(store, dim)
        if revision is None:
            continue
        if not copy.places:
            raise FailedPrecondition("COLLECTION_EMPTY", "the collection has no items: upsert some first")
        return State(revision, *copy.in_order(path, dim))
    raise Aborted("WRITES_TOO_FAST", "the collection changed faster than it could be read: try again when fewer writes come in")


class _Copy:
    """Rows in a file, in the order that they were read, and which of them count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows = 0
        self._moved = False
        self.places: dict[str, int] = {}

    def follow(self, store: Store, dim: int) -> int | None:
        """Copy all items, then what changed meanwhile, until that is nothing; returns the revision, None if that did not succeed."""
        since = store.revision()
        for page in store.pages_up_to(since, dim):
            self._add(page)
        for _ in range(_CATCHING_UP):
            before = store.revision()
            newer, deleted = store.changes(since, dim)
            self._moved = self._moved or bool(newer.ids)
            for each in deleted:
                self._moved = self.places.pop(each, None) is not None or self._moved
            self._add(newer)
            revision, count, _ = store.counts(0)
            if revision == before:
                # Fewer or more: traces of a deletion were purged meanwhile.
                return revision if count == len(self.places) else None
            since = before
        return None

    def in_order(self, path: Path, dim: int) -> tuple[list[str], NDArray[np.float32]]:
        """The ids in their order and their rows, mapped; the file is written anew if rows are out of order or left over."""
        if not self._moved:
            return list(self.places), map_rows(path, self._rows, dim)
        ids = sorted(self.places)
        copied = map_rows(path, self._rows, dim)
        aside = path.with_suffix(".ordered")
        with aside.open("wb") as file:
            for first in range(0, len(ids), _ROWS_AT_ONCE):
                file.write(copied[[self.places[each] for each in ids[first : first + _ROWS_AT_ONCE]]].tobytes())
        aside.rename(path)
        return ids, map_rows(path, len(ids), dim)

    def _add(self, rows: Rows) -> None:
        # Written, not mapped: a full disk is an error then, and not the end of the process.
        self._file.write(rows.units.tobytes())
        self._file.flush()
        self.places.update(zip(rows.ids, range(self._rows, self._rows + len(rows.ids)), strict=True))
        self._rows += len(rows.ids)
