"""A job and its events, as they are kept."""

import json
import sqlite3
from dataclasses import dataclass, field
from enum import StrEnum

from lookalike_model.records import Record
from lookalike_trainer.job_spec import JobSpec, spec_from_json


class State(StrEnum):
    """Where a job stands; the names are those of the proto's states."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self not in (State.PENDING, State.RUNNING)


class Failure(Record):
    """Why a job failed: a google.rpc code's name, a stable reason, a sentence."""

    code: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is in a stage: `done` of `total` units, a total of 0 meaning not known."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says on its way. `time` is in seconds since 1970."""

    time: float
    progress: Progress | None = None
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deaths:
    """How often a job's worker has died: in all, and in a row at the step of the last time."""

    total: int
    there: int
    step: int


@dataclass(frozen=True, slots=True)
class Event:
    """A report with its number within the job and the job's state after it."""

    sequence: int
    state: State
    report: Report
    failure: Failure | None = None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> "Event":
        """The event in a row of `events`."""
        report = Report(row["time"], _progress(row), row["message"], json.loads(row["metrics"]))
        return cls(row["sequence"], State(row["state"]), report, _failure(row))


@dataclass(frozen=True, slots=True)
class Job:
    """A job. Times are in seconds since 1970; `starts` counts how often its worker was started, clean stops of the server aside."""

    number: int
    uid: str
    spec: JobSpec
    state: State
    starts: int
    cancel_requested: bool
    progress: Progress | None
    create_time: float
    start_time: float | None
    end_time: float | None
    failure: Failure | None
    version: int | None
    notes: tuple[str, ...]

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> "Job":
        """The job in a row of `jobs`."""
        return cls(
            number=row["number"],
            uid=row["uid"],
            spec=spec_from_json(row["spec"]),
            state=State(row["state"]),
            starts=row["starts"],
            cancel_requested=bool(row["cancel_requested"]),
            progress=_progress(row),
            create_time=row["create_time"],
            start_time=row["start_time"],
            end_time=row["end_time"],
            failure=_failure(row),
            version=row["version"],
            notes=tuple(json.loads(row["notes"])),
        )


def _progress(row: sqlite3.Row) -> Progress | None:
    return None if row["stage"] is None else Progress(row["stage"], row["done"], row["total"], row["unit"])


def _failure(row: sqlite3.Row) -> Failure | None:
    return None if row["failure"] is None else Failure.model_validate_json(row["failure"])
