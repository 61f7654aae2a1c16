"""The process of a ranking: reads its job from stdin, writes lines and rows to stdout, ends when stdin does."""

from __future__ import annotations

import sys

from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.failures import failure_of
from lookalike_indexer.rank.job import Job, Line
from lookalike_indexer.rank.stages import run_ranking
from lookalike_indexer.worker_pipe import read_job, write
from lookalike_runtime.errors import ServiceError


def tell(line: Line, *data: bytes) -> None:
    write(line.model_dump_json(exclude_defaults=True), *data)


def main() -> int:
    """Make one ranking; returns the exit status."""
    job = Job.model_validate_json(read_job())
    try:
        with refusing_when_full():
            run_ranking(job, tell)
    except ServiceError as error:
        tell(Line(failure=failure_of(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
