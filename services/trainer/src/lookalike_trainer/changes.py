"""Wakes those who wait for jobs to change."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Changes:
    """Notified from any thread; waited for in event loops."""

    def __init__(self) -> None:
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = Lock()

    def notify(self) -> None:
        """Something has changed."""
        with self._lock:
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Event]:
        """An event that is set after each change. Clear it, look, then wait: so no change is missed."""
        entry = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting.add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)
