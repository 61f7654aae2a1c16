"""The threads that run networks on one device."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from lookalike_embedder.priority import stand_back
from lookalike_embedder.trial import Threads

T = TypeVar("T")


Done = Callable[[Future[T], float], None]
"""Takes what came of work, and how much of the device it had meanwhile, in (0, 1]."""


class _Work(NamedTuple, Generic[T]):
    run: Callable[[], T]
    single: bool
    threads: Threads
    done: Done[T]


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
        self._waiting: deque[_Work[Any]] = deque()

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

    def leaves_room(self, threads: Threads) -> bool:
        """Whether a batch with so many threads would run at once, and another could beside it; at all, if it has the device alone."""
        return not self._waiting and self._fits(threads, batches=2)

    def submit(self, run: Callable[[], T], threads: Threads, done: Done[T], *, single: bool) -> None:
        """Call `run`, which runs a network over one picture if it is `single`, as soon as there are threads for it.

        `done` is called on the event loop.
        """
        self._waiting.append(_Work(run, single, threads, done))
        self._start_waiting()

    def try_alone(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the thread of single pictures, after what runs there; may be called from other threads."""
        return self._lanes[0].submit(work).result()

    def close(self) -> None:
        """End the threads; what waits is not run."""
        self._waiting.clear()
        for lane in self._lanes:
            lane.shutdown(wait=False, cancel_futures=True)

    def _fits(self, threads: Threads, batches: int = 1) -> bool:
        return not self._taken or self._taken + batches * threads.batch <= self._capacity

    def _start_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0].threads):
            self._start(self._waiting.popleft())

    def _start(self, work: _Work[Any]) -> None:
        alone = work.single and not self._taken
        threads = min(self._capacity, work.threads.single if alone else work.threads.batch)
        lane = self._free.pop(0 if alone else -1)
        self._taken += threads

        def end(running: Future[Any]) -> None:
            self._taken -= threads
            self._free = sorted([lane, *self._free])
            self._start_waiting()
            work.done(running, threads / self._capacity)

        loop = asyncio.get_running_loop()
        running = self._lanes[lane].submit(_with_threads, threads, work.run)
        running.add_done_callback(partial(_call_soon, loop, end))


def _call_soon(loop: asyncio.AbstractEventLoop, end: Callable[[Future[T]], None], running: Future[T]) -> None:
    if not running.cancelled():
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(end, running)


def _with_threads(threads: int, run: Callable[[], T]) -> T:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return run()
