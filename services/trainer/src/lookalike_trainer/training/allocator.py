"""How the C library hands out memory."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, instead of handing it back to the kernel.

    By default each large tensor of a step is mapped anew, and the kernel clears its pages: about a third of a step's
    time for a small network. Costs nothing but that the process stays as large as it once was.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_MMAP_THRESHOLD, _NEVER)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)
