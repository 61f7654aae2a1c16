"""A build that answers searches: its files, verified and mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.manifest import (
    IDS_FILE,
    NEIGHBOURS_FILE,
    RAW_FILE,
    SIMILARITIES_FILE,
    VECTORS_FILE,
    WEIGHTS_FILE,
    DamagedBuild,
    read_manifest,
    row_files,
)
from lookalike_indexer.candidates import Candidates
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.planned import open_plan
from lookalike_indexer.records import BuildReport, Dba, Space


@dataclass(frozen=True)
class Augmentation:
    """What the vectors served were made of: `raw` unit rows [n, dim], and what the last round of `dba` averaged into each.

    `neighbours` uint32 [n, k] are rows, nearest first; `weights` float32 [n, k], where the row itself has 1; `similarities` float32 [n, k]
    are cosines with the row before that round.
    """

    dba: Dba
    raw: NDArray[np.float32]
    neighbours: NDArray[np.uint32]
    weights: NDArray[np.float32]
    similarities: NDArray[np.float32]


@dataclass(frozen=True)
class ServedBuild:
    """Rows are items ordered by id; `vectors` are the unit rows [n, dim] that are served, augmented or not."""

    number: int
    revision: int
    ids: list[str]
    rows: dict[str, int]
    vectors: NDArray[np.float32]
    candidates: Candidates
    exact: ExactCandidates
    augmentation: Augmentation | None = None

    @property
    def raw(self) -> NDArray[np.float32]:
        """Raw unit rows [n, dim]."""
        return self.augmentation.raw if self.augmentation else self.vectors


def open_build(folder: Path, number: int, space: Space) -> ServedBuild:
    """Verify and open the build in `folder`; raises DamagedBuild if a file is not what the manifest says."""
    manifest = read_manifest(folder, space)
    report = manifest.report
    ids = json.loads((folder / IDS_FILE).read_text(encoding="utf-8"))
    # As a plain array: numpy is slower with its subclass for mapped files.
    vectors = np.asarray(np.memmap(folder / VECTORS_FILE, "<f4", "r", shape=(report.item_count, space.dim)))
    if len(ids) != report.item_count:
        raise DamagedBuild(f"{folder / IDS_FILE} holds {len(ids)} ids instead of {report.item_count}")
    exact = ExactCandidates(vectors)
    try:
        candidates = open_plan(folder, space.dim, report.plan, exact, report.measured)
    except (OSError, ValueError) as error:
        raise DamagedBuild(f"{folder}: {error}") from error
    rows = {each: row for row, each in enumerate(ids)}
    return ServedBuild(number, report.revision, ids, rows, vectors, candidates, exact, _open_augmentation(folder, report, space.dim))


def _open_augmentation(folder: Path, report: BuildReport, dim: int) -> Augmentation | None:
    if report.dba.k == 0:
        return None
    widths = row_files(report, dim)

    def rows_in(name: str, kind: str) -> NDArray[Any]:
        shape = (report.item_count, widths[name])
        # What holds nothing cannot be mapped: a single item has no others.
        return np.memmap(folder / name, kind, "r", shape=shape) if widths[name] else np.empty(shape, kind)

    neighbours = rows_in(NEIGHBOURS_FILE, "<u4")
    if neighbours.size and int(neighbours.max()) >= report.item_count:
        raise DamagedBuild(f"{folder / NEIGHBOURS_FILE} names rows that are not there")
    return Augmentation(report.dba, rows_in(RAW_FILE, "<f4"), neighbours, rows_in(WEIGHTS_FILE, "<f4"), rows_in(SIMILARITIES_FILE, "<f4"))
