"""Places for pictures that wait, bounded in number and in bytes, so that memory stays flat whatever is asked."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Waiter:
    pictures: int
    size: int
    granted: asyncio.Future[None]


class Places:
    """So many pictures, and so many bytes, may wait at once; the largest that comes must fit."""

    def __init__(self, pictures: int, size: int) -> None:
        """At most `pictures` of together `size` bytes."""
        self._most_pictures, self._most_bytes = pictures, size
        self._bytes = 0
        self._waiters: deque[_Waiter] = deque()
        self.taken = 0

    def try_take(self, pictures: int, size: int) -> bool:
        """Take places at once, all or none; False if there is no room or others wait for it."""
        if self._waiters or not self._fits(pictures, size):
            return False
        self._add(pictures, size)
        return True

    async def take(self, pictures: int, size: int) -> None:
        """Take places, waiting for one's turn."""
        if self.try_take(pictures, size):
            return
        waiter = _Waiter(pictures, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if not waiter.granted.cancelled():
                self.give_back(pictures, size)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
                self._let_in()
            raise

    def give_back(self, pictures: int, size: int) -> None:
        """Free places and let in who waits longest."""
        self._add(-pictures, -size)
        self._let_in()

    def _fits(self, pictures: int, size: int) -> bool:
        return self.taken + pictures <= self._most_pictures and self._bytes + size <= self._most_bytes

    def _add(self, pictures: int, size: int) -> None:
        self.taken += pictures
        self._bytes += size

    def _let_in(self) -> None:
        while self._waiters and self._fits(self._waiters[0].pictures, self._waiters[0].size):
            waiter = self._waiters.popleft()
            if not waiter.granted.cancelled():
                self._add(waiter.pictures, waiter.size)
                waiter.granted.set_result(None)
