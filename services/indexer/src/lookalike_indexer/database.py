"""SQLite as both the catalog and the items use it: one writer, many readers, nothing acknowledged before it is on the disk."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lookalike_runtime.errors import ResourceExhausted, Unavailable

# In WAL mode, FULL is what makes a commit wait for its fsync.
SYNCHRONOUS = "FULL"
# Pages of the log, 16 MiB, that are carried over into the file at once: bulk writes touch the same pages again and again.
LOG_PAGES = 4_000
# Longest wait for other processes' locks, and for readers of an older state while the log is emptied.
_SECONDS = 30
_LOG_MILLISECONDS = 500
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def refusing_when_full() -> Iterator[None]:
    """Turn the errors of a full disk into ResourceExhausted `DISK_FULL`."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        full = "disk is full" in str(error) if isinstance(error, sqlite3.Error) else error.errno in _NO_ROOM
        if not full:
            raise
        message = "the disk is full: nothing of this request was kept, all that was acknowledged is; free some room, then send it again"
        raise ResourceExhausted("DISK_FULL", message) from None


def _as_it_is(connection: sqlite3.Connection) -> None:
    pass


class Database:
    """One SQLite file in WAL mode."""

    def __init__(self, path: Path, schema: str, *, prepare: Callable[[sqlite3.Connection], None] = _as_it_is) -> None:
        """Open `path`, which is made with `schema` if it is not there; `prepare` is called with each connection."""
        self._path = path
        self._prepare = prepare
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with refusing_when_full():
            self._writer = self._connect()
            self._writer.executescript(schema)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=_SECONDS)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        self._prepare(connection)
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block ends, or leaves nothing if the block raises."""
        with self._lock, refusing_when_full():
            self._refuse_closed()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # SQLite has ended the transaction by itself after some errors.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the database throughout the block."""
        self._refuse_closed()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.rollback()
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def rewrite(self) -> None:
        """Write the file anew without what was deleted, as far as the log; readers go on, writers wait."""
        with self._lock, refusing_when_full():
            self._refuse_closed()
            # Else pages could end in what lay in memory.
            self._writer.execute("PRAGMA secure_delete=ON")
            self._writer.execute("VACUUM")

    def empty_log(self) -> bool:
        """Carry the log over into the file and empty it; False while somebody reads an older state."""
        with self._lock, refusing_when_full():
            self._refuse_closed()
            self._writer.execute(f"PRAGMA busy_timeout={_LOG_MILLISECONDS}")
            try:
                (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._writer.execute(f"PRAGMA busy_timeout={1000 * _SECONDS}")
            return not busy

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unavailable("CLOSED", "what is read or written was closed meanwhile: try again")

    def close(self) -> None:
        """Close the file; readers at work finish first."""
        self._closed = True
        with self._lock, closing(self._writer):
            while self._idle:
                self._idle.pop().close()
