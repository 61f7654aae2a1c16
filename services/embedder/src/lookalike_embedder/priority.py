"""Who goes first where there are fewer cores than threads."""

import os
import sys
import threading

_NICENESS = 5


def stand_back() -> None:
    """Let this thread, and those that it starts, compute in the time that others leave.

    The thread that takes calls must come first: one that cannot be taken fast enough to be refused waits in memory.
    """
    if sys.platform == "linux":  # elsewhere threads have no niceness of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
