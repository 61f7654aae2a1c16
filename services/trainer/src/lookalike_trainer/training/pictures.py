"""The pictures of a batch, changed at random when they are asked for: as pixels they need a twelfth of the memory."""

from dataclasses import dataclass

import numpy as np
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
    """

    pixels: Tensor
    draws: NDArray[np.float32]
    recipe: AugmentRecipe

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self) -> Tensor:
        """All of them: float32 [n, 3, s, s] in 0..255, channels last in memory."""
        return augment(self.pixels, self.recipe, self.draws)

    def some(self, rows: Tensor) -> "Pictures":
        """Those at int64 [m], in that order."""
        return Pictures(self.pixels[rows], self.draws[rows.cpu().numpy()], self.recipe)
