"""The pictures of a batch, changed at random when they are asked for: as pixels they need a twelfth of the memory."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lookalike_trainer.training.augment import augment
from lookalike_trainer.training.recipe import AugmentRecipe


@dataclass(frozen=True, slots=True)
class Pictures:
    """The same picture comes out however often it is asked for.

    Attributes:
        pixels: uint8 [n, s, s, 3], on the device.
        draws: float32 [n, 10] in 0..1, on the CPU: what decides each picture's change.
        recipe: the changes.
        made: float32 [n, 3, s, s]: the changed pictures, where they are kept.
    """

    pixels: Tensor
    draws: NDArray[np.float32]
    recipe: AugmentRecipe
    made: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self) -> Tensor:
        """All of them: float32 [n, 3, s, s] in 0..255, channels last in memory."""
        if self.made is not None:
            return self.made
        with torch.autocast(self.pixels.device.type, enabled=False):
            return augment(self.pixels, self.recipe, self.draws)

    def changed(self) -> "Pictures":
        """The same, made now and kept."""
        return replace(self, made=self.images())

    def some(self, rows: Tensor) -> "Pictures":
        """Those at int64 [m], in that order."""
        made = None if self.made is None else self.made[rows]
        return Pictures(self.pixels[rows], self.draws[rows.cpu().numpy()], self.recipe, made)
