"""A queue of two lanes: interactive calls go ahead of bulk without starving it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

# So many turns the interactive lane may take in a row while bulk waits; then bulk has one.
TURNS_AHEAD = 4

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Lane(Enum):
    """How urgent something is."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Turn(NamedTuple, Generic[K, T]):
    """Whose turn it is: a lane and a key in it, how many things wait there, and the oldest of them."""

    lane: Lane
    key: K
    waiting: int
    oldest: T


class LaneQueue(Generic[K, T]):
    """What waits, by lane and, within a lane, by key; the keys of a lane take turns."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, OrderedDict[K, deque[T]]] = {lane: OrderedDict() for lane in Lane}
        self._interactive_turns = 0

    def put(self, lane: Lane, key: K, item: T) -> None:
        """Let `item` wait behind those of its lane and key."""
        self._lanes[lane].setdefault(key, deque()).append(item)

    def next_turn(self) -> Turn[K, T] | None:
        """Return whose turn it is; None if nothing waits."""
        interactive, bulk = self._lanes[Lane.INTERACTIVE], self._lanes[Lane.BULK]
        if not interactive and not bulk:
            return None
        bulk_is_due = bool(bulk) and self._interactive_turns >= TURNS_AHEAD
        lane = Lane.INTERACTIVE if interactive and not bulk_is_due else Lane.BULK
        key, items = next(iter(self._lanes[lane].items()))
        return Turn(lane, key, len(items), items[0])

    def take(self, most: int) -> list[T]:
        """Remove and return up to `most` things of the lane and key whose turn it is, oldest first."""
        turn = self.next_turn()
        if turn is None:
            return []
        keys = self._lanes[turn.lane]
        items = keys[turn.key]
        taken = [items.popleft() for _ in range(min(most, len(items)))]
        if items:
            keys.move_to_end(turn.key)
        else:
            del keys[turn.key]
        went_ahead = turn.lane is Lane.INTERACTIVE and bool(self._lanes[Lane.BULK])
        self._interactive_turns = self._interactive_turns + 1 if went_ahead else 0
        return taken
