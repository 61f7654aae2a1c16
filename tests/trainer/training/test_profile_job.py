"""Profiles that a job adds: what it keeps, what it computes, which pictures it looks at, and what it refuses."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike_images import Preprocessing, decode, preprocess
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.ensemble_writer import EnsembleContent, MemberSource, write_ensemble
from lookalike_model.golden import golden_pictures, prove
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Advice, DbaAdvice, Profile
from lookalike_model.projection import Projection
from lookalike_model.spec import EmbeddingSpec, NetworkSpec
from lookalike_model.timm_config import statistics_of
from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training import projection_fit, training_run
from lookalike_trainer.training.preparation import prepare_pixels
from lookalike_trainer.training.split import split_classes

from .conftest import ShapeDataset

Work = Callable[[Path], int]
JobFolder = Callable[..., Path]
Write = Callable[..., Path]
STATISTICS = statistics_of("test_efficientnet")
PICTURES = [picture.data for picture in golden_pictures()]


@pytest.fixture
def base(tmp_path: Path) -> Bundle:
    """A bundle of a network with an embedding FC, with advice."""
    torch.manual_seed(5)
    network = RetrievalNetwork(NetworkSpec(architecture="test_efficientnet", pool="avg", embedding=EmbeddingSpec(size=8)), STATISTICS)
    advice = {"plain": Advice(dba=DbaAdvice(k=3))}
    return write_bundle(tmp_path / "base", BundleContent("shapes", network, Preprocessing(size=32), advice=advice))


@pytest.fixture
def profile_folder(tmp_path: Path) -> Write:
    """Writes the `job.json` of a profile; what is given replaces its parts."""
    made: list[Path] = []

    def write(path: Path, **parts: Any) -> Path:
        folder = tmp_path / f"profile{len(made)}"
        folder.mkdir()
        made.append(folder)
        job = {
            "kind": "profile",
            "uid": folder.name,
            "model": "shapes",
            "path": str(path),
            "label": "models/shapes/versions/1",
            "metrics": {"heldout_map": 0.5},
            "notes": ["as it was"],
            "name": "tuned",
            "tap": "pool",
            "views": ["identity"],
            "project_dim": 0,
            "dataset": None,
            "default": False,
        } | parts
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    return write


def document(path: Path) -> Any:
    return json.loads(path.read_text())


def failure(work: Work, folder: Path) -> tuple[str, str]:
    assert work(folder) == 1
    error = document(folder / "error.json")
    return error["reason"], error["message"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)  # type: ignore[no-any-return]


def looped(bundle: Bundle, data: bytes, tap: str, views: list[tuple[int, bool]]) -> np.ndarray:
    """The mean of a tap over views, each a size and whether it is mirrored; not scaled."""
    found = []
    for size, mirrored in views:
        pixels = preprocess(decode(data), replace(bundle.preprocessing, size=size))
        pixels = np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels
        with torch.inference_mode():
            outputs = bundle.network(bundle.network.to_input(torch.from_numpy(pixels[None])))
        found.append(outputs[tap][0].double().numpy())
    return sum(found) / len(found)  # type: ignore[no-any-return]


def test_the_new_profile_is_the_mean_over_views_and_all_else_stays(work: Work, profile_folder: Write, base: Bundle) -> None:
    folder = profile_folder(base.folder, views=["identity", "flip", "scale-1.5"], tap="embedding", default=True)
    before = {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()}
    assert work(folder) == 0
    made = read_bundle(folder / "bundle")
    expected = unit(np.stack([looped(base, data, "embedding", [(32, False), (32, True), (48, False)]) for data in PICTURES]))
    assert np.abs(made.golden.vectors["tuned"] - expected).max() < 1e-5
    assert prove(EmbeddingModel.load(made), made).ok
    assert made.default_profile == "tuned"
    assert made.profiles["plain"] == base.profiles["plain"]
    assert np.array_equal(made.golden.vectors["plain"], base.golden.vectors["plain"])
    assert {path: path.read_bytes() for path in base.folder.rglob("*") if path.is_file()} == before
    result = document(folder / "result.json")
    assert result["metrics"] == {"heldout_map": 0.5}
    assert result["profiles"]["plain"]["dba_advice"]["k"] == 3
    assert (result["profiles"]["tuned"]["tap"], result["profiles"]["tuned"]["views"]) == ("embedding", ["identity", "flip", "scale-1.5"])
    assert result["notes"][0] == "as it was"
    assert any("nothing was measured" in note for note in result["notes"])
    card = (folder / "bundle" / "README.md").read_text()
    assert "- `tuned` (default): tap `embedding`, views `identity`, `flip`, `scale-1.5` averaged, 8 values" in card


def test_a_profile_is_added_to_a_version_that_got_one_before(work: Work, profile_folder: Write, base: Bundle, shapes: ShapeDataset) -> None:
    first = profile_folder(base.folder, project_dim=4, dataset=shapes.reference())
    assert work(first) == 0
    second = profile_folder(first / "bundle", name="more", views=["flip"], project_dim=5, dataset=shapes.reference())
    assert work(second) == 0
    one, two = read_bundle(first / "bundle"), read_bundle(second / "bundle")
    assert [*two.profiles] == ["plain", "tuned", "more"]
    assert two.profiles["tuned"] == one.profiles["tuned"]
    assert [*two.description.recipe["profiles"]] == ["tuned", "more"]
    assert two.default_profile == "plain"


def test_a_projection_is_a_pca_of_the_views_mean_and_says_what_it_was_fitted_on(
    work: Work, profile_folder: Write, base: Bundle, shapes: ShapeDataset
) -> None:
    folder = profile_folder(base.folder, views=["identity", "flip"], project_dim=6, dataset=shapes.reference())
    assert work(folder) == 0
    made = read_bundle(folder / "bundle")
    contents = [blob_path(shapes.blobs, json.loads(line)["sha256"]).read_bytes() for line in shapes.manifest.read_text().splitlines()]
    views = [(32, False), (32, True)]
    rows = unit(np.stack([looped(base, data, "pool", views) for data in contents]))
    mean = rows.mean(0)
    directions = np.linalg.svd(rows - mean)[2][:6]
    expected = unit((unit(np.stack([looped(base, data, "pool", views) for data in PICTURES])) - mean) @ directions.T)
    ours = made.golden.vectors["tuned"].astype(np.float64)
    assert np.abs(ours @ ours.T - expected @ expected.T).max() < 1e-4  # whatever the signs of the directions
    assert made.profiles["tuned"].dim == 6
    assert document(folder / "result.json")["profiles"]["tuned"]["projected"] is True
    fitted_on = made.description.recipe["profiles"]["tuned"]["fitted_on"]
    assert fitted_on == {"dataset": "shapes", "revision": 1, "fingerprint": "ld1:0", "pictures": 48, "classes": 12}
    assert "fitted on 48 pictures of 12 classes of datasets/shapes/revisions/1" in (folder / "bundle" / "README.md").read_text()


@pytest.mark.parametrize("broken", [False, True])
def test_classes_that_were_held_out_are_not_fitted_on(
    work: Work,
    job_folder: JobFolder,
    profile_folder: Write,
    shapes: ShapeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: bool,
) -> None:
    if broken:
        shapes.add("shape00", "broken.png", b"no picture")
    left_out = json.dumps(["shape01/0.png"]).encode()
    digest = hashlib.sha256(left_out).hexdigest()
    excluded = blob_path(shapes.blobs, digest)
    excluded.parent.mkdir(exist_ok=True)
    excluded.write_bytes(left_out)
    held_out: set[str] = set()

    def watched(names: Any, counts: Any, share: float, seed: int) -> Any:
        split = split_classes(names, counts, share, seed)
        held_out.update(names[index] for index in split.held_out)
        return split

    monkeypatch.setattr(training_run, "split_classes", watched)
    training = job_folder({"loop.epochs": "1"}, recipe="cross-entropy", dataset={**shapes.reference(), "excluded": str(excluded)}, seed=7)
    assert work(training) == 0
    seen: list[str] = []

    def watched_load(pictures: Any, blobs: Any, spec: Any, sizes: Any, *rest: Any) -> Any:
        if sizes != [16]:
            seen.extend(picture.path for picture in pictures)
        return prepare_pixels(pictures, blobs, spec, sizes, *rest)

    monkeypatch.setattr(projection_fit, "prepare_pixels", watched_load)
    folder = profile_folder(training / "bundle", project_dim=4, dataset=shapes.reference())
    assert work(folder) == 0
    assert len(held_out) == 3
    assert {path.split("/")[0] for path in seen} == {f"shape{number:02}" for number in range(12)} - held_out
    assert "shape01/0.png" not in seen
    notes = " ".join(document(folder / "result.json")["notes"])
    assert "on which the model was trained; the 3 classes that were held out were not used" in notes
    other = profile_folder(training / "bundle", project_dim=4, dataset={**shapes.reference(), "fingerprint": "ld1:1"})
    assert work(other) == 0
    assert "would flatter" in " ".join(document(other / "result.json")["notes"])
    excluded.unlink()
    reason, message = failure(work, profile_folder(training / "bundle", project_dim=4, dataset=shapes.reference()))
    assert reason == "HELD_OUT_UNKNOWN"
    assert "Name a dataset" in message


def test_of_many_pictures_some_are_fitted_on(
    work: Work, profile_folder: Write, base: Bundle, shapes: ShapeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_fit, "MAX_PICTURES", 20)
    folder = profile_folder(base.folder, project_dim=4, dataset=shapes.reference())
    assert work(folder) == 0
    assert read_bundle(folder / "bundle").description.recipe["profiles"]["tuned"]["fitted_on"]["pictures"] == 20


def test_a_projections_name_that_is_taken_is_not_taken_again(
    work: Work, profile_folder: Write, base: Bundle, tmp_path: Path, shapes: ShapeDataset
) -> None:
    profile = Profile.model_validate({"projection": {"name": "tuned", "dim": 2}})
    projections = {"tuned": Projection(torch.zeros(base.network.pool_size), torch.eye(2, base.network.pool_size))}
    content = BundleContent("shapes", base.network, base.preprocessing, {"other": profile}, "other", projections=projections)
    write_bundle(tmp_path / "elsewhere", content)
    folder = profile_folder(tmp_path / "elsewhere", project_dim=4, dataset=shapes.reference())
    assert work(folder) == 0
    made = read_bundle(folder / "bundle")
    assert [entry.dim for entry in made.profiles.values()] == [2, 4]


@pytest.mark.parametrize(
    ("parts", "reason", "says"),
    [
        ({}, "INVALID_PROFILE", "profile `plain`"),
        ({"views": ["scale-0.5", "identity"], "path": "tiny"}, "INVALID_PROFILE", "16..1024"),
        ({"tap": "embedding", "path": "tiny"}, "INVALID_PROFILE", "no embedding FC"),
        ({"views": ["scale-2"], "path": "fixed"}, "INVALID_PROFILE", "one size only"),
        ({"project_dim": 9, "tap": "embedding"}, "TOO_MANY_DIMS", "at most 8"),
        ({"project_dim": 48}, "TOO_FEW_PICTURES", "at least 49 pictures, and datasets/shapes/revisions/1 has 48"),
        ({"path": "nowhere"}, "INVALID_BUNDLE", "no bundle folder"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    work: Work, profile_folder: Write, base: Bundle, tmp_path: Path, shapes: ShapeDataset, parts: dict[str, Any], reason: str, says: str
) -> None:
    path = tmp_path / parts.pop("path", "base")
    if path.name in ("tiny", "fixed"):
        spec = NetworkSpec(architecture="test_efficientnet" if path.name == "tiny" else "test_vit", pool="avg")
        size = 24 if path.name == "tiny" else 32
        spec = spec.model_copy(update={"image_size": None if path.name == "tiny" else size})
        write_bundle(path, BundleContent("m", RetrievalNetwork(spec, STATISTICS), Preprocessing(size=size)))
    dataset = shapes.reference() if "project_dim" in parts else None
    told, message = failure(work, profile_folder(path, dataset=dataset, **parts))
    assert told == reason
    assert says in message


def test_pictures_that_are_all_alike_are_too_few(work: Work, profile_folder: Write, base: Bundle, empty_dataset: ShapeDataset) -> None:
    for number in range(6):
        empty_dataset.add("a", f"{number}.png", PICTURES[0])
    folder = profile_folder(base.folder, project_dim=2, dataset=empty_dataset.reference())
    reason, message = failure(work, folder)
    assert reason == "TOO_FEW_PICTURES"
    assert "alike" in message


def test_an_ensemble_has_no_profiles_of_its_own(work: Work, profile_folder: Write, base: Bundle, tmp_path: Path) -> None:
    members = [MemberSource(base.folder, "models/a/versions/1"), MemberSource(base.folder, "models/a/versions/1")]
    write_ensemble(tmp_path / "both", EnsembleContent("both", members))
    reason, message = failure(work, profile_folder(tmp_path / "both", views=["flip"]))
    assert reason == "INVALID_BUNDLE"
    assert "ensemble" in message
