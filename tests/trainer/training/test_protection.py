"""Trainings that go wrong: each way is recognised, and answered by its rule."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lookalike_trainer import worker
from lookalike_trainer.training import checkpoints, loop
from lookalike_trainer.training.batches import Batch
from lookalike_trainer.training.course import Course
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.objective_recipe import NormalisedSoftmaxRecipe, ObjectiveRecipe, TripletRecipe
from lookalike_trainer.training.watchdog import Watchdog, margin_of

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Events = Callable[[Path], list[dict[str, Any]]]
Plant = Callable[[Callable[[int], None]], None]

SMALL = {"sampler.classes": "4", "sampler.pictures": "2", "loop.epochs": "4"}  # 5 steps an epoch


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Has something called with the number of each step that is tried, counted from 0."""

    def at_each_step(happens: Callable[[int], None]) -> None:
        tried: list[int] = []
        gradients = loop.Trainer._gradients

        def planted(self: Any, state: Any, batch: Batch) -> Any:
            tried.append(batch.step)
            happens(len(tried) - 1)
            return gradients(self, state, batch)

        monkeypatch.setattr(loop.Trainer, "_gradients", planted)

    return at_each_step


def failure(folder: Path) -> tuple[str, str]:
    error = json.loads((folder / "error.json").read_text())
    return error["reason"], error["message"]


def messages(told: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for event in told if event["message"]]


def raising(at: set[int], error: BaseException) -> Callable[[int], None]:
    def happens(step: int) -> None:
        if step in at:
            raise error

    return happens


def rates(told: list[dict[str, Any]]) -> list[float]:
    return [event["metrics"]["rate"] for event in told if "train_loss" in event["metrics"] and event["stage"] == "train"]


