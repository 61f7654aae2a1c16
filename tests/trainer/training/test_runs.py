"""Folds and seeds as one job: every score, mean and spread, and a job that is killed goes on in the run that it was in."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_trainer.data_checks.findings import describe_fold_copies
from lookalike_trainer.training import loop, runs, train_job
from lookalike_trainer.training.dataset import Picture
from lookalike_trainer.training.errors import JobError
from lookalike_trainer.training.recipe import SplitRecipe
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.runs import Run, runs_of
from lookalike_trainer.training.split import fold_rows

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Events = Callable[[Path], list[dict[str, Any]]]
SMALL = {"sampler.classes": "4", "sampler.pictures": "2", "loop.epochs": "1", "loop.checkpoint_seconds": "0"}
FOLDS = {**SMALL, "split.kind": "k-fold", "split.folds": "3"}


class Killed(BaseException):
    """Nothing in the worker catches it, as nothing catches a SIGKILL."""


def test_folds_share_out_each_class_evenly_and_leave_none_untrained() -> None:
    sizes = [1, 2, 3, 7, 10]
    labels = np.repeat(np.arange(5), sizes)
    rows = [np.flatnonzero(labels == label) for label in range(5)]
    paths = [f"{row}.png" for row in range(len(labels))]
    folds = [fold_rows(rows, paths, 3, fold, seed=4) for fold in range(3)]
    assert sorted(row for fold in folds for row in fold) == list(range(1, len(labels)))  # the single picture is in none
    for fold in folds:
        held = np.bincount(labels[list(fold)], minlength=5)
        assert all(abs(count - size / 3) < 1 for count, size in zip(held[1:], sizes[1:], strict=True))
        assert all(held < sizes)
    assert folds[0] != fold_rows(rows, paths, 3, 0, seed=5)


def test_the_run_of_the_jobs_own_seed_comes_last() -> None:
    assert runs_of(SplitRecipe(), 7) == [Run(7)]
    assert runs_of(SplitRecipe(seeds=3), 7) == [Run(8), Run(9), Run(7)]
    assert runs_of(SplitRecipe(kind="k-fold", folds=2, seeds=2), 7) == [Run(7, 1), Run(8, 0), Run(8, 1), Run(7, 0)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"split.kind": "kfold"}, "k-fold"),
        ({"split.folds": "4"}, "set kind to k-fold"),
        ({"split.kind": "k-fold", "split.folds": "1"}, "split.folds"),
        ({"split.kind": "k-fold", "split.folds": "20", "split.seeds": "3"}, "more than 50"),
        ({"split.seeds": "0"}, "split.seeds"),
    ],
)
def test_a_split_that_cannot_be_is_told(overrides: dict[str, str], words: str) -> None:
    with pytest.raises(JobError, match=words):
        load_recipe(None, overrides)


def test_each_fold_is_scored_beside_the_classes_that_no_fold_has_seen(
    work: Work, job_folder: JobFolder, events: Events, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[int]] = []
    begin = loop.Trainer.begin

    def watched(self: Any, network: Any) -> Any:
        trained.append({row for rows in self._data.sampler.rows.values() for row in rows.tolist()})
        return begin(self, network)

    monkeypatch.setattr(loop.Trainer, "begin", watched)
    folder = job_folder(FOLDS)
    assert work(folder) == 0
    result = read(folder / "result.json")
    metrics = result["metrics"]
    for kind in ("heldout_map", "fold_map"):
        scores = [metrics[f"{kind}_run_{number}"] for number in (1, 2, 3)]
        assert metrics[f"{kind}_mean"] == pytest.approx(statistics.fmean(scores))
        assert metrics[f"{kind}_spread"] == pytest.approx(statistics.stdev(scores))
        assert metrics[kind] == scores[-1]
    assert len(trained) == 3
    assert len(trained[0] | trained[1] | trained[2]) == 9 * 4  # three of twelve classes are held out of each fold
    assert [len(rows) for rows in trained] == [24, 24, 24]
    assert all(len(a & b) == 12 for a, b in ((trained[0], trained[1]), (trained[1], trained[2])))
    assert "spread" in " ".join(result["notes"])
    assert "flatter" in " ".join(result["notes"])
    shown = [event for event in events(folder) if event["stage"] == "train"]
    assert [event["done"] for event in shown] == sorted(event["done"] for event in shown)
    assert any(event["message"].startswith("seed 1, fold 3") for event in shown)
    assert read(folder / "bundle" / "retrieval.json")["recipe"]["fold"] == 0
    assert not (folder / "runs").exists()


def test_the_model_is_that_of_a_job_with_one_seed(work: Work, job_folder: JobFolder) -> None:
    one, two = job_folder(SMALL), job_folder({**SMALL, "split.seeds": "2"})
    assert work(one) == 0
    assert work(two) == 0
    assert (one / "bundle" / "model.safetensors").read_bytes() == (two / "bundle" / "model.safetensors").read_bytes()


def test_a_killed_job_goes_on_in_the_run_that_it_was_in(
    work: Work, job_folder: JobFolder, events: Events, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet, disturbed = job_folder(FOLDS), job_folder(FOLDS)
    assert work(quiet) == 0
    step, written = loop.Trainer._step, runs.write_outcome
    taken: list[int] = []

    def step_or_die(self: Any, state: Any, batch: Any) -> Any:
        taken.append(batch.step)
        if len(taken) in (2, 7):
            raise Killed
        return step(self, state, batch)

    def write_and_die(*arguments: Any) -> None:
        written(*arguments)
        raise Killed

    for owner, name, dies in (
        (loop.Trainer, "_step", step_or_die),
        (train_job, "write_outcome", write_and_die),
        (loop.Trainer, "_step", step_or_die),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dies)
            with pytest.raises(Killed):
                work(disturbed)
    assert (disturbed / "runs").exists()
    assert work(disturbed) == 0
    assert (quiet / "bundle" / "model.safetensors").read_bytes() == (disturbed / "bundle" / "model.safetensors").read_bytes()
    results = [read(folder / "result.json") for folder in (quiet, disturbed)]
    for result in results:
        result["metrics"].pop("pictures_per_second")
    assert results[0] == results[1]
    told = [[event["message"] for event in events(folder) if event["milestone"]] for folder in (quiet, disturbed)]
    assert told[0] == told[1]


def test_a_picture_that_is_in_a_fold_and_trained_on_is_told() -> None:
    pictures = [Picture("a/1.png", "a", "x"), Picture("a/2.png", "a", "y"), Picture("a/3.png", "a", "x")]
    assert describe_fold_copies(pictures, (1,)) is None
    assert describe_fold_copies(pictures, (0, 1)) is not None
    assert "a/1.png" in (describe_fold_copies(pictures, (0, 1)) or "")
