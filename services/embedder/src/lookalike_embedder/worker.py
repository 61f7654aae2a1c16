"""The threads that run networks on one device."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_embedder.trial import Threads
from lookalike_model.embedding_model import PictureModel


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
        self._pool = ThreadPoolExecutor(capacity, thread_name_prefix="device")
        self._taken = 0
        self._running = 0
        self._waiting: deque[_Batch] = deque()

    @property
    def batches(self) -> int:
        """How many run or wait."""
        return self._running + len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether the channel is free."""
        return not self._waiting

    def is_idle(self, threads: Threads) -> bool:
        """Whether a batch with so many threads would run at once."""
        return not self._waiting and (not self._running or self._taken + threads.batch <= self._capacity)

    def submit(self, model: PictureModel, threads: Threads, pixels: NDArray[np.uint8]) -> asyncio.Future[Computed]:
        """Run `model` over a batch of pixels, as its `inputs` lays them out, as soon as there are threads for it."""
        computed: asyncio.Future[Computed] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Batch(model, pixels, threads, computed))
        self._start_waiting()
        return computed

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start_waiting(self) -> None:
        while self._waiting and (not self._running or self._taken + self._waiting[0].threads.batch <= self._capacity):
            self._start(self._waiting.popleft())

    def _start(self, batch: _Batch) -> None:
        alone = len(batch.pixels) == 1 and not self._running
        threads = min(self._capacity, batch.threads.single if alone else batch.threads.batch)
        self._taken += threads
        self._running += 1
        share = threads / self._capacity
        computing = asyncio.get_running_loop().run_in_executor(self._pool, _compute, batch.model, batch.pixels, threads, share)
        computing.add_done_callback(lambda done: self._end(batch.computed, threads, done))

    def _end(self, computed: asyncio.Future[Computed], threads: int, done: asyncio.Future[Computed]) -> None:
        self._taken -= threads
        self._running -= 1
        if computed.done() or done.cancelled():
            computed.cancel()
        elif (error := done.exception()) is not None:
            computed.set_exception(error)
        else:
            computed.set_result(done.result())
        self._start_waiting()


def _compute(model: PictureModel, pixels: NDArray[np.uint8], threads: int, share: float) -> Computed:
    started = time.perf_counter()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    vectors = model.embed(pixels)
    return Computed(vectors, started, time.perf_counter() - started, share, str(model.device), model.precision)
