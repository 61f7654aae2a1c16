"""A training on several devices is that on one: the same steps, and the same end whatever happens on the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
import torch
from torch import Tensor

from lookalike_model.bundle import read_bundle
from lookalike_trainer import worker_rank, worker_ranks
from lookalike_trainer.outcome import last_line
from lookalike_trainer.training import devices, loop
from lookalike_trainer.training.course import Course, Place
from lookalike_trainer.training.events import Unheard
from lookalike_trainer.training.in_parts import gradients_in_parts
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import TrainJob, read_job
from lookalike_trainer.training.loop import Trainer
from lookalike_trainer.training.parts_request import ask_for_parts, asked_parts
from lookalike_trainer.training.ranks import ALONE, PartedError, Ranks

from . import rank_steps

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Step = dict[str, Tensor]

PROGRAM = Path(rank_steps.__file__)
WORKER = [sys.executable, "-m", "lookalike_trainer.worker"]
TWO = {
    "sampler.classes": "4",
    "sampler.pictures": "2",
    "loop.devices": "2",
    "loop.threads": "1",
    "loop.epochs": "12",
    "loop.checkpoint_seconds": "0",
}


@pytest.fixture(scope="module")
def alone() -> dict[str, Step]:
    """First steps of one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return rank_steps.first_steps(ALONE)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks came to."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    files = [folder / f"{rank}.pt" for rank in range(2)]
    processes = [
        subprocess.Popen([sys.executable, str(PROGRAM), str(file)], env={**os.environ, **together, "RANK": str(rank)})
        for rank, file in enumerate(files)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(file) for file in files]


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative to theirs."""
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


@pytest.mark.parametrize("case", rank_steps.CASES)
def test_two_ranks_take_the_step_of_one_with_the_whole_batch(alone: dict[str, Step], two: list[dict[str, Any]], case: str) -> None:
    expected = alone[case]
    assert expected["gradient of the network"].norm() > 0
    for what, value in expected.items():
        first, second = (rank["right"][case][what] for rank in two)
        assert torch.equal(first, second), what
        assert distance(first, value) <= 1e-5, what


def test_the_comparison_sees_a_gradient_that_does_not_flow_through_the_gathering(alone: dict[str, Step], two: list[dict[str, Any]]) -> None:
    what = "gradient of the network"
    assert distance(two[0]["broken"][what], alone["batch-hard triplets"][what]) > 0.1


def test_all_ranks_stop_at_the_step_at_which_the_first_is_told_to(two: list[dict[str, Any]]) -> None:
    assert [rank["stopped"] for rank in two] == [0, 0]


@contextmanager
def working(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that is killed if it is still there at the end; its ranks end with it."""
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen([*WORKER, str(folder)], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def epochs_told(folder: Path) -> int:
    events = folder / "events.jsonl"
    return events.read_text().count("train_loss") if events.exists() else 0


def wait_for_epochs(folder: Path, process: "subprocess.Popen[bytes]", count: int) -> list[psutil.Process]:
    """The ranks, once so many epochs more have been told of."""
    wanted, deadline = epochs_told(folder) + count, time.monotonic() + 90
    while epochs_told(folder) < wanted:
        assert process.poll() is None, (folder / "worker.log").read_text()
        assert time.monotonic() < deadline, (folder / "worker.log").read_text()
        time.sleep(0.02)
    ranks = [child for child in psutil.Process(process.pid).children() if "lookalike_trainer.worker_rank" in child.cmdline()]
    assert len(ranks) == 2
    return sorted(ranks, key=lambda rank: rank.environ()["RANK"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_stopped_and_killed_at_any_place_it_ends_with_the_bytes_of_an_undisturbed_training(job_folder: JobFolder) -> None:
    quiet, disturbed = job_folder(TWO), job_folder(TWO)
    subprocess.run([*WORKER, str(quiet)], check=True, timeout=120, capture_output=True)

    with working(disturbed) as process:
        ranks = wait_for_epochs(disturbed, process, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert not any(rank.is_running() for rank in ranks)
    assert not {"bundle", "result.json", "error.json"} & {path.name for path in disturbed.iterdir()}

    with working(disturbed) as process:
        ranks = wait_for_epochs(disturbed, process, 2)
        ranks[1].kill()
        assert process.wait(timeout=60) not in (0, 143)
    assert not any(rank.is_running() for rank in ranks)
    assert not (disturbed / "error.json").exists()
    assert last_line(disturbed / "worker.log") == "rank 1 of the training was killed by SIGKILL (the machine may be out of memory)"

    with working(disturbed) as process:
        ranks = wait_for_epochs(disturbed, process, 2)
        process.kill()
        assert psutil.wait_procs(ranks, 30)[1] == []
    assert not (disturbed / "bundle").exists(), "the ranks have gone on alone"

    subprocess.run([*WORKER, str(disturbed)], check=True, timeout=120, capture_output=True)
    models = [(folder / "bundle" / "model.safetensors").read_bytes() for folder in (quiet, disturbed)]
    assert models[0] == models[1]
    recipe = read_bundle(quiet / "bundle").description.recipe
    assert (recipe["devices"], recipe["threads"]) == (2, 1)
    told = [json.loads(line) for line in (disturbed / "events.jsonl").read_text().splitlines()]
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    milestones = [event["milestone"] for event in told if event["milestone"]]
    assert milestones == list(range(1, len(milestones) + 1))


def test_a_batch_too_small_for_its_devices_is_refused_once(job_folder: JobFolder) -> None:
    folder = job_folder({**TWO, "sampler.classes": "3", "sampler.pictures": "1"})
    assert subprocess.run([*WORKER, str(folder)], check=False, timeout=120, capture_output=True).returncode == 1
    error = json.loads((folder / "error.json").read_text())
    assert error["reason"] == "INVALID_RECIPE"
    assert "a batch of 3 pictures" in error["message"]
    assert "at most 1" in error["message"]
    assert not (folder / "scratch").exists()


@pytest.mark.parametrize(("asked", "words"), [("0", "1"), ("65", "64"), ("some", "auto")])
def test_a_number_of_devices_that_cannot_be_is_refused(work: Work, job_folder: JobFolder, asked: str, words: str) -> None:
    folder = job_folder({"loop.devices": asked})
    assert work(folder) == 1
    error = json.loads((folder / "error.json").read_text())
    assert error["reason"] == "INVALID_RECIPE"
    assert "loop.devices" in error["message"]
    assert words in error["message"]


def test_more_than_there_are_cuda_devices_is_refused_with_both_numbers(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    folder = job_folder({"loop.device": "cuda", "loop.devices": "5"})
    assert work(folder) == 1
    message = json.loads((folder / "error.json").read_text())["message"]
    assert "is 5" in message
    assert "has 3 CUDA devices" in message


@pytest.mark.parametrize(("batch", "taken"), [("128", 3), ("16", 2), ("8", 1)])
def test_auto_takes_the_cuda_devices_that_a_batch_keeps_busy(
    job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch, batch: str, taken: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    folder = job_folder({"loop.device": "auto", "sampler.batch": batch})
    job = read_job(folder / "job.json")
    assert isinstance(job, TrainJob)
    assert devices.devices_of(job, folder) == ("cuda", taken)


class Killed(BaseException):
    """Nothing in the worker catches it, as nothing catches a SIGKILL."""


def test_a_rank_that_lacks_memory_asks_for_smaller_parts_and_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = Ranks(1, 2)
    trainer = rank_steps.trainer_of(rank_steps.CASES["live batch norm"].recipe, second)
    state = trainer.begin(rank_steps.network())
    lacks_memory = Mock(side_effect=torch.OutOfMemoryError)
    monkeypatch.setattr(Trainer, "run_epoch", lacks_memory)
    course = Course(trainer, state, Mock(), Place(tmp_path, tmp_path), Unheard(), second)
    monkeypatch.setattr(Course, "_take_up", Mock())
    with pytest.raises(PartedError, match="rank 1 has too little memory"):
        course.run()
    assert asked_parts(tmp_path) == 2
    assert not (tmp_path / "checkpoints").exists()


def test_ranks_that_lack_memory_are_started_again_as_long_as_parts_get_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([2, 4, 4])

    def run(*_: Any) -> dict[int, int]:
        ask_for_parts(tmp_path, next(asked))
        return {0: -signal.SIGTERM, 1: 2}

    monkeypatch.setattr(worker_ranks, "_run", run)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(PartedError, match="rank 1 of the training ended with exit status 2"):
        worker_ranks.train_on_ranks(tmp_path, "cuda", 2, Interruption())
    assert next(asked, None) is None


def test_a_training_goes_on_in_the_parts_that_were_asked_for(
    work: Work, job_folder: JobFolder, events: Callable[[Path], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job_folder({"sampler.classes": "8", "sampler.pictures": "4"})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            work(folder)
    ask_for_parts(folder, 2)
    in_parts = Mock(side_effect=gradients_in_parts)
    monkeypatch.setattr(loop, "gradients_in_parts", in_parts)
    assert work(folder) == 0
    assert {call.args[-1] for call in in_parts.call_args_list} == {2}
    assert len([event for event in events(folder) if "goes through the network in 2 parts" in event["message"]]) == 1
    assert asked_parts(folder) == 0


@pytest.mark.parametrize(("visible", "own"), [(None, "1"), ("4,6", "6")])
def test_a_rank_sees_its_own_cuda_device_alone(monkeypatch: pytest.MonkeyPatch, visible: str | None, own: str) -> None:
    monkeypatch.setattr(os, "environ", {"LOCAL_RANK": "1"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    worker_rank.see_own_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own
