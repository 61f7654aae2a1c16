"""The network of a model: a timm backbone, a pooling, an embedding FC."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor, nn

from lookalike_model.profile import Tap
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec, Pool

if TYPE_CHECKING:
    from lookalike_model.compiled import CompiledNetwork


class NetworkError(ValueError):
    """The network cannot be built as described; the message says why."""


class GeneralisedMean(nn.Module):
    """GeM pooling: the mean of order p over each channel, p learnt (Radenović et al. 2018, arXiv:1711.02512)."""

    def __init__(self, axes: tuple[int, int] = (2, 3), order: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.order = nn.Parameter(torch.tensor(order))
        self.axes = axes
        self.floor = floor

    def forward(self, features: Tensor) -> Tensor:
        """Float [n, c, h, w], or [n, h, w, c] if `axes` are 1 and 2 → [n, c] float."""
        return features.clamp(min=self.floor).pow(self.order).mean(dim=self.axes).pow(1.0 / self.order)


class RetrievalNetwork(nn.Module):
    """Backbone → pool → optional embedding FC, with a tap after each of the last two.

    Args:
        spec: what to build; random weights.
        statistics: what pixels are normalised with.

    Attributes:
        compiled: what can run in its place, where it was compiled.

    Raises:
        NetworkError: timm does not know the architecture, or it cannot be pooled this way.
    """

    def __init__(self, spec: NetworkSpec, statistics: ChannelStatistics) -> None:
        super().__init__()
        self.spec = spec
        self.statistics = statistics
        self.backbone = build_backbone(spec)
        self.gem = GeneralisedMean(_axes_of_the_map(spec)) if spec.pool == "gem" else None
        self.pool_size = pooled_size(self.backbone)
        self.embedding = None if spec.embedding is None else _embedding_layers(self.pool_size, spec.embedding)
        mean = torch.tensor(statistics.mean).view(3, 1, 1)
        std = torch.tensor(statistics.std).view(3, 1, 1)
        self.compiled: CompiledNetwork | None = None
        self.register_buffer("_scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("_shift", -mean / std, persistent=False)

    def to_input(self, pixels: Tensor) -> Tensor:
        """uint8 [n, h, w, 3] RGB → normalised float32 [n, 3, h, w], channels last in memory."""
        return self.normalise(pixels.permute(0, 3, 1, 2).to(torch.float32))

    def normalise(self, channels: Tensor) -> Tensor:
        """Float [n, 3, h, w] in 0..255 → the same, normalised by mean and deviation."""
        return torch.addcmul(self.get_buffer("_shift"), channels, self.get_buffer("_scale"))

    def forward(self, images: Tensor) -> dict[Tap, Tensor]:
        """Normalised float [n, 3, h, w] → each tap's float [n, width]."""
        features = self.backbone(images)
        pooled = features if self.gem is None else self.gem(features)
        outputs: dict[Tap, Tensor] = {"pool": pooled}
        if self.embedding is not None:
            outputs["embedding"] = self.embedding(pooled)
        return outputs

    @property
    def taps(self) -> tuple[Tap, ...]:
        """What `forward` gives, in order."""
        return ("pool",) if self.embedding is None else ("pool", "embedding")

    @property
    def nbytes(self) -> int:
        """Bytes that its weights take in memory: as they are here, or as they were compiled once it runs nowhere else."""
        if self.compiled is not None:
            return self.compiled.weights_bytes
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    def width(self, tap: Tap) -> int:
        """Number of values at a tap.

        Raises:
            NetworkError: the network has no such tap.
        """
        if tap == "pool":
            return self.pool_size
        if self.spec.embedding is None:
            raise NetworkError("the network has no embedding FC, so no tap `embedding`; take `pool`")
        return self.spec.embedding.size


def build_backbone(spec: NetworkSpec) -> nn.Module:
    """timm's network without its classifier, with random weights; nothing is ever downloaded.

    Raises:
        NetworkError: timm does not know the architecture, or it cannot be pooled this way.
    """
    check_architecture(spec.architecture)
    arguments: dict[str, Any] = {"num_classes": 0, "global_pool": "" if spec.pool == "gem" else spec.pool}
    if spec.image_size is not None:
        arguments["img_size"] = spec.image_size
    try:
        backbone: nn.Module = timm.create_model(spec.architecture, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise NetworkError(f"timm cannot build {spec.architecture} with pool `{spec.pool}`: {error}") from error
    if spec.pool == "token" and not _has_class_token(backbone):
        raise NetworkError(f"{spec.architecture} cannot be pooled with `{spec.pool}`; take `avg` or `max`")
    return backbone


def _axes_of_the_map(spec: NetworkSpec) -> tuple[int, int]:
    """Height and width in what the backbone gives unpooled: some networks have their channels last.

    Raises:
        NetworkError: it gives no map.
    """
    # Shapes alone, on no device; random weights must come out as if this had not been asked.
    with torch.random.fork_rng([]), torch.device("meta"), torch.no_grad():
        backbone: Any = build_backbone(spec).eval()
        side = spec.image_size or backbone.pretrained_cfg["input_size"][1]
        shape = tuple(backbone(torch.empty(1, 3, side, side)).shape)
    width = pooled_size(backbone)
    if len(shape) == 4 and shape[1] == width:
        return 2, 3
    if len(shape) == 4 and shape[3] == width:
        return 1, 2
    raise NetworkError(f"{spec.architecture} cannot be pooled with `gem`: it gives {len(shape) - 1} axes, no map; take `avg` or `token`")


def check_architecture(architecture: str) -> None:
    """Raise NetworkError, naming what comes near, unless timm has a network of this name (no tag, no source)."""
    if architecture in timm.list_models():
        return
    near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists what there is"
    raise NetworkError(f"timm has no network `{architecture}`; {hint}")


def default_pool(architecture: str) -> Pool:
    """The class token where there is one, else the average.

    Raises:
        NetworkError: timm does not know the architecture.
    """
    with torch.device("meta"):
        backbone = build_backbone(NetworkSpec(architecture=architecture))
    return "token" if _has_class_token(backbone) else "avg"


def pooled_size(backbone: Any) -> int:
    """Channels that leave the backbone (some networks have an FC of their own after the pooling)."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)


def tensors_to(network: RetrievalNetwork, tap: Tap) -> dict[str, Tensor]:
    """The parameters and buffers that a tap's values depend on, by name; counters of batches are none of them."""
    off_the_way = () if tap == "embedding" else ("embedding.",)
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith(off_the_way) and not name.endswith("num_batches_tracked")
    }


def _has_class_token(backbone: nn.Module) -> bool:
    return getattr(backbone, "cls_token", None) is not None


def _embedding_layers(inputs: int, spec: EmbeddingSpec) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("fc", nn.Linear(inputs, spec.size))
    if spec.batch_norm:
        layers.add_module("norm", nn.BatchNorm1d(spec.size))
    if spec.activation != "none":
        layers.add_module("activation", nn.ReLU(inplace=True) if spec.activation == "relu" else nn.GELU())
    return layers
