"""The proof on golden pictures: a forger who recomputes every checksum is still found out."""

import dataclasses
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike_images import Preprocessing, decode
from lookalike_model import inputs
from lookalike_model.bundle import Bundle, read_bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.golden import GoldenError, golden_pictures, prove
from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import ChannelStatistics

Forge = Callable[..., Bundle]


@pytest.fixture
def forge(tmp_path: Path, bundle: Bundle, content: BundleContent) -> Forge:
    """Writes a bundle with something changed, consistent in itself, that keeps the first one's golden vectors."""

    def write(preprocessing: Preprocessing | None = None, network: RetrievalNetwork | None = None) -> Bundle:
        forged = dataclasses.replace(
            content,
            preprocessing=preprocessing or content.preprocessing,
            network=network or content.network,
        )
        folder = write_bundle(tmp_path / "forged", forged).folder
        kept = bundle.folder / "golden" / "vectors.safetensors"
        (folder / "golden" / "vectors.safetensors").write_bytes(kept.read_bytes())
        return read_bundle(folder)

    return write


def proof_of(bundle: Bundle) -> float:
    result = prove(EmbeddingModel.load(bundle), bundle)
    assert result.ok == (result.worst <= 1e-5)
    return result.worst


def test_an_honest_bundle_is_proved(forge: Forge) -> None:
    assert proof_of(forge()) < 1e-9


def test_bf16_is_judged_by_its_own_tolerance(bundle: Bundle) -> None:
    proof = prove(EmbeddingModel.load(bundle, precision="bf16"), bundle)
    assert proof.tolerance == 1e-3
    assert proof.worst > 1e-7


@pytest.mark.parametrize("resize_filter", ["bilinear", "lanczos"])
def test_another_resize_filter_is_caught(forge: Forge, content: BundleContent, resize_filter: str) -> None:
    changed = Preprocessing.from_json({**content.preprocessing.to_json(), "filter": resize_filter})
    assert proof_of(forge(preprocessing=changed)) > 1e-5


@pytest.mark.parametrize("changed", ["mean", "std"])
def test_another_mean_or_deviation_is_caught(forge: Forge, content: BundleContent, changed: str) -> None:
    halves = {changed: (0.5, 0.5, 0.5)}
    statistics = ChannelStatistics.model_validate({**content.network.statistics.model_dump(), **halves})
    network = RetrievalNetwork(content.network.spec, statistics)
    network.load_state_dict(content.network.state_dict())
    assert proof_of(forge(network=network)) > 1e-5


def test_swapped_channels_are_caught(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_bgr(data: bytes) -> Image.Image:
        return Image.fromarray(np.asarray(decode(data))[..., ::-1])

    monkeypatch.setattr(inputs, "decode", decode_bgr)
    assert proof_of(bundle) > 1e-5


def test_each_changed_tensor_is_caught(bundle: Bundle) -> None:
    network = bundle.network
    model = EmbeddingModel.load(bundle, "head")
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            kept = tensor.clone()
            tensor.add_(torch.linspace(0.2, 1, tensor.numel()).view(tensor.shape))
            assert not prove(model, bundle).ok, name
            tensor.copy_(kept)
    assert prove(model, bundle).ok


def test_one_changed_tensor_is_caught_in_a_forged_bundle(forge: Forge, content: BundleContent) -> None:
    with torch.no_grad():
        content.network.backbone.state_dict()["bn1.bias"].add_(0.05)
    assert proof_of(forge()) > 1e-5


def test_vectors_that_are_not_finite_fail(bundle: Bundle) -> None:
    with torch.no_grad():
        bundle.network.backbone.state_dict()["conv_stem.weight"].fill_(float("nan"))
    assert proof_of(bundle) == float("inf")


def test_pictures_that_the_library_does_not_have_are_an_error(bundle: Bundle) -> None:
    bundle.golden.pictures["alpha.png"] = "0" * 64
    with pytest.raises(GoldenError, match=r"alpha\.png"):
        prove(EmbeddingModel.load(bundle), bundle)


def test_the_golden_pictures_cover_what_turns_up_in_real_folders() -> None:
    modes = set()
    for picture in golden_pictures():
        assert len(picture.data) < 30_000
        image = Image.open(BytesIO(picture.data))
        modes.add((image.format, image.mode))
        if picture.name == "exif_rotated.jpg":
            assert image.getexif()[0x0112] == 6
    assert len(golden_pictures()) >= 8
    assert {("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "L"), ("WEBP", "RGB")} <= modes
