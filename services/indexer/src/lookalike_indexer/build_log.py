"""catalog.db: which builds each collection has, how far they are, and all that happened to them."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from lookalike_indexer.database import Database
from lookalike_indexer.records import ENDED, Build, BuildReport, BuildSpec, Collection, Event, Failure, Progress, State, now
from lookalike_runtime.errors import AlreadyExists, FailedPrecondition, NotFound

DEFAULT_KEPT_BUILDS = 2


class Installed(NamedTuple):
    """Whether a build answers searches now, and the builds whose files are no longer kept."""

    active: bool
    dropped: set[int]


class BuildLog:
    """Builds and their events by the uid of their collection; the files of the last `kept_builds` that succeeded are kept."""

    def __init__(self, database: Database, kept_builds: int = DEFAULT_KEPT_BUILDS) -> None:
        self._database = database
        self._kept_builds = kept_builds

    def add(self, uid: str, spec: BuildSpec, request_id: str) -> tuple[Build, bool]:
        """Keep a new build that somebody asks for, or return the one that `request_id` made; the flag tells whether it is new.

        A new one unpins the active build. Raises AlreadyExists if the request id made another build, FailedPrecondition while another build
        is under way.
        """
        with self._database.writing() as connection:
            for build in _builds(connection, uid):
                if build.request_id == request_id:
                    _refuse_other_body(build, spec)
                    return build, False
            build = _queued(connection, uid, spec, request_id, "queued")
            _update_collection(connection, uid, pinned=False)
        return build, True

    def add_automatic(self, seen: Collection, spec: BuildSpec) -> Build:
        """Keep a new build that nobody asks for, of a collection that is as it was `seen`.

        Raises FailedPrecondition if it has changed since, as when another build has come to answer, or while one is under way; NotFound.
        """
        with self._database.writing() as connection:
            if _collection(connection, seen.uid) != seen:
                raise FailedPrecondition("COLLECTION_CHANGED", f"collection {seen.name!r} has changed meanwhile: look at it again")
            request_id = f"automatic-{uuid.uuid4()}"
            return _queued(connection, seen.uid, spec, request_id, "queued by itself: enough has changed", automatic=True)

    def get(self, uid: str, number: int) -> Build:
        """Return a build; raises NotFound."""
        with self._database.reading() as connection:
            return _build(connection, uid, number)

    def knows(self, uid: str, request_id: str) -> bool:
        """Tell whether `request_id` has made a build."""
        with self._database.reading() as connection:
            query = "SELECT 1 FROM build WHERE uid = ? AND request_id = ?"
            return connection.execute(query, (uid, request_id)).fetchone() is not None

    def page(self, uid: str, before: int | None, limit: int) -> list[Build]:
        """Return up to `limit` builds, newest first, those below the number `before`."""
        with self._database.reading() as connection:
            return [build for build in _builds(connection, uid) if before is None or build.number < before][:limit]

    def under_way(self) -> list[tuple[str, Build]]:
        """Return uid and build of all that have not ended, oldest first."""
        with self._database.reading() as connection:
            builds = [(uid, Build.model_validate_json(text)) for uid, text in connection.execute("SELECT uid, document FROM build")]
        return sorted(((uid, build) for uid, build in builds if build.state not in ENDED), key=lambda each: each[1].create_time)

    def kept(self, uid: str) -> set[int]:
        """Return the numbers of the builds whose files must be there."""
        with self._database.reading() as connection:
            return {build.number for build in _builds(connection, uid) if build.kept}

    def events(self, uid: str, number: int, after: int) -> tuple[list[Event], bool]:
        """Return a build's events after a number, and whether the build has ended; raises NotFound."""
        query = "SELECT document FROM event WHERE uid = ? AND number = ? AND sequence > ? ORDER BY sequence"
        with self._database.reading() as connection:
            ended = _build(connection, uid, number).state in ENDED
            return [Event.model_validate_json(text) for (text,) in connection.execute(query, (uid, number, after))], ended

    def start(self, uid: str, number: int) -> bool:
        """Note that a build runs; False if it has been cancelled, or is no longer there."""
        with self._database.writing() as connection:
            try:
                build = _build(connection, uid, number)
            except NotFound:
                return False
            if build.state != "PENDING":
                return False
            _change(connection, uid, build, "started", state="RUNNING")
        return True

    def advance(self, uid: str, number: int, progress: Progress) -> None:
        """Note how far a build is."""
        with self._database.writing() as connection:
            _change(connection, uid, _build(connection, uid, number), "", progress=progress)

    def fail(self, uid: str, number: int, failure: Failure) -> Build:
        """Note why a build failed."""
        return self._end(uid, number, "FAILED", failure.message, error=failure)

    def cancel(self, uid: str, number: int) -> Build:
        """Note that a build was cancelled; one that has ended stays as it is."""
        return self._end(uid, number, "CANCELLED", "cancelled")

    def _end(self, uid: str, number: int, state: State, message: str, **values: Any) -> Build:
        with self._database.writing() as connection:
            build = _build(connection, uid, number)
            if build.state in ENDED:
                return build
            return _change(connection, uid, build, message, state=state, end_time=now(), **values)

    def install(self, uid: str, number: int, report: BuildReport) -> Installed:
        """Note a build's result, whose files are there from now on, and let it answer searches.

        An automatic build replaces no pinned one. With that the build has succeeded, but for one that purges, which `succeed` ends.
        """
        with self._database.writing() as connection:
            build, collection = _build(connection, uid, number), _collection(connection, uid)
            if build.spec.purge:
                _change(connection, uid, build, "it serves", kept=True, report=report, progress=Progress(stage="purge", unit=""))
            else:
                _succeed(connection, uid, build.model_copy(update={"report": report}))
            active = not (build.automatic and collection.pinned)
            if active:
                _update_collection(connection, uid, active_build=number, pinned=False)
            return Installed(active, _drop_old(connection, uid, 1 if build.spec.purge else self._kept_builds))

    def succeed(self, uid: str, number: int) -> Build:
        """Note that a build that purges has done so."""
        with self._database.writing() as connection:
            return _succeed(connection, uid, _build(connection, uid, number))

    def activate(self, uid: str, number: int) -> Build:
        """Let a kept build answer searches, pinned; raises NotFound, or FailedPrecondition if it is not kept."""
        with self._database.writing() as connection:
            build = _build(connection, uid, number)
            if not build.kept:
                raise self.not_kept(build)
            _update_collection(connection, uid, active_build=number, pinned=True)
        return build

    def discard(self, uid: str, number: int) -> None:
        """Note that a build's files are gone or damaged, so that it answers no searches."""
        with self._database.writing() as connection:
            _store(connection, uid, _build(connection, uid, number).model_copy(update={"kept": False}))
            if _collection(connection, uid).active_build == number:
                _update_collection(connection, uid, active_build=None, pinned=False)

    def not_kept(self, build: Build) -> FailedPrecondition:
        """Return the error for a build that cannot be activated."""
        lost = build.state == "SUCCEEDED"
        why = f"has no files any more: the last {self._kept_builds} are kept, less after a purge" if lost else f"ended as {build.state}"
        return FailedPrecondition("BUILD_NOT_KEPT", f"build {build.number} {why}; list builds, or make a new one")


