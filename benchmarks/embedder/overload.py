"""More than the server can do, and a bulk stream beside interactive calls."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from benchmarks.embedder.latency import call_until, percentiles
from benchmarks.embedder.server import EmbedderProcess, call_of
from benchmarks.embedder.stream import Streams
from benchmarks.process import CHANNEL_OPTIONS
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc

_PICTURES_A_CALL = 8
_CALLERS_AT_CAPACITY = 4
_TIMES = 10
_SAMPLE_SECONDS = 0.1
_RECOVERY_WINDOW_SECONDS = 0.5
_ANSWER_SECONDS = 60
# Full speed is this share of the capacity measured before.
_FULL = 0.9
# What has no answer is what ends by the client's clock or by a broken connection.
_NO_ANSWER = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}


class MemoryWatch:
    """Samples the server's anonymous memory until `stop`."""

    def __init__(self, ours: EmbedderProcess) -> None:
        self._ending = threading.Event()
        self._ours = ours
        self.samples: list[int] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[int]:
        """Return all samples, in bytes."""
        self._ending.set()
        self._thread.join()
        return self.samples

    def _run(self) -> None:
        while not self._ending.wait(_SAMPLE_SECONDS):
            self.samples.append(self._ours.anonymous_bytes())


@dataclass
class Answers:
    """How calls ended."""

    pictures: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    without_answer: int = 0
    refused_without_retry: int = 0

    def note(self, error: grpc.aio.AioRpcError) -> None:
        """Take a call that failed."""
        self.codes[error.code().name] += 1
        if error.code() in _NO_ANSWER:
            self.without_answer += 1
        elif not _says_when(error):
            self.refused_without_retry += 1


def overload(ours: EmbedderProcess, pictures: Sequence[bytes], warm_seconds: float, seconds: float) -> dict[str, Any]:
    """Offer ten times the capacity; return memory against that at capacity, the answers, and the seconds to full speed."""
    return asyncio.run(_overload(ours, pictures, warm_seconds, seconds))


async def _overload(ours: EmbedderProcess, pictures: Sequence[bytes], warm_seconds: float, seconds: float) -> dict[str, Any]:
    request = call_of(pictures[:_PICTURES_A_CALL])
    async with grpc.aio.insecure_channel(ours.address, options=CHANNEL_OPTIONS) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        watch = MemoryWatch(ours)
        capacity = await _closed_loop(stub, request, warm_seconds)
        at_capacity = max(watch.stop() or [ours.anonymous_bytes()])
        watch = MemoryWatch(ours)
        answers = await _offer(stub, request, _TIMES * capacity, seconds)
        recovery, recovered = await _until_full(stub, request, capacity)
        peak = max(watch.stop())
    return {
        "capacity_images_per_second": capacity,
        "offered_images_per_second": sum(answers.codes.values()) * _PICTURES_A_CALL / seconds,
        "served_images_per_second": answers.pictures / seconds,
        "memory_ratio": peak / at_capacity,
        "anonymous_bytes": {"at_capacity": at_capacity, "peak": peak},
        "answers": dict(answers.codes),
        "without_answer": answers.without_answer,
        "refused_without_retry": answers.refused_without_retry,
        "recovery_seconds": recovery,
        "recovered_images_per_second": recovered,
    }


async def _closed_loop(stub: Any, request: embedder_pb2.EmbedRequest, seconds: float) -> float:
    """Return pictures/s of a few callers that wait for their answers."""
    end = time.monotonic() + seconds
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while time.monotonic() < end:
            await stub.Embed(request, timeout=_ANSWER_SECONDS)
            answered += len(request.pictures)

    started = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(_CALLERS_AT_CAPACITY)))
    return answered / (time.monotonic() - started)


async def _offer(stub: Any, request: embedder_pb2.EmbedRequest, images_per_second: float, seconds: float) -> Answers:
    """Call at a fixed rate, whatever becomes of the calls, and wait for all of them."""
    answers, calls = Answers(), set[asyncio.Task[None]]()

    async def call() -> None:
        try:
            answer = await stub.Embed(request, timeout=_ANSWER_SECONDS)
            answers.codes["OK"] += 1
            answers.pictures += len(answer.results)
        except grpc.aio.AioRpcError as error:
            answers.note(error)

    started, period = time.monotonic(), len(request.pictures) / images_per_second
    made = 0
    while (now := time.monotonic() - started) < seconds:
        while made * period <= now:
            task = asyncio.create_task(call())
            calls.add(task)
            task.add_done_callback(calls.discard)
            made += 1
        await asyncio.sleep(period)
    await asyncio.gather(*calls)
    return answers


async def _until_full(stub: Any, request: embedder_pb2.EmbedRequest, capacity: float) -> tuple[float, float]:
    """Return the seconds after which a window had full speed, and that speed; gives up after ten windows."""
    best = 0.0
    for window in range(10):
        rate = await _closed_loop(stub, request, _RECOVERY_WINDOW_SECONDS)
        best = max(best, rate)
        if rate >= _FULL * capacity:
            return window * _RECOVERY_WINDOW_SECONDS, rate
    return 10 * _RECOVERY_WINDOW_SECONDS, best


def beside_bulk(ours: EmbedderProcess, pictures: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Return how long interactive calls take on an idle server and while a stream runs, and what the stream gets."""
    idle = _calls_during(ours, pictures, seconds)
    streams = Streams(ours.address, pictures, 1)
    try:
        time.sleep(seconds / 4)
        alone = streams.measure(seconds / 2)
        taken: list[float] = []
        ending = threading.Event()
        caller = threading.Thread(target=lambda: taken.extend(call_until(ours, pictures, ending)))
        caller.start()
        shared = streams.measure(seconds)
        ending.set()
        caller.join(60)
    finally:
        streams.stop()
    return {
        "interactive_p99_ratio": percentiles(taken)["p99"] / percentiles(idle)["p99"],
        "idle_ms": percentiles(idle),
        "beside_bulk_ms": percentiles(taken),
        "calls_per_second": {"idle": len(idle) / seconds, "beside_bulk": len(taken) / seconds},
        "bulk_images_per_second": {"alone": alone.images_per_second, "beside_calls": shared.images_per_second},
        "bulk_batch_size": {"alone": alone.batch_size, "beside_calls": shared.batch_size},
        "stream_errors": streams.errors,
    }


def _calls_during(ours: EmbedderProcess, pictures: Sequence[bytes], seconds: float) -> list[float]:
    ending = threading.Event()
    timer = threading.Timer(seconds, ending.set)
    timer.start()
    return call_until(ours, pictures, ending)


def _says_when(error: grpc.aio.AioRpcError) -> bool:
    status, retry = rpc_status.from_call(error), RetryInfo()
    return status is not None and any(detail.Unpack(retry) for detail in status.details)
