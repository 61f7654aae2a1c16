"""What a model takes of a picture: decoded once, then brought to each size that the model looks at it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lookalike_images import Preprocessing, decode, preprocess

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PictureInputs:
    """The preprocessings of a model's members and views, each once.

    The pixels of a picture are uint8 [s, s, 3] where there is one preprocessing; where there are several they are one flat
    row, the squares one behind the other, so that a batch is one array in any case.
    """

    specs: tuple[Preprocessing, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a picture's pixels."""
        return sum(3 * spec.size**2 for spec in self.specs)

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """An encoded picture's pixels.

        Raises:
            PictureError: it cannot be decoded.
        """
        image = decode(data)
        squares = [preprocess(image, spec) for spec in self.specs]
        return squares[0] if len(squares) == 1 else np.concatenate([square.reshape(-1) for square in squares])

    def split(self, batch: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The pixels of n pictures → for each preprocessing uint8 [n, s, s, 3], contiguous."""
        if len(self.specs) == 1:
            return [np.ascontiguousarray(batch)]
        parts, start = [], 0
        for spec in self.specs:
            end = start + 3 * spec.size**2
            parts.append(np.ascontiguousarray(batch[:, start:end]).reshape(len(batch), spec.size, spec.size, 3))
            start = end
        return parts
