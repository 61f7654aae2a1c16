"""How long one call takes on an idle server, against the same work without one, and among others."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.embedder.server import EmbedderProcess
from lookalike_embedder.trial import seconds_of_one
from lookalike_model.bundle import Bundle
from lookalike_model.cores import cores
from lookalike_model.ensemble_model import for_inference, load_model

_WARM_CALLS = 5
_TRIAL_SECONDS = 0.5


class Overhead:
    """What a call adds to decoding and running the network in process, in turns that other measurements come between.

    The two alternate and compute alike, but for the threads: in process it has as many as are fastest there.
    """

    def __init__(self, ours: EmbedderProcess, bundle: Bundle, pictures: Sequence[bytes], calls: int) -> None:
        """`calls` are made in each turn."""
        self._ours = ours
        self._pictures = pictures
        self._calls = calls
        self._turns: list[dict[str, Any]] = []
        self._model = load_model(for_inference(bundle))
        self._model.use(ours.numerics())
        self._threads = min((1, cores()), key=lambda threads: seconds_of_one(self._model, threads, _TRIAL_SECONDS))

    def turn(self) -> None:
        """Measure once more."""
        torch.set_num_threads(self._threads)
        called, alone = [], []
        for number in range(_WARM_CALLS + self._calls):
            data = self._pictures[number % len(self._pictures)]
            called.append(self._ours.embed([data]))
            alone.append(self._in_process(data))
        called, alone = called[_WARM_CALLS:], alone[_WARM_CALLS:]
        overhead = 1e3 * (statistics.median(called) - statistics.median(alone))
        self._turns.append({"overhead_ms": overhead, "call_ms": percentiles(called), "in_process_ms": percentiles(alone)})

    def told(self) -> dict[str, Any]:
        """Return the turns, and the median of what they found."""
        median = statistics.median(turn["overhead_ms"] for turn in self._turns)
        return {"unary_overhead_ms": median, "turns": self._turns, "in_process_threads": self._threads, "calls": self._calls}

    def _in_process(self, data: bytes) -> float:
        started = time.perf_counter()
        self._model.embed(self._model.inputs.pixels(data)[None])
        return time.perf_counter() - started


def against_concurrency(ours: EmbedderProcess, pictures: Sequence[bytes], callers: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Return p50 and p99 with that many callers, each of which calls again once it is answered."""
    return [{"callers": number, **_busy(ours, pictures, number, seconds)} for number in callers]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in ms."""
    return {"p50": float(1e3 * np.percentile(seconds, 50)), "p99": float(1e3 * np.percentile(seconds, 99))}


def call_until(ours: EmbedderProcess, pictures: Sequence[bytes], ending: threading.Event, pause: float = 0) -> list[float]:
    """Call with one picture after another; return the seconds of each call."""
    taken: list[float] = []
    while not ending.is_set():
        taken.append(ours.embed([pictures[len(taken) % len(pictures)]]))
        ending.wait(pause)
    return taken


def _busy(ours: EmbedderProcess, pictures: Sequence[bytes], callers: int, seconds: float) -> dict[str, Any]:
    ending = threading.Event()
    taken: list[float] = []
    threads = [threading.Thread(target=lambda: taken.extend(call_until(ours, pictures, ending))) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    ending.set()
    for thread in threads:
        thread.join(60)
    return {**percentiles(taken), "calls": len(taken), "calls_per_second": len(taken) / seconds}
