"""Imports: an existing network becomes a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lookalike_model.bundle import read_bundle

Work = Callable[[Path], int]
Write = Callable[..., Path]


@pytest.fixture
def import_folder(tmp_path: Path) -> Write:
    def write(**parts: Any) -> Path:
        folder = tmp_path / "job"
        folder.mkdir()
        job = {"kind": "import", "uid": "u", "model": "m", "network": None, "weights": None, "builtin": None} | parts
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    return write


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_file(dict(timm.create_model("test_efficientnet").state_dict()), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_weights_file_becomes_a_model_as_timm_would_use_it(work: Work, import_folder: Write, weights: Path) -> None:
    folder = import_folder(network="test_efficientnet", weights=str(weights))
    assert work(folder) == 0
    bundle = read_bundle(folder / "bundle")
    assert bundle.preprocessing.size == 160
    assert bundle.preprocessing.filter == "bicubic"
    assert bundle.description.data is None
    result = json.loads((folder / "result.json").read_text())
    stem = bundle.network.backbone.state_dict()["conv_stem.weight"]
    assert torch.equal(stem, load_file(weights)["conv_stem.weight"])
    assert any("by name" in note for note in result["notes"])


def test_the_size_can_be_set(work: Work, import_folder: Write, weights: Path) -> None:
    folder = import_folder(network="test_efficientnet", weights=str(weights), overrides={"size": "64"})
    assert work(folder) == 0
    assert read_bundle(folder / "bundle").preprocessing.size == 64


def test_the_builtin_weights_become_a_model(work: Work, import_folder: Write) -> None:
    folder = import_folder(builtin="efficientnet_lite0-imagenet", overrides={"size": 64})
    assert work(folder) == 0
    bundle = read_bundle(folder / "bundle")
    assert bundle.network.spec.architecture == "tf_efficientnet_lite0"
    assert bundle.profiles["plain"].dim == 1280


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({}, "INVALID_JOB"),
        ({"network": "test_eficientnet", "weights": "/nowhere"}, "INVALID_NETWORK"),
        ({"network": "test_efficientnet", "weights": "/nowhere"}, "INVALID_WEIGHTS"),
        ({"builtin": "nothing"}, "WEIGHTS_MISSING"),
        ({"builtin": "efficientnet_lite0-imagenet", "overrides": {"size": "5"}}, "INVALID_RECIPE"),
        ({"builtin": "efficientnet_lite0-imagenet", "overrides": {"sise": "64"}}, "INVALID_RECIPE"),
    ],
)
def test_what_cannot_be_imported_is_told(work: Work, import_folder: Write, parts: dict[str, Any], reason: str) -> None:
    folder = import_folder(**parts)
    assert work(folder) == 1
    assert json.loads((folder / "error.json").read_text())["reason"] == reason


def test_weights_of_another_network_are_refused_with_names(work: Work, import_folder: Write, weights: Path) -> None:
    folder = import_folder(network="test_resnet", weights=str(weights))
    assert work(folder) == 1
    error = json.loads((folder / "error.json").read_text())
    assert error["reason"] == "INVALID_WEIGHTS"
    assert "missing: conv1.0.weight" in error["message"]
