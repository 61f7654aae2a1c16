"""The threads that run networks on one device."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_embedder.priority import stand_back
from lookalike_embedder.trial import Threads
from lookalike_model.embedding_model import PictureModel

T = TypeVar("T")


class Computed(NamedTuple):
    """What the device made of a batch."""

    vectors: NDArray[np.float32]
    """[n, dim]."""
    started: float
    """When it began, of time.perf_counter."""
    seconds: float
    """How long it took."""
    share: float
    """How much of the device it took meanwhile, in (0, 1]."""
    device: str
    """Where, such as `cpu` or `cuda:0`."""
    precision: str
    """In which precision, such as `fp32`."""


class _Batch(NamedTuple):
    model: PictureModel
    pixels: NDArray[np.uint8]
    threads: Threads
    computed: asyncio.Future[Computed]


class DeviceWorker:
    """Runs batches side by side as far as a device's threads go; one more waits in the channel to it.

    Its calls come from the event loop.
    """

    def __init__(self, capacity: int) -> None:
        """`capacity` is the number of threads: the cores of a CPU, 1 of a GPU."""
        self._capacity = capacity
        # Each with one thread. The first alone runs single pictures with threads of their own: OpenMP keeps such threads for each
        # thread that asks for them, and once there are more than cores they fall asleep at once, and waking them takes longer than
        # what they do.
        self._lanes = [ThreadPoolExecutor(1, "device", stand_back) for _ in range(capacity)]
        self._free = list(range(capacity))
        self._taken = 0
        self._waiting: deque[_Batch] = deque()

    @property
    def batches(self) -> int:
        """How many run or wait."""
        return self._capacity - len(self._free) + len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether the channel is free."""
        return not self._waiting

    def is_idle(self, threads: Threads) -> bool:
        """Whether a batch with so many threads would run at once."""
        return not self._waiting and self._fits(threads)

    def submit(self, model: PictureModel, threads: Threads, pixels: NDArray[np.uint8]) -> asyncio.Future[Computed]:
        """Run `model` over a batch of pixels, as its `inputs` lays them out, as soon as there are threads for it."""
        computed: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Batch(model, pixels, threads, computed))
        self._start_waiting()
        return computed

    def try_alone(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the thread of single pictures, after what runs there; may be called from other threads."""
        return self._lanes[0].submit(work).result()

    def close(self) -> None:
        """End the threads; what waits is not run."""
        for batch in self._waiting:
            batch.computed.cancel()
        self._waiting.clear()
        for lane in self._lanes:
            lane.shutdown(wait=False, cancel_futures=True)

    def _fits(self, threads: Threads) -> bool:
        return not self._taken or self._taken + threads.batch <= self._capacity

    def _start_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0].threads):
            self._start(self._waiting.popleft())

    def _start(self, batch: _Batch) -> None:
        alone = len(batch.pixels) == 1 and not self._taken
        threads = min(self._capacity, batch.threads.single if alone else batch.threads.batch)
        lane = self._free.pop(0 if alone else -1)
        self._taken += threads
        share = threads / self._capacity
        computing = asyncio.get_running_loop().run_in_executor(self._lanes[lane], _compute, batch.model, batch.pixels, threads, share)

        def end(done: asyncio.Future[Computed]) -> None:
            self._taken -= threads
            self._free = sorted([lane, *self._free])
            _pass_on(done, batch.computed)
            self._start_waiting()

        computing.add_done_callback(end)


def _pass_on(done: asyncio.Future[Computed], computed: asyncio.Future[Computed]) -> None:
    if computed.done() or done.cancelled():
        computed.cancel()
    elif (error := done.exception()) is not None:
        computed.set_exception(error)
    else:
        computed.set_result(done.result())


def _compute(model: PictureModel, pixels: NDArray[np.uint8], threads: int, share: float) -> Computed:
    started = time.perf_counter()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    vectors = model.embed(pixels)
    return Computed(vectors, started, time.perf_counter() - started, share, str(model.device), model.precision)
