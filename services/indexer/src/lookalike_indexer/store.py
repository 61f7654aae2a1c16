"""items.db, one a collection: the truth. Items with their raw vectors, and tombstones of what was deleted.

Each write (a chunk of upserts, a set of changes or of deletions) has a number of its own, the collection's revision. Every row carries
the number of the write that made it (`sequence`) and of the one that gave it its vector (`vector_sequence`), so that whoever knows a
revision can ask which vectors have come and gone since.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.database import Database
from lookalike_indexer.filter_sql import TEXT, TRUTH, Bindable, condition, grouping, register
from lookalike_indexer.filters import Filter, Value
from lookalike_indexer.filters import Path as FieldPath
from lookalike_indexer.records import now
from lookalike_retrieval import normalise
from lookalike_runtime.data_folder import sync_folder

_STATE = """
CREATE TABLE IF NOT EXISTS state (revision INTEGER NOT NULL);
INSERT INTO state SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM state);
CREATE TABLE IF NOT EXISTS tombstone (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstone_sequence ON tombstone (sequence);
"""
# Vector and thumbnail come last: SQLite reads a row from its start, and most readers want neither.
_ITEM = """
CREATE TABLE item (
    id TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, vector_sequence INTEGER NOT NULL,
    create_time INTEGER NOT NULL, update_time INTEGER NOT NULL,
    label TEXT NOT NULL, uri TEXT NOT NULL, content_sha256 BLOB NOT NULL, payload TEXT NOT NULL,
    vector BLOB NOT NULL, thumbnail BLOB NOT NULL);
"""
_INDEXES = """
CREATE INDEX item_vector_sequence ON item (vector_sequence);
CREATE INDEX item_label ON item (label, id);
"""
_FROM_VERSION_0 = f"""
DROP INDEX item_sequence;
DROP INDEX item_label;
ALTER TABLE item RENAME TO old_item;
{_ITEM}
INSERT INTO item (id, sequence, vector_sequence, create_time, update_time, label, uri, content_sha256, payload, vector, thumbnail)
    SELECT id, sequence, sequence, create_time, update_time, label, uri, content_sha256, payload, vector, thumbnail
    FROM old_item ORDER BY rowid;
DROP TABLE old_item;
"""  # noqa: S608 - nothing but constants
# 1: with `vector_sequence`.
_VERSION = 1
UPSERT = """
INSERT INTO item (id, sequence, vector_sequence, create_time, update_time, label, uri, content_sha256, payload, vector, thumbnail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, vector_sequence = excluded.vector_sequence,
    update_time = excluded.update_time, label = excluded.label, uri = excluded.uri, content_sha256 = excluded.content_sha256,
    payload = excluded.payload, vector = excluded.vector, thumbnail = excluded.thumbnail
"""
CHANGE = """
UPDATE item SET sequence = ?, update_time = ?, label = ?, uri = ?, content_sha256 = ?, payload = ?, thumbnail = ? WHERE id = ?
"""
_IDS_AT_ONCE = 1_000
_ROWS_AT_ONCE = 1_024
# Of vectors that a snapshot reads in one transaction.
_BYTES_AT_ONCE = 8 * 1024 * 1024


@dataclass(frozen=True)
class NewItem:
    """An item to write. `payload` is a JSON object, or empty."""

    id: str
    label: str = ""
    uri: str = ""
    thumbnail: bytes = b""
    content_sha256: bytes = b""
    payload: str = ""


# What an item takes in an answer beside its fields.
BYTES_BESIDE = 64


class StoredItem(NamedTuple):
    """An item as it was read: of what was not asked for, `vector` (raw, see `layout_of`) too, nothing. Times in microseconds since 1970.

    `vector_revision` is that of the write that gave it its vector; `revision` that of the last, which may have changed other fields alone.
    A tuple: a search makes hundreds of them.
    """

    id: str
    label: str = ""
    uri: str = ""
    thumbnail: bytes = b""
    content_sha256: bytes = b""
    payload: str = ""
    revision: int = 0
    vector_revision: int = 0
    create_time: int = 0
    update_time: int = 0
    vector: bytes = b""

    @property
    def new(self) -> NewItem:
        """What may be written of it."""
        return NewItem(*self[:6])

    @property
    def size(self) -> int:
        """Bytes that it takes in an answer, its vector aside."""
        texts = self.id + self.label + self.uri + self.payload
        return len(texts.encode()) + len(self.thumbnail) + len(self.content_sha256) + BYTES_BESIDE


class Columns(NamedTuple):
    """What to read of an item beside its id; `rest` is all that is neither thumbnail nor vector."""

    thumbnail: bool = False
    vector: bool = False
    rest: bool = True


class OneState(NamedTuple):
    """All items as of one revision; `parts` yields them ordered by id, with vectors and thumbnails, some at a time."""

    revision: int
    item_count: int
    parts: Iterator[list[StoredItem]]


class FieldValues(NamedTuple):
    """Values of a field and how many items have each; how many differ in all; items whose field is missing, an object or a list."""

    values: list[tuple[Value, int]]
    distinct: int
    missing: int


class Rows(NamedTuple):
    """Ids, and their vectors as unit rows float32 [n, dim]."""

    ids: list[str]
    units: NDArray[np.float32]


class Store:
    """The items of one collection."""

    def __init__(self, path: Path) -> None:
        """Open items.db at `path`; it is made if it is not there."""
        self._database = Database(path, _STATE, prepare=register)
        self._migrate()
        sync_folder(path.parent)

    def close(self) -> None:
        self._database.close()

    def upsert(self, items: Sequence[NewItem], vectors: NDArray[np.float32 | np.float16]) -> int:
        """Insert or replace items, `vectors` [n, dim] row by row, stored as they are; returns the new revision once all is on the disk."""
        with self._database.writing() as connection:
            moment = now()
            revision = self._insert(connection, items, [(moment, moment)] * len(items), vectors)
            if connection.execute("SELECT EXISTS (SELECT 1 FROM tombstone)").fetchone()[0]:
                connection.executemany("DELETE FROM tombstone WHERE id = ?", ((item.id,) for item in items))
        return revision

    def _insert(
        self,
        connection: sqlite3.Connection,
        items: Sequence[NewItem | StoredItem],
        times: Sequence[tuple[int, int]],
        vectors: NDArray[np.float32 | np.float16],
    ) -> int:
        little, revision = vectors.astype(vectors.dtype.newbyteorder("<"), copy=False), _next_revision(connection)
        rows = (
            (i.id, revision, revision, made, changed, i.label, i.uri, i.content_sha256, i.payload, vector.tobytes(), i.thumbnail)
            for i, (made, changed), vector in zip(items, times, little, strict=True)
        )
        connection.executemany(UPSERT, rows)
        return revision

    def change(self, items: Sequence[NewItem]) -> int:
        """Replace all but the vectors of items that are there; returns the new revision once it is on the disk."""
        with self._database.writing() as connection:
            revision, moment = _next_revision(connection), now()
            rows = ((revision, moment, i.label, i.uri, i.content_sha256, i.payload, i.thumbnail, i.id) for i in items)
            connection.executemany(CHANGE, rows)
        return revision

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; returns the new revision once it is on the disk."""
        with self._database.writing() as connection:
            revision = _next_revision(connection)
            connection.executemany("DELETE FROM item WHERE id = ?", ((each,) for each in ids))
            connection.executemany("INSERT OR REPLACE INTO tombstone VALUES (?, ?)", ((each, revision) for each in ids))
        return revision

    def wipe(self, revision: int) -> None:
        """Forget what was deleted up to a revision, which no build holds any more, and leave no byte of it outside of the log."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM tombstone WHERE sequence <= ?", (revision,))
        self._database.rewrite()

    def empty_log(self) -> bool:
        """Leave nothing of what was deleted in the log either; False while somebody reads an older state."""
        return self._database.empty_log()

    def revision(self) -> int:
        """Return the number of the last write, 0 before the first."""
        with self._database.reading() as connection:
            return _revision(connection)

    def counts(self, since: int) -> tuple[int, int, int]:
        """Return the revision, how many items there are, and how many of them got their vectors after the revision `since`."""
        with self._database.reading() as connection:
            return _revision(connection), _count(connection), _count_newer(connection, since)

    def drift(self, since: int) -> tuple[int, int, int]:
        """Return the revision, how many items there are, and how many were written or deleted after the revision `since`."""
        with self._database.reading() as connection:
            (deleted,) = connection.execute("SELECT count(*) FROM tombstone WHERE sequence > ?", (since,)).fetchone()
            return _revision(connection), _count(connection), _count_newer(connection, since) + deleted

    def get(self, ids: Iterable[str], columns: Columns) -> tuple[int, dict[str, StoredItem]]:
        """Return the revision and, by id, those of the items that are there."""
        with self._database.reading() as connection:
            parts = (_items(connection, columns, f"WHERE {which}", part) for which, part in _by_id(ids))
            return _revision(connection), {item.id: item for part in parts for item in part}

    def matching(self, item_filter: Filter) -> tuple[int, list[str]]:
        """Return the revision and the ids of the items that meet a filter, in no order."""
        where = condition(item_filter)
        with self._database.reading() as connection:
            found = connection.execute(f"SELECT id FROM item WHERE {where.sql}", where.values)  # noqa: S608 - values are bound
            return _revision(connection), [each for (each,) in found]

    def count(self, item_filter: Filter | None) -> tuple[int, int]:
        """Return the revision and how many items meet a filter; None is met by all."""
        where = condition(item_filter)
        with self._database.reading() as connection:
            (count,) = connection.execute(f"SELECT count(vector_sequence) FROM item WHERE {where.sql}", where.values).fetchone()  # noqa: S608 - as above
            return _revision(connection), count

    def labels(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Return, by id, the label of those of the items that are there and the revision of their last write."""
        query = "SELECT id, label, sequence FROM item WHERE "
        with self._database.reading() as connection:
            parts = (connection.execute(query + which, part) for which, part in _by_id(ids))
            return {each: (label, sequence) for part in parts for each, label, sequence in part}

    def all_labels(self) -> tuple[int, list[tuple[str, str]]]:
        """Return the revision, and the id and label of every item."""
        with self._database.reading() as connection:
            return _revision(connection), connection.execute("SELECT id, label FROM item").fetchall()

    def group_count(self, item_filter: Filter | None) -> tuple[int, int]:
        """Return the revision, and how many labels and items without one there are among those that meet a filter."""
        where = condition(item_filter)
        query = f"SELECT count(DISTINCT nullif(label, '')) + count(*) - count(nullif(label, '')) FROM item WHERE {where.sql}"  # noqa: S608 - as above
        with self._database.reading() as connection:
            (count,) = connection.execute(query, where.values).fetchone()
            return _revision(connection), count

    def page(
        self, after: str | None, limit: int, columns: Columns, budget: int, item_filter: Filter | None = None
    ) -> tuple[int, list[StoredItem], bool]:
        """Return the revision, items that meet a filter, ordered by id after the id `after`, and whether more follow.

        At most `limit` items come, and no more than fit into `budget` bytes without vectors, but at least one.
        """
        where = condition(item_filter)
        rows = f"WHERE id > ? AND ({where.sql}) ORDER BY id LIMIT ?"
        with self._database.reading() as connection:
            page: list[StoredItem] = []
            for item in _items(connection, columns, rows, (after or "", *where.values, limit + 1)):
                budget -= item.size
                if len(page) == limit or (page and budget < 0):
                    return _revision(connection), page, True
                page.append(item)
            return _revision(connection), page, False

    @contextmanager
    def one_state(self, at_once: int) -> Iterator[OneState]:
        """Read all items with all they hold, as they are now, up to `at_once` of them in memory; for the length of the block."""
        with self._database.reading() as connection:
            items = _items(connection, Columns(thumbnail=True, vector=True), "ORDER BY id", ())
            parts = iter(lambda: list(itertools.islice(items, at_once)), [])
            yield OneState(_revision(connection), _count(connection), parts)

    def restore(self, items: Sequence[StoredItem], vectors: NDArray[np.float32 | np.float16]) -> None:
        """Insert items with the times that they had, in a store that nobody else writes; `vectors` [n, dim] row by row, as they are."""
        with self._database.writing() as connection:
            self._insert(connection, items, [(item.create_time, item.update_time) for item in items], vectors)

    def changes(self, since: int, dim: int) -> tuple[Rows, list[str]]:
        """Return the items that got their vectors after the revision `since`, and the ids that were deleted after it."""
        with self._database.reading() as connection:
            query = "SELECT id, vector FROM item WHERE vector_sequence > ? ORDER BY id"
            rows = _rows(connection, _count_newer(connection, since), dim, query, (since,))
            deleted = connection.execute("SELECT id FROM tombstone WHERE sequence > ?", (since,))
            return rows, [each for (each,) in deleted]

    def pages_up_to(self, revision: int, dim: int) -> Iterator[Rows]:
        """Yield the items that got their vectors up to a revision, ordered by id, in reads too short to hold up a writer.

        What is written or deleted meanwhile may be missing; its number is above the revision, so that the reader knows of it.
        """
        last = ""
        query = "SELECT id, vector_sequence, vector FROM item WHERE id > ? ORDER BY id LIMIT ?"
        most = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // (4 * dim)))
        while True:
            with self._database.reading() as connection:
                page = connection.execute(query, (last, most)).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield _unit_rows([(each, vector) for each, sequence, vector in page if sequence <= revision], dim)

    def values(self, path: FieldPath, item_filter: Filter | None, limit: int, budget: int) -> tuple[int, FieldValues]:
        """Return the revision and how often which values stand in the field `path`, the most frequent first, `limit` at most.

        Equally frequent ones come in the order of numbers, texts (bytewise), truth values. Raises ValueError if what would come takes more
        than `budget` bytes.
        """
        where, field = condition(item_filter), grouping(path)
        query = f"""
            SELECT {field.kind} AS kind, {field.value} AS value, count(*) AS number FROM item WHERE {where.sql}
            GROUP BY {field.group} ORDER BY number DESC, kind, value"""  # noqa: S608 - values are bound
        found, distinct, missing = list[tuple[Value, int]](), 0, 0
        with self._database.reading() as connection:
            for kind, value, number in connection.execute(query, (*field.values, *where.values)):
                if kind is None:
                    missing += number
                    continue
                distinct += 1
                if len(found) < limit:
                    found.append((bool(value) if kind == TRUTH else value, number))
                    budget -= len(value.encode()) + 16 if kind == TEXT else 16
                    if budget < 0:
                        raise ValueError(f"{len(found):,} values take too much")
            return _revision(connection), FieldValues(found, distinct, missing)

    def _migrate(self) -> None:
        """Bring a store of an earlier version, or a new one, to the present version: whole or not at all."""
        with self._database.reading() as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (_VERSION,):
                return
        with self._database.writing() as connection:
            there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'item'").fetchone()
            for statement in f"{_FROM_VERSION_0 if there else _ITEM}{_INDEXES}".split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")


def layout_of(size: int, dim: int) -> np.dtype[np.floating[Any]]:
    """Return how a stored vector of `dim` numbers and `size` bytes is laid out: float32 or float16, little-endian."""
    return np.dtype(f"<f{size // dim}")


def _by_id(ids: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield conditions on ids, each with the values that are bound in it, as many as SQLite takes at once."""
    # In order, ids that are near each other are read from one page.
    wanted = iter(sorted(ids))
    while part := list(itertools.islice(wanted, _IDS_AT_ONCE)):
        yield f"id IN ({','.join('?' * len(part))})", part


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(vector_sequence) FROM item").fetchone()[0])


def _count_newer(connection: sqlite3.Connection, since: int) -> int:
    return int(connection.execute("SELECT count(*) FROM item WHERE vector_sequence > ?", (since,)).fetchone()[0])


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE state SET revision = revision + 1")
    return _revision(connection)


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM state").fetchone()[0])


def _items(connection: sqlite3.Connection, columns: Columns, rows: str, values: Sequence[Bindable]) -> Iterator[StoredItem]:
    query = f"SELECT {_selected(columns)} FROM item {rows}"  # noqa: S608 - values are bound
    return itertools.starmap(StoredItem, connection.execute(query, values))


def _selected(columns: Columns) -> str:
    """Return what to select: the fields of a `StoredItem`, in its order."""
    if not columns.rest:
        return "id"
    thumbnail = "thumbnail" if columns.thumbnail else "x''"
    vector = "vector" if columns.vector else "x''"
    return f"id, label, uri, {thumbnail}, content_sha256, payload, sequence, vector_sequence, create_time, update_time, {vector}"


def _rows(connection: sqlite3.Connection, count: int, dim: int, query: str, values: Sequence[int]) -> Rows:
    ids: list[str] = []
    units = np.empty((count, dim), np.float32)
    cursor = connection.execute(query, values)
    while part := cursor.fetchmany(_ROWS_AT_ONCE):
        rows = _unit_rows(part, dim)
        units[len(ids) : len(ids) + len(part)] = rows.units
        ids += rows.ids
    return Rows(ids, units)


def _unit_rows(rows: Sequence[tuple[str, bytes]], dim: int) -> Rows:
    layout = layout_of(len(rows[0][1]), dim) if rows else np.dtype("<f4")
    raw = np.frombuffer(b"".join(vector for _, vector in rows), layout).reshape(-1, dim)
    return Rows([each for each, _ in rows], normalise(raw.astype(np.float32, copy=False)))
