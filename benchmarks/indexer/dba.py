"""Augmentation of a set with its own neighbours, against the matrix product of all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer.alone import run_alone
from benchmarks.indexer.gemm import Rows, rank_by_gemm, sweep, write_rows
from lookalike_retrieval import augment_blocks

BLOCKS = (128, 256, 512, 1_024, 2_048)

Draw = Callable[[int, int, int], NDArray[np.float32]]


def measure(
    n: int = 36_748,
    dim: int = 2_048,
    *,
    workdir: Path,
    draw: Draw,
    k: int = 3,
    seed: int = 1,
    repeats: int = 3,
    blocks: Sequence[int] = BLOCKS,
    sweep_rows: int = 4_096,
) -> dict[str, Any]:
    """Measure DBA of n × dim, one thread, from a mapped file into a file.

    Args:
        n: vectors.
        dim: their dimensions.
        workdir: folder for files, n × dim × 8 bytes.
        draw: gives unit rows, float32 [n, dim], for (n, dim, seed).
        k: neighbours besides the row itself; the yardstick looks for k + 1, since it finds the row itself too.
        seed: of the vectors.
        repeats: runs of either, alternating.
        blocks: block sizes that the yardstick is tried with.
        sweep_rows: rows of the set that each of those is tried with.

    Returns:
        `dba_vs_gemm`: median of the ratios of neighbouring runs; `peak_vs_vectors`: peak anonymous memory above that at the start, as
        a share of the vectors' bytes; seconds of every run, and what they were made with.
    """
    rows = write_rows(workdir / "dba.f32", draw(n, dim, seed))
    tried = sweep(rows, rows, k + 1, blocks, False, sweep_rows)
    block = min(tried, key=lambda each: float(each["seconds"]))["block"]
    gemm, ours = [], []
    for _ in range(repeats):
        gemm.append(run_alone(rank_by_gemm, rows, rows, k + 1, block, False))
        ours.append(run_alone(_augment, rows, k, workdir / "augmented.f32"))
    peak = max(each.anonymous_bytes for each in ours)
    return {
        "items": n,
        "dim": dim,
        "k": k,
        "seed": seed,
        "threads": 1,
        "sweep": {"rows": min(sweep_rows, n), "tried": tried},
        "block": block,
        "gemm_seconds": [each.seconds for each in gemm],
        "dba_seconds": [each.seconds for each in ours],
        "dba_vs_gemm": median(one.seconds / other.seconds for one, other in zip(ours, gemm, strict=True)),
        "peak_anonymous_bytes": peak,
        "peak_vs_vectors": peak / (n * dim * 4),
    }


def _augment(rows: Rows, k: int, out: Path) -> None:
    with out.open("wb") as file:
        for block in augment_blocks(rows.map(), k):
            file.write(block.rows.tobytes())
