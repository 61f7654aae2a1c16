"""`python -m lookalike_indexer.worker MODULE`: a piece of work in a process of its own, which gives way to searches.

It does so before the module is loaded: threads have the niceness of the thread that starts them, and numpy starts some for its products.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_NICENESS = 10
_SECONDS_BETWEEN = 0.001


def main() -> None:
    """Give way, and run the module."""
    os.nice(_NICENESS)
    yield_every(_SECONDS_BETWEEN)
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)


def yield_every(seconds: float) -> None:
    """Have the main thread, whatever it does, let others that wait for its processor run.

    By itself Linux looks who is to run on a busy processor when the clock ticks, every 4 ms at 250 Hz. A thread that is woken there waits
    so long, however nice the one that runs is, even where another processor has nothing to do (docs/decisions/0018).
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    # Not a handler in Python, which would be called only after a product of matrices. It takes no argument, and needs none.
    libc.signal(signal.SIGALRM, ctypes.cast(libc.sched_yield, ctypes.c_void_p))
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


if __name__ == "__main__":
    main()
