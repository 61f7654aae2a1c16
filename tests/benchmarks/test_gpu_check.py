"""What of the check of CUDA devices can be held on a machine without one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check, trainer
from benchmarks.gpu_check import SKIPPED, Sizes, check_bundles, check_embedder, check_speed, main, run
from benchmarks.trainer import jobs, plain_loop, throughput
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.worker import main as work_here

SMALL = Sizes(
    "test_efficientnet",
    size=32,
    large=32,
    timed=("test_efficientnet",),
    batch=512,
    workers=(0,),
    served=(4,),
    seconds=0.3,
    devices=("cpu",),
)
"""The CPU in the place of both kinds of device."""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "work", lambda folder: (work_here(folder, Interruption()), ""))
    monkeypatch.setattr(throughput, "plain_speed", plain_loop.speed)


def test_without_cuda_it_says_so_and_ends_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert main() == 0
    assert capsys.readouterr().out.strip() == SKIPPED == "SKIPPED: no CUDA"


def test_with_cuda_a_check_that_cannot_run_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_sizes: Sizes, _work: Path) -> None:
        raise RuntimeError("no kernel image is available")

    for name in ("check_bundles", "check_out_of_memory", "check_speed", "check_embedder"):
        monkeypatch.setattr(gpu_check, name, cannot)
    found, failed = run(SMALL)
    assert failed == ["bundles", "out of memory", "speed", "embedder"]
    assert found["speed"] == {"failed": "RuntimeError: no kernel image is available"}


@pytest.mark.usefixtures("in_this_process")
def test_a_bundle_is_proved_on_each_kind_of_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_bundles(SMALL, tmp_path / "right") == {"cpu on cpu": pytest.approx(0, abs=1e-5)}
    monkeypatch.setattr("lookalike_model.golden.TOLERANCE", {"fp32": -1.0})
    with pytest.raises(gpu_check.CheckFailed, match="made on cpu, on cpu"):
        check_bundles(SMALL, tmp_path / "wrong")


@pytest.mark.usefixtures("in_this_process")
def test_a_slow_job_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "job_speed", lambda *_: 94.0)
    monkeypatch.setattr(throughput, "plain_speed", lambda _: 100.0)
    with pytest.raises(gpu_check.CheckFailed, match=r"test_efficientnet 0\.94"):
        check_speed(SMALL, tmp_path)
    monkeypatch.setattr(throughput, "job_speed", lambda *_: 96.0)
    assert check_speed(SMALL, tmp_path / "again")["test_efficientnet"]["throughput_ratio"] == pytest.approx(0.96)


def test_the_embedders_stages_are_held_against_network_and_decoding_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check_embedder(SMALL, tmp_path / "right")
    assert found["golden_error"] <= 1e-3
    assert set(found["network_images_per_second"]) == {4}
    assert found["stages_vs_network"] == found["stages_images_per_second"] / found["network_images_per_second"][4] > 0
    decoding_is_slower = found["decoding_images_per_second"] < found["network_images_per_second"][4]
    assert found["stopped_by"] == ("decoding" if decoding_is_slower else "network")
    monkeypatch.setattr("lookalike_model.golden.TOLERANCE", {"fp32": -1.0, "bf16": -1.0})
    with pytest.raises(RuntimeError, match="1 − cosine to the golden vectors"):
        check_embedder(SMALL, tmp_path / "wrong")


def test_it_needs_neither_annoy_nor_grpcio_tools() -> None:
    absent = ("annoy", "grpc_tools", "lookalike_protos")
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.gpu_check, lookalike_trainer.worker"
    root = Path(trainer.__path__[0]).parents[1]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
