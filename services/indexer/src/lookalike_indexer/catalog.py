"""catalog.db: which collections and aliases there are. They share one namespace."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from lookalike_indexer.database import Database
from lookalike_indexer.records import Alias, Collection
from lookalike_runtime.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted

MAX_COLLECTIONS = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS collection (uid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alias (name TEXT PRIMARY KEY, collection TEXT NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS build (
    uid TEXT NOT NULL, number INTEGER NOT NULL, request_id TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (uid, number), UNIQUE (uid, request_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    uid TEXT NOT NULL, number INTEGER NOT NULL, sequence INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (uid, number, sequence)) WITHOUT ROWID;
"""


def open_catalog(path: Path) -> Database:
    """Open catalog.db, which `Catalog` and `BuildLog` share."""
    return Database(path, SCHEMA)


class Catalog:
    """Collections and aliases by name."""

    def __init__(self, database: Database, *, most_collections: int = MAX_COLLECTIONS) -> None:
        self._database = database
        self._most_collections = most_collections

    def require_free(self, name: str) -> None:
        """Raise AlreadyExists if a collection or alias has the name."""
        with self._database.reading() as connection:
            _refuse_taken(connection, name)

    def add(self, collection: Collection) -> None:
        """Keep a new collection; raises AlreadyExists or ResourceExhausted."""
        with self._database.writing() as connection:
            _refuse_taken(connection, collection.name)
            if connection.execute("SELECT count(*) FROM collection").fetchone()[0] >= self._most_collections:
                message = f"there are {self._most_collections:,} collections, the most there may be: delete some"
                raise ResourceExhausted("TOO_MANY_COLLECTIONS", message)
            row = (collection.uid, collection.name, collection.model_dump_json())
            connection.execute("INSERT INTO collection VALUES (?, ?, ?)", row)

    def resolve(self, name: str) -> Collection:
        """Return the collection `name`, or the one that the alias `name` points at; raises NotFound."""
        with self._database.reading() as connection:
            target = connection.execute("SELECT collection FROM alias WHERE name = ?", (name,)).fetchone()
            return _collection(connection, target[0] if target else name, "no such collection or alias")

    def find(self, name: str) -> Collection:
        """Return the collection `name`, aliases aside; raises NotFound."""
        with self._database.reading() as connection:
            return _collection(connection, name, "no such collection")

    def page(self, after: str | None, limit: int) -> list[Collection]:
        """Return up to `limit` collections by name, those after the name `after`."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT document FROM collection WHERE name > ? ORDER BY name LIMIT ?", (after or "", limit))
            return [Collection.model_validate_json(document) for (document,) in rows]

    def all(self) -> list[Collection]:
        """Return all collections by name."""
        return self.page(None, self._most_collections)

    def by_uid(self, uid: str) -> Collection | None:
        """Return the collection with a uid, if it is there."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT document FROM collection WHERE uid = ?", (uid,)).fetchone()
            return Collection.model_validate_json(row[0]) if row else None

    def remove(self, collection: Collection) -> None:
        """Forget a collection with its builds; raises NotFound, or FailedPrecondition while an alias points at it."""
        with self._database.writing() as connection:
            if _collection(connection, collection.name, "no such collection").uid != collection.uid:
                raise NotFound("COLLECTION_NOT_FOUND", f"collection {collection.name!r} was made anew meanwhile")
            alias = connection.execute("SELECT name FROM alias WHERE collection = ?", (collection.name,)).fetchone()
            if alias:
                message = f"the alias {alias[0]!r} points at collection {collection.name!r}: move or delete the alias first"
                raise FailedPrecondition("COLLECTION_ALIASED", message, metadata={"alias": alias[0]})
            for table in ("collection", "build", "event"):
                connection.execute(f"DELETE FROM {table} WHERE uid = ?", (collection.uid,))  # noqa: S608 - three constants

    def add_alias(self, name: str, collection: str) -> Alias:
        """Point a new alias at a collection; raises NotFound or AlreadyExists."""
        alias = Alias(name=name, collection=collection, etag=secrets.token_hex(8))
        with self._database.writing() as connection:
            _collection(connection, collection, "no such collection")
            _refuse_taken(connection, name)
            connection.execute("INSERT INTO alias VALUES (?, ?, ?)", (name, collection, alias.etag))
        return alias

    def move_alias(self, name: str, collection: str, etag: str) -> Alias:
        """Point an alias at another collection; raises NotFound, or Aborted if `etag` is given and not the present one."""
        alias = Alias(name=name, collection=collection, etag=secrets.token_hex(8))
        with self._database.writing() as connection:
            _check_alias(connection, name, etag)
            _collection(connection, collection, "no such collection")
            connection.execute("UPDATE alias SET collection = ?, etag = ? WHERE name = ?", (collection, alias.etag, name))
        return alias

    def alias(self, name: str) -> Alias:
        """Return an alias; raises NotFound."""
        with self._database.reading() as connection:
            return _alias(connection, name)

    def page_of_aliases(self, after: str | None, limit: int) -> list[Alias]:
        """Return up to `limit` aliases by name, those after the name `after`."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, collection, etag FROM alias WHERE name > ? ORDER BY name LIMIT ?", (after or "", limit))
            return [Alias(name=name, collection=collection, etag=etag) for name, collection, etag in rows]

    def remove_alias(self, name: str, etag: str) -> None:
        """Forget an alias; raises NotFound, or Aborted if `etag` is given and not the present one."""
        with self._database.writing() as connection:
            _check_alias(connection, name, etag)
            connection.execute("DELETE FROM alias WHERE name = ?", (name,))


def etag_mismatch(what: str, name: str, given: str) -> Aborted:
    """Return the error for a resource that has changed since its etag was read."""
    return Aborted("ETAG_MISMATCH", f"{what} {name!r} has changed since the etag {given[:80]!r} was read: look again")


def _collection(connection: sqlite3.Connection, name: str, complaint: str) -> Collection:
    row = connection.execute("SELECT document FROM collection WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound("COLLECTION_NOT_FOUND", f"{complaint}: {name!r}", metadata={"collection": name})
    return Collection.model_validate_json(row[0])


def _refuse_taken(connection: sqlite3.Connection, name: str) -> None:
    taken = connection.execute("SELECT name FROM collection WHERE name = ? UNION SELECT name FROM alias WHERE name = ?", (name, name))
    if taken.fetchone():
        raise AlreadyExists("NAME_TAKEN", f"a collection or alias is called {name!r} already: choose another name")


def _alias(connection: sqlite3.Connection, name: str) -> Alias:
    row = connection.execute("SELECT collection, etag FROM alias WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound("ALIAS_NOT_FOUND", f"no such alias: {name!r}", metadata={"alias": name})
    return Alias(name=name, collection=row[0], etag=row[1])


def _check_alias(connection: sqlite3.Connection, name: str, etag: str) -> None:
    present = _alias(connection, name).etag
    if etag and etag != present:
        raise etag_mismatch("alias", name, etag)
