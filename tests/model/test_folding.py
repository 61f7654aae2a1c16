"""Networks made to embed: batch norms folded, weights rounded once."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lookalike_model.bundle import Bundle
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.ensemble_model import for_inference, load_model
from lookalike_model.folding import folded
from lookalike_model.golden import golden_pictures
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import Numerics
from lookalike_model.spec import ChannelStatistics, NetworkSpec

Build = Callable[..., RetrievalNetwork]
PIXELS = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def learned(architecture: str) -> RetrievalNetwork:
    """A network whose batch norms have statistics and weights that differ from channel to channel."""
    torch.manual_seed(0)
    network = RetrievalNetwork(NetworkSpec(architecture=architecture), ChannelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)).train()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(-0.5, 0.5)
        for _ in range(10):
            network(network.to_input(torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)))
    return network.eval()


@torch.no_grad()
def pooled(network: RetrievalNetwork) -> Tensor:
    vectors: Tensor = network(network.to_input(PIXELS))["pool"]
    return vectors


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet", "resnet18", "mobilenetv4_conv_small", "test_byobnet"])
def test_every_batch_norm_is_folded_and_the_vectors_stay(architecture: str) -> None:
    network = learned(architecture)
    before, count = pooled(network), norms(network)
    made = folded(network, 64)
    assert count > 0
    assert norms(made) == 0
    torch.testing.assert_close(pooled(made), before, rtol=1e-4, atol=1e-5)
    assert norms(network) == count, "the network that is given stays as it is"


def test_a_batch_norm_before_its_convolution_stays() -> None:
    """Of pre-activation networks only those norms are folded that get a convolution's output, unchanged and alone."""
    network = learned("resnetv2_18d")
    made = folded(network, 64)
    torch.testing.assert_close(pooled(made), pooled(network), rtol=1e-4, atol=1e-5)
    assert 0 < norms(made) < norms(network)


class Twice(nn.Module):
    """Adds a convolution's output to what a batch norm makes of it: folding would change both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean = torch.full((8,), 2.0)

    def forward(self, images: Tensor) -> Tensor:
        made = self.conv(images)
        pooled: Tensor = (made + self.norm(made)).mean((2, 3))
        return pooled


def test_where_folding_changes_vectors_nothing_is_folded(tiny_network: Build) -> None:
    network = tiny_network()
    network.backbone = Twice().eval()
    made = folded(network, 64)
    assert norms(made) == 1
    assert torch.equal(pooled(made), pooled(network))


def test_a_network_without_batch_norms_is_left_alone() -> None:
    network = learned("test_vit")
    made = folded(network, 160)
    for name, tensor in network.state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name


def test_rounding_once_is_rounding_each_time_and_can_be_taken_back(bundle: Bundle) -> None:
    pictures = [picture.data for picture in golden_pictures()]
    each_time = EmbeddingModel.load(bundle, precision="bf16").embed_pictures(pictures)
    model = load_model(for_inference(bundle), bundle.default_profile)
    exact = model.embed_pictures(pictures)
    model.use(Numerics("bf16"))
    rounded = model.embed_pictures(pictures)
    assert (1 - (rounded * each_time).sum(1)).max() <= 1e-3
    weights = {type(layer): layer.weight.dtype for layer in model.networks[0].modules() if hasattr(layer, "weight")}
    assert weights[nn.Conv2d] is torch.bfloat16
    model.use(Numerics("fp32"))
    assert (model.embed_pictures(pictures) == exact).all()
    model.use(Numerics("bf16"))
    model.settle({1})
    assert (model.embed_pictures(pictures) == rounded).all()
    held = [layer for layer in model.networks[0].modules() if any("exact" in name for name in layer.__dict__)]
    assert held == []
