"""Puts decoded pictures together into batches that grow while the device is busy."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from lookalike_embedder.computing import Computed, compute, decode_and_compute
from lookalike_embedder.decode import Decoded
from lookalike_embedder.lanes import Lane, LaneQueue, Turn
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pace import Pace
from lookalike_embedder.pictures import Caller, Cost, PictureOnItsWay
from lookalike_embedder.workers import DeviceWorkers
from lookalike_images import PictureError

log = structlog.get_logger()

# After an interactive picture, so long another is expected.
CALLS_EXPECTED_SECONDS = 1.0


class Batcher:
    """Owns the queue between decoding and the device. A batch is of one lane and of one profile of one version.

    A batch goes to an idle device when it is full, when nothing more that could join it is being decoded, or when
    its first picture has waited `wait_seconds`. While the device is busy only a full batch leaves the queue, for the
    channel; anything else stays, so that it grows and interactive calls can go ahead.

    While interactive calls come in, a bulk batch goes to a device only that it leaves room on, or that is idle, and has as many
    pictures as take about the time of one: so a call waits for no more than that before its own batch.
    """

    def __init__(self, worker: DeviceWorkers, batch_size: int, wait_seconds: float) -> None:
        self._worker = worker
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        self._queue: LaneQueue[ServedProfile, PictureOnItsWay] = LaneQueue()
        self._being_decoded: Counter[tuple[Lane, ServedProfile]] = Counter()
        self._changed = asyncio.Event()
        self._paces: dict[str, Pace] = {}
        self._calls_expected_until = 0.0
        self.seconds_per_picture = Pace().seconds_per_picture

    def announce(self, picture: PictureOnItsWay) -> None:
        """Say that a picture is about to be decoded: `put` or `withdraw` follows."""
        self._being_decoded[picture.caller.lane, picture.caller.model] += 1
        if picture.caller.lane is Lane.INTERACTIVE:
            self._expect_calls()

    def withdraw(self, picture: PictureOnItsWay) -> None:
        """Say that an announced picture does not come, and end its way."""
        picture.leave()
        self._arrived(picture)

    def put(self, picture: PictureOnItsWay, pixels: NDArray[np.uint8]) -> None:
        """Take an announced picture's pixels, as its model's `inputs` lays them out."""
        if picture.wanted:
            picture.data, picture.pixels, picture.decoded_at = None, pixels, time.perf_counter()
            self._queue.put(picture.caller.lane, picture.caller.model, picture)
        self._arrived(picture)

    def try_at_once(self, picture: PictureOnItsWay) -> bool:
        """Decode a picture and compute its vector in one thread, if nothing else is on its way here; say whether that is so.

        That saves two changes of threads, which are a good part of what a call takes besides.
        """
        if not self._worker.is_free or self._being_decoded or self._queue.next_turn() is not None:
            return False
        self._expect_calls()
        work, done = partial(decode_and_compute, picture), partial(self._answer_at_once, picture)
        self._worker.submit(picture.caller.model, work, done, single=True)
        return True

    async def run(self) -> None:
        """Make batches until cancelled."""
        while True:
            most = await self._due()
            if batch := [picture for picture in self._queue.take(most) if _stays(picture)]:
                self._hand_over(batch)

    async def _due(self) -> int:
        """Wait until a batch should leave the queue; return how many pictures it may have."""
        while True:
            turn = self._queue.next_turn()
            if turn is not None:
                most = self._most(turn)
                delay = self._delay(turn, most)
                if delay == 0:
                    return most
            else:
                delay = None
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), delay)

    def _most(self, turn: Turn[ServedProfile, PictureOnItsWay]) -> int:
        """Return how many pictures the next batch may have."""
        if self._yields(turn):
            return min(self._batch_size, self._pace(turn.key).pictures_in_the_time_of_one())
        return self._batch_size

    def _delay(self, turn: Turn[ServedProfile, PictureOnItsWay], most: int) -> float | None:
        """Return the seconds until a batch should leave the queue; None: not before something changes."""
        if not self._worker.has_room or (self._yields(turn) and not self._worker.leaves_room(turn.key)):
            return None
        if turn.waiting >= most:
            return 0
        if not self._worker.is_idle(turn.key):
            return None
        if not self._being_decoded[turn.lane, turn.key]:
            return 0
        return max(0, turn.oldest.decoded_at + self._wait_seconds - time.perf_counter())

    def _expect_calls(self) -> None:
        self._calls_expected_until = time.monotonic() + CALLS_EXPECTED_SECONDS

    def _yields(self, turn: Turn[ServedProfile, PictureOnItsWay]) -> bool:
        """Say whether it is bulk's turn while interactive calls come in."""
        return turn.lane is Lane.BULK and time.monotonic() < self._calls_expected_until

    def _pace(self, profile: ServedProfile) -> Pace:
        return self._paces.setdefault(profile.space.fingerprint, Pace())

    def _hand_over(self, batch: list[PictureOnItsWay]) -> None:
        pixels = np.stack([picture.pixels for picture in batch if picture.pixels is not None])
        for picture in batch:
            picture.pixels = None
        work, done = partial(compute, pixels), partial(self._answer_batch, batch)
        self._worker.submit(batch[0].caller.model, work, done, single=len(batch) == 1)

    def _answer_at_once(self, picture: PictureOnItsWay, running: Future[tuple[Decoded, Computed | None]], share: float) -> None:
        with self._answering([picture]):
            decoded, computed = running.result()
            picture.decode_seconds = decoded.seconds
            if isinstance(decoded.pixels, PictureError):
                picture.caller.refused(picture.key, decoded.pixels, Cost(decode_seconds=decoded.seconds))
            elif computed is not None:
                picture.decoded_at = computed.started
                self._embedded([picture], computed, share)

    def _answer_batch(self, batch: list[PictureOnItsWay], running: Future[Computed], share: float) -> None:
        with self._answering(batch):
            self._embedded(batch, running.result(), share)

    @contextmanager
    def _answering(self, batch: list[PictureOnItsWay]) -> Iterator[None]:
        """Let the next batch leave, and end the way of these pictures after the block; what fails in it, fails their callers."""
        self._changed.set()
        try:
            yield
        except Exception as error:
            log.exception("batch_failed", model=batch[0].caller.model.name, pictures=len(batch))
            for caller in {picture.caller for picture in batch}:
                caller.failed(error)
        finally:
            for picture in batch:
                picture.leave()

    def _embedded(self, batch: list[PictureOnItsWay], computed: Computed, share: float) -> None:
        pace = self._pace(batch[0].caller.model)
        pace.note(len(batch), computed.seconds)
        self.seconds_per_picture = pace.seconds_per_picture * share
        rows: dict[Caller, list[int]] = {}
        for row, picture in enumerate(batch):
            rows.setdefault(picture.caller, []).append(row)
        for caller, own in rows.items():
            cost = _cost([batch[row] for row in own], computed, len(batch))
            caller.embedded([batch[row].key for row in own], computed.vectors[own], cost)

    def _arrived(self, picture: PictureOnItsWay) -> None:
        key = picture.caller.lane, picture.caller.model
        self._being_decoded[key] -= 1
        if not self._being_decoded[key]:
            del self._being_decoded[key]
        self._changed.set()


def _stays(picture: PictureOnItsWay) -> bool:
    """Say whether somebody still waits for the picture; if not, its way ends here."""
    if not picture.wanted:
        picture.leave()
        return False
    return True


def _cost(pictures: list[PictureOnItsWay], computed: Computed, batch_size: int) -> Cost:
    waiting = max(picture.wait_seconds for picture in pictures)
    decoding = sum(picture.decode_seconds for picture in pictures)
    queueing = computed.started - min(picture.decoded_at for picture in pictures)
    return Cost(decoding, queueing, computed.seconds, batch_size, waiting, computed.device, computed.precision)
