from __future__ import annotations

import asyncio

import pytest

from lookalike_embedder.places import Places


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_bounded_in_number_and_in_bytes() -> None:
    places = Places(pictures=3, size=100)
    assert places.try_take(1, 60)
    assert not places.try_take(1, 41)
    assert not places.try_take(3, 3)
    assert places.try_take(2, 40)
    places.give_back(2, 40)
    assert places.try_take(1, 40)


async def test_who_waits_longest_is_let_in_first_and_nobody_overtakes() -> None:
    places = Places(pictures=2, size=100)
    assert places.try_take(2, 2)
    order: list[str] = []

    async def wait(name: str, pictures: int) -> None:
        await places.take(pictures, 1)
        order.append(name)

    waiting = [asyncio.create_task(wait("first", 2)), asyncio.create_task(wait("second", 1))]
    await settle()
    places.give_back(1, 1)
    await settle()
    assert order == []
    assert not places.try_take(1, 1)
    places.give_back(1, 1)
    await settle()
    assert order == ["first"]
    places.give_back(2, 1)
    await asyncio.gather(*waiting)
    assert order == ["first", "second"]


@pytest.mark.parametrize("granted", [False, True])
async def test_who_goes_while_waiting_takes_no_place_along(granted: bool) -> None:
    places = Places(pictures=1, size=100)
    assert places.try_take(1, 1)
    gone = asyncio.create_task(places.take(1, 1))
    stays = asyncio.create_task(places.take(1, 1))
    await settle()
    if granted:  # let in and cancelled before it could run
        places.give_back(1, 1)
        gone.cancel()
    else:
        gone.cancel()
        places.give_back(1, 1)
    await asyncio.wait_for(stays, 5)
    assert gone.cancelled()
    assert places.taken == 1
