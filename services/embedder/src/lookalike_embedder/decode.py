"""From encoded bytes to the pixels that a network takes."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_images import PictureError
from lookalike_model.inputs import PictureInputs


class Decoded(NamedTuple):
    """What became of a picture's bytes."""

    pixels: NDArray[np.uint8] | PictureError
    """As the model's `inputs` lays them out, or why there are none."""
    seconds: float
    """How long it took."""


def decode(data: bytes, inputs: PictureInputs) -> Decoded:
    """Return a picture's pixels, or why it has none.

    An error that is raised holds the frames that it came through, and so the picture, until the garbage collector looks: it is
    returned instead.
    """
    started = time.perf_counter()
    try:
        pixels: NDArray[np.uint8] | PictureError = inputs.pixels(data)
    except PictureError as error:
        pixels = PictureError(error.reason, error.message)
    return Decoded(pixels, time.perf_counter() - started)
