from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike_protos.trainer.v1 import jobs_pb2 as pb
from lookalike_protos.types.v1 import operations_pb2 as operations
from lookalike_trainer.database import Database
from lookalike_trainer.job_spec import ImportSpec
from lookalike_trainer.job_spec import Start as SpecStart
from lookalike_trainer.jobs import Jobs

from .conftest import Start
from .trainer_process import FAKE, Trainer, import_job, reason_of, refused, train_job

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
TWO_CLASSES = {"boots/1": b"one", "clogs/1": b"two"}


@pytest.fixture(scope="module", autouse=True)
def _datasets(trainer: Trainer) -> None:
    trainer.push("two", TWO_CLASSES)
    trainer.push("single", {"boots/1": b"one"})


def test_a_job_makes_a_version(trainer: Trainer) -> None:
    asked = train_job("datasets/two", recipe="normalised-softmax", overrides={"loop.epochs": "3"}, seed=2**64 - 1)
    created = trainer.create(asked)
    assert (created.state, created.model_version) == (operations.STATE_PENDING, "")
    job = trainer.wait(created.name)
    assert job.state == operations.STATE_SUCCEEDED
    assert job.model_version.startswith("models/quick/versions/")
    assert list(job.notes) == ["made by a fake"]
    assert (job.progress.stage, job.progress.done, job.progress.total, job.progress.unit) == ("train", 2, 2, "steps")
    assert 0 < job.create_time.ToNanoseconds() <= job.start_time.ToNanoseconds() <= job.end_time.ToNanoseconds()
    asked.train.dataset = "datasets/two/revisions/1"
    assert job.train == asked.train


@pytest.mark.parametrize(
    "init",
    [
        pb.Init(builtin="efficientnet_lite0-imagenet"),
        pb.Init(random="resnet10t"),
        pb.Init(timm="resnet10t.c3_in1k"),
        pb.Init(weights=pb.WeightsFile(network="resnet10t", sha256="7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed")),
        None,
    ],
)
def test_a_job_tells_what_it_starts_from(trainer: Trainer, init: pb.Init | None) -> None:
    job = trainer.create(train_job("datasets/two", init=init))
    assert job.train.HasField("init") == (init is not None)
    assert job.train.init == (init or pb.Init())
    assert trainer.wait(job.name).state == operations.STATE_SUCCEEDED


def test_events_are_numbered_and_none_is_lost_on_reconnecting(trainer: Trainer) -> None:
    name = trainer.create(import_job("quick")).name
    whole = list(trainer.watch(name))
    assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
    assert [event.state for event in whole] == [operations.STATE_PENDING, *[operations.STATE_RUNNING] * 4, operations.STATE_SUCCEEDED]
    for seen in range(len(whole) + 1):
        assert [event.sequence for event in trainer.watch(name, seen)] == list(range(seen + 1, len(whole) + 1))
    assert whole[2].message == "2 pictures"
    assert whole[3].metrics["loss"] == 2.5
    assert math.isnan(whole[4].metrics["loss"])
    assert whole[5].metrics["heldout_map"] == 0.5
    assert list(trainer.watch(name, 10**6)) == []


