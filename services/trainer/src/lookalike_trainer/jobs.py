"""Jobs and their numbered events in the database: a queue that outlives the server. Whatever changes a job leaves an event."""

import json
import secrets
import sqlite3
import time
from collections.abc import Sequence

from lookalike_runtime.errors import AlreadyExists, NotFound, ResourceExhausted
from lookalike_trainer.changes import Changes
from lookalike_trainer.database import Database
from lookalike_trainer.job_records import Deaths, Event, Failure, Job, Report, State
from lookalike_trainer.job_spec import CheckSpec, EnsembleSpec, JobSpec, ProfileSpec, TrainSpec, contents_of, spec_from_json, spec_to_json

MAX_PENDING = 1_000
MAX_MESSAGE_BYTES = 4 << 10
MAX_METRICS = 64
_INSERT = """
INSERT INTO jobs (uid, request_id, requested, spec, dataset, start_model, start_version, weights, state, create_time)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Jobs:
    """All jobs of one server.

    Attributes:
        changes: notified after each change.
    """

    def __init__(self, database: Database) -> None:
        self.changes = Changes()
        self._database = database

    def requested(self, request_id: str, spec: JobSpec) -> Job | None:
        """The job that came under `request_id`, None if there is none; raises AlreadyExists if it was asked to do something else."""
        row = self._database.row("SELECT * FROM jobs WHERE request_id = ?", request_id)
        if row is None:
            return None
        if row["requested"] != spec_to_json(spec):
            message = f"another job came under request_id {request_id!r}, jobs/{row['uid']}: use a new request_id"
            raise AlreadyExists("REQUEST_ID_REUSED", message, metadata={"job": f"jobs/{row['uid']}"})
        return Job.from_row(row)

    def create(self, request_id: str, requested: JobSpec, spec: JobSpec) -> Job:
        """Queue a job: `requested` as it came, `spec` with what it left open decided. Raises ResourceExhausted (QUEUE_FULL)."""
        start = spec.start
        uid, now = secrets.token_hex(6), time.time()
        dataset = spec.dataset if isinstance(spec, TrainSpec | CheckSpec | ProfileSpec) else None
        bundle = (start.model, start.version) if start and start.kind == "bundle" else (None, None)
        weights = start.sha256 if start and start.kind == "weights" else None
        with self._database.transaction() as connection:
            waiting = connection.execute("SELECT count(*) FROM jobs WHERE state = 'PENDING'").fetchone()[0]
            if waiting >= MAX_PENDING:
                raise ResourceExhausted("QUEUE_FULL", f"{waiting} jobs wait already: try again later", retry_after=60)
            values = (uid, request_id, spec_to_json(requested), spec_to_json(spec), dataset, *bundle, weights, State.PENDING, now)
            connection.execute(_INSERT, values)
            _add_event(connection, uid, State.PENDING, Report(now, message="waits for its turn"))
        self.changes.notify()
        return self.get(uid)

    def get(self, uid: str) -> Job:
        """One job; raises NotFound (JOB_NOT_FOUND)."""
        row = self._database.row("SELECT * FROM jobs WHERE uid = ?", uid)
        if row is None:
            raise NotFound("JOB_NOT_FOUND", f"there is no job jobs/{uid}: list the jobs to see which there are")
        return Job.from_row(row)

    def page(self, before: int | None, size: int) -> list[Job]:
        """At most `size` jobs, newest first, whose number is below `before`."""
        query = "SELECT * FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?"
        return [Job.from_row(row) for row in self._database.rows(query, before or 1 << 62, size)]

    def events(self, uid: str, after: int, limit: int) -> list[Event]:
        """At most `limit` events of a job after a number; raises NotFound (JOB_NOT_FOUND)."""
        query = "SELECT * FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        found = [Event.from_row(row) for row in self._database.rows(query, uid, after, limit)]
        if not found:
            self.get(uid)
        return found

    def running(self) -> list[Job]:
        """Jobs whose worker was started and has not ended, as far as is known."""
        return [Job.from_row(row) for row in self._database.rows("SELECT * FROM jobs WHERE state = 'RUNNING' ORDER BY number")]

    def claim(self) -> Job | None:
        """Take the oldest waiting job to run it now."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT uid FROM jobs WHERE state = 'PENDING' ORDER BY number LIMIT 1").fetchone()
            if row is None:
                return None
            now = time.time()
            update = "UPDATE jobs SET state = 'RUNNING', starts = starts + 1, start_time = ? WHERE uid = ?"
            connection.execute(update, (now, row["uid"]))
            _add_event(connection, row["uid"], State.RUNNING, Report(now, message="starts"))
        self.changes.notify()
        return self.get(row["uid"])

    def add_reports(self, uid: str, reports: Sequence[tuple[int, Report]]) -> None:
        """Keep what a running worker said, by the numbers it gave; what was kept before is passed over."""
        with self._database.transaction() as connection:
            kept = self.reports_kept(uid)
            fresh = [(number, report) for number, report in reports if number > kept]
            if not fresh:
                return
            for _, report in fresh:
                _add_event(connection, uid, State.RUNNING, report)
            connection.execute("INSERT INTO resumptions (job) VALUES (?) ON CONFLICT DO NOTHING", (uid,))
            connection.execute("UPDATE resumptions SET reports = ? WHERE job = ?", (fresh[-1][0], uid))
            if latest := next((report.progress for _, report in reversed(fresh) if report.progress), None):
                update = "UPDATE jobs SET stage = ?, done = ?, total = ?, unit = ? WHERE uid = ?"
                connection.execute(update, (latest.stage, latest.done, latest.total, latest.unit, uid))
        self.changes.notify()

    def reports_kept(self, uid: str) -> int:
        """Number of the last report of its worker that was kept; 0 before the first."""
        row = self._database.row("SELECT reports FROM resumptions WHERE job = ?", uid)
        return int(row["reports"]) if row else 0

    def count_death(self, uid: str, step: int) -> Deaths:
        """Note that a job's worker died at a step."""
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO resumptions (job) VALUES (?) ON CONFLICT DO NOTHING", (uid,))
            there = "CASE WHEN step = ?1 THEN deaths_there + 1 ELSE 1 END"
            update = f"UPDATE resumptions SET deaths = deaths + 1, deaths_there = {there}, step = ?1 WHERE job = ?2 RETURNING *"  # noqa: S608
            row = connection.execute(update, (step, uid)).fetchone()
        return Deaths(row["deaths"], row["deaths_there"], step)

    def request_cancel(self, uid: str) -> Job:
        """Ask a job to end: one that waits ends at once, one that runs when its worker has gone, one that has ended stays as it is."""
        with self._database.transaction() as connection:
            job = self.get(uid)
            if job.state is State.PENDING:
                self.finish(uid, State.CANCELLED, message="cancelled before it started")
            elif job.state is State.RUNNING and not job.cancel_requested:
                connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE uid = ?", (uid,))
                _add_event(connection, uid, State.RUNNING, Report(time.time(), message="is asked to end"))
        self.changes.notify()
        return self.get(uid)

    def requeue(self, uid: str, message: str, *, counted: bool) -> None:
        """Let a job wait for its worker to be started again; `counted` says whether the start that was cut short counts."""
        with self._database.transaction() as connection:
            back = "UPDATE jobs SET state = 'PENDING', starts = starts - ?, stage = NULL, start_time = NULL WHERE uid = ?"
            connection.execute(back, (0 if counted else 1, uid))
            _add_event(connection, uid, State.PENDING, Report(time.time(), message=message))
        self.changes.notify()

    def finish(
        self,
        uid: str,
        state: State,
        *,
        message: str,
        failure: Failure | None = None,
        version: int | None = None,
        notes: Sequence[str] = (),
        metrics: dict[str, float] | None = None,
    ) -> None:
        """End a job; its last event says the same."""
        now = time.time()
        reason = failure.model_dump_json() if failure else None
        with self._database.transaction() as connection:
            update = "UPDATE jobs SET state = ?, end_time = ?, failure = ?, version = ?, notes = ? WHERE uid = ?"
            connection.execute(update, (state, now, reason, version, json.dumps(list(notes)), uid))
            _add_event(connection, uid, state, Report(now, message=message, metrics=metrics or {}), reason)
        self.changes.notify()

    def using_dataset(self, name: str) -> str | None:
        """A job that has not ended and reads this dataset."""
        return self._first("SELECT uid FROM unfinished_jobs WHERE dataset = ?", name)

    def using_model(self, name: str, version: int | None) -> str | None:
        """A job that has not ended and starts from this version, or from any of the model's, or makes it part of an ensemble."""
        query = "SELECT uid FROM unfinished_jobs WHERE start_model = ?1 AND (?2 IS NULL OR start_version = ?2)"
        return self._first(query, name, version) or self._combining(name, version)

    def weights_in_use(self) -> set[str]:
        """SHA-256 of the weights files, of the files of folders and of the lists that jobs name which have not ended."""
        found: set[str] = set()
        for row in self._database.rows("SELECT spec FROM unfinished_jobs"):
            found.update(contents_of(spec_from_json(row["spec"])))
        return found

    def of_revision(self, dataset: str, revision: int) -> list[str]:
        """The jobs that have done their work with a revision, newest first."""
        query = "SELECT uid, spec FROM jobs WHERE dataset = ? AND state = 'SUCCEEDED' ORDER BY number DESC"
        specs = ((row["uid"], spec_from_json(row["spec"])) for row in self._database.rows(query, dataset))
        return [uid for uid, spec in specs if isinstance(spec, TrainSpec | CheckSpec) and spec.revision == revision]

    def _combining(self, name: str, version: int | None) -> str | None:
        for row in self._database.rows("SELECT uid, spec FROM unfinished_jobs WHERE dataset IS NULL AND start_model IS NULL"):
            spec = spec_from_json(row["spec"])
            if isinstance(spec, EnsembleSpec) and any(m.model == name and version in (None, m.version) for m in spec.members):
                return str(row["uid"])
        return None

    def _first(self, query: str, *values: object) -> str | None:
        row = self._database.row(query, *values)
        return None if row is None else str(row["uid"])


def _add_event(connection: sqlite3.Connection, uid: str, state: State, report: Report, failure: str | None = None) -> None:
    last = connection.execute("SELECT max(sequence) FROM events WHERE job = ?", (uid,)).fetchone()[0] or 0
    progress = report.progress
    how_far = (progress.stage, progress.done, progress.total, progress.unit) if progress else (None, None, None, None)
    message = report.message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    metrics = json.dumps(dict(list(report.metrics.items())[:MAX_METRICS]))
    connection.execute(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (uid, last + 1, report.time, state, *how_far, message, metrics, failure),
    )
