from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.indexer.growth import measure_growth
from benchmarks.indexer.over_grpc import measure_grpc
from benchmarks.indexer.search import Sweep, measure, rate_at
from benchmarks.indexer.vectors import drawn, real

SMALL = Sweep(
    probes=50, runs=4, turns=2, trees=(10,), search_k=(100, 1_000, 20_000), links=(8,), considered=(50,), efs=(10, 100), reduced=(16,),
    depths=(20,), recalls=(0.9,), faiss_links=8,
)  # fmt: skip


def test_drawn_vectors_are_the_same_for_the_same_arguments_and_near_their_own_class() -> None:
    vectors, labels = drawn(600, 64, seed=3)
    again = drawn(600, 64, seed=3)
    np.testing.assert_array_equal(vectors, again.vectors)
    assert not np.array_equal(vectors, drawn(600, 64, seed=4).vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    scores = vectors @ vectors.T - 2 * np.eye(600, dtype=np.float32)
    assert (labels[scores.argmax(axis=1)] == labels).mean() > 0.5


def test_real_vectors_say_where_pictures_come_from_and_are_kept(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make demo"):
        real(tmp_path, 10, tmp_path / "cache.npz")
    np.savez(tmp_path / "cache.npz", vectors=np.eye(3, dtype=np.float32), labels=np.arange(3))
    assert len(real(tmp_path, 3, tmp_path / "cache.npz").vectors) == 3


def test_a_rate_at_a_recall_lies_between_the_points_around_it() -> None:
    assert rate_at(0.95, [(0.9, 400.0), (1.0, 100.0)]) == pytest.approx(200.0)
    assert rate_at(0.95, [(0.97, 300.0), (0.99, 100.0)]) == 300.0


def test_search_is_measured_with_every_figure_and_its_settings(tmp_path: Path) -> None:
    report = json.loads(json.dumps(measure({"drawn": drawn(1_200, 32).vectors}, tmp_path, SMALL)))["drawn"]
    peers = {"annoy-full", "hnswlib-full", "hnswlib-reduced", "faiss-flat", "faiss-hnsw"}
    methods = peers | {"lookalike-annoy", "lookalike-hnsw", "lookalike-exact"}
    assert methods <= report["curves"].keys()
    for points in report["curves"].values():
        assert all(0 <= each["recall"] <= 1 and each["queries_per_second"] > 0 and each["settings"] is not None for each in points)
        assert {each["batch"] for each in points} == {False, True}
    assert {each["recall"] for each in report["curves"]["faiss-flat"] + report["curves"]["lookalike-exact"]} == {1.0}
    for ratio in ("vs_annoy_at_95", "vs_hnswlib_full_at_95"):
        assert report[ratio] > 0
        assert report[f"{ratio}_batch"] > 0
        assert report[f"{ratio}_of"]["ours"]["recall"] >= 0.9
    assert report["files"]["annoy-10.ann"] > 0
    assert report["memory"]["ours-annoy"] >= 0


def test_growth_is_measured_at_each_size(tmp_path: Path) -> None:
    report = json.loads(json.dumps(measure_growth([300, 900], tmp_path, dim=16, engines=["annoy"], runs=4)))["engines"]["annoy"]
    assert [point["items"] for point in report["points"]] == [300, 900]
    assert report["exponents"].keys() == {"build_seconds", "single_milliseconds", "batch_milliseconds", "memory_bytes", "size_bytes"}
    assert report["exponents"]["size_bytes"] > 0.5
    assert all(len(point["plan"]) == 8 for point in report["points"])


def test_the_server_is_measured_against_the_library_on_the_same_build(tmp_path: Path) -> None:
    report = json.loads(json.dumps(measure_grpc(drawn(300, 32).vectors, tmp_path, runs=3, turns=2)))
    assert report["grpc_vs_library"] >= report["grpc_one_by_one_vs_library"] > 0
    assert report["queries_per_second_by_calls_in_flight"]["grpc_with_items"].keys() == {"1", "2", "3", "4"}
    assert report["source"] == "SOURCE_EXACT"
