"""Networks: taps, pooling, normalisation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lookalike_model.network import NetworkError, RetrievalNetwork, check_architecture
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec
from lookalike_model.timm_config import built_for_one_size, preprocessing_of, statistics_of

Build = Callable[..., RetrievalNetwork]


def test_pixels_are_normalised_by_mean_and_deviation_of_their_channel(tiny_network: Build) -> None:
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    got = tiny_network().to_input(pixels).numpy()
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        expected = (pixels[..., channel].numpy() / 255 - mean) / std
        np.testing.assert_allclose(got[:, channel], expected, atol=1e-5)


def test_taps_are_the_pooled_features_and_the_embedding(tiny_network: Build) -> None:
    network = tiny_network(EmbeddingSpec(size=12, batch_norm=True, activation="relu"))
    taps = network(torch.randn(3, 3, 48, 48))
    assert taps["pool"].shape == (3, network.width("pool"))
    assert taps["embedding"].shape == (3, 12) == (3, network.width("embedding"))
    assert (taps["embedding"] >= 0).all()


def test_without_an_embedding_there_is_no_such_tap(tiny_network: Build) -> None:
    network = tiny_network()
    assert set(network(torch.randn(1, 3, 48, 48))) == {"pool"}
    with pytest.raises(NetworkError, match="no tap `embedding`"):
        network.width("embedding")


@pytest.mark.parametrize("pool", ["avg", "max", "gem"])
def test_pooling_is_what_its_name_says(tiny_network: Build, pool: str) -> None:
    network = tiny_network(pool=pool)
    images = torch.randn(2, 3, 64, 64)
    backbone: Any = network.backbone
    with torch.no_grad():
        features = backbone.forward_features(images)
        pooled = network(images)["pool"]
    floor = features.clamp(min=1e-6)
    expected = {
        "avg": features.mean((2, 3)),
        "max": features.amax((2, 3)),
        "gem": (floor**3).mean((2, 3)) ** (1 / 3),
    }[pool]
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize(
    ("activation", "function"), [("none", None), ("relu", torch.nn.functional.relu), ("gelu", torch.nn.functional.gelu)]
)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_embedding_is_fc_then_batch_norm_then_activation(
    tiny_network: Build, activation: str, function: Callable[[torch.Tensor], torch.Tensor] | None, batch_norm: bool
) -> None:
    head = EmbeddingSpec.model_validate({"size": 12, "batch_norm": batch_norm, "activation": activation})
    network = tiny_network(head)
    with torch.no_grad():
        taps = network(torch.randn(3, 3, 48, 48))
        expected = torch.nn.functional.linear(taps["pool"], network.embedding.fc.weight, network.embedding.fc.bias)  # type: ignore[union-attr, arg-type]
        if batch_norm:
            norm: Any = network.embedding.norm  # type: ignore[union-attr]
            expected = (expected - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(taps["embedding"], function(expected) if function else expected, atol=1e-5, rtol=1e-4)


def test_the_exponent_of_gem_is_learnt(tiny_network: Build) -> None:
    network = tiny_network(pool="gem").train()
    network(torch.randn(2, 3, 64, 64))["pool"].sum().backward()
    assert network.gem is not None
    assert network.gem.order.grad is not None
    assert network.gem.order.grad != 0


@pytest.mark.parametrize(
    "architecture", ["resnet10t", "mobilenetv2_100", "seresnext50_32x4d", "swin_tiny_patch4_window7_224", "mambaout_femto"]
)
@pytest.mark.parametrize("pool", ["avg", "max", "gem"])
def test_networks_of_many_kinds_are_pooled_to_their_width(architecture: str, pool: str) -> None:
    size = preprocessing_of(architecture).size
    spec = {"architecture": architecture, "pool": pool, "image_size": size if built_for_one_size(architecture) else None}
    if (architecture, pool) == ("mambaout_femto", "max"):
        with pytest.raises(NetworkError, match="avg"), torch.device("meta"):
            RetrievalNetwork(NetworkSpec.model_validate(spec), statistics_of(architecture))
        return
    with torch.device("meta"):
        network = RetrievalNetwork(NetworkSpec.model_validate(spec), statistics_of(architecture)).eval()
        assert network(torch.empty(2, 3, size, size))["pool"].shape == (2, network.width("pool"))


def test_gem_pools_a_map_with_its_channels_last() -> None:
    torch.manual_seed(0)
    network = RetrievalNetwork(NetworkSpec(architecture="mambaout_femto", pool="gem"), statistics_of("mambaout_femto")).eval()
    backbone: Any = network.backbone
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = backbone(images)
        expected = (features.clamp(min=1e-6) ** 3).mean((1, 2)) ** (1 / 3)
        torch.testing.assert_close(network(images)["pool"], expected)


def test_asking_for_gem_leaves_the_random_weights_as_they_were() -> None:
    states = []
    for pool in ("avg", "gem"):
        torch.manual_seed(7)
        network = RetrievalNetwork(
            NetworkSpec.model_validate({"architecture": "test_efficientnet", "pool": pool}), statistics_of("test_efficientnet")
        )
        states.append(network.backbone.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_vit_gives_its_class_token_at_another_size() -> None:
    spec = NetworkSpec(architecture="test_vit", pool="token", image_size=48)
    network = RetrievalNetwork(spec, ChannelStatistics(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))).eval()
    images = torch.randn(2, 3, 48, 48)
    backbone: Any = network.backbone
    with torch.no_grad():
        torch.testing.assert_close(network(images)["pool"], backbone.forward_features(images)[:, 0])
    assert built_for_one_size("test_vit")
    assert not built_for_one_size("test_efficientnet")


@pytest.mark.parametrize(("architecture", "pool"), [("test_efficientnet", "token"), ("test_vit", "gem")])
def test_a_pooling_that_cannot_be_is_refused(architecture: str, pool: str) -> None:
    with pytest.raises(NetworkError, match=r"take `|cannot build"):
        RetrievalNetwork(NetworkSpec.model_validate({"architecture": architecture, "pool": pool}), statistics_of(architecture))


def test_an_unknown_architecture_is_answered_with_near_names() -> None:
    with pytest.raises(NetworkError, match="tf_efficientnet_lite0"):
        check_architecture("tf_eficientnet_lite0")


def test_timms_preprocessing_is_taken_over() -> None:
    preprocessing = preprocessing_of("tf_efficientnet_lite0")
    assert (preprocessing.size, preprocessing.resize, preprocessing.crop_pct, preprocessing.filter) == (
        224,
        "crop",
        0.875,
        "bicubic",
    )
    assert statistics_of("tf_efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    assert preprocessing_of("tf_efficientnet_lite0", 96).size == 96
