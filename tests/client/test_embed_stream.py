"""Bulk streams: one answer each, few under way, and on after a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest

from lookalike import AsyncClient, ServerNotReachable, Servers, Target, Window

from .fake_embedder import FakeEmbedder

Serve = Callable[[Callable[[grpc.aio.Server], None]], AbstractAsyncContextManager[str]]
TARGET = Target("models/m")
WINDOW = Window()


async def embed_all(address: str, pictures: Any, window: Window = WINDOW) -> dict[Any, float | None]:
    answers: dict[Any, float | None] = {}
    async with AsyncClient(Servers(embedder=address), token="") as client:
        async for each in client.embedder.embed_stream(TARGET, pictures, window):
            assert each.key not in answers
            assert (each.cost.decode_seconds, each.cost.device_seconds) == ((0.25, 0) if each.vector is None else (0, 0.5))
            answers[each.key] = None if each.vector is None else float(each.vector[0])
    return answers


async def test_every_picture_has_one_answer_and_a_bad_one_fails_alone(serve: Serve) -> None:
    pictures = [(name, b"bad" if name == "b" else b"x" * place) for place, name in enumerate("abcd", start=1)]
    async with serve(FakeEmbedder().add_to) as address:
        assert await embed_all(address, pictures) == {"a": 1, "b": None, "c": 3, "d": 4}


async def test_no_pictures_are_no_error(serve: Serve) -> None:
    async with serve(FakeEmbedder().add_to) as address:
        assert await embed_all(address, []) == {}


async def test_broken_stream_goes_on_with_what_has_no_answer(serve: Serve) -> None:
    fake = FakeEmbedder(breaks=[3, 0, 4])
    async with serve(fake.add_to) as address:
        answers = await embed_all(address, [(place, b"x") for place in range(20)], Window(pictures=8))
    assert sorted(answers) == list(range(20))
    assert all(seen == sorted(set(seen)) for seen in fake.seen), "sequences rise within a connection"
    assert fake.seen[1][0] == 4, "the second connection begins with the first picture without an answer"


async def test_server_that_stays_away_is_an_error(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookalike._embed_stream._ATTEMPTS", 2)
    async with serve(FakeEmbedder(breaks=[0] * 9).add_to) as address:
        with pytest.raises(ServerNotReachable):
            await embed_all(address, [(1, b"x")])


@pytest.mark.parametrize(("window", "most"), [(Window(pictures=5), 5), (Window(pictures=100, bytes=300), 3)])
async def test_source_is_read_no_further_than_the_window(serve: Serve, window: Window, most: int) -> None:
    fake = FakeEmbedder()
    fake.hold.clear()
    taken = 0

    async def source() -> AsyncIterator[tuple[int, bytes]]:
        nonlocal taken
        for place in range(30):
            taken += 1
            yield place, b"x" * 100

    async with serve(fake.add_to) as address:
        task = asyncio.create_task(embed_all(address, source(), window))
        await fake.first.wait()
        await asyncio.sleep(0.1)
        assert taken == most + 1, "those under way and the one that waits"
        fake.hold.set()
        assert len(await task) == 30


async def test_error_of_the_source_reaches_the_caller_after_the_answers(serve: Serve) -> None:
    def source() -> Any:
        yield 1, b"x"
        raise OSError("disk")

    async with serve(FakeEmbedder().add_to) as address:
        with pytest.raises(OSError, match="disk"):
            await embed_all(address, source())
