"""Clients of EmbedStream that send encoded pictures as fast as the server takes them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc

from benchmarks.embedder.server import TARGET
from benchmarks.process import CHANNEL_OPTIONS
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc

_SECONDS_TO_END = 120


class Streamed(NamedTuple):
    """What streams were given."""

    images_per_second: float
    failures: int
    batch_size: float
    """Mean over pictures."""


class Streams:
    """Some streams, each over a connection of its own, until `stop`."""

    def __init__(self, address: str, pictures: Sequence[bytes], streams: int) -> None:
        self._ending = threading.Event()
        self._answered = [0] * streams
        self._failures = 0
        self._batch_sizes = 0
        self.errors: list[str] = []
        self._pictures = [embedder_pb2.Picture(data=data) for data in pictures]
        self._threads = [threading.Thread(target=self._run, args=(address, number)) for number in range(streams)]
        for thread in self._threads:
            thread.start()

    def measure(self, seconds: float) -> Streamed:
        """Return what the streams are given during some seconds."""
        before, failures, sizes, started = sum(self._answered), self._failures, self._batch_sizes, time.perf_counter()
        time.sleep(seconds)
        answered, taken = sum(self._answered) - before, time.perf_counter() - started
        return Streamed(answered / taken, self._failures - failures, (self._batch_sizes - sizes) / max(1, answered))

    def stop(self) -> None:
        """End the streams properly: what was sent is answered."""
        self._ending.set()
        for thread in self._threads:
            thread.join(_SECONDS_TO_END)

    def _run(self, address: str, number: int) -> None:
        with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
            try:
                for answer in embedder_pb2_grpc.EmbedderServiceStub(channel).EmbedStream(self._messages(number)):
                    if answer.HasField("batch"):
                        self._answered[number] += len(answer.batch.sequences)
                        self._batch_sizes += len(answer.batch.sequences) * answer.batch.cost.batch_size
                    elif answer.HasField("failure"):
                        self._answered[number] += 1
                        self._failures += 1
            except grpc.RpcError as error:
                self.errors.append(str(error))

    def _messages(self, number: int) -> Iterator[embedder_pb2.EmbedStreamRequest]:
        yield embedder_pb2.EmbedStreamRequest(open=TARGET)
        for sequence in itertools.count():
            if self._ending.is_set():
                return
            picture = self._pictures[(sequence + number * 7) % len(self._pictures)]
            yield embedder_pb2.EmbedStreamRequest(picture=embedder_pb2.SequencedPicture(sequence=sequence, picture=picture))


def stream_throughput(address: str, pictures: Sequence[bytes], streams: int, warm_seconds: float, seconds: float) -> Streamed:
    """Return what `streams` streams are given, once they have run for `warm_seconds`."""
    running = Streams(address, pictures, streams)
    try:
        time.sleep(warm_seconds)
        measured = running.measure(seconds)
    finally:
        running.stop()
    if running.errors:
        raise RuntimeError(f"a stream ended: {running.errors[0]}")
    return measured
