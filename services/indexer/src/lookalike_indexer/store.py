"""items.db, one a collection: the truth. Items with their raw vectors, and tombstones of what was deleted.

Each write (a chunk of upserts, or a set of deletions) has a number of its own, the collection's revision. Every row carries
the number of the write that made it, so that whoever knows a revision can ask what has changed since.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.database import Database
from lookalike_indexer.filter_sql import Bindable, condition, register
from lookalike_indexer.filters import Filter
from lookalike_indexer.records import now
from lookalike_retrieval import normalise
from lookalike_runtime.data_folder import sync_folder

# Vector and thumbnail come last: SQLite reads a row from its start, and most readers want neither.
SCHEMA = """
CREATE TABLE IF NOT EXISTS state (revision INTEGER NOT NULL);
INSERT INTO state SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM state);
CREATE TABLE IF NOT EXISTS item (
    id TEXT NOT NULL UNIQUE, sequence INTEGER NOT NULL, create_time INTEGER NOT NULL, update_time INTEGER NOT NULL,
    label TEXT NOT NULL, uri TEXT NOT NULL, content_sha256 BLOB NOT NULL, payload TEXT NOT NULL,
    vector BLOB NOT NULL, thumbnail BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS item_sequence ON item (sequence);
CREATE INDEX IF NOT EXISTS item_label ON item (label, id);
CREATE TABLE IF NOT EXISTS tombstone (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tombstone_sequence ON tombstone (sequence);
"""
UPSERT = """
INSERT INTO item (id, sequence, create_time, update_time, label, uri, content_sha256, payload, vector, thumbnail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, update_time = excluded.update_time, label = excluded.label,
    uri = excluded.uri, content_sha256 = excluded.content_sha256, payload = excluded.payload, vector = excluded.vector,
    thumbnail = excluded.thumbnail
"""
_IDS_AT_ONCE = 1_000
_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class NewItem:
    """An item to write. `payload` is a JSON object, or empty."""

    id: str
    label: str = ""
    uri: str = ""
    thumbnail: bytes = b""
    content_sha256: bytes = b""
    payload: str = ""


class StoredItem(NamedTuple):
    """An item as it was read. `thumbnail` and `vector` (float32, raw) are empty unless asked for; times in microseconds since 1970.

    A tuple: a search makes hundreds of them.
    """

    id: str
    label: str
    uri: str
    thumbnail: bytes
    content_sha256: bytes
    payload: str
    revision: int
    create_time: int
    update_time: int
    vector: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in an answer, its vector aside."""
        texts = self.id + self.label + self.uri + self.payload
        return len(texts.encode()) + len(self.thumbnail) + len(self.content_sha256) + 64


class Columns(NamedTuple):
    """What to read of an item beside the rest."""

    thumbnail: bool = False
    vector: bool = False


class Rows(NamedTuple):
    """Ids, and their vectors as unit rows float32 [n, dim]."""

    ids: list[str]
    units: NDArray[np.float32]


class Store:
    """The items of one collection."""

    def __init__(self, path: Path) -> None:
        """Open items.db at `path`; it is made if it is not there."""
        self._database = Database(path, SCHEMA, prepare=register)
        sync_folder(path.parent)

    def close(self) -> None:
        self._database.close()

    def upsert(self, items: Sequence[NewItem], vectors: NDArray[np.float32]) -> int:
        """Insert or replace items, `vectors` float32 [n, dim] row by row; returns the new revision once all is on the disk."""
        with self._database.writing() as connection:
            revision, moment = _next_revision(connection), now()
            rows = (
                (i.id, revision, moment, moment, i.label, i.uri, i.content_sha256, i.payload, vector.astype("<f4").tobytes(), i.thumbnail)
                for i, vector in zip(items, vectors, strict=True)
            )
            connection.executemany(UPSERT, rows)
            connection.executemany("DELETE FROM tombstone WHERE id = ?", ((item.id,) for item in items))
        return revision

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; returns the new revision once it is on the disk."""
        with self._database.writing() as connection:
            revision = _next_revision(connection)
            connection.executemany("DELETE FROM item WHERE id = ?", ((each,) for each in ids))
            connection.executemany("INSERT OR REPLACE INTO tombstone VALUES (?, ?)", ((each, revision) for each in ids))
        return revision

    def revision(self) -> int:
        """Return the number of the last write, 0 before the first."""
        with self._database.reading() as connection:
            return _revision(connection)

    def counts(self, since: int) -> tuple[int, int, int]:
        """Return the revision, how many items there are, and how many of them were written after the revision `since`."""
        with self._database.reading() as connection:
            (items,) = connection.execute("SELECT count(sequence) FROM item").fetchone()
            (newer,) = connection.execute("SELECT count(*) FROM item WHERE sequence > ?", (since,)).fetchone()
            return _revision(connection), items, newer

    def get(self, ids: Iterable[str], columns: Columns) -> tuple[int, dict[str, StoredItem]]:
        """Return the revision and, by id, those of the items that are there."""
        wanted = iter(ids)
        found: dict[str, StoredItem] = {}
        with self._database.reading() as connection:
            while part := list(itertools.islice(wanted, _IDS_AT_ONCE)):
                places = ",".join("?" * len(part))
                found |= {item.id: item for item in _items(connection, columns, f"WHERE id IN ({places})", part)}
            return _revision(connection), found

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
            (count,) = connection.execute(f"SELECT count(sequence) FROM item WHERE {where.sql}", where.values).fetchone()  # noqa: S608 - as above
            return _revision(connection), count

    def labels(self, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Return, by id, the label of those of the items that are there and the revision of their last write."""
        wanted = iter(ids)
        found: dict[str, tuple[str, int]] = {}
        with self._database.reading() as connection:
            while part := list(itertools.islice(wanted, _IDS_AT_ONCE)):
                places = ",".join("?" * len(part))
                rows = connection.execute(f"SELECT id, label, sequence FROM item WHERE id IN ({places})", part)  # noqa: S608 - values are bound
                found |= {each: (label, sequence) for each, label, sequence in rows}
        return found

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

    def read_all(self, dim: int) -> tuple[int, Rows]:
        """Return the revision and all items ordered by id, from one state of the store."""
        with self._database.reading() as connection:
            (count,) = connection.execute("SELECT count(sequence) FROM item").fetchone()
            return _revision(connection), _rows(connection, count, dim, "SELECT id, vector FROM item ORDER BY id", ())

    def changes(self, since: int, dim: int) -> tuple[Rows, list[str]]:
        """Return what was written after the revision `since`, and the ids that were deleted after it."""
        with self._database.reading() as connection:
            (count,) = connection.execute("SELECT count(*) FROM item WHERE sequence > ?", (since,)).fetchone()
            rows = _rows(connection, count, dim, "SELECT id, vector FROM item WHERE sequence > ? ORDER BY id", (since,))
            deleted = connection.execute("SELECT id FROM tombstone WHERE sequence > ?", (since,))
            return rows, [each for (each,) in deleted]

    def pages_up_to(self, revision: int, dim: int) -> Iterator[Rows]:
        """Yield the items that were last written up to a revision, ordered by id, in reads too short to hold up a writer.

        What is written or deleted meanwhile may be missing; its number is above the revision, so that the reader knows of it.
        """
        last = ""
        query = "SELECT id, sequence, vector FROM item WHERE id > ? ORDER BY id LIMIT ?"
        while True:
            with self._database.reading() as connection:
                page = connection.execute(query, (last, _ROWS_AT_ONCE)).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield _unit_rows([(each, vector) for each, sequence, vector in page if sequence <= revision], dim)


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE state SET revision = revision + 1")
    return _revision(connection)


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM state").fetchone()[0])


def _items(connection: sqlite3.Connection, columns: Columns, rows: str, values: Sequence[Bindable]) -> Iterator[StoredItem]:
    thumbnail = "thumbnail" if columns.thumbnail else "x''"
    vector = "vector" if columns.vector else "x''"
    query = f"SELECT id, label, uri, {thumbnail}, content_sha256, payload, sequence, create_time, update_time, {vector} FROM item {rows}"  # noqa: S608 - values are bound
    return map(StoredItem._make, connection.execute(query, values))


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
    raw = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, dim)
    return Rows([each for each, _ in rows], normalise(raw))
