"""The stage that decodes, in threads of its own."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from lookalike_embedder.batcher import Batcher
from lookalike_embedder.decode import decode
from lookalike_embedder.lanes import LaneQueue
from lookalike_embedder.pictures import Caller, Cost, PictureOnItsWay
from lookalike_embedder.priority import stand_back
from lookalike_images import PictureError


class Decoder:
    """Decodes what is put into it, interactive calls first and callers in turn, and hands it to the batcher."""

    def __init__(self, threads: int, batcher: Batcher) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "decode", stand_back)
        self._batcher = batcher
        self._queue: LaneQueue[Caller, PictureOnItsWay] = LaneQueue()
        self._waiting = asyncio.Semaphore(0)

    def put(self, picture: PictureOnItsWay) -> None:
        """Take a picture. Its caller is answered in any case."""
        self._batcher.announce(picture)
        self._queue.put(picture.caller.lane, picture.caller, picture)
        self._waiting.release()

    async def run(self) -> None:
        """Decode until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._threads):
                group.create_task(self._run_one())

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run_one(self) -> None:
        while True:
            await self._waiting.acquire()
            for picture in self._queue.take(1):
                await self._decode(picture)

    async def _decode(self, picture: PictureOnItsWay) -> None:
        caller, data = picture.caller, picture.data
        if data is None or not picture.wanted:
            self._batcher.withdraw(picture)
            return
        picture.wait_seconds = time.perf_counter() - picture.arrived_at
        try:
            decoding = asyncio.get_running_loop().run_in_executor(self._pool, decode, data, caller.model.inputs)
            pixels, picture.decode_seconds = await decoding
        except Exception as error:
            self._batcher.withdraw(picture)
            caller.failed(error)
            return
        if isinstance(pixels, PictureError):
            self._batcher.withdraw(picture)
            caller.refused(picture.key, pixels, Cost(decode_seconds=picture.decode_seconds, wait_seconds=picture.wait_seconds))
        else:
            self._batcher.put(picture, pixels)
