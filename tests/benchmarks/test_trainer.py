"""The trainer's benchmark at small sizes: every figure is there, and comes from what was run."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.trainer import jobs, plain_loop, throughput, time_to_map, two_pass
from benchmarks.trainer.__main__ import Settings, report, run
from benchmarks.trainer.jobs import coloured, run_job, write_dataset
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.worker import main

NETWORK = "test_efficientnet"
SMALL = Settings(
    throughput=throughput.Setting(
        NETWORK, size=32, classes=8, pictures=4, batch=16, epochs=2, turns=1, workers=(0,), threads=(1,), sweep_steps=2
    ),
    two_pass=two_pass.Setting(NETWORK, size=32, classes=4, pictures=4, steps=1),
    time_to_map=time_to_map.Setting(12, held_out=0.25, size=32, epochs=2, first_epochs=1, init=f"random:{NETWORK}", batch=16),
)  # fmt: skip


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a process a measurement is most of its time at these sizes."""
    monkeypatch.setattr(jobs, "work", lambda folder: (main(folder, Interruption()), ""))
    monkeypatch.setattr(throughput, "plain_speed", plain_loop.speed)
    monkeypatch.setattr(two_pass, "measure", two_pass.run)


@pytest.mark.usefixtures("in_this_process")
def test_every_part_is_measured_and_reported(tmp_path: Path) -> None:
    for label, name, data in coloured(12, 4, 32):
        path = tmp_path / "emoji" / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    report(tmp_path / "out", run(SMALL, tmp_path / "emoji"))
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["throughput_ratio"] > 0
    assert document["two_pass_memory_ratio"] > 0
    assert document["two_pass_time_ratio"] > 0
    assert [each["memory_format"] for each in document["throughput"]["sweep"]] == ["channels_last", "contiguous"]
    assert len(document["throughput"]["turns"]) == 1
    curves = document["time_to_map"]["curves"]
    assert [len(curve) for curve in curves.values()] == [3, 3, 3]
    assert all(earlier[0] < later[0] for curve in curves.values() for earlier, later in pairwise(curve))
    assert document["time_to_map"]["seconds_to_target"]["triplets alone"] is not None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "classification, then triplets" in page
    assert "<svg" in page


def test_a_target_lies_between_the_points_around_it() -> None:
    curve = [(0.0, 0.2), (10.0, 0.4), (20.0, 0.3), (30.0, 0.6)]
    assert time_to_map.seconds_to(0.3, curve) == pytest.approx(5.0)
    assert time_to_map.seconds_to(0.45, curve) == pytest.approx(25.0)
    assert time_to_map.seconds_to(0.1, curve) == 0.0
    assert time_to_map.seconds_to(0.7, curve) is None


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    dataset = write_dataset(coloured(1, 2, 16), tmp_path / "data")
    with pytest.raises(RuntimeError, match="one class"):
        run_job(tmp_path / "job", dataset, init={"kind": "random", "name": NETWORK})


def test_a_plain_loop_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pixels").write_bytes(bytes(8 * 4 * 32 * 32 * 3))
    plain = plain_loop.Plain(NETWORK, str(tmp_path / "pixels"), size=32, classes=8, pictures=4, batch=16, workers=1, steps=1)
    assert throughput.plain_speed(plain) > 0


def test_too_few_emoji_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make demo"):
        time_to_map.measure(SMALL.time_to_map, tmp_path, tmp_path, print)
