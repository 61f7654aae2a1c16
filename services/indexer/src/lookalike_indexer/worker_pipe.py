"""What a worker hears from the server that started it and what it tells it, over stdin and stdout."""

from __future__ import annotations

import os
import sys
import threading


def read_job() -> str:
    """Return the job, the first line of stdin; this process ends when stdin does."""
    job = sys.stdin.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return job


def write(line: str, *data: bytes) -> None:
    """Write a line, and data after it, to stdout."""
    # Where Python was told not to buffer, sys.stdout loses the rest of a write that a signal interrupts.
    with open(sys.stdout.fileno(), "wb", closefd=False) as whole:
        whole.writelines((line.encode(), b"\n", *data))


def _end_with_parent() -> None:
    # The server holds the other end of stdin: it closes when the server ends, however it ends.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
