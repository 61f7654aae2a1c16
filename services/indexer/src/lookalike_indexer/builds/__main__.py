"""The process of a build: reads its job from stdin, writes lines of progress and the result to stdout, ends when stdin does."""

from __future__ import annotations

import sys
import time

from lookalike_indexer.builds.job import Job, Line
from lookalike_indexer.builds.stages import run_build
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.failures import failure_of
from lookalike_indexer.records import Progress
from lookalike_indexer.worker_pipe import read_job, write
from lookalike_runtime.errors import ServiceError

_SECONDS_BETWEEN = 0.5


class Teller:
    """Writes progress, at most every half second within a stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.stage == self._stage and time.monotonic() < self._next and progress.done < progress.total:
            return
        self._stage, self._next = progress.stage, time.monotonic() + _SECONDS_BETWEEN
        tell(Line(progress=progress))


def tell(line: Line) -> None:
    write(line.model_dump_json(exclude_none=True))


def main() -> int:
    """Make one build; returns the exit status."""
    job = Job.model_validate_json(read_job())
    try:
        with refusing_when_full():
            tell(Line(report=run_build(job, Teller())))
    except ServiceError as error:
        tell(Line(failure=failure_of(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