def test_a_watch_follows_a_running_job_and_two_see_the_same(trainer: Trainer) -> None:
    name = trainer.create(import_job("slow")).name
    seen: list[list[int]] = [[], []]

    def watch(number: int) -> None:
        seen[number] = [event.sequence for event in trainer.watch(name)]

    threads = [threading.Thread(target=watch, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    trainer.until_progress(name)
    trainer.cancel(name)
    for thread in threads:
        thread.join(30)
    assert seen[0] == seen[1] == list(range(1, len(seen[0]) + 1))
    assert len(seen[0]) >= 5


def test_a_running_job_is_cancelled_when_its_process_has_gone(trainer: Trainer) -> None:
    name = trainer.create(import_job("slow")).name
    trainer.until_progress(name)
    assert trainer.cancel(name).state == operations.STATE_RUNNING
    job = trainer.wait(name)
    assert (job.state, job.model_version, job.HasField("error")) == (operations.STATE_CANCELLED, "", False)
    assert trainer.cancel(name) == job


def test_a_waiting_job_is_cancelled_at_once(trainer: Trainer) -> None:
    running, waiting = trainer.create(import_job("slow")).name, trainer.create(import_job("quick")).name
    trainer.until_progress(running)
    assert trainer.cancel(waiting).state == operations.STATE_CANCELLED
    trainer.cancel(running)
    trainer.wait(running)


@pytest.mark.parametrize(
    ("model", "code", "reason", "words"),
    [
        ("crash", grpc.StatusCode.INTERNAL, "WORKER_DIED", "the moon is in the wrong place"),
        ("killed", grpc.StatusCode.INTERNAL, "WORKER_DIED", "SIGKILL"),
        ("refuses", PRECONDITION, "INVALID_WEIGHTS", "stem.weight"),
    ],
)
def test_a_job_that_failed_says_why(trainer: Trainer, model: str, code: grpc.StatusCode, reason: str, words: str) -> None:
    name = trainer.create(import_job(model)).name
    last = list(trainer.watch(name))[-1]
    job = trainer.get(name)
    assert job.state == last.state == operations.STATE_FAILED
    assert job.error == last.error
    assert job.error.code == code.value[0]
    assert reason_of(job.error) == reason
    assert words in job.error.message


def test_a_request_may_be_repeated_but_not_changed(trainer: Trainer) -> None:
    job = trainer.create(train_job("datasets/two"), "mine")
    trainer.wait(job.name)
    trainer.push("two", TWO_CLASSES | {"sabots/1": b"one"})
    assert trainer.create(train_job("datasets/two"), "mine").name == job.name
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        trainer.create(train_job("datasets/two", seed=1), "mine")


@pytest.mark.parametrize("request_id", ["", "x" * 129, "é" * 65])
def test_a_request_id_has_a_limit(trainer: Trainer, request_id: str) -> None:
    with refused(INVALID, "INVALID_FIELD", "request_id"):
        trainer.jobs.CreateJob(pb.CreateJobRequest(job=import_job("quick"), request_id=request_id))


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"dataset": "datasets/nobody"}, NOT_FOUND, "DATASET_NOT_FOUND"),
        ({"dataset": "datasets/two/revisions/99"}, NOT_FOUND, "DATASET_NOT_FOUND"),
        ({"dataset": "datasets/single"}, INVALID, "TOO_FEW_CLASSES"),
        ({"recipe": "magic"}, INVALID, "UNKNOWN_RECIPE"),
        ({"overrides": {"loop.epoch": "3"}}, INVALID, "INVALID_RECIPE"),
        ({"overrides": {"loop.epochs": "-3"}}, INVALID, "INVALID_RECIPE"),
        ({"init": pb.Init(model_version="models/nobody/versions/1")}, NOT_FOUND, "MODEL_NOT_FOUND"),
        ({"init": pb.Init(weights=pb.WeightsFile(network="resnet10t", sha256="ab" * 32))}, PRECONDITION, "BLOBS_MISSING"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(trainer: Trainer, changes: dict[str, Any], code: grpc.StatusCode, reason: str) -> None:
    with refused(code, reason):
        trainer.create(train_job(**{"dataset": "datasets/two", **changes}))


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (pb.Job(), "job.spec"),
        (train_job("../x"), "job.train.dataset"),
        (train_job(""), "job.train.dataset"),
        (train_job("datasets/two", model="../x"), "job.train.model"),
        (train_job("datasets/two", recipe="x" * 129), "job.train.recipe"),
        (train_job("datasets/two", overrides={f"k{n}": "1" for n in range(65)}), "job.train.overrides"),
        (train_job("datasets/two", overrides={"k": "x" * 1_024}), "job.train.overrides"),
        (train_job("datasets/two", init=pb.Init()), "job.train.init"),
        (train_job("datasets/two", init=pb.Init(random="../x")), "job.train.init.random"),
        (train_job("datasets/two", init=pb.Init(timm="hf-hub:x/y")), "job.train.init.timm"),
        (train_job("datasets/two", init=pb.Init(builtin="x" * 129)), "job.train.init.builtin"),
        (train_job("datasets/two", init=pb.Init(builtin="nobody")), "init.builtin"),
        (train_job("datasets/two", init=pb.Init(weights=pb.WeightsFile(network="", sha256="ab" * 32))), "job.train.init.weights.network"),
        (train_job("datasets/two", init=pb.Init(weights=pb.WeightsFile(network="x", sha256="../x"))), "job.train.init.weights.sha256"),
        (train_job("datasets/two", init=pb.Init(model_version="models/m")), "job.train.init.model_version"),
        (train_job("datasets/two", init=pb.Init(model_version="models/m/versions/0")), "job.train.init.model_version"),
        (import_job(""), "job.import.model"),
        (import_job("m", init=None), "job.import.init"),
        (import_job("m", init=pb.Init(random="resnet10t")), "job.import.init"),
        (import_job("m", init=pb.Init(model_version="models/m/versions/1")), "job.import.init"),
        (import_job("m", size=15), "job.import.size"),
        (import_job("m", size=1_025), "job.import.size"),
    ],
)
def test_a_wrong_field_is_named(trainer: Trainer, job: pb.Job, field: str) -> None:
    with refused(INVALID, "INVALID_FIELD", field):
        trainer.create(job)


