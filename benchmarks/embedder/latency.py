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


def overhead(ours: EmbedderProcess, bundle: Bundle, pictures: Sequence[bytes], calls: int) -> dict[str, Any]:
    """Return what a call adds to decoding and running the network in process, in ms.

    The two take turns and compute alike, but for the threads: in process it has as many as are fastest there.
    """
    model = load_model(for_inference(bundle))
    model.use(ours.numerics())
    torch.set_num_threads(min((1, cores()), key=lambda threads: seconds_of_one(model, threads, _TRIAL_SECONDS)))

    def in_process(data: bytes) -> float:
        started = time.perf_counter()
        model.embed(model.inputs.pixels(data)[None])
        return time.perf_counter() - started

    called, alone = [], []
    for number in range(_WARM_CALLS + calls):
        data = pictures[number % len(pictures)]
        called.append(ours.embed([data]))
        alone.append(in_process(data))
    called, alone = called[_WARM_CALLS:], alone[_WARM_CALLS:]
    return {
        "unary_overhead_ms": 1e3 * (statistics.median(called) - statistics.median(alone)),
        "call_ms": percentiles(called),
        "in_process_ms": percentiles(alone),
        "in_process_threads": torch.get_num_threads(),
        "calls": calls,
    }


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
