"""What a network is, apart from its tensors. Needs no torch."""

import math
from typing import Literal

from pydantic import Field

from lookalike_model.records import Record

Pool = Literal["avg", "max", "gem", "token"]
Activation = Literal["none", "relu", "gelu"]


class EmbeddingSpec(Record):
    """The FC between the pooling and the embedding tap: its size, batch norm and activation."""

    size: int = Field(ge=1, le=16384)
    batch_norm: bool = False
    activation: Activation = "none"


class NetworkSpec(Record):
    """Everything that has to be known to build the network, apart from its tensors.

    Attributes:
        architecture: a timm name without a tag.
        pool: `token` is the class token of a ViT; `gem` is a mean with a learnt exponent.
        embedding: None when there is no FC after the pooling.
        image_size: pixels a side, only for networks that are built for one size.
    """

    architecture: str
    pool: Pool = "avg"
    embedding: EmbeddingSpec | None = None
    image_size: int | None = Field(default=None, ge=1, le=4096)


class ChannelStatistics(Record):
    """Mean and deviation of each colour channel (RGB, in 0..1) that pixels are normalised with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def model_post_init(self, _context: object) -> None:
        if not all(math.isfinite(v) for v in self.mean) or not all(v > 0 and math.isfinite(v) for v in self.std):
            raise ValueError("mean must be finite and std above zero")
