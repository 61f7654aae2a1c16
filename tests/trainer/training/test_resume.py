"""A training that is cut short goes on from its last checkpoint, and ends as if nothing had happened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lookalike_images
from lookalike_trainer.training import course, loop, pixels, plan, train_job, training_run
from lookalike_trainer.training.checkpoints import Checkpoints
from lookalike_trainer.training.frozen import FROZEN
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import CHECKPOINTS
from lookalike_trainer.training.position import POSITION
from lookalike_trainer.training.result import SCRATCH
from lookalike_trainer.training.start import build_network
from lookalike_trainer.worker import main

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Events = Callable[[Path], list[dict[str, Any]]]

SMALL = {"sampler.classes": "4", "sampler.pictures": "2", "loop.epochs": "3", "loop.checkpoint_seconds": "0"}
STEPS = 15
VARIANTS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "the default recipe": ({}, {}),
    "averaged weights, the best kept": ({"loop.ema": "0.9", "loop.keep": "best", "loop.patience": "5"}, {}),
    "another optimiser": ({"loop.optimiser": "lamb", "loop.layer_decay": "0.8", "loop.schedule": "poly"}, {"recipe": "cross-entropy"}),
    "two-pass mining": ({"network.embedding.size": "16"}, {"recipe": "triplet-two-pass"}),
    "triplets": ({"loop.recompute": "all"}, {"recipe": "triplet-batch-hard"}),
}


class Killed(BaseException):
    """Nothing in the worker catches it, as nothing catches a SIGKILL."""


class Stopped(Interruption):
    """Told to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    def check(self) -> None:
        self._looks -= 1
        self._asked = self._looks < 0
        super().check()


@pytest.fixture(autouse=True)
def drop_out_and_checkpoints_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "_SHARE_OF_TIME", 1e9)

    def with_dropout(*arguments: Any) -> Any:
        network, loaded = build_network(*arguments)
        backbone: Any = network.backbone
        backbone.drop_rate = 0.3
        return network, loaded

    monkeypatch.setattr(training_run, "build_network", with_dropout)


def model(folder: Path) -> bytes:
    return (folder / "bundle" / "model.safetensors").read_bytes()


