"""Which batches run side by side, on which device, and with how many threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.trial import Threads
from lookalike_embedder.worker import DeviceWorker
from lookalike_embedder.workers import DeviceWorkers
from lookalike_model.fingerprint import Space


class Ran(NamedTuple):
    result: Any
    share: float


def answered() -> tuple[asyncio.Future[Ran], Callable[[Future[Any], float], None]]:
    """Return a future, and what sets it to what came of work."""
    ran: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()

    def done(running: Future[Any], share: float) -> None:
        if (error := running.exception()) is None:
            ran.set_result(Ran(running.result(), share))
        else:
            ran.set_exception(error)

    return ran, done


def submit(worker: DeviceWorker, model: Any, threads: Threads, pictures: int) -> asyncio.Future[Ran]:
    """Have `model` run over so many pictures."""
    ran, done = answered()
    worker.submit(lambda: model.embed(np.zeros((pictures, 16, 16, 3), np.uint8)), threads, done, single=pictures == 1)
    return ran


def submit_one(workers: DeviceWorkers, profile: ServedProfile) -> asyncio.Future[Ran]:
    """Have a profile's model run over one picture."""
    ran, done = answered()
    workers.submit(profile, lambda model: model.embed(np.zeros((1, 16, 16, 3), np.uint8)), done, single=True)
    return ran


async def test_batches_go_to_the_device_with_the_fewest(model: Any) -> None:
    others = type(model)()
    profile = ServedProfile("m", cast("Any", model), Space("ls1:x", "m", "1", "plain", 3), (cast("Any", others),))
    workers = DeviceWorkers((1, 1))
    model.gate.clear()
    others.gate.clear()
    running = [submit_one(workers, profile)]
    assert workers.is_idle(profile)
    running.append(submit_one(workers, profile))
    assert not workers.is_idle(profile)
    assert workers.has_room
    running += [submit_one(workers, profile) for _ in range(2)]
    assert not workers.has_room
    others.gate.set()
    await asyncio.wait_for(running[1], 30)
    await asyncio.wait_for(running[3], 30)
    await asyncio.sleep(0)
    assert (len(others.batches), workers.is_idle(profile), workers.has_room) == (2, True, True)
    model.gate.set()
    await asyncio.gather(*running)
    workers.close()
    assert len(model.batches) == 2


async def test_batches_run_side_by_side_as_far_as_the_cores_go_and_one_waits(model: Any, comes_true: Any) -> None:
    worker, two = DeviceWorker(5), Threads(2, 4)
    model.gate.clear()
    running = [submit(worker, model, two, 2), submit(worker, model, two, 3)]
    await comes_true(lambda: len(model.batches) == 2)
    assert (worker.is_idle(two), worker.is_idle(Threads(1, 1)), worker.has_room) == (False, True, True)
    running.append(submit(worker, model, two, 4))
    assert (worker.has_room, worker.is_idle(Threads(1, 1)), worker.batches) == (False, False, 3)
    await asyncio.sleep(0.05)
    assert sorted(model.batches) == [2, 3]
    model.gate.set()
    computed = await asyncio.wait_for(asyncio.gather(*running), 30)
    assert [(len(each.result), each.share) for each in computed] == [(2, 0.4), (3, 0.4), (4, 0.4)]
    assert (worker.batches, worker.is_idle(two)) == (0, True)
    worker.close()


@pytest.mark.parametrize(("capacity", "batch", "beside"), [(1, 1, 0), (2, 2, 0), (2, 1, 0), (3, 1, 1), (5, 2, 0), (6, 2, 1)])
async def test_leaving_room_is_for_the_batch_and_another(model: Any, comes_true: Any, capacity: int, batch: int, beside: int) -> None:
    worker, threads = DeviceWorker(capacity), Threads(batch, capacity)
    model.gate.clear()
    assert worker.leaves_room(threads), "alone on the device a batch may run in any case"
    running = []
    while worker.leaves_room(threads):
        running.append(submit(worker, model, threads, 2))
    assert len(running) == 1 + beside
    model.gate.set()
    await asyncio.gather(*running)
    worker.close()


@pytest.mark.parametrize(("capacity", "taken"), [(4, 4), (2, 2)])
async def test_a_single_picture_alone_has_threads_of_its_own_as_far_as_there_are_any(model: Any, capacity: int, taken: int) -> None:
    seen: list[int] = []

    def embed(given: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(torch.get_num_threads())
        return np.zeros((len(given), 3), np.float32)

    model.embed = embed
    worker = DeviceWorker(capacity)
    for count in (1, 2, 1):
        computed = await asyncio.wait_for(submit(worker, model, Threads(1, 4), count), 30)
        assert computed.share == (taken if count == 1 else 1) / capacity
    assert seen == [taken, 1, taken]
    worker.close()


async def test_a_single_picture_beside_a_batch_takes_what_a_batch_takes(model: Any, comes_true: Any) -> None:
    worker = DeviceWorker(2)
    model.gate.clear()
    running = [submit(worker, model, Threads(1, 2), count) for count in (3, 1)]
    await comes_true(lambda: len(model.batches) == 2)
    model.gate.set()
    assert [computed.share for computed in await asyncio.gather(*running)] == [0.5, 0.5]
    worker.close()


async def test_what_a_network_raises_reaches_its_batch_alone(model: Any) -> None:
    worker = DeviceWorker(1)

    def embed(given: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(given) == 2:
            raise RuntimeError("out of luck")
        return np.zeros((len(given), 3), np.float32)

    model.embed = embed
    broken, sound = submit(worker, model, Threads(), 2), submit(worker, model, Threads(), 3)
    with pytest.raises(RuntimeError, match="out of luck"):
        await broken
    assert len((await sound).result) == 3
    worker.close()


async def test_single_pictures_and_their_trials_share_one_thread(model: Any) -> None:
    """For the threads that OpenMP keeps belong to the thread that has asked for them."""
    seen: list[int] = []

    def embed(given: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(threading.get_ident())
        return np.zeros((len(given), 3), np.float32)

    model.embed = embed
    worker = DeviceWorker(2)
    for count in (1, 2, 1):
        await submit(worker, model, Threads(1, 2), count)
    first, batch, second = seen
    assert first == second == await asyncio.to_thread(worker.try_alone, threading.get_ident)
    assert batch != first
    worker.close()


async def test_what_waits_when_the_worker_ends_is_not_run(model: Any, comes_true: Any) -> None:
    worker = DeviceWorker(1)
    model.gate.clear()
    running, waiting = (submit(worker, model, Threads(), count) for count in (2, 3))
    await comes_true(lambda: len(model.batches) == 1)
    worker.close()
    model.gate.set()
    assert len((await running).result) == 2
    assert (model.batches, waiting.done()) == ([2], False)
