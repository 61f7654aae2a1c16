"""The first stage: the items up to now, copied by short reads into a flat file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.manifest import IDS_FILE
from lookalike_indexer.records import Progress
from lookalike_indexer.store import Store
from lookalike_runtime.errors import FailedPrecondition

Tell = Callable[[Progress], None]


class Snapshot(NamedTuple):
    """Items up to a revision, ordered by id; `units` float32 [n, dim] is mapped from the file."""

    revision: int
    ids: list[str]
    units: NDArray[np.float32]


def take_snapshot(store: Store, dim: int, folder: Path, vectors_file: str, tell: Tell) -> Snapshot:
    """Write ids and unit vectors of all items into `folder`; raises FailedPrecondition if there are none."""
    revision, total, _ = store.counts(0)
    ids: list[str] = []
    path = folder / vectors_file
    with path.open("wb") as file:
        for rows in store.pages_up_to(revision, dim):
            # Written, not mapped: a full disk is an error then, and not the end of the process.
            file.write(rows.units.tobytes())
            ids += rows.ids
            tell(Progress(stage="snapshot", done=len(ids), total=total))
    if not ids:
        raise FailedPrecondition("COLLECTION_EMPTY", "the collection has no items: upsert some first")
    (folder / IDS_FILE).write_text(json.dumps(ids), encoding="utf-8")
    return Snapshot(revision, ids, map_rows(path, len(ids), dim))


def map_rows(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """Map a flat file of float32 rows for reading."""
    return np.memmap(path, "<f4", "r", shape=(rows, dim))
