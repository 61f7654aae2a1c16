"""The one thread that runs networks on the device."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_model.embedding_model import PictureModel

# One batch runs, and one waits in the channel to it.
_MOST_BATCHES = 2


class Computed(NamedTuple):
    """What the device made of a batch."""

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


class DeviceWorker:
    """Runs one batch after another."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self.batches = 0

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return self.batches == 0

    @property
    def has_room(self) -> bool:
        """Whether the channel to the device is free."""
        return self.batches < _MOST_BATCHES

    def submit(self, model: PictureModel, pixels: NDArray[np.uint8]) -> asyncio.Future[Computed]:
        """Run `model` over a batch of pixels, as its `inputs` lays them out, after the batch that runs now."""
        self.batches += 1
        computing = asyncio.get_running_loop().run_in_executor(self._thread, _compute, model, pixels)
        computing.add_done_callback(self._one_done)
        return computing

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _one_done(self, _: asyncio.Future[Computed]) -> None:
        self.batches -= 1


def _compute(model: PictureModel, pixels: NDArray[np.uint8]) -> Computed:
    started = time.perf_counter()
    vectors = model.embed(pixels)
    return Computed(vectors, started, time.perf_counter() - started, str(model.device), model.precision)