def milestones(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was told with a message or figures, times aside."""
    wanted = ("stage", "done", "total", "message", "metrics")
    known = [{key: event[key] for key in wanted} for event in told if event["milestone"]]
    for event in known:
        event["metrics"].pop("pictures_per_second", None)
    return known


def kill(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int) -> None:
    """The worker dies as `name` is called for the n-th time from now."""
    original = getattr(owner, name)
    left = [calls]

    def dies(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, dies)


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are taken from now on."""
    steps: list[int] = []
    step = loop.Trainer._step

    def counted(self: Any, state: Any, batch: Any) -> Any:
        steps.append(batch.step)
        return step(self, state, batch)

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    return steps


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(
    work: Work, job_folder: JobFolder, events: Events, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    overrides, parts = VARIANTS[variant]
    quiet, disturbed = (job_folder({**SMALL, **overrides}, **parts) for _ in range(2))
    assert work(quiet) == 0
    moments = [
        (training_run, "write_frozen", 1),
        (course.Course, "_keep", 1),
        (loop.Trainer, "_step", 2),
        (course.Course, "_after_step", 5),  # a step is done, its checkpoint is not written
        (course.Course, "_conclude_epoch", 1),
        (Checkpoints, "write", 4),
        (train_job, "write_bundle", 1),
    ]
    for owner, name, calls in moments:
        with monkeypatch.context() as patch:
            kill(patch, owner, name, calls)
            with pytest.raises(Killed):
                work(disturbed)
    assert work(disturbed) == 0
    assert model(disturbed) == model(quiet)
    assert milestones(events(disturbed)) == milestones(events(quiet))
    numbers = [event["sequence"] for event in events(disturbed)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("looks", [1, 3, 9, 17])
def test_told_to_stop_it_writes_a_checkpoint_and_loses_no_step(
    job_folder: JobFolder, work: Work, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    quiet, stopped = job_folder(SMALL), job_folder({**SMALL, "loop.checkpoint_seconds": "9000"})
    assert work(quiet) == 0
    steps = steps_taken(monkeypatch)
    assert main(stopped, Stopped(looks)) == 143
    assert not (stopped / "bundle").exists()
    assert main(stopped, Interruption()) == 0
    assert steps == list(range(STEPS))
    assert model(stopped) == model(quiet)


@pytest.mark.parametrize("harm", ["torn", "changed", "state", "missing"])
def test_of_a_damaged_checkpoint_the_one_before_is_used(
    work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet, disturbed = job_folder(SMALL), job_folder(SMALL)
    assert work(quiet) == 0
    with monkeypatch.context() as patch:
        kill(patch, loop.Trainer, "_step", 9)
        with pytest.raises(Killed):
            work(disturbed)
    newest = max((disturbed / CHECKPOINTS).iterdir())
    damage(newest, harm)
    steps = steps_taken(monkeypatch)
    assert work(disturbed) == 0
    assert steps[0] == 7
    assert f"checkpoint {newest.name} is damaged" in capsys.readouterr().err
    assert model(disturbed) == model(quiet)


def damage(checkpoint: Path, harm: str) -> None:
    tensors, state = checkpoint / "tensors.safetensors", checkpoint / "state.json"
    content = bytearray(tensors.read_bytes())
    match harm:
        case "torn":
            tensors.write_bytes(content[: len(content) // 2])
        case "changed":
            content[-5] ^= 1
            tensors.write_bytes(content)
        case "state":
            state.write_text(state.read_text().replace("epoch", "epock", 1))
        case "missing":
            state.unlink()


def test_at_most_two_checkpoints_and_a_retreat_point_are_kept(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job_folder(SMALL)
    kill(monkeypatch, loop.Trainer, "_step", 14)
    with pytest.raises(Killed):
        work(folder)
    names = sorted(path.name for path in (folder / CHECKPOINTS).iterdir())
    assert len(names) == 3
    assert [name.endswith("-retreat") for name in names] == [True, False, False]


def test_what_was_decided_at_the_start_is_not_decided_again(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job_folder(SMALL)
    with monkeypatch.context() as patch:
        kill(patch, loop.Trainer, "_step", 3)
        with pytest.raises(Killed):
            work(folder)
    before = (folder / FROZEN).read_text()
    for decides in ("load_recipe", "plan_pixels", "choose_network"):
        monkeypatch.setattr(plan, decides, None)
    for decides in ("choose_batch", "choose_epochs", "choose_by_measuring"):
        monkeypatch.setattr(training_run, decides, None)
    kill(monkeypatch, train_job, "write_bundle", 1)
    with pytest.raises(Killed):
        work(folder)
    assert (folder / FROZEN).read_text() == before


def test_decoded_pixels_are_used_again_if_they_are_whole(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job_folder(SMALL)
    decoded: list[bytes] = []

    def decode(data: bytes) -> Any:
        decoded.append(data)
        return lookalike_images.decode(data)

    monkeypatch.setattr(pixels, "decode", decode)
    for owner, name, made in ((pixels, "_finish", 48), (loop.Trainer, "_step", 96), (loop.Trainer, "_step", 96)):
        with monkeypatch.context() as patch:
            kill(patch, owner, name, 1)
            with pytest.raises(Killed):
                work(folder)
        assert len(decoded) == made
    assert work(folder) == 0
    assert len(decoded) == 96


def test_a_job_that_is_done_is_not_done_again(work: Work, job_folder: JobFolder, events: Events) -> None:
    folder = job_folder()
    assert work(folder) == 0
    left = {path.name for path in folder.iterdir()}
    assert {"bundle", "events.jsonl", "result.json", "report.html"} <= left
    assert not {CHECKPOINTS, SCRATCH, POSITION, FROZEN} & left
    told = events(folder)
    assert work(folder) == 0
    assert events(folder) == told


def test_a_torn_event_is_cut_off_and_its_number_given_again(work: Work, job_folder: JobFolder, events: Events) -> None:
    folder = job_folder()
    kept = {"milestone": 0, "time": 1.0, "stage": "prepare", "done": 0, "total": 1, "unit": "pictures", "message": "", "metrics": {}}
    (folder / "events.jsonl").write_text(json.dumps(kept | {"sequence": 1}) + '\n{"sequence": 2, "mil')
    assert work(folder) == 0
    assert [event["sequence"] for event in events(folder)[:3]] == [1, 2, 3]


def test_numbers_go_on_after_what_the_service_has_kept(work: Work, job_folder: JobFolder, events: Events) -> None:
    folder = job_folder(events_kept=40)
    assert work(folder) == 0
    assert events(folder)[0]["sequence"] == 41
