"""Builds of vectors without a server and its store: the stages after the snapshot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.choice import choose
from lookalike_indexer.builds.job import Job
from lookalike_indexer.builds.manifest import IDS_FILE, VECTORS_FILE, write_manifest
from lookalike_indexer.builds.snapshot import Snapshot
from lookalike_indexer.builds.stages import Stopwatch
from lookalike_indexer.records import BuildReport, Dba, Engine, Space
from lookalike_indexer.served_build import ServedBuild, open_build

_TARGET = 0.95


class Built(NamedTuple):
    build: ServedBuild
    report: BuildReport
    folder: Path


def space_of(dim: int) -> Space:
    return Space(fingerprint="ls1:" + "b" * 64, model="benchmark", version=1, profile="plain", dim=dim)


def build_of(vectors: NDArray[np.float32], folder: Path, engine: Engine) -> Built:
    """Make a build of unit `vectors` [n, d] in `folder`, and open it as a server does."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count, dim = vectors.shape
    ids = [f"{row:07d}" for row in range(count)]
    (folder / VECTORS_FILE).write_bytes(vectors.tobytes())
    (folder / IDS_FILE).write_text(json.dumps(ids), encoding="utf-8")
    job = Job(
        database=folder, folder=folder, space=space_of(dim), engine=engine, dba=Dba(), trees=0, reduced_dim=0,
        force_engine=False, recall_target=_TARGET, exact_below=0,
    )  # fmt: skip
    watch = Stopwatch()
    served = np.memmap(folder / VECTORS_FILE, "<f4", "r", shape=vectors.shape)
    choice = choose(job, Snapshot(1, ids, served), served, watch.stage, lambda _: None)
    plan = choice.plan
    report = BuildReport(
        engine=engine if plan.indexes else "exact", reason=choice.reason, revision=1, item_count=count, dba=job.dba, plan=plan.entries,
        measured=plan.measured, recall_target=_TARGET, probe_count=plan.probe_count, seconds=watch.seconds,
    )  # fmt: skip
    report = write_manifest(folder, job.space, report)
    return Built(open_build(folder, 1, space_of(dim)), report, folder)
