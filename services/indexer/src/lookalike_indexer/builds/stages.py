"""A build from its first stage to its last: snapshot → augment → index → measure, then the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.choice import choose
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import VECTORS_FILE, write_manifest
from lookalike_indexer.builds.snapshot import Snapshot, Tell, map_rows, take_snapshot
from lookalike_indexer.records import BuildReport, Progress
from lookalike_indexer.store import Store
from lookalike_retrieval import augment_blocks
from lookalike_runtime.data_folder import sync_folder

RAW_FILE = "raw.f32"


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
    (job.folder / RAW_FILE).unlink(missing_ok=True)
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
    """Write the vectors that are served; returns them, mapped."""
    path = job.folder / VECTORS_FILE
    if job.dba.k == 0:
        (job.folder / RAW_FILE).rename(path)
    else:
        with path.open("wb") as file:
            for block in augment_blocks(snapshot.units, job.dba.k, job.dba.weights):
                file.write(block.rows.tobytes())
                tell(Progress(stage="augment", done=block.start + len(block.rows), total=len(snapshot.ids)))
    return map_rows(path, len(snapshot.ids), job.space.dim)


def _sync(job: Job) -> None:
    for path in job.folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(job.folder)
