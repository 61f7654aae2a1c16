"""What every process that the server starts for a piece of work does first: give way to searches, and end with the server."""

from __future__ import annotations

import os
import sys
import threading

_NICENESS = 10


def begin() -> str:
    """Lower the priority and return the job, the first line of stdin; this process ends when stdin does."""
    os.nice(_NICENESS)
    job = sys.stdin.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return job


def _end_with_parent() -> None:
    # The server holds the other end of stdin: it closes when the server ends, however it ends.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
