"""A ranking from its first stage to its last: one state of either side → augment → rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.snapshot import map_rows
from lookalike_indexer.rank.job import Job, Line, RowsHead, Side, Start
from lookalike_indexer.rank.snapshot import State, take_state
from lookalike_indexer.records import Progress
from lookalike_indexer.store import Store
from lookalike_retrieval import TopK, augment_blocks, exact_topk_blocks

# A message stays under 2 MiB: at most 1 MiB of ids, and of indices and scores each.
_PART_BYTES = 2**20
_MAX_ID_BYTES = 512


class Tell(Protocol):
    """Passes a line on, and the bytes that belong to it."""

    def __call__(self, line: Line, *data: bytes) -> None: ...


def run_ranking(job: Job, tell: Tell) -> None:
    """Tell the start, the reference ids, then rows with progress between.

    Raises FailedPrecondition if a side is empty, Aborted if writes come too fast, OSError without room.
    """
    queries = _state(job.queries, job, "queries")
    same = job.queries.database == job.references.database
    references = queries if same else _state(job.references, job, "references")
    tell(Line(start=Start(**_counts("query", queries), **_counts("reference", references))))
    for first in range(0, len(references.ids), _PART_BYTES // _MAX_ID_BYTES):
        tell(Line(reference_ids=references.ids[first : first + _PART_BYTES // _MAX_ID_BYTES]))
    query_units = _augmented(job.queries, queries.units, "queries", job.folder, tell)
    reference_units = _augmented(job.references, references.units, "references", job.folder, tell)
    exclude = _same_ids(queries.ids, references.ids) if job.exclude_same_id else None
    for start, top in exact_topk_blocks(query_units, reference_units, job.k, exclude=exclude):
        for head, part in _rows(queries.ids, start, top):
            tell(Line(rows=head), part.indices.astype("<u4").tobytes(), part.scores.astype("<f4").tobytes())
        tell(Line(progress=Progress(stage="rank", done=start + len(top.indices), total=len(queries.ids), unit="queries")))
    tell(Line(end=True))


def room_needed(job: Job, query_count: int, reference_count: int) -> int:
    """Bytes that the files of a ranking of so many items take at most."""
    # Raw rows twice, since they are written again if items change meanwhile; augmented ones, and what two rounds between come to.
    shares = ((query_count, job.queries.dba), (reference_count, job.references.dba))
    return sum(count * job.dim * 4 * (2 + (min(dba.rounds, 3) if dba.k else 0)) for count, dba in shares)


def _state(side: Side, job: Job, name: str) -> State:
    store = Store(side.database)
    try:
        return take_state(store, job.dim, job.folder / f"{name}.f32")
    finally:
        store.close()


def _counts(side: str, state: State) -> dict[str, int]:
    return {f"{side}_revision": state.revision, f"{side}_count": len(state.ids)}


def _augmented(side: Side, units: NDArray[np.float32], name: str, folder: Path, tell: Tell) -> NDArray[np.float32]:
    dba = side.dba
    if dba.k == 0:
        return units

    def progress(done: int, total: int) -> None:
        tell(Line(progress=Progress(stage=f"augment {name}", done=done, total=total)))

    path = folder / f"{name}.augmented.f32"
    blocks = augment_blocks(units, dba.k, dba.weights, power=dba.power, rounds=dba.rounds, scratch=folder, progress=progress)
    with path.open("wb") as file:
        for block in blocks:
            file.write(block.rows.tobytes())
    return map_rows(path, *units.shape)


def _same_ids(queries: list[str], references: list[str]) -> NDArray[np.int64]:
    places = {each: place for place, each in enumerate(references)}
    return np.array([places.get(each, -1) for each in queries], np.int64)


def _rows(query_ids: list[str], start: int, top: TopK) -> Iterator[tuple[RowsHead, TopK]]:
    width = top.indices.shape[1]
    step = _PART_BYTES // max(_MAX_ID_BYTES, 4 * width)
    for first in range(0, len(top.indices), step):
        rows = slice(first, first + step)
        part = TopK(top.indices[rows], top.scores[rows])
        yield RowsHead(query_ids=query_ids[start + first : start + first + len(part.indices)], width=width), part
