"""The way of a picture, put together: a place, `decoder`, `batcher`, `worker`, and back to its caller."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from lookalike_embedder.batcher import Batcher
from lookalike_embedder.callers import FewCaller, FewEmbedded, StreamCaller
from lookalike_embedder.decoder import Decoder
from lookalike_embedder.lanes import Lane
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pictures import PictureOnItsWay
from lookalike_embedder.places import Places
from lookalike_embedder.workers import DeviceWorkers
from lookalike_runtime.errors import ResourceExhausted

log = structlog.get_logger()

T = TypeVar("T")

# Decoding that takes longer than computing would keep a device from others' pictures.
_AT_ONCE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """How much may wait, and how batches are made.

    Attributes:
        queue_pictures: pictures that may wait in each lane.
        queue_bytes: bytes of them, encoded and decoded.
        stream_pictures: unanswered pictures of one stream.
        batch_size: pictures in a batch at most.
        batch_wait_seconds: longest that an idle device waits for a batch to grow.
        decode_threads: pictures decoded at the same time.
    """

    queue_pictures: int
    queue_bytes: int
    stream_pictures: int
    batch_size: int
    batch_wait_seconds: float
    decode_threads: int


class Pipeline:
    """Embeds pictures with any proven model. The lanes have places of their own, so bulk never fills those of calls."""

    def __init__(self, limits: PipelineLimits, capacities: Sequence[int] = (1,)) -> None:
        """`capacities` are the numbers of threads of the devices that a model is loaded on."""
        self._limits = limits
        self._places = {lane: Places(limits.queue_pictures, limits.queue_bytes) for lane in Lane}
        self._worker = DeviceWorkers(capacities)
        self._batcher = Batcher(self._worker, limits.batch_size, limits.batch_wait_seconds)
        self._decoder = Decoder(limits.decode_threads, self._batcher)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the stages."""
        self._tasks = [asyncio.create_task(stage.run()) for stage in (self._batcher, self._decoder)]
        for task in self._tasks:
            task.add_done_callback(_stage_ended)

    async def stop(self) -> None:
        """End the stages; what is under way is dropped."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
        self._decoder.close()
        self._worker.close()

    def try_alone(self, work: Callable[[], T]) -> T:
        """Return what `work` returns where single pictures run; may be called from other threads."""
        return self._worker.try_alone(work)

    def admit(self, pictures: Sequence[bytes]) -> AbstractContextManager[None]:
        """Hold places for the pictures of a call as long as its message is in memory, waiting for a model included.

        Raises ResourceExhausted at once if too much waits.
        """
        return self._hold(len(pictures), sum(map(len, pictures)))

    async def embed(self, model: ServedProfile, pictures: list[bytes], deadline: float | None) -> FewEmbedded:
        """Embed an admitted call's pictures; those that still wait after `deadline` (of time.monotonic) are dropped.

        The list is emptied, so that the bytes of a picture go once it is decoded.

        Raises ResourceExhausted at once if there is no room for their pixels.
        """
        with self._hold(0, len(pictures) * model.inputs.nbytes):
            caller = FewCaller(model, deadline, len(pictures))
            try:
                for key in range(len(pictures)):
                    self._send(caller.enter(key, pictures[key]), alone=len(pictures) == 1)
                pictures.clear()
                return await caller.answer()
            finally:
                caller.close()

    def open_stream(self, model: ServedProfile, deadline: float | None) -> StreamCaller:
        """Return a new stream; whoever opens it closes it."""
        return StreamCaller(model, deadline, self._limits.stream_pictures)

    async def put(self, stream: StreamCaller, sequence: int, data: bytes) -> None:
        """Take a picture of a stream, once the stream may have one more and there is a place for it."""
        places, size = self._places[Lane.BULK], len(data) + stream.model.inputs.nbytes
        await stream.admit()
        await places.take(1, size)
        picture = stream.enter(sequence, data, partial(places.give_back, 1, size))
        if stream.gone:
            picture.leave()
        else:
            self._decoder.put(picture)

    def _send(self, picture: PictureOnItsWay, *, alone: bool) -> None:
        if not (alone and len(picture.data or b"") <= _AT_ONCE_BYTES and self._batcher.try_at_once(picture)):
            self._decoder.put(picture)

    @contextmanager
    def _hold(self, pictures: int, size: int) -> Iterator[None]:
        places = self._places[Lane.INTERACTIVE]
        if not places.try_take(pictures, size):
            raise self._queue_full(places)
        try:
            yield
        finally:
            places.give_back(pictures, size)

    def _queue_full(self, places: Places) -> ResourceExhausted:
        seconds = min(30.0, max(0.1, places.taken * self._batcher.seconds_per_picture))
        message = f"{places.taken} pictures are waiting and there is no room for these: try again in {seconds:.1f} s, or use EmbedStream"
        return ResourceExhausted("QUEUE_FULL", message, retry_after=seconds)


def _stage_ended(stage: asyncio.Task[None]) -> None:
    """End the server when a stage breaks, which is a mistake of ours: whoever watches over it starts a new one."""
    if not stage.cancelled() and (error := stage.exception()) is not None:
        log.critical("stage_broke", error=repr(error))
        signal.raise_signal(signal.SIGTERM)