def test_a_loss_that_is_not_finite_is_stepped_back_from_at_half_the_rate(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, planted = job_folder(SMALL), job_folder(SMALL)
    assert work(quiet) == 0
    seen = []
    forward = loop.Trainer._forward

    def nan_once(self: Any, network: Any, images: Any, step: int, part: int = 0) -> Any:
        seen.append(step)
        return forward(self, network, images * float("nan") if len(seen) == 13 else images, step, part)

    monkeypatch.setattr(loop.Trainer, "_forward", nan_once)
    assert work(planted) == 0
    assert seen[12:15] == [12, 10, 11]
    assert [message for message in messages(events(planted)) if message.startswith("NON_FINITE_LOSS: the loss became nan at step 13")]
    before, after = rates(events(quiet)), rates(events(planted))
    assert after[:2] == before[:2]
    assert after[2:] == [rate / 2 for rate in before[2:]]
    notes = json.loads((planted / "result.json").read_text())["notes"]
    assert any("half the rate" in note for note in notes)


def test_the_third_time_it_is_given_up(work: Work, job_folder: JobFolder, events: Events, plant: Plant) -> None:
    plant(raising(set(range(7, 100)), JobError(Reason.COLLAPSED, "all distances have become alike")))
    folder = job_folder(SMALL)
    assert work(folder) == 1
    assert failure(folder) == ("COLLAPSED", "all distances have become alike")
    tries = [message for message in messages(events(folder)) if "half the rate" in message]
    assert [("try 1 of 2" in message, "try 2 of 2" in message) for message in tries] == [(True, False), (False, True)]
    assert not (folder / "checkpoints").exists()


def test_a_second_step_back_from_the_same_point_takes_a_quarter(work: Work, job_folder: JobFolder, events: Events, plant: Plant) -> None:
    plant(raising({7, 8}, JobError(Reason.RATE_TOO_HIGH, "the loss rose")))
    quiet, folder = job_folder(SMALL), job_folder(SMALL)
    assert work(folder) == 0
    plant(lambda _: None)
    assert work(quiet) == 0
    assert rates(events(folder))[1:] == [rate / 4 for rate in rates(events(quiet))[1:]]


def test_no_steps_back_if_none_are_wanted(work: Work, job_folder: JobFolder, plant: Plant) -> None:
    plant(raising({7}, JobError(Reason.COLLAPSED, "alike")))
    folder = job_folder({**SMALL, "loop.retreats": "0"})
    assert work(folder) == 1
    assert failure(folder)[0] == "COLLAPSED"


def test_a_kill_after_a_step_back_changes_nothing(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    forward = loop.Trainer._forward

    def nan_at_full_rate(self: Any, network: Any, images: Any, step: int, part: int = 0) -> Any:
        """A fault that, like a real one, comes again whenever the same step is done at the same rate."""
        bad = step == 12 and not retreated
        return forward(self, network, images * float("nan") if bad else images, step, part)

    step_back, retreated = Course._step_back, []

    def noted(self: Course, error: JobError) -> None:
        step_back(self, error)
        retreated.append(1)

    monkeypatch.setattr(loop.Trainer, "_forward", nan_at_full_rate)
    monkeypatch.setattr(Course, "_step_back", noted)
    quiet, disturbed = job_folder(SMALL), job_folder(SMALL)
    assert work(quiet) == 0
    retreated.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Course, "_conclude_epoch", lambda self: _die_once(self, Killed))
        with pytest.raises(Killed):
            work(disturbed)
    assert work(disturbed) == 0
    assert (disturbed / "bundle/model.safetensors").read_bytes() == (quiet / "bundle/model.safetensors").read_bytes()
    assert len([message for message in messages(events(disturbed)) if "Stepped back" in message]) == 1


_conclude = Course._conclude_epoch


def _die_once(course_: Course, killed: type[BaseException]) -> None:
    if course_._state.retreats:
        raise killed
    _conclude(course_)


def test_too_little_memory_on_the_device_halves_what_goes_through_at_once(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = loop.Trainer._forward
    seen: list[int] = []

    def small_device(self: Any, network: Any, images: Any, step: int, part: int = 0) -> Any:
        if len(images) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(images))
        return forward(self, network, images, step, part)

    monkeypatch.setattr(loop.Trainer, "_forward", small_device)
    folder = job_folder({"loop.epochs": "3", "sampler.classes": "8", "sampler.pictures": "4"})
    assert work(folder) == 0
    assert set(seen) == {8}
    told = [message for message in messages(events(folder)) if message.startswith("OUT_OF_MEMORY")]
    assert [message.split()[-2] for message in told] == ["2", "4"]
    hopeless = job_folder({"loop.epochs": "3", "sampler.classes": "4", "sampler.pictures": "3"})
    assert work(hopeless) == 1
    assert failure(hopeless)[0] == "OUT_OF_MEMORY"
    assert "pixels.size" in failure(hopeless)[1]


def test_one_step_back_does_not_undo_another(work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same retreat point: first a rate too high, then too little memory, then a rate too high again."""
    faults: dict[int, BaseException] = {
        7: JobError(Reason.RATE_TOO_HIGH, "the loss rose"),
        9: torch.OutOfMemoryError("CUDA out of memory"),
        11: JobError(Reason.RATE_TOO_HIGH, "the loss rose"),
    }
    tried: list[int] = []
    parts: list[int] = []
    gradients = loop.Trainer._gradients

    def planted(self: Any, state: Any, batch: Batch) -> Any:
        tried.append(batch.step)
        parts.append(state.parts)
        if error := faults.get(len(tried) - 1):
            raise error
        return gradients(self, state, batch)

    monkeypatch.setattr(loop.Trainer, "_gradients", planted)
    overrides = {"loop.epochs": "10", "sampler.classes": "4", "sampler.pictures": "4", "loop.schedule": "constant", "loop.warm_up": "0"}
    folder = job_folder(overrides)
    assert work(folder) == 0
    assert parts[:10] == [1] * 10
    assert set(parts[10:]) == {2}
    told = rates(events(folder))
    assert told[-1] == told[0] / 4


def test_too_little_memory_of_the_cpu_ends_the_job_with_a_sentence(work: Work, job_folder: JobFolder, plant: Plant) -> None:
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")):
        plant(raising({3}, error))
        folder = job_folder(SMALL)
        assert work(folder) == 1
        assert failure(folder)[0] == "OUT_OF_MEMORY"


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_does_not_end_a_training_that_works(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    folder = job_folder(SMALL)
    assert work(folder) == 0
    assert len([message for message in messages(events(folder)) if message.startswith("DISK_FULL")]) == 1


def test_a_disk_without_room_for_checkpoints_is_told_before_the_first_step(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    plant(raising({0}, AssertionError("no step may be done")))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 2_000))
    folder = job_folder(SMALL)
    assert work(folder) == 1
    assert failure(folder)[0] == "DISK_FULL"


def test_a_disk_that_is_full_at_the_end_is_told(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike_trainer.training import train_job

    monkeypatch.setattr(train_job, "write_bundle", full_disk)
    folder = job_folder(SMALL)
    assert work(folder) == 1
    assert failure(folder)[0] == "DISK_FULL"


def test_a_disk_without_room_for_the_reason_is_told_by_the_exit_status(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    monkeypatch.setattr(worker, "write_error", full_disk)
    assert work(job_folder(SMALL)) == 74


def walk(watchdog: Watchdog, losses: list[float], norm: float = 1.0, spread: float = 0.2) -> None:
    for step, loss in enumerate(losses):
        watchdog.check(step, loss, norm, spread)


def reason_of(watchdog: Watchdog, losses: list[float], **more: float) -> Reason:
    with pytest.raises(JobError) as caught:
        walk(watchdog, losses, **more)
    assert "loop.rate" in str(caught.value) or "classification" in str(caught.value)
    return caught.value.reason


def test_a_loss_that_rises_far_above_its_start_is_a_rate_too_high() -> None:
    assert reason_of(Watchdog(0), [7.0] * 30 + [15.0] * 30) is Reason.RATE_TOO_HIGH
    walk(Watchdog(0), [7.0] * 30 + [13.0] * 30)
    walk(Watchdog(0), [0.01] * 30 + [0.2] * 30)  # near nothing, a multiple says little
    walk(Watchdog(0), [7.0] * 30 + [7.0, 7.0, 99.0] * 10)  # single bad batches


def test_a_gradient_that_explodes_is_a_rate_too_high() -> None:
    watchdog = Watchdog(0, clip=1.0)
    walk(watchdog, [3.0] * 30, norm=2.0)
    assert reason_of(watchdog, [3.0] * 30, norm=5e3) is Reason.RATE_TOO_HIGH
    assert reason_of(Watchdog(0), [3.0], norm=float("inf")) is Reason.NON_FINITE_LOSS


def test_a_spread_that_falls_towards_nothing_is_a_collapse() -> None:
    watchdog = Watchdog(0)
    walk(watchdog, [0.2] * 40, spread=0.2)
    assert reason_of(watchdog, [0.2] * 40, spread=0.008) is Reason.COLLAPSED
    steady = Watchdog(0)
    walk(steady, [0.2] * 80, spread=0.008)  # narrow all along


def test_a_loss_that_never_leaves_the_margin_is_told() -> None:
    assert reason_of(Watchdog(30, margin=0.2), [0.2] * 200) is Reason.STUCK_AT_MARGIN
    walk(Watchdog(30, margin=0.2), [0.25] * 60 + [0.2] * 200)
    walk(Watchdog(30), [0.2] * 200)


def test_only_triplets_alone_have_a_margin_to_be_stuck_at() -> None:
    assert margin_of(ObjectiveRecipe(triplet=TripletRecipe(weight=2.0, margin=0.3))) == pytest.approx(0.6)
    assert margin_of(ObjectiveRecipe(triplet=TripletRecipe(margin="soft"))) == pytest.approx(0.693, abs=1e-3)
    assert margin_of(ObjectiveRecipe(triplet=TripletRecipe(), normalised_softmax=NormalisedSoftmaxRecipe())) is None


def test_a_watchdog_goes_on_from_what_another_has_seen() -> None:
    losses = [7.0] * 30 + [15.0] * 30
    for cut in (5, 25, 45):
        first, second = Watchdog(0), Watchdog(0)
        try:
            walk(first, losses[:cut])
        except JobError:
            continue
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        with pytest.raises(JobError):
            walk(second, losses[cut:])
        with pytest.raises(JobError):
            walk(first, losses[cut:])
        assert second.state_dict() == first.state_dict()
