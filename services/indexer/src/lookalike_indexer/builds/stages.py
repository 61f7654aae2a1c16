"""A build from its first stage to its last: snapshot → augment → index → measure, then the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.contest import SCAN_DIMS, Contest
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import (
    NEIGHBOURS_FILE,
    RAW_FILE,
    SIMILARITIES_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    write_manifest,
)
from lookalike_indexer.builds.measure import Recall
from lookalike_indexer.builds.planning import CURVE_K, Plan
from lookalike_indexer.builds.snapshot import Snapshot, Tell, map_rows, take_snapshot
from lookalike_indexer.candidates import Effort
from lookalike_indexer.candidates.annoy import PROJECTION_FILE, TREES_FILE, AnnoyCandidates, write_trees
from lookalike_indexer.candidates.scan import ScanCandidates, scan_files, write_scans
from lookalike_indexer.records import BuildReport, Progress
from lookalike_indexer.store import Store
from lookalike_retrieval import augment_blocks, neighbour_weights
from lookalike_runtime.data_folder import sync_folder

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
    """What answers searches, and why; without a plan every search is exact."""

    reason: str
    plan: Plan = Plan((), (), None, None, 0)  # noqa: RUF009
    reduced_dim: int = 0

    @property
    def uses_engine(self) -> bool:
        return any(entry.source != "exact" for entry in self.plan.entries)

    @property
    def uses_annoy(self) -> bool:
        return any(entry.source == "annoy" for entry in self.plan.entries)


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
    report = BuildReport(
        engine="annoy" if choice.uses_engine else "exact",
        reason=choice.reason,
        revision=snapshot.revision,
        item_count=len(snapshot.ids),
        dba=job.dba,
        trees=job.trees if choice.uses_annoy else 0,
        reduced_dim=choice.reduced_dim if choice.uses_annoy else 0,
        curve=choice.plan.curve,
        chosen=choice.plan.chosen,
        plan=choice.plan.entries,
        recall_target=job.recall_target,
        probe_count=choice.plan.probe_count,
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
        dims = [] if job.force_engine else write_scans(served, job.folder, SCAN_DIMS)
    with watch.stage("measure"):
        # The effort here is only for searches, which these sources are not asked for.
        annoy = AnnoyCandidates(job.folder, job.space.dim, Effort(0, 0))
        scans = [ScanCandidates(job.folder, job.space.dim, Effort(0, 0), each) for each in dims]
        plan = Contest(snapshot, served, annoy, scans, job.recall_target, job.force_engine).plan(tell)
    choice = Choice(_reason(plan, job), plan, annoy.reduced_dim)
    unused = [] if choice.uses_annoy else [TREES_FILE, PROJECTION_FILE]
    unused += [name for each in dims if ("scan", each) not in plan.sources for name in scan_files(each)]
    for name in unused:
        (job.folder / name).unlink(missing_ok=True)
    return choice


def _reason(plan: Plan, job: Job) -> str:
    """Say why single queries for 10 hits are answered as they are; the plan tells the rest."""
    (entry,) = (each for each in plan.entries if each.k == CURVE_K and not each.batch)
    recall = Recall(entry.recall, entry.recall_low)
    if entry.source != "exact":
        how = f"{entry.source} over {entry.reduced_dim} dimensions"
        if entry.recall_low >= job.recall_target:
            return f"recall at 10 by {how} is {_said(recall)}: it meets the target of {job.recall_target:g}"
        missed = f"the best effort has a recall at 10 of {_said(recall)}: it misses the target of {job.recall_target:g}"
        return f"{missed}, but the engine was forced"
    assert plan.best is not None
    if plan.best.low >= job.recall_target:
        return f"to compare every vector for 10 hits costs less than what meets the target of {job.recall_target:g}"
    missed = f"the best effort has a recall at 10 of {_said(plan.best)}: it misses the target of {job.recall_target:g}"
    return f"{missed}, so every vector is compared for 10 hits"


def _said(recall: Recall) -> str:
    return f"{recall.mean:.3f}, its lower bound {recall.low:.3f}"


def _sync(job: Job) -> None:
    for path in job.folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(job.folder)
