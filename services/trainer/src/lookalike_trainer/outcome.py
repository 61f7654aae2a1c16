"""What a worker left in its folder when it ended: a result, or a reason."""

import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError, field_validator

from lookalike_model.profile import DbaAdvice, Tap, View
from lookalike_model.records import Record, first_problems
from lookalike_retrieval.dba import Weights, dba_weights
from lookalike_trainer.job_records import Failure
from lookalike_trainer.training.errors import NO_ROOM_STATUS

RESULT, ERROR, LOG, BUNDLE = "result.json", "error.json", "worker.log", "bundle"
_MAX_BYTES = 8 << 20
_LOG_TAIL_BYTES = 8 << 10
_MAX_WORDS = 2_000
# What a worker says is mostly that it cannot do what it was asked; these are about the machine, or about us.
_CODES = {"OUT_OF_MEMORY": "RESOURCE_EXHAUSTED", "DISK_FULL": "RESOURCE_EXHAUSTED", "INTERNAL": "INTERNAL"}


class ResultProfile(Record):
    """A profile of the bundle: its space, advice about DBA, and what is done to the network's outputs.

    `tap` is None of an ensemble, and of versions that were made before it was kept.
    """

    fingerprint: str = Field(pattern=r"^ls1:[0-9a-f]{64}$")
    dim: int = Field(ge=1)
    dba_advice: DbaAdvice | None = None
    tap: Tap | None = None
    views: tuple[View, ...] = ()
    projected: bool = False

    @field_validator("dba_advice")
    @classmethod
    def _has_a_name(cls, advice: DbaAdvice | None) -> DbaAdvice | None:
        if advice:
            weights_kind(advice)
        return advice


class Result(Record):
    """`result.json`: what the service must know of a bundle."""

    metrics: dict[str, float]
    profiles: dict[str, ResultProfile] = Field(min_length=1)
    default_profile: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Death:
    """The worker ended without saying why; `message` is what can be told from outside."""

    message: str


class Checked(Record):
    """`result.json` of a check, which makes no bundle."""

    metrics: dict[str, float]
    notes: tuple[str, ...]


class _Error(Record):
    reason: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    message: str


def weights_kind(advice: DbaAdvice) -> Weights:
    """The name of the weights that are advised; raises ValueError if they have none."""
    if advice.power is not None:
        if advice.weights:
            raise ValueError(f"the weights {advice.weights} and the power {advice.power:g} contradict each other: give one of them")
        return "power"
    kinds: tuple[Weights, ...] = ("linear", "equal", "rank")
    advised = advice.weights or dba_weights(advice.k, "equal")
    for kind in kinds:
        if len(advised) == advice.k + 1 and np.allclose(dba_weights(advice.k, kind), advised):
            return kind
    raise ValueError(f"the weights {advice.weights} for k = {advice.k} are none of {', '.join(kinds)}")


def read_outcome(folder: Path, exit_code: int, kind: type[Result] | type[Checked] = Result) -> Result | Checked | Failure | Death:
    """What the worker with this folder came to.

    Args:
        exit_code: as subprocess counts it, negative for a signal.
        kind: what it should leave.
    """
    if exit_code == 0:
        return _result(folder, kind)
    if exit_code == NO_ROOM_STATUS:
        message = (
            "the disk of the data folder is full, so that the worker could not even say so in a file: make room, then start the job anew"
        )
        return Failure(code=_CODES["DISK_FULL"], reason="DISK_FULL", message=message)
    try:
        error = _Error.model_validate_json(_text(folder / ERROR))
    except (OSError, ValidationError):
        return _died(folder, exit_code)
    return Failure(code=_CODES.get(error.reason, "FAILED_PRECONDITION"), reason=error.reason, message=error.message)


def _result(folder: Path, kind: type[Result] | type[Checked]) -> Result | Checked | Failure:
    try:
        result = kind.model_validate_json(_text(folder / RESULT))
    except OSError as error:
        problem = f"{RESULT} cannot be read ({error.strerror})"
    except ValidationError as error:
        problem = f"{RESULT}: {first_problems(error)}"
    else:
        if isinstance(result, Checked) or result.default_profile in result.profiles:
            return result
        problem = f"{RESULT}: default_profile {result.default_profile!r} is none of its profiles"
    return Failure(code="INTERNAL", reason="WORKER_DIED", message=f"the worker ended without a usable result: {problem}")


def _died(folder: Path, exit_code: int) -> Death:
    how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit status {exit_code}"
    hint = " (the machine may be out of memory)" if exit_code == -signal.SIGKILL else ""
    last = last_line(folder / LOG)
    said = f"; the last line of its log: {last}" if last else "; its log is empty"
    return Death(f"the worker {how}{hint}{said}")


def last_line(path: Path) -> str:
    """The last line of a file that is not blank; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:_MAX_WORDS] for line in reversed(lines) if line.strip()), "")


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)
