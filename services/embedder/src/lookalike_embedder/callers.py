"""The two kinds of callers: one call with a few pictures, and a stream of any number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_embedder.lanes import Lane
from lookalike_embedder.loading import ServedProfile
from lookalike_embedder.pictures import Caller, Cost
from lookalike_images import PictureError


@dataclass(frozen=True, slots=True)
class FewEmbedded:
    """The answer to a few pictures.

    Attributes:
        vectors: float32 [readable pictures, dim].
        results: for each picture its row in `vectors`, or why it has none.
    """

    vectors: NDArray[np.float32]
    results: tuple[int | PictureError, ...]
    cost: Cost


class FewCaller(Caller):
    """A call that is answered once all its pictures are."""

    lane = Lane.INTERACTIVE

    def __init__(self, model: ServedProfile, deadline: float | None, pictures: int) -> None:
        super().__init__(model, deadline)
        self._answers: list[NDArray[np.float32] | PictureError | None] = [None] * pictures
        self._missing = pictures
        self._cost = Cost()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def embedded(self, keys: Sequence[int], vectors: NDArray[np.float32], cost: Cost) -> None:
        self._cost += cost
        for key, vector in zip(keys, vectors, strict=True):
            self._answer(key, vector)

    def refused(self, key: int, error: PictureError, cost: Cost) -> None:
        self._cost += cost
        self._answer(key, error)

    def failed(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    async def answer(self) -> FewEmbedded:
        """Return what became of all pictures; raises what made the call fail."""
        await self._done
        rows: list[NDArray[np.float32]] = []
        results: list[int | PictureError] = []
        for answer in self._answers:
            assert answer is not None, "every picture is answered before the call is"
            if isinstance(answer, PictureError):
                results.append(answer)
            else:
                results.append(len(rows))
                rows.append(answer)
        vectors = np.stack(rows) if rows else np.zeros((0, self.model.space.dim), np.float32)
        return FewEmbedded(vectors, tuple(results), self._cost)

    def _answer(self, key: int, answer: NDArray[np.float32] | PictureError) -> None:
        self._answers[key] = answer
        self._missing -= 1
        if not self._missing and not self._done.done():
            self._done.set_result(None)


@dataclass(frozen=True, slots=True)
class BatchEmbedded:
    """Pictures of a stream that the device took together: `sequences[i]` has row i of `vectors`, float32 [n, dim]."""

    sequences: tuple[int, ...]
    vectors: NDArray[np.float32]
    cost: Cost


@dataclass(frozen=True, slots=True)
class Refused:
    """A picture of a stream that has no vector."""

    sequence: int
    error: PictureError
    cost: Cost


StreamAnswer = BatchEmbedded | Refused


class StreamCaller(Caller):
    """A stream of pictures and answers. Only so many may be unanswered, whether they wait here or for the client to read."""

    lane = Lane.BULK

    def __init__(self, model: ServedProfile, deadline: float | None, most_unanswered: int) -> None:
        super().__init__(model, deadline)
        self._window = asyncio.Semaphore(most_unanswered)
        self._unanswered = 0
        self._all_arrived = False
        self._answers: asyncio.Queue[StreamAnswer | Exception | None] = asyncio.Queue()

    async def admit(self) -> None:
        """Wait until one more picture may come."""
        await self._window.acquire()
        self._unanswered += 1

    def end(self) -> None:
        """Say that no more pictures come: `answers` ends with the last answer."""
        self._all_arrived = True
        self._answers.put_nowait(None)

    def embedded(self, keys: Sequence[int], vectors: NDArray[np.float32], cost: Cost) -> None:
        self._answers.put_nowait(BatchEmbedded(tuple(keys), vectors, cost))

    def refused(self, key: int, error: PictureError, cost: Cost) -> None:
        self._answers.put_nowait(Refused(key, error, cost))

    def failed(self, error: Exception) -> None:
        self._answers.put_nowait(error)

    async def answers(self) -> AsyncIterator[StreamAnswer]:
        """Yield answers as they come. An answer leaves the window when the next one is asked for, that is once it is sent.

        Raises what made the stream fail.
        """
        while not (self._all_arrived and self._unanswered == 0):
            answer = await self._answers.get()
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                yield answer
                self._sent(len(answer.sequences) if isinstance(answer, BatchEmbedded) else 1)

    def _sent(self, pictures: int) -> None:
        self._unanswered -= pictures
        for _ in range(pictures):
            self._window.release()
