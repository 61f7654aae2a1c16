"""A trainer server in a process of its own, and calls to it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from lookalike_protos.trainer.v1 import datasets_pb2, jobs_pb2
from lookalike_protos.trainer.v1.datasets_pb2_grpc import DatasetServiceStub
from lookalike_protos.trainer.v1.jobs_pb2_grpc import JobServiceStub
from lookalike_protos.trainer.v1.models_pb2_grpc import ModelServiceStub
from lookalike_protos.trainer.v1.recipes_pb2_grpc import RecipeServiceStub
from lookalike_protos.types.v1 import operations_pb2 as operations

REAL = (sys.executable, "-m", "lookalike_trainer")
FAKE = (sys.executable, str(Path(__file__).with_name("server_with_fake_worker.py")))


class Trainer:
    """A server over a folder; it may be ended and started again."""

    def __init__(self, folder: Path, command: Sequence[str] = FAKE, flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self._command = [*command, "--data", str(folder), "--port", "0", "--announce", str(folder / "announced"), *flags]

    def start(self) -> Trainer:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "announced").unlink(missing_ok=True)
        self._log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=subprocess.STDOUT)
        self.channel = grpc.insecure_channel(self._address())
        self.datasets = DatasetServiceStub(self.channel)
        self.jobs = JobServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.recipes = RecipeServiceStub(self.channel)
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.channel.close()
        self._log.close()
        return status

    def push(self, dataset: str, pictures: Mapping[str, bytes]) -> datasets_pb2.DatasetRevision:
        """Upload pictures by their paths, labelled by their folders, and commit them."""
        self.datasets.UploadBlobs(chunk for content in pictures.values() for chunk in chunks_of(content))
        entries = [entry(path, content) for path, content in pictures.items()]
        return self.datasets.CommitRevision(iter([datasets_pb2.CommitRevisionRequest(dataset=f"datasets/{dataset}", entries=entries)]))

    def create(self, job: jobs_pb2.Job, request_id: str = "") -> jobs_pb2.Job:
        return self.jobs.CreateJob(jobs_pb2.CreateJobRequest(job=job, request_id=request_id or str(uuid.uuid4())))

    def watch(self, name: str, after: int = 0) -> Iterator[operations.Event]:
        return self.jobs.WatchJob(jobs_pb2.WatchJobRequest(name=name, after_sequence=after), timeout=60)

    def wait(self, name: str) -> jobs_pb2.Job:
        """The job once it has ended."""
        for _ in self.watch(name):
            pass
        return self.get(name)

    def get(self, name: str) -> jobs_pb2.Job:
        return self.jobs.GetJob(jobs_pb2.GetJobRequest(name=name))

    def cancel(self, name: str) -> jobs_pb2.Job:
        return self.jobs.CancelJob(jobs_pb2.CancelJobRequest(name=name))

    def until_progress(self, name: str) -> operations.Event:
        """The first event that tells of progress."""
        return next(event for event in self.watch(name) if event.HasField("progress"))

    def _address(self) -> str:
        deadline = time.monotonic() + 60
        while not (self.folder / "announced").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{(self.folder / 'server.log').read_text()}")
            time.sleep(0.02)
        return str(json.loads((self.folder / "announced").read_text())["address"])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: str, content: bytes) -> datasets_pb2.ManifestEntry:
    label = path.split("/")[0]
    return datasets_pb2.ManifestEntry(path=path, label=label, sha256=digest(content), size_bytes=len(content))


def chunks_of(content: bytes, size: int = 2 << 20) -> Iterator[datasets_pb2.UploadBlobsRequest]:
    yield datasets_pb2.UploadBlobsRequest(sha256=digest(content), size_bytes=len(content), data=content[:size])
    for start in range(size, len(content), size):
        yield datasets_pb2.UploadBlobsRequest(data=content[start : start + size])


def import_job(model: str, **changes: Any) -> jobs_pb2.Job:
    """An import; the fake worker behaves as the model's name says."""
    job = jobs_pb2.Job()
    getattr(job, "import").CopyFrom(jobs_pb2.ImportSpec(**{"model": model, "init": jobs_pb2.Init(timm="resnet10t"), **changes}))
    return job


def train_job(dataset: str, **changes: Any) -> jobs_pb2.Job:
    """A training from random weights."""
    spec = {"dataset": dataset, "model": "quick", "init": jobs_pb2.Init(random="test_vit"), **changes}
    return jobs_pb2.Job(train=jobs_pb2.TrainSpec(**spec))


def reason_of(status: Status | None) -> str:
    info = ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return str(info.reason)


@contextmanager
def refused(code: grpc.StatusCode, reason: str, field: str = "") -> Iterator[None]:
    """The call inside ends with this code and reason; the BadRequest detail names `field`."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert error.code() == code, error.details()
    status = rpc_status.from_call(error)
    assert reason_of(status) == reason
    assert error.details()
    if field:
        bad = BadRequest()
        assert status.details[1].Unpack(bad)
        assert bad.field_violations[0].field == field
