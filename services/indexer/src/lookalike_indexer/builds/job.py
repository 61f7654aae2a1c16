"""What the process of a build is told, and what it answers: JSON, a line each."""

from __future__ import annotations

from pathlib import Path

from lookalike_indexer.records import BuildReport, Dba, Engine, Failure, Progress, Record, Space


class Job(Record):
    """A build of the items in `database`, written into the folder `folder`, which is there and empty.

    `trees` and `reduced_dim` are 0 where several are tried.
    """

    database: Path
    folder: Path
    space: Space
    engine: Engine
    dba: Dba
    trees: int
    reduced_dim: int
    force_engine: bool
    recall_target: float
    exact_below: int


class Line(Record):
    """One of the three: how far it is, the result, or why there is none."""

    progress: Progress | None = None
    report: BuildReport | None = None
    failure: Failure | None = None
