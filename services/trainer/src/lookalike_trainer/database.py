"""The trainer's SQLite file: one connection, short transactions, each on the disk before it is acknowledged."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from lookalike_runtime.errors import ResourceExhausted

_SCHEMA = """
-- Last number given out under a name; kept when the name is deleted, so that no number comes back.
CREATE TABLE IF NOT EXISTS numbers (
    kind TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS revisions (
    dataset TEXT NOT NULL, number INTEGER NOT NULL, uid TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, pictures INTEGER NOT NULL,
    classes INTEGER NOT NULL, single_picture_classes INTEGER NOT NULL, bytes INTEGER NOT NULL, create_time REAL NOT NULL,
    PRIMARY KEY (dataset, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL UNIQUE, requested TEXT NOT NULL,
    spec TEXT NOT NULL, dataset TEXT, start_model TEXT, start_version INTEGER, weights TEXT,
    state TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0,
    stage TEXT, done INTEGER, total INTEGER, unit TEXT,
    create_time REAL NOT NULL, start_time REAL, end_time REAL, failure TEXT, version INTEGER, notes TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
CREATE VIEW IF NOT EXISTS unfinished_jobs AS SELECT * FROM jobs WHERE state IN ('PENDING', 'RUNNING');

CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, sequence INTEGER NOT NULL, time REAL NOT NULL, state TEXT NOT NULL, stage TEXT, done INTEGER, total INTEGER,
    unit TEXT, message TEXT NOT NULL, metrics TEXT NOT NULL, failure TEXT, PRIMARY KEY (job, sequence)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS versions (
    model TEXT NOT NULL, number INTEGER NOT NULL, job TEXT NOT NULL UNIQUE, origin TEXT NOT NULL, path TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL, result TEXT NOT NULL, dataset_fingerprint TEXT NOT NULL, bytes INTEGER NOT NULL,
    create_time REAL NOT NULL, PRIMARY KEY (model, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS model_aliases (
    model TEXT NOT NULL, alias TEXT NOT NULL, number INTEGER NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (model, alias)
) WITHOUT ROWID;

-- Bundles of deleted versions, until they are gone from the registry.
CREATE TABLE IF NOT EXISTS removed_bundles (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Database:
    """Used from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)
        self._lock = RLock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; inside another transaction, a part of that one.

        Raises:
            ResourceExhausted: the disk is full (DISK_FULL).
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise ResourceExhausted("DISK_FULL", "the server's disk is full: free some room, then try again") from error
                raise

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """What a query answers."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row that a query answers."""
        with self._lock:
            found: sqlite3.Row | None = self._connection.execute(query, values).fetchone()
            return found

    def next_number(self, kind: str, name: str) -> int:
        """A number that was never given out under this name, from 1."""
        with self.transaction() as connection:
            query = "INSERT INTO numbers VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last"
            return int(connection.execute(query, (kind, name)).fetchone()[0])

    def last_number(self, kind: str, name: str) -> int:
        """The newest number given out under this name; 0 before the first."""
        row = self.row("SELECT last FROM numbers WHERE kind = ? AND name = ?", kind, name)
        return int(row["last"]) if row else 0

    def close(self) -> None:
        with self._lock:
            self._connection.close()
