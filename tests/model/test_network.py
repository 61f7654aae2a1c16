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
