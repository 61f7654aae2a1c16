from __future__ import annotations

import asyncio
import hashlib

import pytest

from lookalike_model.builtin import EFFICIENTNET_LITE0, BuiltinWeights
from lookalike_runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, ServiceError
from lookalike_trainer import jobs as jobs_module
from lookalike_trainer.job_records import Failure, Progress, Report, State
from lookalike_trainer.job_spec import Start, TrainSpec, spec_from_json, spec_to_json
from lookalike_trainer.training.recipe_files import DEFAULT_RECIPE

from .parts import Parts

SHOES = {"boots/1": b"one", "clogs/1": b"two"}


def events(parts: Parts, uid: str) -> list[tuple[int, State, str]]:
    return [(event.sequence, event.state, event.report.message) for event in parts.jobs.events(uid, 0, 100)]


def test_a_spec_comes_back_as_it_was_kept(parts: Parts) -> None:
    spec = parts.train_spec(overrides={"loop.epochs": "3", "a": "b"}, seed=2**64 - 1)
    assert spec_from_json(spec_to_json(spec)) == spec
    assert spec_to_json(spec) == spec_to_json(spec.model_copy(update={"overrides": {"a": "b", "loop.epochs": "3"}}))


def test_a_job_keeps_which_recipe_was_the_default(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    spec = parts.jobs.get(parts.admission.create("r", parts.train_spec(recipe="")).uid).spec
    assert isinstance(spec, TrainSpec)
    assert spec.recipe == DEFAULT_RECIPE


def test_a_job_keeps_which_revision_was_the_newest(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    job = parts.admission.create("r", parts.train_spec())
    parts.commit("shoes", SHOES | {"x/1": b"x"})
    spec = parts.jobs.get(job.uid).spec
    assert isinstance(spec, TrainSpec)
    assert spec.revision == 1
    assert parts.admission.create("r", parts.train_spec()).uid == job.uid


def test_a_request_may_be_repeated_but_not_changed(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    job = parts.admission.create("r", parts.train_spec())
    assert parts.admission.create("r", parts.train_spec()) == job
    with pytest.raises(AlreadyExists, match=job.uid) as caught:
        parts.admission.create("r", parts.train_spec(seed=1))
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert len(parts.jobs.page(None, 10)) == 1


@pytest.mark.parametrize(
    ("changes", "kind", "reason", "words"),
    [
        ({"dataset": "boats"}, NotFound, "DATASET_NOT_FOUND", "datasets/boats"),
        ({"revision": 7}, NotFound, "DATASET_NOT_FOUND", "revisions/7"),
        ({"dataset": "single"}, InvalidArgument, "TOO_FEW_CLASSES", "at least two"),
        ({"recipe": "normalized-softmax"}, InvalidArgument, "UNKNOWN_RECIPE", "normalised-softmax"),
        ({"overrides": {"loop.epoch": "3"}}, InvalidArgument, "INVALID_RECIPE", r"loop\.epochs"),
        ({"overrides": {"loop.epochs": "many"}}, InvalidArgument, "INVALID_RECIPE", "many"),
        ({"start": Start(kind="bundle", model="m", version=1)}, NotFound, "MODEL_NOT_FOUND", "models/m/versions/1"),
        ({"start": Start(kind="weights", name="resnet10t", sha256="ab" * 32)}, FailedPrecondition, "BLOBS_MISSING", "upload"),
        ({"start": Start(kind="builtin", name="resnet-imagenet")}, InvalidArgument, "INVALID_FIELD", "efficientnet_lite0-imagenet"),
    ],
)
def test_what_can_be_said_at_once_is_said_at_once(
    parts: Parts, changes: dict[str, object], kind: type[ServiceError], reason: str, words: str
) -> None:
    parts.commit("shoes", SHOES)
    parts.commit("single", {"boots/1": b"one"})
    with pytest.raises(kind, match=words) as caught:
        parts.admission.create("r", parts.train_spec(**changes))
    assert caught.value.reason == reason
    assert parts.jobs.page(None, 10) == []


def test_built_in_weights_must_be_installed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.commit("shoes", SHOES)
    absent = BuiltinWeights(EFFICIENTNET_LITE0.name, EFFICIENTNET_LITE0.architecture, "no_such_package", EFFICIENTNET_LITE0.file)
    monkeypatch.setattr("lookalike_trainer.admission.builtin_weights", lambda _: absent)
    with pytest.raises(FailedPrecondition, match="not installed") as caught:
        parts.admission.create("r", parts.train_spec(start=None))
    assert caught.value.reason == "WEIGHTS_MISSING"


def test_a_weights_file_that_is_there_is_accepted(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert (
        parts.admission.create("r", parts.train_spec(start=Start(kind="weights", name="resnet10t", sha256=sha256))).state is State.PENDING
    )


def test_the_queue_has_a_limit(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_PENDING", 2)
    parts.queue()
    parts.queue()
    with pytest.raises(ResourceExhausted) as caught:
        parts.queue()
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_after
    parts.jobs.claim()
    parts.queue()


def test_jobs_run_oldest_first_and_are_listed_newest_first(parts: Parts) -> None:
    uids = [parts.queue() for _ in range(3)]
    claimed = parts.jobs.claim()
    assert claimed
    assert (claimed.uid, claimed.state, claimed.starts) == (uids[0], State.RUNNING, 1)
    assert [job.uid for job in parts.jobs.page(None, 2)] == [uids[2], uids[1]]
    assert [job.uid for job in parts.jobs.page(claimed.number + 1, 2)] == [uids[0]]


def test_events_are_numbered_without_gaps(parts: Parts) -> None:
    uid = parts.queue()
    parts.jobs.claim()
    parts.jobs.add_reports(uid, [(1, Report(1.0, Progress("train", 1, 9, "steps"), "on the way", {"loss": 2.5})), (2, Report(2.0))])
    parts.jobs.finish(uid, State.SUCCEEDED, message="made it", version=1)
    assert [number for number, _, _ in events(parts, uid)] == [1, 2, 3, 4, 5]
    assert [event.sequence for event in parts.jobs.events(uid, 2, 2)] == [3, 4]
    assert parts.jobs.events(uid, 5, 10) == []
    assert parts.jobs.get(uid).progress == Progress("train", 1, 9, "steps")
    told = parts.jobs.events(uid, 2, 1)[0]
    assert (told.state, told.report) == (State.RUNNING, Report(1.0, Progress("train", 1, 9, "steps"), "on the way", {"loss": 2.5}))


def test_what_a_worker_says_has_limits(parts: Parts) -> None:
    uid = parts.queue()
    parts.jobs.claim()
    parts.jobs.add_reports(uid, [(1, Report(1.0, message="é" * 5_000, metrics={f"m{i}": 0.0 for i in range(100)}))])
    report = parts.jobs.events(uid, 2, 1)[0].report
    assert len(report.message.encode()) <= 4_096
    assert len(report.metrics) == 64


def test_a_waiting_job_is_cancelled_at_once_and_an_ended_one_stays(parts: Parts) -> None:
    uid = parts.queue()
    assert parts.jobs.request_cancel(uid).state is State.CANCELLED
    ended = parts.jobs.get(uid)
    assert parts.jobs.request_cancel(uid) == ended
    assert parts.jobs.claim() is None


def test_a_running_job_is_asked_to_end_once(parts: Parts) -> None:
    uid = parts.queue()
    parts.jobs.claim()
    for _ in range(2):
        job = parts.jobs.request_cancel(uid)
        assert (job.state, job.cancel_requested) == (State.RUNNING, True)
    assert [message for _, _, message in events(parts, uid)] == ["waits for its turn", "starts", "is asked to end"]


def test_a_failure_is_kept(parts: Parts) -> None:
    uid = parts.queue()
    parts.jobs.claim()
    failure = Failure(code="INTERNAL", reason="WORKER_DIED", message="gone")
    parts.jobs.finish(uid, State.FAILED, message="gone", failure=failure)
    assert parts.jobs.get(uid).failure == failure
    assert parts.jobs.events(uid, 2, 1)[0].failure == failure


def test_an_unknown_job_is_said_so(parts: Parts) -> None:
    for call in (parts.jobs.get, parts.jobs.request_cancel, lambda uid: parts.jobs.events(uid, 0, 1)):
        with pytest.raises(NotFound, match="jobs/nobody"):
            call("nobody")


async def test_whoever_waits_for_changes_is_woken(parts: Parts) -> None:
    with parts.jobs.changes.subscription() as changed:
        uid = await asyncio.to_thread(parts.queue)
        await asyncio.wait_for(changed.wait(), 5)
        changed.clear()
        await asyncio.to_thread(parts.jobs.request_cancel, uid)
        await asyncio.wait_for(changed.wait(), 5)
