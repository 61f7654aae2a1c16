"""A build from its first stage to its last: snapshot → augment → index → measure, then the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.choice import choose
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import (
    NEIGHBOURS_FILE,
    RAW_FILE,
    SIMILARITIES_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    write_manifest,
)
from lookalike_indexer.builds.snapshot import Snapshot, Tell, map_rows, take_snapshot
from lookalike_indexer.records import BuildReport, Progress
from lookalike_indexer.store import Store
from lookalike_retrieval import augment_blocks, neighbour_weights
from lookalike_runtime.data_folder import sync_folder


@dataclass
class Stopwatch:
    """Seconds by stage; those of a stage that is come back to are added."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 4)


def run_build(job: Job, tell: Tell) -> BuildReport:
    """Make the build that `job` asks for; everything is on the disk when this returns.

    Raises FailedPrecondition without items, OSError without room.
    """
    watch = Stopwatch()
    with watch.stage("snapshot"):
        snapshot = take_snapshot(Store(job.database), job.space.dim, job.folder, RAW_FILE, tell)
    with watch.stage("augment"):
        served = _augment(job, snapshot, tell)
    choice = choose(job, snapshot, served, watch.stage, tell)
    plan = choice.plan
    report = BuildReport(
        engine=job.engine if plan.indexes else "exact",
        reason=choice.reason,
        revision=snapshot.revision,
        item_count=len(snapshot.ids),
        dba=job.dba,
        trees=plan.annoy.trees if plan.annoy else 0,
        reduced_dim=plan.annoy.reduced_dim if plan.annoy else 0,
        curve=plan.curve,
        chosen=plan.chosen,
        plan=plan.entries,
        measured=plan.measured,
        recall_target=job.recall_target,
        probe_count=plan.probe_count,
        seconds=watch.seconds,
    )
    report = write_manifest(job.folder, job.space, report)
    _sync(job)
    return report


def _augment(job: Job, snapshot: Snapshot, tell: Tell) -> NDArray[np.float32]:
    """Write the vectors that are served and, if they are augmented, what was averaged into each; returns the vectors, mapped."""
    path = job.folder / VECTORS_FILE
    if job.dba.k == 0:
        (job.folder / RAW_FILE).rename(path)
    else:
        _write_augmented(job, snapshot, tell)
    return map_rows(path, len(snapshot.ids), job.space.dim)


def _write_augmented(job: Job, snapshot: Snapshot, tell: Tell) -> None:
    dba = job.dba
    names = (VECTORS_FILE, NEIGHBOURS_FILE, WEIGHTS_FILE, SIMILARITIES_FILE)

    def progress(done: int, total: int) -> None:
        tell(Progress(stage="augment", done=done, total=total))

    with ExitStack() as stack:
        files = [stack.enter_context((job.folder / name).open("wb")) for name in names]
        blocks = augment_blocks(
            snapshot.units, dba.k, dba.weights, power=dba.power, rounds=dba.rounds, scratch=job.folder, progress=progress
        )
        for block in blocks:
            weights = neighbour_weights(block.similarities, dba.weights, dba.power)
            columns = (block.rows, block.neighbours.astype("<u4"), weights.astype("<f4"), block.similarities)
            for file, values in zip(files, columns, strict=True):
                file.write(values.tobytes())


def _sync(job: Job) -> None:
    for path in job.folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(job.folder)
