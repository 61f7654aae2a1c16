"""One run in a process of its own: what it takes in time and in memory that is not a mapped file."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

_SECONDS_BETWEEN = 0.01


class Run(NamedTuple):
    """`cpu_seconds` tells what other programs did not take; `anonymous_bytes` is the peak of anonymous memory above that at the start."""

    seconds: float
    cpu_seconds: float
    anonymous_bytes: int


def run_alone(work: Callable[..., object], *arguments: Any) -> Run:
    """Run `work`, which can be imported, with one thread of BLAS in a fresh process; arguments are pickled."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_measured, (work, arguments))
    finally:
        os.environ.clear()
        os.environ.update(before)


def ratios(ours: Sequence[Run], yardstick: Sequence[Run]) -> tuple[float, float]:
    """Medians of the ratios of neighbouring runs, in seconds and in seconds of the processor."""
    pairs = list(zip(ours, yardstick, strict=True))
    return median(one.seconds / other.seconds for one, other in pairs), median(one.cpu_seconds / other.cpu_seconds for one, other in pairs)


def _measured(work: Callable[..., object], arguments: tuple[Any, ...]) -> Run:
    start = peak = _anonymous()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_SECONDS_BETWEEN):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, cpu_began = time.perf_counter(), time.process_time()
    work(*arguments)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    ended.set()
    watcher.join()
    return Run(seconds, cpu_seconds, peak - start)


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status says nothing of RssAnon: measure on Linux")
