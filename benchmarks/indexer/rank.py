"""Ranking of a reference set for a query set, against the matrix product of all pairs; and the whole of it over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer.alone import run_alone
from benchmarks.indexer.gemm import Rows, rank_by_gemm, sweep, write_rows
from benchmarks.indexer.rank_over_grpc import rank_over_grpc
from lookalike_retrieval import exact_topk_blocks

BLOCKS = (64, 128, 256, 512, 1_024)

Draw = Callable[[int, int, int], NDArray[np.float32]]


def measure(
    query_count: int = 18_027,
    reference_count: int = 36_748,
    dim: int = 2_048,
    *,
    workdir: Path,
    draw: Draw,
    k: int = 1_000,
    dba_k: int = 3,
    seed: int = 1,
    repeats: int = 3,
    blocks: Sequence[int] = BLOCKS,
    sweep_rows: int = 2_048,
) -> dict[str, Any]:
    """Measure the ranking of the `k` best references, sorted, one thread.

    Args:
        query_count: queries; with the references they are one draw, so that both are of the same classes.
        reference_count: references.
        dim: their dimensions.
        workdir: folder for files, (queries + references) × dim × 20 bytes.
        draw: gives unit rows, float32 [n, dim], for (n, dim, seed).
        k: references a query.
        dba_k: neighbours of DBA on either side, over gRPC.
        seed: of the vectors.
        repeats: runs of either, alternating.
        blocks: block sizes that the yardstick is tried with.
        sweep_rows: queries that each of those is tried with.

    Returns:
        `rank_vs_gemm`: median of the ratios of neighbouring runs, from mapped files, without DBA and wire; `peak_anonymous_bytes` above
        that at the start; `over_grpc`: see `rank_over_grpc`; seconds of every run, and what they were made with.
    """
    drawn = draw(query_count + reference_count, dim, seed)
    references = write_rows(workdir / "references.f32", drawn[:reference_count])
    queries = write_rows(workdir / "queries.f32", drawn[reference_count:])
    del drawn
    tried = sweep(queries, references, k, blocks, True, sweep_rows)
    block = min(tried, key=lambda each: float(each["seconds"]))["block"]
    gemm, ours = [], []
    for _ in range(repeats):
        gemm.append(run_alone(rank_by_gemm, queries, references, k, block, True))
        ours.append(run_alone(_rank, queries, references, k))
    return {
        "queries": query_count,
        "references": reference_count,
        "dim": dim,
        "k": k,
        "seed": seed,
        "threads": 1,
        "sweep": {"queries": min(sweep_rows, query_count), "tried": tried},
        "block": block,
        "gemm_seconds": [each.seconds for each in gemm],
        "rank_seconds": [each.seconds for each in ours],
        "rank_vs_gemm": median(one.seconds / other.seconds for one, other in zip(ours, gemm, strict=True)),
        "peak_anonymous_bytes": max(each.anonymous_bytes for each in ours),
        "over_grpc": rank_over_grpc(queries, references, k, dba_k, workdir),
    }


def _rank(queries: Rows, references: Rows, k: int) -> None:
    for _ in exact_topk_blocks(queries.map(), references.map(), k):
        pass
