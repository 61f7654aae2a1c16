"""Which batches run side by side, on which device, and with how many threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.trial import Threads
from lookalike_embedder.worker import DeviceWorker
from lookalike_embedder.workers import DeviceWorkers
from lookalike_model.fingerprint import Space


def pixels(count: int) -> NDArray[np.uint8]:
    return np.zeros((count, 16, 16, 3), np.uint8)


async def test_batches_go_to_the_device_with_the_fewest(model: Any) -> None:
    others = type(model)()
    profile = ServedProfile("m", cast("Any", model), Space("ls1:x", "m", "1", "plain", 3), (cast("Any", others),))
    workers = DeviceWorkers((1, 1))
    model.gate.clear()
    others.gate.clear()
    running = [workers.submit(profile, pixels(1))]
    assert workers.is_idle(profile)
    running.append(workers.submit(profile, pixels(1)))
    assert not workers.is_idle(profile)
    assert workers.has_room
    running += [workers.submit(profile, pixels(1)) for _ in range(2)]
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
    running = [worker.submit(model, two, pixels(2)), worker.submit(model, two, pixels(3))]
    await comes_true(lambda: len(model.batches) == 2)
    assert (worker.is_idle(two), worker.is_idle(Threads(1, 1)), worker.has_room) == (False, True, True)
    running.append(worker.submit(model, two, pixels(4)))
    assert (worker.has_room, worker.is_idle(Threads(1, 1)), worker.batches) == (False, False, 3)
    await asyncio.sleep(0.05)
    assert sorted(model.batches) == [2, 3]
    model.gate.set()
    computed = await asyncio.wait_for(asyncio.gather(*running), 30)
    assert [(len(each.vectors), each.share) for each in computed] == [(2, 0.4), (3, 0.4), (4, 0.4)]
    assert (worker.batches, worker.is_idle(two)) == (0, True)
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
        computed = await asyncio.wait_for(worker.submit(model, Threads(1, 4), pixels(count)), 30)
        assert computed.share == (taken if count == 1 else 1) / capacity
    assert seen == [taken, 1, taken]
    worker.close()


async def test_a_single_picture_beside_a_batch_takes_what_a_batch_takes(model: Any, comes_true: Any) -> None:
    worker = DeviceWorker(2)
    model.gate.clear()
    running = [worker.submit(model, Threads(1, 2), pixels(count)) for count in (3, 1)]
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
    broken, sound = worker.submit(model, Threads(), pixels(2)), worker.submit(model, Threads(), pixels(3))
    with pytest.raises(RuntimeError, match="out of luck"):
        await broken
    assert len((await sound).vectors) == 3
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
        await worker.submit(model, Threads(1, 2), pixels(count))
    first, batch, second = seen
    assert first == second == await asyncio.to_thread(worker.try_alone, threading.get_ident)
    assert batch != first
    worker.close()


async def test_what_waits_when_the_worker_ends_is_cancelled(model: Any, comes_true: Any) -> None:
    worker = DeviceWorker(1)
    model.gate.clear()
    running, waiting = (worker.submit(model, Threads(), pixels(count)) for count in (2, 3))
    await comes_true(lambda: len(model.batches) == 1)
    worker.close()
    assert waiting.cancelled()
    model.gate.set()
    assert len((await running).vectors) == 2
    assert model.batches == [2]
