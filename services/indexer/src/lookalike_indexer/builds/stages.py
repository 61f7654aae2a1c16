"""A build from its first stage to its last: snapshot → augment → index → measure, then the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import VECTORS_FILE, write_manifest
from lookalike_indexer.builds.measure import cheapest, choose_probes, measure
from lookalike_indexer.builds.snapshot import Snapshot, Tell, map_rows, take_snapshot
from lookalike_indexer.candidates.annoy import PROJECTION_FILE, TREES_FILE, AnnoyCandidates, Effort, write_trees
from lookalike_indexer.database import sync_folder
from lookalike_indexer.records import BuildReport, EffortPoint, Progress
from lookalike_indexer.store import Store
from lookalike_retrieval import augment_blocks

RAW_FILE = "raw.f32"
# Two others at least: fewer cannot be told apart.
_LEAST_INDEXED = 3


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


@dataclass(frozen=True)
class Choice:
    """What answers searches, and why."""

    reason: str
    chosen: EffortPoint | None = None
    curve: tuple[EffortPoint, ...] = ()
    probe_count: int = 0
    reduced_dim: int = 0


def run_build(job: Job, tell: Tell) -> BuildReport:
    """Make the build that `job` asks for; everything is on the disk when this returns.

    Raises FailedPrecondition without items, OSError without room.
    """
    watch = Stopwatch()
    with watch.stage("snapshot"):
        snapshot = take_snapshot(Store(job.database), job.space.dim, job.folder, RAW_FILE, tell)
    with watch.stage("augment"):
        served = _augment(job, snapshot, tell)
    choice = _choose(job, snapshot, served, watch, tell)
    (job.folder / RAW_FILE).unlink(missing_ok=True)
    report = BuildReport(
        engine="annoy" if choice.chosen else "exact",
        reason=choice.reason,
        revision=snapshot.revision,
        item_count=len(snapshot.ids),
        dba=job.dba,
        trees=job.trees if choice.chosen else 0,
        reduced_dim=choice.reduced_dim if choice.chosen else 0,
        curve=choice.curve,
        chosen=choice.chosen,
        recall_target=job.recall_target,
        probe_count=choice.probe_count,
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


def _choose(job: Job, snapshot: Snapshot, served: NDArray[np.float32], watch: Stopwatch, tell: Tell) -> Choice:
    count = len(snapshot.ids)
    if job.engine == "exact":
        return Choice("the collection's engine is exact")
    if count < job.exact_below and not job.force_engine:
        return Choice(f"{count:,} items are fewer than {job.exact_below:,}: comparing all is quick")
    if count < _LEAST_INDEXED:
        return Choice(f"{count} items are too few to index, though the engine was forced")
    with watch.stage("index"):
        tell(Progress(stage="index", total=count))
        write_trees(served, job.folder, trees=job.trees, reduced_dim=job.reduced_dim)
    with watch.stage("measure"):
        # The effort here is only for searches, which this source is not asked for.
        source = AnnoyCandidates(job.folder, job.space.dim, Effort(0, 0))
        probes = choose_probes(snapshot.units, served)
        curve = measure(source, served, probes, job.recall_target, tell)
    choice = _judge(curve, job)
    if choice.chosen is None:
        (job.folder / TREES_FILE).unlink()
        (job.folder / PROJECTION_FILE).unlink(missing_ok=True)
    return Choice(choice.reason, choice.chosen, curve, len(probes.rows), source.reduced_dim)


def _judge(curve: tuple[EffortPoint, ...], job: Job) -> Choice:
    chosen = cheapest(curve, job.recall_target)
    if chosen:
        return Choice(f"recall at 10 is {_said(chosen)}: it meets the target of {job.recall_target:g}", chosen)
    best = max(curve, key=lambda point: (point.recall_low, -point.milliseconds))
    missed = f"the best effort has a recall at 10 of {_said(best)}: it misses the target of {job.recall_target:g}"
    if job.force_engine:
        return Choice(f"{missed}, but the engine was forced", best)
    return Choice(f"{missed}, so every vector is compared")


def _said(point: EffortPoint) -> str:
    return f"{point.recall:.3f}, its lower bound {point.recall_low:.3f}"


def _sync(job: Job) -> None:
    for path in job.folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(job.folder)
