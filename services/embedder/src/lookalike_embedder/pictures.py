"""One picture on its way from a caller to its vector, and what its caller is told."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_embedder.lanes import Lane
from lookalike_embedder.loading import ServedProfile
from lookalike_images import PictureError


@dataclass(frozen=True, slots=True)
class Cost:
    """What pictures cost, and where it was spent, as `embedder.v1.Cost` says it; seconds."""

    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    device_seconds: float = 0.0
    batch_size: int = 0
    wait_seconds: float = 0.0
    device: str = ""
    precision: str = ""

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both: times add up, except that waits overlap; the device is that of the later one."""
        return Cost(
            self.decode_seconds + other.decode_seconds,
            max(self.queue_seconds, other.queue_seconds),
            self.device_seconds + other.device_seconds,
            max(self.batch_size, other.batch_size),
            max(self.wait_seconds, other.wait_seconds),
            other.device or self.device,
            other.precision or self.precision,
        )


class Caller(ABC):
    """Who waits for pictures. Each of its pictures is answered once, by `embedded`, `refused` or `failed`."""

    lane: Lane

    def __init__(self, model: ServedProfile, deadline: float | None) -> None:
        """`model` embeds the pictures; after `deadline` (of time.monotonic) nobody waits for them any more."""
        self.model = model
        self._deadline = deadline
        self._closed = False
        self._under_way: set[PictureOnItsWay] = set()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answers any more."""
        return self._closed or (self._deadline is not None and time.monotonic() >= self._deadline)

    def enter(self, key: int, data: bytes, free_its_place: Callable[[], None] | None = None) -> PictureOnItsWay:
        """Send a picture on its way; `free_its_place` is called once, when it is answered or the caller goes."""
        picture = PictureOnItsWay(key, self, data, free_its_place)
        self._under_way.add(picture)
        return picture

    def leave(self, picture: PictureOnItsWay) -> None:
        """Forget a picture that is no longer on its way."""
        self._under_way.discard(picture)

    def close(self) -> None:
        """Stop waiting: what is on its way is dropped and its places are free."""
        self._closed = True
        for picture in list(self._under_way):
            picture.leave()

    @abstractmethod
    def embedded(self, keys: Sequence[int], vectors: NDArray[np.float32], cost: Cost) -> None:
        """Take the vectors, float32 [len(keys), dim], of pictures that were in one batch of the device."""

    @abstractmethod
    def refused(self, key: int, error: PictureError, cost: Cost) -> None:
        """Take the reason why a picture has no vector, and what it cost to find out."""

    @abstractmethod
    def failed(self, error: Exception) -> None:
        """Take an error that is not the picture's; it ends the call."""


class PictureOnItsWay:
    """A picture between its arrival and its answer."""

    __slots__ = ("arrived_at", "caller", "data", "decode_seconds", "decoded_at", "free_its_place", "key", "left", "pixels", "wait_seconds")

    def __init__(self, key: int, caller: Caller, data: bytes, free_its_place: Callable[[], None] | None) -> None:
        self.key = key
        self.caller = caller
        self.data: bytes | None = data
        self.pixels: NDArray[np.uint8] | None = None
        self.arrived_at = time.perf_counter()
        self.wait_seconds = 0.0
        self.decode_seconds = 0.0
        self.decoded_at = 0.0
        self.free_its_place = free_its_place
        self.left = False

    @property
    def wanted(self) -> bool:
        """Whether it still is on its way to somebody."""
        return not self.left and not self.caller.gone

    def leave(self) -> None:
        """Give up what it holds: bytes, pixels, its place. Harmless when repeated."""
        self.data = self.pixels = None
        if self.left:
            return
        self.left = True
        self.caller.leave(self)
        if self.free_its_place is not None:
            self.free_its_place()
