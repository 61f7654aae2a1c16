"""What answers searches of a build, and why: indexes are made, measured, and the files of those that are planned kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.contest import Contest
from lookalike_indexer.builds.grid import ENGINE_DIMS, ENGINE_SIZES, IVF_DIMS, SCAN_DIMS, Grid, Stage
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.planning import CURVE_K, Plan
from lookalike_indexer.builds.snapshot import Snapshot, Tell
from lookalike_indexer.candidates.reduction import Reduction
from lookalike_indexer.records import Index, PlanEntry, Progress, Source

# Two others at least: fewer cannot be told apart.
_LEAST_INDEXED = 3


@dataclass(frozen=True)
class Choice:
    """Without a plan every search is exact."""

    reason: str
    plan: Plan = field(default_factory=Plan)


def choose(job: Job, snapshot: Snapshot, served: NDArray[np.float32], stage: Stage, tell: Tell) -> Choice:
    """Write the indexes that searches of the unit rows `served` [n, dim] will use into the build's folder.

    `stage` measures the seconds of a stage by its name.
    """
    count = len(snapshot.ids)
    if job.engine == "exact":
        return Choice("the collection's engine is exact")
    if count < job.exact_below and not job.force_engine:
        return Choice(f"{count:,} items are fewer than {job.exact_below:,}: comparing all is quick")
    if count < _LEAST_INDEXED:
        return Choice(f"{count} items are too few to index, though the engine was forced")
    engine: Source = job.engine
    dims = (job.reduced_dim,) if job.reduced_dim else ENGINE_DIMS[engine]
    sizes = (job.trees,) if job.trees and engine == "annoy" else ENGINE_SIZES[engine]
    with stage("reduce"):
        tell(Progress(stage="reduce", total=count))
        reduction = Reduction(served, dims if job.force_engine else (*dims, *SCAN_DIMS, *IVF_DIMS))
    with stage("measure"):
        contest = Contest(snapshot, served, job.recall_target, engine if job.force_engine else None)
    grid = Grid(job.folder, reduction, job.space.dim, count, contest, stage, tell)
    if not job.force_engine:
        grid.scans()
        grid.cells()
    grid.engine(engine, dims, sizes, forced=job.force_engine)
    with stage("measure"):
        plan = contest.plan()
    reduction.save(job.folder, max((each.reduced_dim for each in plan.indexes if each.reduced_dim < job.space.dim), default=0))
    return Choice(_reason(plan, job), plan)


def _reason(plan: Plan, job: Job) -> str:
    """Say why single queries for 10 hits are answered as they are; the plan tells the rest."""
    (entry,) = (each for each in plan.entries if each.k == CURVE_K and not each.batch)
    if entry.source != "exact":
        if entry.recall_low >= job.recall_target:
            return f"recall at 10 by {_named(entry.index)} is {_said(entry)}: it meets the target of {job.recall_target:g}"
        return f"{_missed(entry, job)}, but the engine was forced"
    assert plan.best is not None
    if plan.best.recall_low >= job.recall_target:
        return f"to compare every vector for 10 hits costs less than what meets the target of {job.recall_target:g}"
    return f"{_missed(plan.best, job)}, so every vector is compared for 10 hits"


def _missed(entry: PlanEntry, job: Job) -> str:
    return f"the best effort has a recall at 10 of {_said(entry)}: it misses the target of {job.recall_target:g}"


def _named(index: Index) -> str:
    made = f", {index.trees} trees" if index.trees else f", {index.links} links" if index.links else ""
    return f"{index.source} over {index.reduced_dim} dimensions{made}"


def _said(entry: PlanEntry) -> str:
    return f"{entry.recall:.3f}, its lower bound {entry.recall_low:.3f}"
