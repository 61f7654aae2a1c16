"""The measures of augmentation and ranking, at sizes that take no time: they tell what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.indexer import dba, rank
from lookalike_retrieval import augment, normalise


def draw(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return normalise(rng.standard_normal((n // 10 + 1, dim))[rng.integers(n // 10 + 1, size=n)] + rng.standard_normal((n, dim)))


def test_augmentation_is_measured_against_the_best_of_a_sweep(tmp_path: Path) -> None:
    told = dba.measure(300, 16, workdir=tmp_path, draw=draw, repeats=2, blocks=(32, 64), sweep_rows=100)
    tried = {each["block"]: each["seconds"] for each in told["sweep"]["tried"]}
    assert set(tried) == {32, 64}
    assert told["block"] == min(tried, key=lambda each: tried[each])
    assert len(told["gemm_seconds"]) == len(told["dba_seconds"]) == 2
    ratios = [ours / gemm for ours, gemm in zip(told["dba_seconds"], told["gemm_seconds"], strict=True)]
    assert told["dba_vs_gemm"] == np.median(ratios)
    assert told["peak_vs_vectors"] == told["peak_anonymous_bytes"] / (300 * 16 * 4)
    written = np.fromfile(tmp_path / "augmented.f32", np.float32).reshape(300, 16)
    np.testing.assert_allclose(written, augment(draw(300, 16, 1), 3), atol=1e-6)


def test_ranking_is_measured_in_the_library_and_as_its_caller_sees_it(tmp_path: Path) -> None:
    told = rank.measure(60, 200, 16, workdir=tmp_path, draw=draw, k=20, repeats=1, blocks=(16,), sweep_rows=30)
    assert told["rank_vs_gemm"] == told["rank_seconds"][0] / told["gemm_seconds"][0]
    assert told["sweep"]["tried"][0]["block"] == told["block"] == 16
    seconds = told["over_grpc"]["seconds"]
    assert set(seconds) == {"total", "snapshot", "augment_queries", "augment_references", "rank"}
    assert abs(sum(seconds.values()) - 2 * seconds["total"]) < 1e-6
    assert told["over_grpc"]["contest_share"] == seconds["total"] / 3600
    assert told["over_grpc"]["answer_bytes"] > 60 * 20 * 8
