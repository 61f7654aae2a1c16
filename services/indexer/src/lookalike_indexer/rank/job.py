"""What the process of a ranking is told, and what it answers: JSON, a line each; behind a line with rows, their bytes."""

from __future__ import annotations

from pathlib import Path

from lookalike_indexer.records import Dba, Failure, Progress, Record


class Side(Record):
    """The items in `database`, and how to augment them among themselves."""

    database: Path
    dba: Dba


class Job(Record):
    """A ranking of `references` for `queries`; files are written into the folder `folder`, which is there and empty."""

    queries: Side
    references: Side
    folder: Path
    dim: int
    k: int
    exclude_same_id: bool


class Start(Record):
    """What is ranked: revision and number of items of either side."""

    query_revision: int
    query_count: int
    reference_revision: int
    reference_count: int


class RowsHead(Record):
    """Rows follow: for each id `width` little-endian uint32, all of them, then as many float32."""

    query_ids: list[str]
    width: int


class Line(Record):
    """One of these; `end` after the last row."""

    start: Start | None = None
    reference_ids: list[str] | None = None
    rows: RowsHead | None = None
    progress: Progress | None = None
    failure: Failure | None = None
    end: bool = False
