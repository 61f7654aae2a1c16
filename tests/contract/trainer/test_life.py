"""The server as a process: how it starts, stops, dies and comes back."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike_protos.trainer.v1 import datasets_pb2, models_pb2
from lookalike_protos.types.v1 import operations_pb2 as operations

from .conftest import Start
from .trainer_process import FAKE, REAL, Trainer, import_job, refused


def worker_of(trainer: Trainer, name: str) -> int:
    """Process id of the worker that was started last for a job."""
    return int((trainer.folder / "trainer" / "jobs" / f"starts-{name.removeprefix('jobs/')}").read_text().split()[-1])


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_job_outlives_a_killed_server_and_its_orphan_is_ended(start: Start) -> None:
    trainer = start()
    name = trainer.create(import_job("slow-once")).name
    seen = trainer.until_progress(name).sequence
    orphan = worker_of(trainer, name)
    trainer.end(signal.SIGKILL)
    assert not is_gone(orphan)

    trainer.start()
    events = list(trainer.watch(name, seen))
    assert is_gone(orphan)
    assert [event.sequence for event in events] == list(range(seen + 1, seen + 1 + len(events)))
    assert any("server died" in event.message for event in events)
    assert trainer.get(name).state == operations.STATE_SUCCEEDED


def test_a_stopped_server_takes_its_worker_along_and_runs_the_job_again(start: Start) -> None:
    trainer = start(FAKE, ["--drain-seconds", "1"])
    name = trainer.create(import_job("slow-once")).name
    trainer.until_progress(name)
    assert trainer.end() == 0
    assert is_gone(worker_of(trainer, name))
    trainer.start()
    assert trainer.wait(name).state == operations.STATE_SUCCEEDED


def test_what_was_acknowledged_is_there_after_a_kill(start: Start) -> None:
    trainer = start()
    revision = trainer.push("shoes", {"boots/1": b"one"})
    job = trainer.wait(trainer.create(import_job("quick")).name)
    trainer.models.DeleteModel(models_pb2.DeleteModelRequest(name=job.model_version))
    waiting = [trainer.create(import_job("slow")).name, trainer.create(import_job("quick")).name]
    trainer.cancel(waiting[1])
    trainer.end(signal.SIGKILL)
    trainer.start()
    assert trainer.datasets.GetRevision(datasets_pb2.GetRevisionRequest(name="datasets/shoes")) == revision
    assert trainer.get(job.name) == job
    assert trainer.get(waiting[1]).state == operations.STATE_CANCELLED
    with refused(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"):
        trainer.models.GetModelVersion(models_pb2.GetModelVersionRequest(name=job.model_version))
    assert trainer.cancel(waiting[0]).name == waiting[0]
    assert trainer.wait(waiting[0]).state == operations.STATE_CANCELLED


def test_a_server_without_models_is_healthy(trainer: Trainer) -> None:
    health = health_pb2_grpc.HealthStub(trainer.channel)
    parts = ("DatasetService", "JobService", "ModelService", "RecipeService")
    for service in ("", *(f"lookalike.trainer.v1.{part}" for part in parts)):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING


def test_calls_are_counted(trainer: Trainer) -> None:
    trainer.models.ListModels(models_pb2.ListModelsRequest())
    port = json.loads((trainer.folder / "announced").read_text())["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert 'lookalike_calls_total{code="OK",method="/lookalike.trainer.v1.ModelService/ListModels"}' in answer.read().decode()


def test_a_second_server_on_one_data_folder_does_not_start(trainer: Trainer) -> None:
    done = subprocess.run([*REAL, "--data", str(trainer.folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "in use by another server" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [([], "data"), (["--data", "x", "--slots", "0"], "slots"), (["--data", "x", "--registri", "y"], "registri")],
)
def test_a_wrong_setting_is_named(tmp_path: Path, flags: list[str], words: str) -> None:
    done = subprocess.run([*REAL, *flags], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_may_do_what_its_scopes_say(start: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({hashlib.sha256(b"reader").hexdigest(): ["read"]}))
    trainer = start(FAKE, ["--tokens-file", str(tokens)])
    reader = (("authorization", "Bearer reader"),)
    trainer.models.ListModels(models_pb2.ListModelsRequest(), metadata=reader)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        trainer.models.DeleteModel(models_pb2.DeleteModelRequest(name="models/m"), metadata=reader)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"):
        trainer.models.ListModels(models_pb2.ListModelsRequest())
