"""One run in a process of its own: what it takes in time and in memory that is not a mapped file."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS_BETWEEN = 0.01


class Run(NamedTuple):
    """`anonymous_bytes` is the peak of anonymous memory above that at the start."""

    seconds: float
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


def _measured(work: Callable[..., object], arguments: tuple[Any, ...]) -> Run:
    start = peak = _anonymous()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_SECONDS_BETWEEN):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    return Run(seconds, peak - start)


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status says nothing of RssAnon: measure on Linux")
