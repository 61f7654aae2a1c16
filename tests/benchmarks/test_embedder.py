"""The embedder's benchmark at sizes that take no time: it measures what it says, and its report tells what was missed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.embedder.__main__ import _arguments, run
from benchmarks.embedder.bundle import make_bundle
from benchmarks.embedder.litserve_peer import LitServeProcess, settings
from benchmarks.embedder.pictures import drawn_jpegs, jpegs
from benchmarks.embedder.report import BOUNDS, missed, report
from benchmarks.embedder.throughput import compare
from lookalike_images import decode

TINY = (
    "--big test_resnet --small test_efficientnet --size 32 --side 48 --count 16 --seconds 0.2 --rounds 1 --batches 4 --clients 2 --calls 5 "
    "--callers 1 2 --overload-seconds 1 --soak-seconds 1 --soak-warm-seconds 0.5 --scaled-sides 300 --no-litserve"
)


pytestmark = pytest.mark.timeout(600)  # a dozen processes that import torch, on whatever else the machine does


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    """A run that measures one network and takes it for both."""
    measured: list[dict[str, Any]] = []

    def once(*arguments: Any) -> dict[str, Any]:
        measured.extend([] if measured else [compare(*arguments)])
        return copy.deepcopy(measured[0])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("benchmarks.embedder.__main__.compare", once)
        yield run(_arguments(TINY.split()))


def test_stream_is_held_against_the_best_of_the_sweep(document: dict[str, Any]) -> None:
    for name in ("big", "small"):
        told = document[name]
        assert told["stream_vs_bare"] == told["rounds"][0]["stream"] / told["rounds"][0]["bare"]
        assert ("stream_vs_bare_compiled" in told) == told["stream"]["chosen"]["compiled"]
        assert {(each["format"], each["allocator"]) for each in told["bare"]["tried"]} >= {("nchw", "default"), ("nhwc", "kept")}
        assert {each["precision"] for each in told["bare"]["tried"]} == {"fp32", "bf16"}
        assert told["stream"]["chosen"]["precision"] in ("fp32", "bf16")
        fastest = sorted((each["images_per_second"] for each in told["bare"]["tried"]), reverse=True)[:3]
        chosen = {key: value for key, value in told["bare"]["chosen"].items() if key != "images_per_second"}
        assert any(chosen.items() <= each.items() and each["images_per_second"] in fastest for each in told["bare"]["tried"])


def test_overload_is_answered_and_the_soak_has_no_strange_error(document: dict[str, Any]) -> None:
    over, soaked = document["overload"], document["soak"]
    assert over["without_answer"] == over["refused_without_retry"] == 0
    assert over["answers"]["OK"] > 0
    assert soaked["errors"] == []
    assert 0.03 < soaked["sent"]["broken"] / sum(soaked["sent"].values()) < 0.08
    assert document["beside_bulk"]["stream_errors"] == []
    assert document["beside_bulk"]["bulk_images_per_second"]["beside_calls"] > 0, "bulk is starved"


def test_report_names_what_was_missed(document: dict[str, Any], tmp_path: Path) -> None:
    good = copy.deepcopy(document)
    good["big"]["stream_vs_bare"], good["small"]["stream_vs_bare"], good["unary"]["unary_overhead_ms"] = 1.0, 1.0, 1.0
    good["overload"] |= {"memory_ratio": 1.0, "recovery_seconds": 0.0}
    good["beside_bulk"]["interactive_p99_ratio"], good["soak"]["growth"] = 1.0, 0.0
    assert missed(good) == []
    good["big"]["stream_vs_bare"] = 0.9
    assert missed(good) == ["stream_vs_bare"]
    report(tmp_path, good)
    page = (tmp_path / "report.html").read_text()
    assert f"1 of {len(BOUNDS)} bounds were missed" in page
    assert "not measured" in page, "LitServe was left out"
    assert json.loads((tmp_path / "report.json").read_text())["big"]["stream_vs_bare"] == 0.9


def test_litserve_gives_as_many_vectors_as_it_is_sent_pictures(tmp_path: Path) -> None:
    pytest.importorskip("litserve")
    bundle = make_bundle(tmp_path / "bundle", "test_resnet", 32)
    (one,) = [each for each in settings(1, [4]) if each["allocator"] == "default"][:1]
    server = LitServeProcess(bundle.folder, one, tmp_path / "log")
    try:
        assert server.throughput(jpegs(4, 48, None), 2, 0.2, 0.5) > 0
        server.pause()
        server.resume()
    finally:
        server.stop()


def test_pictures_are_those_of_the_folder_or_crops_of_photographs(tmp_path: Path) -> None:
    crops = jpegs(3, 40, None)
    assert len(set(crops)) == 3
    assert crops == jpegs(3, 40, None)
    assert {decode(data).size for data in [*crops, *drawn_jpegs(2, 40)]} == {(40, 40)}
    (tmp_path / "a.jpg").write_bytes(crops[0])
    assert [decode(data).size for data in jpegs(2, 30, tmp_path)] == [(30, 30)] * 2
