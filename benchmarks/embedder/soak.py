"""Mixed traffic for a long time, some of it broken: memory stays, and no error is any but the pictures'."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc.code_pb2 import Code

from benchmarks.embedder.broken_pictures import broken_pictures
from benchmarks.embedder.overload import MemoryWatch
from benchmarks.embedder.server import TARGET, EmbedderProcess, call_of
from benchmarks.process import CHANNEL_OPTIONS
from lookalike_protos.embedder.v1 import embedder_pb2, embedder_pb2_grpc

_BROKEN_EVERY = 20  # 5 %
_STREAM_PICTURES = 400
_CALLERS = 2
# Samples at either end whose medians are compared. protobuf hands freed memory back to the kernel every so many messages, about once a
# minute here, so that memory rises and falls: an end holds several such turns.
_SHARE = 0.2


class Traffic:
    """Callers with one to eight pictures, and a stream that is opened again and again."""

    def __init__(self, ours: EmbedderProcess, pictures: Sequence[bytes], seed: int) -> None:
        broken = [each.data for each in broken_pictures(len(pictures), seed) if each.kind not in ("flipped", "lying header")]
        self._ours = ours
        self._mixed = [
            (broken[at // _BROKEN_EVERY % len(broken)], False) if at % _BROKEN_EVERY == 0 else (pictures[at % len(pictures)], True)
            for at in range(_BROKEN_EVERY * len(broken))
        ]
        self._ending = threading.Event()
        self.sent = {"pictures": 0, "broken": 0}
        self.errors: list[str] = []
        works = [self._call] * _CALLERS + [self._stream]
        self._threads = [threading.Thread(target=self._until_the_end, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it; every answer is waited for."""
        self._ending.set()
        for thread in self._threads:
            thread.join(120)

    def _until_the_end(self, work: Any) -> None:
        at = 0
        with grpc.insecure_channel(self._ours.address, CHANNEL_OPTIONS) as channel:
            stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
            while not self._ending.is_set():
                try:
                    at += work(stub, at)
                except grpc.RpcError as error:
                    self.errors.append(str(error))
                    time.sleep(0.1)

    def _call(self, stub: Any, at: int) -> int:
        count = 1 + at % 8
        chosen = self._some(at, count)
        results = stub.Embed(call_of([data for data, _ in chosen]), timeout=120).results
        for (_, good), result in zip(chosen, results, strict=True):
            self._note(good, result.error if result.HasField("error") else None)
        return count

    def _stream(self, stub: Any, at: int) -> int:
        chosen = self._some(at, _STREAM_PICTURES)
        messages = [embedder_pb2.EmbedStreamRequest(open=TARGET)]
        for sequence, (data, _) in enumerate(chosen):
            picture = embedder_pb2.SequencedPicture(sequence=sequence, picture=embedder_pb2.Picture(data=data))
            messages.append(embedder_pb2.EmbedStreamRequest(picture=picture))
        answered = 0
        for response in stub.EmbedStream(iter(messages), timeout=600):
            if response.HasField("failure"):
                self._note(chosen[response.failure.sequence][1], response.failure.error)
                answered += 1
            for sequence in response.batch.sequences:
                self._note(chosen[sequence][1], None)
                answered += 1
        if answered != len(chosen):
            self.errors.append(f"{len(chosen)} pictures of a stream had {answered} answers")
        return len(chosen)

    def _some(self, at: int, count: int) -> list[tuple[bytes, bool]]:
        return [self._mixed[(at + number) % len(self._mixed)] for number in range(count)]

    def _note(self, good: bool, error: Any) -> None:
        self.sent["pictures" if good else "broken"] += 1
        if good and error is not None:
            self.errors.append(f"a good picture was refused: {error.message}")
        if not good and (error is None or error.code != Code.Value("INVALID_ARGUMENT")):
            self.errors.append("a broken picture had a vector, or an error that is not its own")


def soak(ours: EmbedderProcess, pictures: Sequence[bytes], warm_seconds: float, seconds: float, seed: int = 8) -> dict[str, Any]:
    """Return by how much memory grew after `warm_seconds`, and every error that is not a picture's."""
    traffic = Traffic(ours, pictures, seed)
    try:
        time.sleep(warm_seconds)
        watch = MemoryWatch(ours)
        time.sleep(seconds)
        samples = watch.stop()
    finally:
        traffic.stop()
    edge = max(1, int(_SHARE * len(samples)))
    first, last = statistics.median(samples[:edge]), statistics.median(samples[-edge:])
    return {
        "growth": last / first - 1,
        "anonymous_bytes": {"first": first, "last": last, "peak": max(samples)},
        "samples": samples[:: max(1, len(samples) // 300)],
        "sent": traffic.sent,
        "errors": traffic.errors[:20],
        "seconds": seconds,
    }
