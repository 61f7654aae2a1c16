"""Blocking work in a few threads, its results in order."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_WORKERS = min(8, (os.cpu_count() or 1) + 2)
_AHEAD = 2 * _WORKERS


async def map_in_threads(function: Callable[[T], U], values: Iterable[T]) -> AsyncIterator[U]:
    """Yield `function` of each of `values`, in order; only a few are worked out ahead of whoever takes them."""
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="lookalike-file")
    loop = asyncio.get_running_loop()
    ahead: deque[asyncio.Future[U]] = deque()
    try:
        for value in values:
            ahead.append(loop.run_in_executor(pool, function, value))
            if len(ahead) == _AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for future in ahead:
            future.cancel()
        pool.shutdown(wait=False, cancel_futures=True)
