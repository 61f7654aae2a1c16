"""One worker for each device, seen as one by the batcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.worker import DeviceWorker, Done
from lookalike_model.embedding_model import PictureModel

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

    def leaves_room(self, profile: ServedProfile) -> bool:
        """Whether a batch for a profile would run at once on one of them and leave room for another."""
        return any(worker.leaves_room(profile.threads) for worker in self._workers)

    @property
    def is_free(self) -> bool:
        """Whether nothing runs or waits on one of them."""
        return any(not worker.batches for worker in self._workers)

    def submit(self, profile: ServedProfile, run: Callable[[PictureModel], T], done: Done[T], *, single: bool) -> None:
        """Call `run` with a profile's model, over one picture if it is `single`, and then `done`, as `DeviceWorker` does."""
        number = min(range(len(self._workers)), key=lambda each: self._workers[each].batches)
        self._workers[number].submit(partial(run, profile.on(number)), profile.threads, done, single=single)

    def try_alone(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the first device's thread for single pictures; may be called from other threads."""
        return self._workers[0].try_alone(work)

    def close(self) -> None:
        """End their threads."""
        for worker in self._workers:
            worker.close()
