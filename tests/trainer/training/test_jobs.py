"""Whole jobs, as the worker does them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from lookalike_model.bundle import read_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.golden import prove
from lookalike_trainer.training.recipe_files import recipe_names

from .conftest import ShapeDataset

JobFolder = Callable[..., Path]
Work = Callable[[Path], int]
Read = Callable[[Path], Any]
Events = Callable[[Path], list[dict[str, Any]]]


def failure(work: Work, folder: Path) -> dict[str, str]:
    """What a job that must fail says; nothing half-done is left."""
    assert work(folder) == 1
    assert not (folder / "bundle").exists()
    assert not (folder / "result.json").exists()
    error: dict[str, str] = json.loads((folder / "error.json").read_text())
    return error


@pytest.mark.parametrize("recipe", recipe_names())
def test_each_shipped_recipe_trains_and_makes_a_proved_bundle(work: Work, job_folder: JobFolder, read: Read, recipe: str) -> None:
    folder = job_folder(recipe=recipe)
    assert work(folder) == 0
    bundle = read_bundle(folder / "bundle")
    result = read(folder / "result.json")
    assert prove(EmbeddingModel.load(bundle), bundle).ok
    assert result["profiles"]["plain"]["fingerprint"] == bundle.profiles["plain"].fingerprint
    assert result["default_profile"] == "plain"
    assert 0 < result["metrics"]["heldout_map_low"] <= result["metrics"]["heldout_map"] <= 1
    assert bundle.description.recipe["name"] == recipe
    assert bundle.description.metrics["heldout_map"].ci95 is not None
    assert bundle.description.data is not None
    assert bundle.description.data.held_out_classes == 3


def test_the_loss_falls_and_each_epoch_is_told(work: Work, job_folder: JobFolder, events: Events) -> None:
    folder = job_folder({"loop.epochs": "12", "loop.rate": "0.003"})
    assert work(folder) == 0
    told = [event for event in events(folder) if "train_loss" in event["metrics"] and event["stage"] == "train"]
    assert len(told) == 12
    assert all({"distance_spread", "heldout_map", "heldout_r1"} <= event["metrics"].keys() for event in told)
    losses = [event["metrics"]["train_loss"] for event in told]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert told[-1]["done"] == told[-1]["total"]
    stages = list(dict.fromkeys(event["stage"] for event in events(folder)))
    assert stages == ["prepare", "evaluate", "train", "bundle", "report"]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(work: Work, job_folder: JobFolder) -> None:
    overrides = {"loop.phases": "[{scale = 0.5, share = 0.5}, {scale = 1.0, share = 0.5}]"}
    folders = [job_folder(overrides), job_folder(overrides), job_folder(overrides, seed=2)]
    assert [work(folder) for folder in folders] == [0, 0, 0]
    first, second, other = ((folder / "bundle" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second
    assert first != other


def test_held_out_classes_are_never_trained_on(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike_trainer.training import loop, training_run

    trained: set[int] = set()
    splits = []
    step = loop.Trainer._step

    def watched_step(self: Any, state: Any, batch: Any) -> Any:
        assert (batch.labels >= 0).all()
        return step(self, state, batch)

    original = training_run._training_data

    def watched_data(store: Any, labels: Any, split: Any, resolved: Any) -> Any:
        data = original(store, labels, split, resolved)
        for epoch in range(resolved.epochs):
            for batch in data.sampler.epoch(resolved.seed, epoch):
                trained.update(labels.of_row[batch].tolist())
        splits.append(split)
        return data

    monkeypatch.setattr(loop.Trainer, "_step", watched_step)
    monkeypatch.setattr(training_run, "_training_data", watched_data)
    assert work(job_folder()) == 0
    assert len(splits[0].held_out) == 3
    assert not trained & set(splits[0].held_out)


def test_training_goes_on_from_an_earlier_bundle(work: Work, job_folder: JobFolder, read: Read) -> None:
    first = job_folder(recipe="cross-entropy", overrides={"network.embedding.size": "8"})
    assert work(first) == 0
    earlier = read_bundle(first / "bundle")
    start = {"kind": "bundle", "path": str(first / "bundle")}
    second = job_folder({"pixels.size": '"auto"', "loop.rate": "1e-12"}, recipe="triplet-batch-hard", init=start)
    assert work(second) == 0
    bundle = read_bundle(second / "bundle")
    assert bundle.preprocessing == earlier.preprocessing
    assert bundle.network.spec == earlier.network.spec
    for name, tensor in earlier.network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(bundle.network.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
        else:
            assert "num_batches_tracked" in name
    for name in ("embedding.fc.weight", "embedding.fc.bias"):  # off the way to what was trained
        assert torch.equal(bundle.network.state_dict()[name], earlier.network.state_dict()[name])
    assert set(bundle.profiles) == {"plain", "embedding"}
    assert "heldout_map_embedding" in read(second / "result.json")["metrics"]


def test_what_does_not_fit_of_an_earlier_bundle_is_listed(work: Work, job_folder: JobFolder, read: Read) -> None:
    first = job_folder(recipe="joint-serial", overrides={"network.embedding.size": "8", "loop.epochs": "1"})
    assert work(first) == 0
    start = {"kind": "bundle", "path": str(first / "bundle")}
    changed = {"network.embedding.size": "6", "network.embedding.batch_norm": "true", "network.pool": "gem", "split.held_out": "0.5"}
    second = job_folder({**changed, "loop.epochs": "1"}, recipe="joint-serial", init=start)
    assert work(second) == 0
    notes = " ".join(read(second / "result.json")["notes"])
    assert "embedding.fc.weight (6, 256) instead of (8, 256)" in notes
    assert "embedding.norm.weight" in notes
    assert "gem.order" in notes
    assert "the class FC of 9 outputs is replaced by one of 6" in notes
    third = job_folder({"network.pool": "avg"}, recipe="triplet-batch-hard", init={"kind": "bundle", "path": str(second / "bundle")})
    assert work(third) == 0
    notes = " ".join(read(third / "result.json")["notes"])
    assert "not taken over: gem.order" in notes
    assert "class FC" not in notes


def test_a_classifier_of_a_weights_file_is_replaced_and_it_says_so(work: Work, job_folder: JobFolder, read: Read, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet", num_classes=7).state_dict(), tmp_path / "w.pth")
    start = {"kind": "weights", "name": "test_efficientnet", "path": str(tmp_path / "w.pth")}
    folder = job_folder({"loop.epochs": "1"}, recipe="cross-entropy", init=start)
    assert work(folder) == 0
    notes = " ".join(read(folder / "result.json")["notes"])
    assert "the classifier (classifier.weight, classifier.bias) was left out" in notes
    assert "the class FC of 7 outputs is replaced by one of 9" in notes


@pytest.mark.parametrize(
    ("start", "overrides"),
    [
        ("test_vit", {"pixels.size": "48"}),
        ("test_resnet", {"network.pool": "gem"}),
        ("test_convnext", {"network.pool": "max", "network.embedding.size": "8", "network.embedding.activation": "gelu"}),
    ],
)
def test_other_networks_train_and_go_on_from_their_bundles(
    work: Work, job_folder: JobFolder, read: Read, start: str, overrides: dict[str, str]
) -> None:
    first = job_folder({**overrides, "loop.epochs": "1"}, recipe="cross-entropy", init={"kind": "random", "name": start})
    assert work(first) == 0
    init = {"kind": "bundle", "path": str(first / "bundle")}
    second = job_folder({"pixels.size": "32", "loop.epochs": "1"}, recipe="triplet-batch-hard", init=init)
    assert work(second) == 0
    assert "all that lies behind the backbone was kept" in " ".join(read(second / "result.json")["notes"])
    assert read_bundle(second / "bundle").network.spec.pool == read_bundle(first / "bundle").network.spec.pool


def test_a_recipe_of_ones_own_is_stored_whole_in_the_bundle(work: Work, job_folder: JobFolder) -> None:
    text = 'extends = "cross-entropy"\n[objective.metric_learning.mine]\nloss = "ArcFaceLoss"\nloss_params = {margin = 20.0}'
    folders = [job_folder({"loop.epochs": "1"}, recipe_toml=text) for _ in range(2)]
    assert [work(folder) for folder in folders] == [0, 0]
    bundles = [read_bundle(folder / "bundle") for folder in folders]
    stored = bundles[0].description.recipe
    assert stored["name"] == "cross-entropy+file"
    assert stored["recipe"]["objective"]["metric_learning"]["mine"]["loss_params"] == {"margin": 20.0}
    assert stored["recipe"]["loop"]["epochs"] == 1
    assert {"seed", "start", "network", "pixels", "classes_per_batch", "pictures_per_class", "epochs", "device", "threads"} <= stored.keys()
    assert bundles[0].profiles["plain"].fingerprint == bundles[1].profiles["plain"].fingerprint
    first, second = ((folder / "bundle" / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_training_starts_from_a_weights_file_by_order_and_says_so(work: Work, job_folder: JobFolder, read: Read, tmp_path: Path) -> None:
    state = timm.create_model("test_efficientnet", num_classes=7).state_dict()
    torch.save({f"layer{i}": tensor for i, tensor in enumerate(state.values())}, tmp_path / "w.pth")
    start = {"kind": "weights", "name": "test_efficientnet", "path": str(tmp_path / "w.pth")}
    folder = job_folder({"loop.rate": "1e-12"}, init=start)
    assert work(folder) == 0
    assert any("by order" in note for note in read(folder / "result.json")["notes"])
    stem = read_bundle(folder / "bundle").network.backbone.state_dict()["conv_stem.weight"]
    torch.testing.assert_close(stem, state["conv_stem.weight"], atol=1e-6, rtol=1e-5)


def test_averaged_weights_are_kept_when_asked_for(work: Work, job_folder: JobFolder) -> None:
    plain, averaged = job_folder({"loop.epochs": "4"}), job_folder({"loop.epochs": "4", "loop.ema": "0.9"})
    assert [work(plain), work(averaged)] == [0, 0]
    stems = [read_bundle(f / "bundle").network.backbone.state_dict()["conv_stem.weight"] for f in (plain, averaged)]
    assert not torch.equal(*stems)


def test_frozen_batch_norm_keeps_its_statistics(work: Work, job_folder: JobFolder) -> None:
    for batch_norm, moved in (("frozen", False), ("live", True)):
        folder = job_folder({"loop.batch_norm": batch_norm})
        assert work(folder) == 0
        mean = read_bundle(folder / "bundle").network.backbone.state_dict()["bn1.running_mean"]
        assert bool(mean.abs().sum() > 0) is moved


def test_below_ten_classes_the_model_is_unproven_and_says_so(
    work: Work, job_folder: JobFolder, read: Read, empty_dataset: ShapeDataset
) -> None:
    folder = job_folder(dataset=empty_dataset.add_classes(4, 3).reference())
    assert work(folder) == 0
    result = read(folder / "result.json")
    assert "heldout_map" not in result["metrics"]
    assert any("unproven" in note for note in result["notes"])
    assert "Unproven" in (folder / "bundle" / "README.md").read_text()


def test_bad_pictures_and_single_ones_are_told_and_left_out(work: Work, job_folder: JobFolder, read: Read, shapes: ShapeDataset) -> None:
    shapes.add("shape00", "broken.png", b"no picture at all").add_classes(1, 1, first=40)
    folder = job_folder()
    assert work(folder) == 0
    notes = " ".join(read(folder / "result.json")["notes"])
    assert "1 of 50 pictures" in notes
    assert "shape00/broken.png" in notes
    assert "1 class has one picture (shape40)" in notes
    data = read_bundle(folder / "bundle").description.data
    assert data is not None
    assert (data.pictures, data.classes) == (49, 13)


def test_more_bad_pictures_than_good_ones_end_the_job(work: Work, job_folder: JobFolder, empty_dataset: ShapeDataset) -> None:
    dataset = empty_dataset.add_classes(2, 2)
    for number in range(5):
        dataset.add("shape00", f"bad{number}.jpg", b"bad %d" % number)
    error = failure(work, job_folder(dataset=dataset.reference()))
    assert error["reason"] == "TOO_MANY_UNREADABLE"
    assert "5 of 9" in error["message"]


def test_one_class_is_too_few(work: Work, job_folder: JobFolder, empty_dataset: ShapeDataset) -> None:
    error = failure(work, job_folder(dataset=empty_dataset.add_classes(1, 5).reference()))
    assert error["reason"] == "TOO_FEW_CLASSES"
    assert "shape00" in error["message"]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"recipe": "no-such"}, "UNKNOWN_RECIPE"),
        ({"recipe_toml": "extends = 'no-such'"}, "UNKNOWN_RECIPE"),
        (
            {"recipe_toml": "extends = 'cross-entropy'\n[objective.metric_learning.it]\nloss = 'PNPLoss'\nloss_params = {variant = 'Z'}"},
            "INVALID_RECIPE",
        ),
        (
            {"recipe_toml": "extends = 'cross-entropy'\n[objective.metric_learning.it]\ntap = 'embedding'\nloss = 'ArcFaceLoss'"},
            "INVALID_RECIPE",
        ),
        ({"overrides": {"loop.speed": "1"}}, "INVALID_RECIPE"),
        ({"overrides": {"network.architecture": "test_vit"}}, "INVALID_RECIPE"),
        ({"init": {"kind": "random", "name": "test_eficientnet"}}, "INVALID_NETWORK"),
        ({"init": {"kind": "builtin", "name": "nothing"}}, "WEIGHTS_MISSING"),
        ({"init": {"kind": "bundle", "path": "/nowhere"}}, "INVALID_WEIGHTS"),
        ({"init": {"kind": "weights", "name": "test_vit", "path": "/nowhere.pth"}}, "INVALID_WEIGHTS"),
        ({"init": {"kind": "weights"}}, "INVALID_JOB"),
        ({"seed": -1}, "INVALID_JOB"),
        ({"surprise": 1}, "INVALID_JOB"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(work: Work, job_folder: JobFolder, parts: dict[str, Any], reason: str) -> None:
    error = failure(work, job_folder(**parts))
    assert error["reason"] == reason
    assert error["message"]


def test_a_rate_that_blows_up_is_told(work: Work, job_folder: JobFolder) -> None:
    error = failure(
        work,
        job_folder({"loop.rate": "1.0", "loop.clip": "1e30", "loop.epochs": "60", "loop.batch_norm": "frozen"}, recipe="cross-entropy"),
    )
    assert error["reason"] in ("NON_FINITE_LOSS", "COLLAPSED")
    assert "loop.rate" in error["message"]


def test_timm_weights_that_cannot_be_had_are_told(work: Work, job_folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from lookalike_trainer.training import start

    def offline(*_: str) -> str:
        raise OSError("no route")

    monkeypatch.setattr(start, "hf_hub_download", offline)
    error = failure(work, job_folder(init={"kind": "timm", "name": "test_efficientnet"}))
    assert error["reason"] == "WEIGHTS_MISSING"
    assert "no route" in error["message"]
