"""One worker for each device, seen as one by the batcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.worker import Computed, DeviceWorker

T = TypeVar("T")


class DeviceWorkers:
    """Gives each batch to the device with the fewest."""

    def __init__(self, capacities: Sequence[int]) -> None:
        """`capacities` are the devices' numbers of threads."""
        self._workers = tuple(DeviceWorker(capacity) for capacity in capacities)

    @property
    def has_room(self) -> bool:
        """Whether the channel to one of them is free."""
        return any(worker.has_room for worker in self._workers)

    def is_idle(self, profile: ServedProfile) -> bool:
        """Whether a batch for a profile would run at once on one of them."""
        return any(worker.is_idle(profile.threads) for worker in self._workers)

    def submit(self, profile: ServedProfile, pixels: NDArray[np.uint8]) -> asyncio.Future[Computed]:
        """Run a profile's model over a batch of pixels, as its `inputs` lays them out."""
        number = min(range(len(self._workers)), key=lambda each: self._workers[each].batches)
        return self._workers[number].submit(profile.on(number), profile.threads, pixels)

    def try_alone(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the first device's thread for single pictures; may be called from other threads."""
        return self._workers[0].try_alone(work)

    def close(self) -> None:
        """End their threads."""
        for worker in self._workers:
            worker.close()
