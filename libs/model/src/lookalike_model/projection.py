"""A linear map of vectors to fewer values, such as a PCA with or without whitening."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class ProjectionError(ValueError):
    """The tensors are no projection; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """`mean` float32 [d] and `components` float32 [m, d]: a row x becomes components · (x - mean)."""

    mean: Tensor
    components: Tensor

    def __post_init__(self) -> None:
        shapes_fit = self.components.dim() == 2 and self.mean.shape == self.components.shape[1:] and len(self.components) > 0
        if not shapes_fit or self.mean.dtype != torch.float32 or self.components.dtype != torch.float32:
            raise ProjectionError("a projection is a float32 mean [d] and float32 components [m, d]")
        if not bool(torch.isfinite(self.mean).all() and torch.isfinite(self.components).all()):
            raise ProjectionError("a projection holds values that are not finite")

    @property
    def width(self) -> int:
        """Values that a row has before it."""
        return len(self.mean)

    @property
    def dim(self) -> int:
        """Values that a row has after it."""
        return len(self.components)

    def to(self, device: torch.device) -> Projection:
        """The same on a device."""
        return Projection(self.mean.to(device), self.components.to(device))

    def apply(self, vectors: Tensor) -> Tensor:
        """float32 [n, d] → float32 [n, m]."""
        return (vectors - self.mean) @ self.components.T


def projections_to_tensors(projections: Mapping[str, Projection]) -> dict[str, Tensor]:
    """Tensors by the names they have in a bundle."""
    tensors: dict[str, Tensor] = {}
    for name, projection in projections.items():
        tensors |= {f"{name}/mean": projection.mean.contiguous(), f"{name}/components": projection.components.contiguous()}
    return tensors


def projections_of_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Projection]:
    """The inverse of `projections_to_tensors`; raises ProjectionError if the tensors are no projections."""
    names = {name.rpartition("/")[0] for name in tensors}
    if tensors.keys() != {f"{name}/{part}" for name in names for part in ("mean", "components")}:
        raise ProjectionError(f"a projection NAME has the tensors NAME/mean and NAME/components, not {', '.join(sorted(tensors)[:5])}")
    return {name: Projection(tensors[f"{name}/mean"], tensors[f"{name}/components"]) for name in sorted(names)}
