from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from lookalike_runtime.errors import ResourceExhausted
from lookalike_trainer import runner as runner_module
from lookalike_trainer import worker_process
from lookalike_trainer.job_folders import DEFAULT_START
from lookalike_trainer.job_records import Failure, Job, State
from lookalike_trainer.job_spec import Start
from lookalike_trainer.runner import Runner
from lookalike_trainer.worker_process import end_orphans

from .parts import FAKE_WORKER, Parts

SHOES = {"boots/1": b"one", "clogs/1": b"two"}


async def until(parts: Parts, uid: str, wanted: Callable[[Job], bool]) -> Job:
    async with asyncio.timeout(30):
        with parts.jobs.changes.subscription() as changed:
            while not wanted(job := parts.jobs.get(uid)):
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), 0.5)
    return job


async def ended(parts: Parts, uid: str) -> Job:
    return await until(parts, uid, lambda job: job.state.is_final)


def messages(parts: Parts, uid: str) -> list[str]:
    return [event.report.message for event in parts.jobs.events(uid, 0, 1_000) if event.report.message]


@contextlib.asynccontextmanager
async def running(parts: Parts, slots: int = 1) -> AsyncIterator[Runner]:
    runner = parts.runner(slots)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def test_a_job_becomes_a_version(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    uid = parts.admission.create("r", parts.train_spec()).uid
    async with running(parts):
        job = await ended(parts, uid)
    assert (job.state, job.version, job.notes) == (State.SUCCEEDED, 1, ("made by a fake",))
    version = parts.models.get("quick", None)
    assert (version.job, version.origin, version.dataset_fingerprint) == (uid, "TRAINED", parts.datasets.get("shoes", 1).fingerprint)
    assert (parts.models.bundle("quick", 1) / "golden" / "vectors").read_text() == uid
    assert messages(parts, uid) == ["waits for its turn", "starts", "2 pictures", "made models/quick/versions/1"]
    assert [event.state for event in parts.jobs.events(uid, 0, 10)] == [State.PENDING, *[State.RUNNING] * 4, State.SUCCEEDED]
    assert not (parts.folders.path(uid) / "bundle").exists()


async def test_a_worker_is_told_all_it_needs(parts: Parts) -> None:
    revision = parts.commit("shoes", SHOES)
    spec = parts.train_spec(recipe="normalised-softmax", overrides={"loop.epochs": "3"}, seed=2**64 - 1, start=None)
    uid = parts.admission.create("r", spec).uid
    async with running(parts):
        await ended(parts, uid)
    told = json.loads((parts.folders.path(uid) / "job.json").read_text())
    assert told["dataset"] == {
        "name": "shoes",
        "revision": 1,
        "fingerprint": revision.fingerprint,
        "manifest": str(parts.datasets.manifest_path(revision)),
        "blobs": str(parts.blobs.root),
        "excluded": None,
    }
    assert told["init"] == {"kind": "builtin", "name": DEFAULT_START.name, "path": None, "label": None}
    assert (told["kind"], told["uid"], told["model"], told["seed"]) == ("train", uid, "quick", 2**64 - 1)
    assert (told["recipe"], told["overrides"]) == ("normalised-softmax", {"loop.epochs": "3"})


async def test_a_job_starts_from_an_earlier_bundle(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    first = parts.queue()
    async with running(parts):
        await ended(parts, first)
        second = parts.admission.create("r", parts.train_spec(start=Start(kind="bundle", model="quick", version=1))).uid
        job = await ended(parts, second)
    assert job.version == 2
    told = json.loads((parts.folders.path(second) / "job.json").read_text())
    assert told["init"]["path"] == str(parts.models.bundle("quick", 1))


async def test_a_damaged_bundle_is_not_started_from(parts: Parts) -> None:
    parts.commit("shoes", SHOES)
    first = parts.queue()
    async with running(parts):
        await ended(parts, first)
        (parts.models.bundle("quick", 1) / "config.json").write_text("[]")
        second = parts.admission.create("r", parts.train_spec(start=Start(kind="bundle", model="quick", version=1))).uid
        job = await ended(parts, second)
    assert job.failure
    assert (job.failure.code, job.failure.reason) == ("DATA_LOSS", "BUNDLE_DAMAGED")


@pytest.mark.parametrize(
    ("behaviour", "reason", "words"),
    [
        ("crash", "WORKER_DIED", "exit status 3; the last line of its log: ValueError: the moon is in the wrong place"),
        ("killed", "WORKER_DIED", "SIGKILL"),
        ("empty", "WORKER_DIED", "without a usable result"),
        ("refuses", "INVALID_WEIGHTS", "stem.weight does not fit"),
    ],
)
async def test_a_worker_that_fails_fails_its_job_and_no_other(parts: Parts, behaviour: str, reason: str, words: str) -> None:
    bad, good = parts.queue(behaviour), parts.queue()
    async with running(parts):
        job = await ended(parts, bad)
        assert (await ended(parts, good)).state is State.SUCCEEDED
    assert job.state is State.FAILED
    assert job.failure
    assert job.failure.reason == reason
    assert words in job.failure.message


async def test_a_registry_that_cannot_be_written_fails_the_job(parts: Parts) -> None:
    (parts.folder / "registry").write_text("in the way")
    uid = parts.queue()
    async with running(parts):
        job = await ended(parts, uid)
    assert job.failure
    assert job.failure.reason == "PUBLISHING_FAILED"


async def test_a_worker_that_cannot_be_followed_is_ended(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ResourceExhausted("DISK_FULL", "the server's disk is full")

    monkeypatch.setattr(parts.jobs, "add_reports", full)
    uid = parts.queue("slow")
    async with running(parts):
        job = await ended(parts, uid)
        assert is_gone(pids_of(parts, uid)[0])
    assert job.failure == Failure(code="RESOURCE_EXHAUSTED", reason="DISK_FULL", message="the server's disk is full")


async def test_a_running_job_is_cancelled(parts: Parts) -> None:
    uid = parts.queue("slow")
    async with running(parts):
        await until(parts, uid, lambda job: job.progress is not None)
        parts.jobs.request_cancel(uid)
        assert (await ended(parts, uid)).state is State.CANCELLED
    assert parts.models.page("", 1) == []


async def test_a_worker_that_does_not_listen_is_killed(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "PATIENCE_SECONDS", 0.3)
    uid = parts.queue("stubborn")
    async with running(parts):
        await until(parts, uid, lambda job: job.progress is not None)
        parts.jobs.request_cancel(uid)
        assert (await ended(parts, uid)).state is State.CANCELLED
    assert is_gone(pids_of(parts, uid)[0])


async def test_what_a_worker_leaves_behind_is_ended(parts: Parts) -> None:
    uid = parts.queue("leaves-a-child")
    async with running(parts):
        await ended(parts, uid)
    child = int((parts.folders.path(uid) / "child").read_text())
    await eventually(lambda: is_gone(child))


async def test_jobs_run_one_after_the_other_on_a_slot(parts: Parts) -> None:
    first, second = parts.queue("slow"), parts.queue()
    async with running(parts):
        await until(parts, first, lambda job: job.progress is not None)
        assert parts.jobs.get(second).state is State.PENDING
        parts.jobs.request_cancel(first)
        assert (await ended(parts, second)).state is State.SUCCEEDED


async def test_two_slots_run_two_jobs(parts: Parts) -> None:
    slow, quick = parts.queue("slow"), parts.queue()
    async with running(parts, slots=2):
        assert (await ended(parts, quick)).state is State.SUCCEEDED
        assert parts.jobs.get(slow).state is State.RUNNING


async def test_a_stop_of_the_server_does_not_count_against_a_job(reopen: Callable[[], Parts]) -> None:
    parts = reopen()
    uid = parts.queue("slow-once")
    async with running(parts):
        await until(parts, uid, lambda job: job.progress is not None)
    job = parts.jobs.get(uid)
    assert (job.state, job.starts, job.progress) == (State.PENDING, 0, None)
    assert is_gone(pids_of(parts, uid)[0])
    again = reopen()
    async with running(again):
        assert (await ended(again, uid)).state is State.SUCCEEDED
    numbers = [event.sequence for event in again.jobs.events(uid, 0, 1_000)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_job_that_the_server_did_not_survive_runs_twice_more_at_most(parts: Parts) -> None:
    uid = parts.queue("slow")
    for start in (1, 2, 3):
        claimed = parts.jobs.claim()
        assert claimed
        assert claimed.starts == start
        runner = parts.runner(slots=0)  # takes up what was left, and runs nothing
        await runner.start()
        job = parts.jobs.get(uid)
        assert job.state is (State.FAILED if start == 3 else State.PENDING)
    assert job.failure
    assert (job.failure.reason, "died 3 times" in job.failure.message) == ("SERVER_DIED", True)


async def test_a_job_whose_version_is_published_has_succeeded_whatever_happened_then(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = parts.queue()

    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed here")

    finish = parts.jobs.finish
    monkeypatch.setattr(runner_module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(parts.jobs, "finish", killed)
    runner = parts.runner()
    await runner.start()
    await eventually(lambda: parts.models.made_by(uid) is not None)
    await runner.stop()
    assert parts.jobs.get(uid).state is State.RUNNING
    monkeypatch.setattr(parts.jobs, "finish", finish)
    async with running(parts):
        job = await ended(parts, uid)
    assert (job.state, job.version, job.starts) == (State.SUCCEEDED, 1, 1)


async def test_a_cancel_that_the_server_did_not_survive_still_counts(parts: Parts) -> None:
    uid = parts.queue()
    parts.jobs.claim()
    parts.jobs.request_cancel(uid)
    async with running(parts):
        assert (await ended(parts, uid)).state is State.CANCELLED


def test_an_orphan_is_ended_and_nobody_else(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").write_text(json.dumps({"uid": name, "model": "stubborn"}))
    orphan, other = (subprocess.Popen([*FAKE_WORKER, str(tmp_path / name)]) for name in ("mine", "other"))
    try:
        while not all((tmp_path / name / "events.jsonl").exists() for name in ("mine", "other")):
            time.sleep(0.02)
        end_orphans(FAKE_WORKER, tmp_path / "mine")
        assert is_gone(orphan.pid)
        assert other.poll() is None
    finally:
        for process in (orphan, other):
            process.kill()
            process.wait()


def pids_of(parts: Parts, uid: str) -> list[int]:
    return [int(pid) for pid in (parts.folder / "jobs" / f"starts-{uid}").read_text().split()]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110, nobody tells when a process has gone
            await asyncio.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether no process has this id, or one that only waits to be buried."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
