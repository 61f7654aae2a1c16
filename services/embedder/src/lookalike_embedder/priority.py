"""Who goes first where there are fewer cores than threads."""

import os
import sys
import threading

_STEP, _LAST = 5, 19


def stand_back() -> None:
    """Let this thread, and those that it starts, compute in the time that others leave.

    The thread that takes calls must come first: one that cannot be taken fast enough to be refused waits in memory.
    """
    if sys.platform == "linux":  # elsewhere threads have no niceness of their own
        of_main_thread = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_LAST, of_main_thread + _STEP))
