"""Networks as OpenVINO runs them: the same vectors, whatever the batch, the threads and the callers."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.embedding_model import EmbeddingModel, PictureModel
from lookalike_model.ensemble_model import for_inference, load_model
from lookalike_model.golden import prove
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import CompileError, Numerics
from lookalike_model.profile import Profile
from lookalike_model.spec import ChannelStatistics, NetworkSpec

COMPILED = Numerics(compiled=True)


@pytest.fixture
def viewed(tmp_path: Path, content: BundleContent) -> Bundle:
    """Two taps, and views that are flipped and of another size."""
    profiles = {"plain": Profile(), "head": Profile(tap="embedding"), "views": Profile(views=("identity", "flip", "scale-1.25"))}
    return write_bundle(tmp_path / "viewed", BundleContent("shoes", content.network, content.preprocessing, profiles))


def noise(model: PictureModel, count: int) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, model.inputs.nbytes), dtype=np.uint8)
    side = model.inputs.specs[0].size
    return pixels if len(model.inputs.specs) > 1 else pixels.reshape(count, side, side, 3)


def furthest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((1 - (one * other).sum(1)).max())


@pytest.mark.parametrize("profile", ["plain", "head", "views"])
def test_vectors_are_those_of_torch_in_a_batch_of_any_size(viewed: Bundle, profile: str) -> None:
    model = load_model(for_inference(viewed), profile)
    pixels = noise(model, 5)
    expected = model.embed(pixels)
    model.use(COMPILED)
    assert furthest(model.embed(pixels), expected) <= 1e-6
    assert furthest(np.concatenate([model.embed(row[None]) for row in pixels]), expected) <= 1e-6
    assert prove(model, viewed).worst <= 1e-5
    model.use(Numerics())
    assert (model.embed(pixels) == expected).all(), "torch's way is as it was"


def test_bf16_moves_vectors_and_fp32_does_not(bundle: Bundle) -> None:
    model = load_model(for_inference(bundle))
    pixels = noise(model, 3)
    expected = model.embed(pixels)
    model.use(Numerics("bf16", compiled=True))
    halved = model.embed(pixels)
    assert furthest(halved, expected) <= 1e-3
    model.use(COMPILED)
    assert furthest(model.embed(pixels), expected) < 1e-6


def bundle_of(architecture: str, size: int, folder: Path) -> Bundle:
    torch.manual_seed(0)
    network = RetrievalNetwork(NetworkSpec(architecture=architecture), ChannelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)).eval()
    return write_bundle(folder, BundleContent("kind", network, Preprocessing(size=size)))


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("test_resnet", 160), ("test_convnext", 160), pytest.param("deit_tiny_patch16_224", 224, marks=pytest.mark.slow)],
)
def test_networks_of_all_kinds_are_taken(architecture: str, size: int, tmp_path: Path) -> None:
    bundle = bundle_of(architecture, size, tmp_path / "bundle")
    model = load_model(for_inference(bundle))
    model.use(COMPILED)
    assert prove(model, bundle).worst <= 1e-5


def test_what_is_settled_goes_on_without_torchs_weights(viewed: Bundle) -> None:
    bundle = for_inference(viewed)
    models = [load_model(bundle, profile) for profile in viewed.profiles]
    for model in models:
        model.use(COMPILED)
    expected = [model.embed(noise(model, 2)) for model in models]
    for model in models:
        model.settle({torch.get_num_threads()})
    assert all(tensor.is_meta for tensor in models[0].networks[0].state_dict().values())
    for model, vectors in zip(models, expected, strict=True):
        assert (model.embed(noise(model, 2)) == vectors).all()


def test_each_number_of_threads_has_weights_of_its_own_and_only_those_asked_for_stay(bundle: Bundle) -> None:
    model = load_model(for_inference(bundle))
    in_torch = model.networks[0].nbytes
    model.use(Numerics("bf16", compiled=True))
    for precision in ("fp32", "bf16"):
        model.use(Numerics(precision, compiled=True))
        model.embed(noise(model, 1))
    model.settle({1})
    one = model.networks[0].nbytes
    assert 0.4 * in_torch < one < 0.6 * in_torch
    model.settle({1, 2})
    assert model.networks[0].nbytes == 2 * one


def test_calls_side_by_side_are_each_answered_with_their_own(bundle: Bundle) -> None:
    model = load_model(for_inference(bundle))
    model.use(COMPILED)
    pixels = noise(model, 16)
    expected = model.embed(pixels)

    def embed(at: int) -> float:
        torch.set_num_threads(1 + at % 2)
        return max(furthest(model.embed(pixels[row : row + 3]), expected[row : row + 3]) for row in (at, 13 - at, at) for _ in range(20))

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(embed, range(12))) <= 1e-6


def test_what_openvino_cannot_take_is_said_and_the_model_goes_on(tmp_path: Path) -> None:
    """This network fits its positions to the picture by an operation that OpenVINO lacks."""
    model = EmbeddingModel.load(bundle_of("test_vit", 160, tmp_path / "bundle"))
    expected = model.embed(noise(model, 1))
    with pytest.raises(CompileError, match=r"(?s)OpenVINO cannot run test_vit: .*upsample_bicubic"):
        model.use(COMPILED)
    model.use(Numerics())
    assert (model.embed(noise(model, 1)) == expected).all()


def test_nobody_is_told_of_it() -> None:
    """OpenVINO's package for telling its makers is installed with it, and sends without being asked."""
    script = "import sys, lookalike_model.compiled, openvino.tools.ovc; sys.exit(sys.modules['openvino_telemetry'] is not None)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0


def test_torch_alone_is_loaded_where_nothing_is_compiled() -> None:
    script = "import sys, lookalike_model.ensemble_model, lookalike_embedder.settings; sys.exit('openvino' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0
