"""A network small enough that a test takes milliseconds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lookalike_images import Preprocessing
from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec

STATISTICS = ChannelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def build_tiny(embedding: EmbeddingSpec | None = None, pool: str = "avg", seed: int = 0) -> RetrievalNetwork:
    """A test_efficientnet whose batch norms have statistics, as after training."""
    torch.manual_seed(seed)
    spec = NetworkSpec.model_validate({"architecture": "test_efficientnet", "pool": pool, "embedding": embedding})
    network = RetrievalNetwork(spec, STATISTICS)
    network.train()
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(20):
            network(network.to_input(torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)))
    return network.eval()


@pytest.fixture
def tiny_network() -> Callable[..., RetrievalNetwork]:
    return build_tiny


@pytest.fixture
def content(tiny_network: Callable[..., RetrievalNetwork]) -> BundleContent:
    return BundleContent(
        name="shoes",
        network=tiny_network(EmbeddingSpec(size=16, batch_norm=True, activation="relu")),
        preprocessing=Preprocessing(size=48),
        profiles={"plain": Profile(), "head": Profile(tap="embedding")},
    )


@pytest.fixture
def bundle(tmp_path: Path, content: BundleContent) -> Bundle:
    return write_bundle(tmp_path / "bundle", content)
