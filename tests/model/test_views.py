"""Test-time views and projections: what a profile says is what a plain loop computes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lookalike_images import Preprocessing, decode, preprocess
from lookalike_model.bundle import PROJECTIONS, Bundle, BundleError, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.golden import golden_pictures, prove
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile, ProjectionSpec
from lookalike_model.projection import Projection
from lookalike_model.spec import NetworkSpec

PICTURES = [picture.data for picture in golden_pictures()]
VIEWS = ("identity", "flip", "scale-1.25", "flip-scale-0.5")


@pytest.fixture
def projection(content: BundleContent) -> Projection:
    generator = torch.Generator().manual_seed(3)
    width = content.network.width("pool")
    return Projection(torch.randn(width, generator=generator) / width, torch.randn(8, width, generator=generator))


@pytest.fixture
def viewed(tmp_path: Path, content: BundleContent, projection: Projection) -> Bundle:
    profiles = {
        "plain": Profile(),
        "views": Profile(views=VIEWS),
        "projected": Profile(projection=ProjectionSpec(name="pca", dim=8), views=("identity", "flip")),
        "raw": Profile(projection=ProjectionSpec(name="pca", dim=8), normalise=False),
    }
    return write_bundle(tmp_path / "viewed", replace(content, profiles=profiles, projections={"pca": projection}))


def tapped(bundle: Bundle, data: bytes, size: int, mirrored: bool) -> np.ndarray:
    pixels = preprocess(decode(data), replace(bundle.preprocessing, size=size))
    if mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    with torch.inference_mode():
        network = bundle.network
        return network(network.to_input(torch.from_numpy(pixels[None])))["pool"][0].double().numpy()  # type: ignore[no-any-return]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)  # type: ignore[no-any-return]


def test_views_are_averaged_before_normalisation(viewed: Bundle) -> None:
    ours = EmbeddingModel.load(viewed, "views").embed_pictures(PICTURES)
    for data, vector in zip(PICTURES, ours, strict=True):
        each = [tapped(viewed, data, size, mirrored) for size, mirrored in ((48, False), (48, True), (60, False), (24, True))]
        assert 1 - unit(np.mean(each, axis=0)) @ vector <= 1e-6


def test_projection_maps_the_unit_vector_and_is_scaled_again(viewed: Bundle, projection: Projection) -> None:
    ours = EmbeddingModel.load(viewed, "projected").embed_pictures(PICTURES)
    assert ours.shape == (len(PICTURES), 8)
    for data, vector in zip(PICTURES, ours, strict=True):
        before = unit((tapped(viewed, data, 48, False) + tapped(viewed, data, 48, True)) / 2)
        expected = projection.components.double().numpy() @ (before - projection.mean.double().numpy())
        np.testing.assert_allclose(vector, unit(expected), atol=1e-5)


def test_nothing_is_scaled_in_a_profile_that_does_not_normalise(viewed: Bundle, projection: Projection) -> None:
    vector = EmbeddingModel.load(viewed, "raw").embed_pictures(PICTURES[:1])[0]
    expected = projection.components.double().numpy() @ (tapped(viewed, PICTURES[0], 48, False) - projection.mean.double().numpy())
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-4)


def test_each_profile_is_a_space_of_its_own_and_is_proven(viewed: Bundle, bundle: Bundle) -> None:
    assert len({entry.fingerprint for entry in viewed.profiles.values()}) == 4
    # What other profiles do is not in the space of the plain one.
    assert viewed.profiles["plain"].fingerprint == bundle.profiles["plain"].fingerprint
    assert all(prove(EmbeddingModel.load(viewed, name), viewed).ok for name in viewed.profiles)
    assert prove(EmbeddingModel.load(viewed, "views", precision="bf16"), viewed).ok


def test_batches_of_several_sizes_give_one_vector(viewed: Bundle) -> None:
    model = EmbeddingModel.load(viewed, "views")
    alone = np.concatenate([model.embed_pictures([data]) for data in PICTURES])
    together = model.embed_pictures(PICTURES)
    assert (1 - (alone * together).sum(1)).max() <= 1e-5
    assert model.inputs.nbytes == 3 * (48**2 + 60**2 + 24**2)
    assert model.embed_pictures([]).shape == (0, model.dim)


@pytest.mark.parametrize(
    "view", ["", "mirror", "scale-1", "scale-1.0", "scale-1.50", "scale-0.1", "scale-9", "scale-1.255", "flip-", "identity-scale-1.25"]
)
def test_view_has_one_spelling(view: str) -> None:
    with pytest.raises(ValidationError, match="view"):
        Profile(views=(view,))


def test_no_views_or_one_twice_is_refused() -> None:
    with pytest.raises(ValidationError):
        Profile(views=())
    with pytest.raises(ValidationError, match="once"):
        Profile(views=("flip", "flip"))


def test_projection_of_another_width_or_without_tensors_is_refused(tmp_path: Path, content: BundleContent, projection: Projection) -> None:
    profiles = {"plain": Profile(tap="embedding", projection=ProjectionSpec(name="pca", dim=8))}
    with pytest.raises(ValueError, match="the tap has 16"):
        write_bundle(tmp_path / "a", replace(content, profiles=profiles, projections={"pca": projection}))
    with pytest.raises(ValueError, match="without its tensors"):
        write_bundle(tmp_path / "b", replace(content, profiles=profiles))


def test_changed_or_missing_projection_is_refused(viewed: Bundle) -> None:
    path = viewed.folder / PROJECTIONS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="fingerprint"):
        read_bundle(viewed.folder)
    path.unlink()
    with pytest.raises(BundleError, match="disagree on pca"):
        read_bundle(viewed.folder)


def test_network_of_one_size_has_no_views_of_another_scale(tiny_network: Callable[..., RetrievalNetwork]) -> None:
    spec = NetworkSpec(architecture="test_vit", pool="token", image_size=32)
    network = RetrievalNetwork(spec, tiny_network().statistics)
    with pytest.raises(ValueError, match="one size only"):
        EmbeddingModel(network, Preprocessing(size=32), "plain", Profile(views=("identity", "scale-1.25")))
    assert EmbeddingModel(network, Preprocessing(size=32), "plain", Profile(views=("identity", "flip"))).dim > 0
