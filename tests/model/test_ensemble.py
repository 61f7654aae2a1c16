"""An ensemble is one model: one space, one decoding, and its cosine is the weighted mean of its members'."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_images import Preprocessing, decode
from lookalike_model import inputs
from lookalike_model.bundle import RETRIEVAL, Bundle, BundleError, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import EmbeddingModel, ModelLoadError
from lookalike_model.ensemble import Ensemble, read_model
from lookalike_model.ensemble_model import EnsembleModel, load_model
from lookalike_model.ensemble_writer import EnsembleContent, MemberSource, write_ensemble
from lookalike_model.golden import golden_pictures, prove
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile

PICTURES = [picture.data for picture in golden_pictures()]


@pytest.fixture
def members(tmp_path: Path, content: BundleContent, tiny_network: Callable[..., RetrievalNetwork]) -> tuple[Bundle, Bundle]:
    """Two networks that look at pictures of different sizes; the second has views."""
    first = write_bundle(tmp_path / "first", content)
    profiles = {"plain": Profile(views=("identity", "flip", "scale-1.25"))}
    other = BundleContent("boots", tiny_network(seed=7), Preprocessing(size=32, resize="pad"), profiles)
    return first, write_bundle(tmp_path / "second", other)


def sources(members: tuple[Bundle, Bundle], weights: tuple[float, float] = (3, 1)) -> tuple[MemberSource, MemberSource]:
    return (
        MemberSource(members[0].folder, "models/shoes/versions/1", "head", weights[0]),
        MemberSource(members[1].folder, "models/boots/versions/2", None, weights[1]),
    )


@pytest.fixture
def ensemble(tmp_path: Path, members: tuple[Bundle, Bundle]) -> Ensemble:
    return write_ensemble(tmp_path / "ensemble", EnsembleContent("both", sources(members)))


def test_cosine_is_the_weighted_mean_of_the_members_cosines(ensemble: Ensemble, members: tuple[Bundle, Bundle]) -> None:
    a = EmbeddingModel.load(members[0], "head").embed_pictures(PICTURES).astype(np.float64)
    b = EmbeddingModel.load(members[1]).embed_pictures(PICTURES).astype(np.float64)
    ours = EnsembleModel.load(ensemble).embed_pictures(PICTURES).astype(np.float64)
    np.testing.assert_allclose(ours @ ours.T, 0.75 * a @ a.T + 0.25 * b @ b.T, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    assert ours.shape[1] == ensemble.profiles["plain"].dim == a.shape[1] + b.shape[1]


def test_picture_is_decoded_once_for_all_members(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    real = decode

    def counted(data: bytes) -> Any:
        decoded.append(data)
        return real(data)

    monkeypatch.setattr(inputs, "decode", counted)
    EnsembleModel.load(ensemble).embed_pictures(PICTURES[:3])
    assert decoded == PICTURES[:3]


def test_ensemble_reads_back_as_one_model_and_is_proven(ensemble: Ensemble) -> None:
    again = read_model(ensemble.folder)
    assert isinstance(again, Ensemble)
    model = load_model(again)
    assert model.space("both", "1").fingerprint == again.profiles["plain"].fingerprint
    assert prove(model, again).worst <= 1e-6
    with pytest.raises(ModelLoadError, match="no profile `tuned`"):
        load_model(again, "tuned")


def test_vector_does_not_depend_on_its_batch(ensemble: Ensemble) -> None:
    model = EnsembleModel.load(ensemble)
    alone = np.concatenate([model.embed_pictures([data]) for data in PICTURES])
    assert (1 - (alone * model.embed_pictures(PICTURES, batch_size=3)).sum(1)).max() <= 1e-5


def test_space_follows_members_profiles_weights_and_order(tmp_path: Path, ensemble: Ensemble, members: tuple[Bundle, Bundle]) -> None:
    first, second = sources(members)
    others = {
        "same": (first, second),
        "scaled": sources(members, (6, 2)),
        "weights": sources(members, (1, 1)),
        "order": (second, first),
        "profile": (replace(first, profile="plain"), second),
    }
    prints = {
        name: write_ensemble(tmp_path / name, EnsembleContent("x", each)).profiles["plain"].fingerprint for name, each in others.items()
    }
    ours = ensemble.profiles["plain"].fingerprint
    assert prints.pop("same") == prints.pop("scaled") == ours
    assert len({ours, *prints.values()}) == 4


def test_member_of_a_changed_network_is_refused(ensemble: Ensemble) -> None:
    path = ensemble.folder / "members" / "1" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"member 1: .*fingerprint"):
        read_model(ensemble.folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["members"][0].update(weight=0.5), "add up to 1"),
        (lambda d: d["members"].pop(), "members"),
        (lambda d: d["members"][0].update(profile="plain"), "fingerprint"),
        (lambda d: d["members"][0].update(profile="tuned"), "no profile `tuned`"),
        (lambda d: d.update(default_profile="tuned"), "none of its profiles"),
        (lambda d: d.update(decoder_revision=0), "decoder revision"),
        (lambda d: d.update(format=2), "format 2"),
        (lambda d: d.update(surprise=1), "surprise"),
    ],
)
def test_description_that_was_edited_is_refused(ensemble: Ensemble, change: Callable[[Any], object], says: str) -> None:
    path = ensemble.folder / RETRIEVAL
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=says):
        read_model(ensemble.folder)


def test_foreign_files_and_missing_members_are_refused(ensemble: Ensemble) -> None:
    (ensemble.folder / "members" / "2").mkdir()
    (ensemble.folder / "members" / "2" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="do not belong"):
        read_model(ensemble.folder)
    shutil.rmtree(ensemble.folder / "members" / "2")
    shutil.rmtree(ensemble.folder / "members" / "1")
    with pytest.raises(BundleError, match="member 1"):
        read_model(ensemble.folder)


def test_no_ensemble_of_one_of_ensembles_or_of_no_weight(tmp_path: Path, ensemble: Ensemble, members: tuple[Bundle, Bundle]) -> None:
    first, second = sources(members)

    def write(*chosen: MemberSource) -> None:
        write_ensemble(tmp_path / "refused", EnsembleContent("x", chosen))

    with pytest.raises(BundleError, match="2 to 6 members, not 1"):
        write(first)
    with pytest.raises(BundleError, match=r"models/both/versions/1: it is an ensemble"):
        write(first, MemberSource(ensemble.folder, "models/both/versions/1"))
    with pytest.raises(BundleError, match="must be above 0"):
        write(first, replace(second, weight=0.0))
    with pytest.raises(BundleError, match="no profile `best`"):
        write(first, replace(second, profile="best"))
    assert not (tmp_path / "refused").exists()


def test_ensemble_is_no_single_bundle(ensemble: Ensemble) -> None:
    with pytest.raises(BundleError, match="name one of its members"):
        read_bundle(ensemble.folder)
