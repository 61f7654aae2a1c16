"""A bulk stream to the embedder: any number of pictures, few of them under way, over as many connections as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from lookalike._channel import Channel
from lookalike._exceptions import ServerNotReachable, Unavailable
from lookalike._models import Cost, Embedded
from lookalike._status import problem_of
from lookalike._wire import read
from lookalike_protos.embedder.v1 import embedder_pb2
from lookalike_protos.packing import unpack_vectors

_ATTEMPTS = 6


@dataclass(frozen=True)
class Window:
    """How much may be under way at once: pictures that were sent, or wait to be, and have no answer yet."""

    pictures: int = 64
    bytes: int = 32 * 1024 * 1024


DEFAULT_WINDOW = Window()


class EmbedStream:
    """Sends what a source yields and hands back the answers, in the order in which they come."""

    def __init__(
        self,
        channel: Channel,
        method: Callable[..., Any],
        target: embedder_pb2.Target,
        pictures: AsyncIterable[tuple[Any, bytes]],
        window: Window,
        silence: float,
    ) -> None:
        """`pictures` yields the caller's key and the encoded picture of each; `silence` is the longest wait for an owed answer."""
        self._channel = channel
        self._method = method
        self._target = target
        self._pictures = pictures
        self._window = window
        self._silence = silence
        self._pending: dict[int, tuple[Any, bytes]] = {}  # by sequence, rising
        self._pending_bytes = 0
        self._last = 0
        self._exhausted = False
        self._changed = asyncio.Condition()

    async def answers(self) -> AsyncGenerator[Embedded]:
        """Yield exactly one answer a picture. After a break the pictures without an answer are sent again."""
        filling = asyncio.create_task(self._fill())
        attempt = 0
        try:
            while True:
                try:
                    async for answer in self._connection():
                        attempt = 0
                        yield answer
                except (Unavailable, ServerNotReachable):
                    attempt += 1
                    if attempt == _ATTEMPTS:
                        raise
                    await asyncio.sleep(0.2 * 2**attempt)
                if self._exhausted and not self._pending:
                    await filling  # raises what the source raised
                    return
        finally:
            filling.cancel()

    async def _fill(self) -> None:
        """Take pictures from the source as the window allows."""
        try:
            async for key, data in self._pictures:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._has_room(len(data)))  # noqa: B023 the wait ends in this turn of the loop
                    self._last += 1
                    self._pending[self._last] = (key, data)
                    self._pending_bytes += len(data)
                    self._changed.notify_all()
        finally:
            self._exhausted = True
            async with self._changed:
                self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._pending or (len(self._pending) < self._window.pictures and self._pending_bytes + size <= self._window.bytes)

    async def _connection(self) -> AsyncIterator[Embedded]:
        opened = asyncio.Event()
        requests = self._requests(opened)
        async for message in self._channel.stream(self._method, requests, lambda: self._silence if self._pending else None):
            match message.WhichOneof("message"):
                case "opened":
                    opened.set()
                case "batch":
                    vectors, cost = unpack_vectors(message.batch.vectors), read(Cost, message.batch.cost)
                    for sequence, vector in zip(message.batch.sequences, vectors, strict=True):
                        yield Embedded(await self._answered(sequence), vector, cost)
                case "failure":
                    failure = message.failure
                    yield Embedded(await self._answered(failure.sequence), None, read(Cost, failure.cost), problem_of(failure.error))

    async def _requests(self, opened: asyncio.Event) -> AsyncIterator[embedder_pb2.EmbedStreamRequest]:
        yield embedder_pb2.EmbedStreamRequest(open=self._target)
        # Why a stream is refused is lost if pictures are being sent then: see BROKEN_WHILE_SENDING.
        await opened.wait()
        upcoming = next(iter(self._pending), self._last + 1)
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._last >= upcoming or self._exhausted)  # noqa: B023 as above
            if upcoming > self._last:
                return
            if upcoming in self._pending:
                picture = embedder_pb2.Picture(data=self._pending[upcoming][1])
                yield embedder_pb2.EmbedStreamRequest(picture=embedder_pb2.SequencedPicture(sequence=upcoming, picture=picture))
            upcoming += 1

    async def _answered(self, sequence: int) -> Any:
        async with self._changed:
            key, data = self._pending.pop(sequence)
            self._pending_bytes -= len(data)
            self._changed.notify_all()
        return key