def _queued(connection: sqlite3.Connection, uid: str, spec: BuildSpec, request_id: str, message: str, *, automatic: bool = False) -> Build:
    builds = _builds(connection, uid)
    for build in builds:
        if build.state not in ENDED:
            refusal = f"build {build.number} of the collection is under way: watch it, or cancel it first"
            raise FailedPrecondition("BUILD_RUNNING", refusal, metadata={"build": str(build.number)})
    number = builds[0].number + 1 if builds else 1
    build = Build(number=number, request_id=request_id, spec=spec, automatic=automatic, create_time=now())
    connection.execute("INSERT INTO build VALUES (?, ?, ?, ?)", (uid, number, request_id, build.model_dump_json()))
    _add_event(connection, uid, build, message, {})
    return build


def _refuse_other_body(build: Build, spec: BuildSpec) -> None:
    if build.spec != spec:
        message = f"request_id {build.request_id!r} made build {build.number} with another spec: use a new request_id"
        raise AlreadyExists("REQUEST_ID_REUSED", message, metadata={"build": str(build.number)})


def _build(connection: sqlite3.Connection, uid: str, number: int) -> Build:
    row = connection.execute("SELECT document FROM build WHERE uid = ? AND number = ?", (uid, number)).fetchone()
    if row is None:
        raise NotFound("BUILD_NOT_FOUND", f"the collection has no build {number}: list builds", metadata={"build": str(number)})
    return Build.model_validate_json(row[0])


