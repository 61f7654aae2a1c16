"""How the C library gives memory back, which decides how fast large batches are on a CPU."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let freed memory be used again instead of going back to the kernel; False where there is no mallopt.

    By default glibc maps each block above 32 MiB anew, and the kernel clears its pages one fault at a time: the
    activations of a batch of 32 cost more than the convolutions that fill them. Threads share one arena, since the
    others can't hold such blocks; so what is kept is bounded by the most that was in use at once. Call it before
    any thread is started.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # no glibc
        return False
    wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES))
    done = [mallopt(parameter, value) for parameter, value in wanted]
    return all(done)
