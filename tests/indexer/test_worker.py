"""A worker gives way from its first moment on, and what it writes arrives whole all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

GIVES_WAY = """
import os, signal
import numpy as np
np.ones((1_500, 1_500)) @ np.ones((1_500, 1_500))
print([os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")])
print(signal.getitimer(signal.ITIMER_REAL)[1])
"""
WRITES = """
from lookalike_indexer.worker_pipe import read_job, write
write(read_job() * 100_000, b"data" * 100_000)
"""


def started(folder: Path, text: str) -> subprocess.Popen[bytes]:
    (folder / "work.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "lookalike_indexer.worker", "work"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness of their own")
def test_every_thread_stands_back_and_the_first_yields(tmp_path: Path) -> None:
    niceness, interval = started(tmp_path, GIVES_WAY).communicate()[0].decode().splitlines()
    expected = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert set(niceness.strip("[]").split(", ")) == {str(expected)}
    assert float(interval) == 0.001


def test_what_is_written_arrives_whole_though_signals_interrupt(tmp_path: Path) -> None:
    worker = started(tmp_path, WRITES)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(b"0123456789\n")
    worker.stdin.flush()
    read = b""
    while part := os.read(worker.stdout.fileno(), 50_000):
        read += part
        # A full pipe makes the worker wait, where the next signal meets it.
        time.sleep(0.005)
    assert worker.wait() == 0
    assert read == b"0123456789\n" * 100_000 + b"\n" + b"data" * 100_000