def _builds(connection: sqlite3.Connection, uid: str) -> list[Build]:
    rows = connection.execute("SELECT document FROM build WHERE uid = ? ORDER BY number DESC", (uid,))
    return [Build.model_validate_json(text) for (text,) in rows]


def _store(connection: sqlite3.Connection, uid: str, build: Build) -> None:
    connection.execute("UPDATE build SET document = ? WHERE uid = ? AND number = ?", (build.model_dump_json(), uid, build.number))


def _change(
    connection: sqlite3.Connection, uid: str, build: Build, message: str, metrics: Mapping[str, float] | None = None, **values: Any
) -> Build:
    changed = build.model_copy(update=values)
    _store(connection, uid, changed)
    _add_event(connection, uid, changed, message, metrics or {})
    return changed


def _add_event(connection: sqlite3.Connection, uid: str, build: Build, message: str, metrics: Mapping[str, float]) -> None:
    query = "SELECT coalesce(max(sequence), 0) + 1 FROM event WHERE uid = ? AND number = ?"
    (sequence,) = connection.execute(query, (uid, build.number)).fetchone()
    event = Event(
        sequence=sequence,
        time=now(),
        state=build.state,
        progress=build.progress if build.state == "RUNNING" else None,
        message=message,
        metrics=dict(metrics),
        error=build.error,
    )
    connection.execute("INSERT INTO event VALUES (?, ?, ?, ?)", (uid, build.number, sequence, event.model_dump_json()))


def _collection(connection: sqlite3.Connection, uid: str) -> Collection:
    row = connection.execute("SELECT document FROM collection WHERE uid = ?", (uid,)).fetchone()
    if row is None:
        raise NotFound("COLLECTION_NOT_FOUND", "the collection was deleted meanwhile")
    return Collection.model_validate_json(row[0])


def _update_collection(connection: sqlite3.Connection, uid: str, **values: Any) -> None:
    collection = _collection(connection, uid).model_copy(update=values)
    connection.execute("UPDATE collection SET document = ? WHERE uid = ?", (collection.model_dump_json(), uid))


def _succeed(connection: sqlite3.Connection, uid: str, build: Build) -> Build:
    report = build.report
    assert report is not None
    metrics = {"items": float(report.item_count), "size_bytes": float(report.size_bytes)}
    if report.chosen:
        metrics |= {"recall_at_10": report.chosen.recall, "recall_at_10_low": report.chosen.recall_low}
    return _change(connection, uid, build, report.reason, metrics, state="SUCCEEDED", end_time=now(), kept=True)


def _drop_old(connection: sqlite3.Connection, uid: str, most: int) -> set[int]:
    """Keep the newest builds, and the active one however old it is."""
    active = _collection(connection, uid).active_build
    kept = [build for build in _builds(connection, uid) if build.kept]
    old = [build for build in kept[most:] if build.number != active]
    for build in old:
        _store(connection, uid, build.model_copy(update={"kept": False}))
    return {build.number for build in old}
