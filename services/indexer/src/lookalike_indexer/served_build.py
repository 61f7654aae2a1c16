"""A build that answers searches: its files, verified and mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.builds.manifest import IDS_FILE, VECTORS_FILE, DamagedBuild, read_manifest
from lookalike_indexer.candidates import Candidates
from lookalike_indexer.candidates.exact import ExactCandidates
from lookalike_indexer.candidates.planned import open_plan
from lookalike_indexer.records import Space


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
    return ServedBuild(number, report.revision, ids, {each: row for row, each in enumerate(ids)}, vectors, candidates, exact)