def test_built_in_weights_must_be_installed(start: Start) -> None:
    trainer = start(FAKE, ["--no-weights"])
    trainer.push("two", TWO_CLASSES)
    with refused(PRECONDITION, "WEIGHTS_MISSING"):
        trainer.create(train_job("datasets/two", init=None))
    with refused(PRECONDITION, "WEIGHTS_MISSING"):
        trainer.create(import_job("m", init=pb.Init(builtin="efficientnet_lite0-imagenet")))


def test_the_queue_has_a_limit(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data" / "trainer").mkdir(parents=True)
    database = Database(tmp_path / "data" / "trainer" / "jobs.db")
    jobs = Jobs(database)
    with database.transaction():
        for number in range(1_000):
            spec = ImportSpec(model="slow", start=SpecStart(kind="timm", name="resnet10t"), size=0)
            jobs.create(str(number), spec, spec)
    database.close()
    trainer = start()
    trainer.until_progress(trainer.jobs.ListJobs(pb.ListJobsRequest(page_size=1_000)).jobs[-1].name)
    trainer.create(import_job("quick"))
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"):
        trainer.create(import_job("quick"))


def test_a_job_that_is_not_there_is_said_so(trainer: Trainer) -> None:
    for call in (trainer.get, trainer.cancel, lambda name: list(trainer.watch(name))):
        with refused(NOT_FOUND, "JOB_NOT_FOUND"):
            call("jobs/nobody")
        with refused(INVALID, "INVALID_FIELD", "name"):
            call("jobs/../x")


def test_a_watch_starts_after_no_negative_number(trainer: Trainer) -> None:
    name = trainer.create(import_job("quick")).name
    with refused(INVALID, "INVALID_FIELD", "after_sequence"):
        list(trainer.watch(name, -1))


def test_jobs_are_listed_newest_first_in_pages(trainer: Trainer) -> None:
    names = [trainer.create(import_job("quick")).name for _ in range(3)]
    trainer.wait(names[-1])
    first = trainer.jobs.ListJobs(pb.ListJobsRequest(page_size=2))
    assert [job.name for job in first.jobs] == [names[2], names[1]]
    trainer.wait(trainer.create(import_job("quick")).name)
    second = trainer.jobs.ListJobs(pb.ListJobsRequest(page_size=1, page_token=first.next_page_token))
    assert list(second.jobs) == [trainer.get(names[0])]
    listed: list[pb.Job] = []
    token = ""
    while not listed or token:
        page = trainer.jobs.ListJobs(pb.ListJobsRequest(page_size=7, page_token=token))
        listed += page.jobs
        token = page.next_page_token
    assert len({job.name for job in listed}) == len(listed)


def test_wrong_pages_are_refused(trainer: Trainer) -> None:
    with refused(INVALID, "INVALID_FIELD", "page_size"):
        trainer.jobs.ListJobs(pb.ListJobsRequest(page_size=1_001))
    for token in ("!", "azE6eA=="):
        with refused(INVALID, "INVALID_FIELD"):
            trainer.jobs.ListJobs(pb.ListJobsRequest(page_token=token))
