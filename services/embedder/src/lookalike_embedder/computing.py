"""What a device's thread does: the network over a batch, or all that one picture needs."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_embedder.decode import Decoded, decode
from lookalike_embedder.pictures import PictureOnItsWay
from lookalike_images import PictureError
from lookalike_model.embedding_model import PictureModel


class Computed(NamedTuple):
    """What a device made of a batch."""

    vectors: NDArray[np.float32]
    """[n, dim]."""
    started: float
    """When it began, of time.perf_counter."""
    seconds: float
    """How long it took."""
    device: str
    """Where, such as `cpu` or `cuda:0`."""
    precision: str
    """In which precision, such as `fp32`."""


def compute(pixels: NDArray[np.uint8], model: PictureModel) -> Computed:
    """Run a network over a batch of pixels, as its `inputs` lays them out."""
    started = time.perf_counter()
    vectors = model.embed(pixels)
    return Computed(vectors, started, time.perf_counter() - started, str(model.device), model.precision)


def decode_and_compute(picture: PictureOnItsWay, model: PictureModel) -> tuple[Decoded, Computed | None]:
    """Do both for a single picture; without the network if its pixels cannot be had, or nobody waits for it any more."""
    data, picture.data = picture.data, None
    decoded = decode(data or b"", model.inputs)
    del data
    if isinstance(decoded.pixels, PictureError) or not picture.wanted:
        return decoded, None
    return decoded, compute(decoded.pixels[None], model)
