"""What a worker tells the service while it works: numbered lines of `events.jsonl`.

An event with a message or figures is a milestone. A run that goes on from a checkpoint comes past milestones that the run before it
has told already: those are not told again.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from lookalike_trainer.training.tensorboard import ScalarLog

Stage = Literal["prepare", "train", "evaluate", "bundle", "report"]
_SECONDS_BETWEEN = 1.0


class Log(Protocol):
    """What tells of a training."""

    milestones: int

    def report(self, stage: Stage, done: int, total: int, unit: str, message: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """Append an event; figures that are not finite are left out."""

    def remark(self, stage: Stage, done: int, total: int, unit: str, message: str) -> None:
        """Append an event that belongs to this run of the worker, and that another would not come past."""

    def tick(self, stage: Stage, done: int, total: int, unit: str) -> None:
        """Report progress, but not more often than once a second."""


class Unheard:
    """Tells nobody: all ranks take the same course, and one of them tells of it."""

    def __init__(self) -> None:
        self.milestones = 0

    def report(self, stage: Stage, done: int, total: int, unit: str, message: str = "", metrics: Mapping[str, float] | None = None) -> None:
        """Nothing."""

    def remark(self, stage: Stage, done: int, total: int, unit: str, message: str) -> None:
        """Nothing."""

    def tick(self, stage: Stage, done: int, total: int, unit: str) -> None:
        """Nothing."""


class EventLog:
    """Appends events, each line flushed as it is written, milestones synced to the disk.

    Figures of the training go to TensorBoard's files beside it too.

    Args:
        kept: number of the last event that the service has kept. After a power failure the file may lack some.

    Attributes:
        milestones: that the training has come past; a checkpoint holds it.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        last, self._told = _read_end(path)
        self._sequence = max(last, kept)
        self._file = path.open("a", encoding="utf-8")
        self._scalars = ScalarLog(path.parent)
        self._last = 0.0
        self.milestones = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scalars.close()
        self._file.close()

    def report(
        self,
        stage: Stage,
        done: int,
        total: int,
        unit: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Append an event; figures that are not finite are left out."""
        finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        if not message and not finite:
            self._append(stage, done, total, unit)
            return
        self.milestones += 1
        if self.milestones > self._told:
            self._append(stage, done, total, unit, message, finite, self.milestones)
            self._told = self.milestones
            os.fsync(self._file.fileno())

    def remark(self, stage: Stage, done: int, total: int, unit: str, message: str) -> None:
        """Append an event that belongs to this run of the worker, and that another would not come past."""
        self._append(stage, done, total, unit, message)

    def tick(self, stage: Stage, done: int, total: int, unit: str) -> None:
        """Report progress, but not more often than once a second."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN:
            self.report(stage, done, total, unit)

    def _append(
        self,
        stage: Stage,
        done: int,
        total: int,
        unit: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
        milestone: int = 0,
    ) -> None:
        self._sequence += 1
        event = {
            "sequence": self._sequence,
            "milestone": milestone,
            "time": time.time(),
            "stage": stage,
            "done": done,
            "total": total,
            "unit": unit,
            "message": message,
            "metrics": metrics or {},
        }
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._file.flush()
        if stage in ("train", "evaluate"):
            self._scalars.add(done if stage == "train" else 0, metrics or {})
        self._last = time.monotonic()


def _read_end(path: Path) -> tuple[int, int]:
    """The last event's number and the last milestone's, 0 if there is none; what was not written whole is cut off."""
    sequence = milestone = whole = 0
    if not path.exists():
        return 0, 0
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            event = json.loads(line)
            sequence, milestone = event["sequence"], max(milestone, event["milestone"])
            whole += len(line)
        file.truncate(whole)
    return sequence, milestone
