"""Bundles: what is written reads back, in timm too; what was changed is refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lookalike_model.bundle import Bundle, BundleError, Metric, TrainingData, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Advice, DbaAdvice, Profile


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path, content: BundleContent) -> None:
    full = dataclasses.replace(
        content,
        advice={"plain": Advice(dba=DbaAdvice(k=3, weights=(1.0, 0.75, 0.5, 0.25)))},
        metrics={"held_out_map": Metric(value=0.7, ci95=(0.6, 0.8))},
        data=TrainingData(name="d", revision=2, fingerprint="f", pictures=10, classes=5, held_out_classes=2),
        recipe={"sampler": {"classes": 4}},
    )
    written = write_bundle(tmp_path / "b", full)
    bundle = read_bundle(tmp_path / "b")
    assert bundle.description == written.description
    assert bundle.preprocessing == content.preprocessing
    assert bundle.profiles["plain"].advice.dba == DbaAdvice(k=3, weights=(1.0, 0.75, 0.5, 0.25))
    assert bundle.profiles["head"].dim == 16
    for name, tensor in content.network.state_dict().items():
        assert torch.equal(bundle.network.state_dict()[name], tensor)


@pytest.mark.parametrize("pool", ["avg", "max", "gem"])
def test_timm_loads_the_folder_strictly(
    tmp_path: Path, content: BundleContent, tiny_network: Callable[..., RetrievalNetwork], pool: str
) -> None:
    network = tiny_network(pool=pool)
    plain = dataclasses.replace(content, network=network, profiles={"plain": Profile()})
    bundle = write_bundle(tmp_path / "b", plain)
    model: Any = timm.create_model(f"local-dir:{bundle.folder}", pretrained=True).eval()
    assert model.state_dict().keys() == network.backbone.state_dict().keys()
    images = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(images), network.backbone(images))
    assert tuple(model.pretrained_cfg["mean"]) == network.statistics.mean
    assert model.pretrained_cfg["input_size"][1] == 48


def test_the_card_gives_figures_intervals_and_data(tmp_path: Path, content: BundleContent) -> None:
    data = TrainingData(name="boots", revision=2, fingerprint="abc", pictures=10, classes=5, held_out_classes=2)
    full = dataclasses.replace(
        content, metrics={"map": Metric(value=0.7123, ci95=(0.6, 0.8))}, data=data, notes=("One file was no picture.",)
    )
    card = (write_bundle(tmp_path / "b", full).folder / "README.md").read_text()
    for expected in ("0.7123", "0.6000", "0.8000", "boots", "`abc`", "One file was no picture."):
        assert expected in card
    assert "Unproven" not in card


def test_the_card_says_unproven_when_nothing_was_held_out(tmp_path: Path, content: BundleContent) -> None:
    data = TrainingData(name="boots", revision=1, fingerprint="abc", pictures=10, classes=5, held_out_classes=0)
    bundle = write_bundle(tmp_path / "b", dataclasses.replace(content, data=data))
    assert "Unproven" in (bundle.folder / "README.md").read_text()


def test_a_bundle_is_never_written_over_another(bundle: Bundle, content: BundleContent) -> None:
    with pytest.raises(FileExistsError):
        write_bundle(bundle.folder, content)


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "retrieval.json", "README.md", "golden/vectors.safetensors"],
)
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    (bundle.folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle.folder)


def test_a_missing_head_is_refused(bundle: Bundle) -> None:
    (bundle.folder / "heads.safetensors").unlink()
    with pytest.raises(BundleError, match="embedding"):
        read_bundle(bundle.folder)


def test_a_file_too_many_is_refused(bundle: Bundle) -> None:
    (bundle.folder / "setup.py").write_text("print()")
    with pytest.raises(BundleError, match=r"setup\.py"):
        read_bundle(bundle.folder)


def test_a_link_out_of_the_folder_is_refused(bundle: Bundle) -> None:
    (bundle.folder / "README.md").unlink()
    (bundle.folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(BundleError, match="links"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "format 2"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("recipe"), "recipe"),
        (lambda d: d["network"].update(architecture="nothing_like_it"), "nothing_like_it"),
        (lambda d: d["network"].update(trust_remote_code=True), "trust_remote_code"),
        (lambda d: d["preprocessing"].update(filter="sharpest"), "sharpest"),
        (lambda d: d["preprocessing"].pop("filter"), "filter"),
        (lambda d: d["profiles"]["plain"].update(fingerprint="ls1:" + "0" * 64), "changed after it was written"),
        (lambda d: d["profiles"]["plain"].update(dim=7), "says 7 values"),
        (lambda d: d["profiles"]["plain"]["profile"].update(views=["mirror"]), "views"),
        (lambda d: d["profiles"]["plain"]["profile"].update(normalise="yes"), "normalise"),
        (lambda d: d["statistics"].update(std=[0.2, 0.0, 0.2]), "std"),
        (lambda d: d["statistics"].update(mean=[0.5, 0.5, 0.5]), "disagree on mean"),
        (lambda d: d.update(default_profile="best"), "best"),
    ],
)
def test_a_description_that_was_edited_is_refused(bundle: Bundle, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit_json(bundle.folder / "retrieval.json", change)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle.folder)


def test_a_tensor_that_was_changed_is_told_by_the_fingerprint(bundle: Bundle) -> None:
    tensors = load_file(bundle.folder / "model.safetensors")
    tensors["bn1.bias"][0] += 0.01
    save_file(tensors, bundle.folder / "model.safetensors")
    with pytest.raises(BundleError, match="changed after it was written"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors", "golden/vectors.safetensors"])
def test_a_broken_tensor_file_is_named(bundle: Bundle, name: str) -> None:
    (bundle.folder / name).write_bytes(b"\x80\x04nonsense")
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle.folder)


def test_timms_file_must_say_the_same(bundle: Bundle) -> None:
    edit_json(bundle.folder / "config.json", lambda d: d["pretrained_cfg"].update(mean=[0.1, 0.2, 0.3]))
    with pytest.raises(BundleError, match="disagree on mean"):
        read_bundle(bundle.folder)
