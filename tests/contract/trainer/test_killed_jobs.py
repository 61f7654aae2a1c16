"""`kill -9` of the real worker, of the server, and of both: the job ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lookalike_model.registry import RegistryReader
from lookalike_protos.trainer.v1 import jobs_pb2
from lookalike_protos.types.v1 import operations_pb2 as operations

from .conftest import Start
from .test_real_worker import picture
from .trainer_process import REAL, Trainer, reason_of, train_job

EPOCHS = 60
LONG = {
    "pixels.size": "32",
    "loop.epochs": str(EPOCHS),
    "loop.device": "cpu",
    "loop.threads": "1",
    "loop.checkpoint_seconds": "0.1",
    "sampler.classes": "4",
    "sampler.pictures": "2",
}


def worker_of(trainer: Trainer, name: str) -> psutil.Process:
    folder = str(trainer.folder / "trainer" / "jobs" / name.removeprefix("jobs/"))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] and process.info["cmdline"][-1] == folder:
                return process
        time.sleep(0.05)
    raise AssertionError("the job has no worker")


@contextmanager
def held_until_asked_to_end(worker: psutil.Process) -> Iterator[None]:
    """The worker of a killed server rests until the next server ends it: it could be done before a slow one is there."""
    over = threading.Event()

    def let_go() -> None:
        with suppress(psutil.NoSuchProcess):
            while not over.is_set() and not asked_to_end(worker):
                time.sleep(0.05)
            worker.resume()

    worker.suspend()
    waiting = threading.Thread(target=let_go)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()


def asked_to_end(process: psutil.Process) -> bool:
    """Whether SIGTERM waits for a suspended process, or the process is gone."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = re.search(r"^ShdPnd:\s*(\w+)$", status, re.MULTILINE)
    return pending is not None and bool(int(pending[1], 16) >> (signal.SIGTERM - 1) & 1)


def create(trainer: Trainer, model: str) -> str:
    init = jobs_pb2.Init(random="test_efficientnet")
    return trainer.create(train_job("datasets/shades", model=model, init=init, overrides=LONG)).name


def weights(trainer: Trainer, model: str) -> bytes:
    registry = trainer.folder / "registry"
    path = RegistryReader(str(registry)).index().models[model].versions["1"].path
    return (registry / path / "model.safetensors").read_bytes()


def train_further(trainer: Trainer, name: str, seen: int, said: str = "") -> int:
    """Wait until the job has said something, then for the end of an epoch, then for a random moment; the last event's number."""
    heard = not said
    for event in trainer.watch(name, seen):
        assert event.state in (operations.STATE_PENDING, operations.STATE_RUNNING), event
        heard = heard or said in event.message
        if heard and "train_loss" in event.metrics:
            time.sleep(random.uniform(0, 0.2))
            return event.sequence
    raise AssertionError("the job has ended")


def tidied(folder: Path) -> bool:
    """Whether the folder of a job comes to hold files alone, which it does soon after the job's end is told."""
    deadline = time.monotonic() + 30
    while any(path.is_dir() for path in folder.iterdir()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.timeout(600)  # six times a worker has to load torch
def test_whatever_is_killed_the_model_is_that_of_an_undisturbed_job(start: Start) -> None:
    trainer = start(REAL)
    trainer.push("shades", {f"shade{shade}/{number}.png": picture(shade, number) for shade in range(12) for number in range(4)})
    quiet = trainer.wait(create(trainer, "quiet"))
    assert quiet.state == operations.STATE_SUCCEEDED, quiet.error.message

    name = create(trainer, "disturbed")
    seen = train_further(trainer, name, 0)
    worker_of(trainer, name).kill()
    seen = train_further(trainer, name, seen, "killed by SIGKILL")
    with held_until_asked_to_end(worker_of(trainer, name)):
        trainer.end(signal.SIGKILL)
        trainer.start()
    seen = train_further(trainer, name, seen, "server died")
    worker = worker_of(trainer, name)
    trainer.end(signal.SIGKILL)
    worker.kill()
    trainer.start()
    disturbed = trainer.wait(name)
    assert disturbed.state == operations.STATE_SUCCEEDED, disturbed.error.message
    assert weights(trainer, "disturbed") == weights(trainer, "quiet")

    events = list(trainer.watch(name))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    epochs = [event.message for event in events if "train_loss" in event.metrics and event.message.startswith("epoch")]
    assert epochs == [f"epoch {number} of {EPOCHS}" for number in range(1, EPOCHS + 1)]
    goes_on = [event.message for event in events if "goes on from its last checkpoint" in event.message]
    assert len(goes_on) == 3
    assert "SIGKILL" in goes_on[0]
    assert tidied(folder_of(trainer, name))


def test_a_worker_that_dies_three_times_before_a_step_is_not_tried_again(start: Start) -> None:
    trainer = start(REAL)
    trainer.push("shades", {f"shade{shade}/{number}.png": picture(shade, number) for shade in range(12) for number in range(4)})
    name = create(trainer, "unlucky")
    known: set[int] = set()
    while len(known) < 3:
        worker = worker_of(trainer, name)
        if worker.pid not in known:
            known.add(worker.pid)
            worker.kill()
        time.sleep(0.05)
    job = trainer.wait(name)
    assert reason_of(job.error) == "WORKER_DIED"
    assert "3 times before its first step" in job.error.message


def folder_of(trainer: Trainer, name: str) -> Path:
    return trainer.folder / "trainer" / "jobs" / name.removeprefix("jobs/")
