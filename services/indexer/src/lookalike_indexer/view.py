"""What a search sees: a build, which of its rows no longer count, and the items that are newer.

A view never changes; each write makes the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.store import Rows

_FIRST_SLOTS = 256


@dataclass(frozen=True)
class Fresh:
    """Items newer than the build, in slots by order of arrival; `dead` [n] slots were replaced or deleted since."""

    ids: Sequence[str]
    units: NDArray[np.float32]
    dead: NDArray[np.bool_]

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """Slots that count."""
        return np.flatnonzero(~self.dead)

    @cached_property
    def live_by_id(self) -> NDArray[np.int64]:
        """Slots that count, ordered by id; code points order as UTF-8 bytes do."""
        return np.array(sorted(self.live.tolist(), key=self.ids.__getitem__), np.int64)


@dataclass(frozen=True)
class View:
    """One revision of a collection. `dead` [n] marks rows of the build that were replaced or deleted since.

    Where it is `restricted` to some items, those that are left out count as dead too.
    """

    revision: int
    build: ServedBuild | None
    dead: NDArray[np.bool_]
    fresh: Fresh

    restricted: bool = False

    @property
    def alive_rows(self) -> int:
        """Rows of the build that count."""
        return len(self.dead) - int(np.count_nonzero(self.dead))

    @property
    def item_count(self) -> int:
        return self.alive_rows + len(self.fresh.live)

    @property
    def dim(self) -> int:
        return int(self.fresh.units.shape[1])

    def only(self, ids: Iterable[str]) -> View:
        """Return this view as if it held no items but `ids`."""
        wanted = set(ids)
        dead = np.ones_like(self.dead)
        if self.build is not None:
            rows = self.build.rows
            kept = np.array([rows[each] for each in wanted if each in rows], np.int64)
            dead[kept] = self.dead[kept]
        fresh_dead = np.ones_like(self.fresh.dead)
        fresh_dead[[slot for slot in self.fresh.live.tolist() if self.fresh.ids[slot] in wanted]] = False
        return replace(self, dead=dead, fresh=replace(self.fresh, dead=fresh_dead), restricted=True)


class FreshItems:
    """The slots behind views: only ever added to, so that earlier views stay true. One writer at a time."""

    def __init__(self, rows: Rows) -> None:
        """Start with `rows`, each id once."""
        self._ids = rows.ids
        self._units = rows.units
        self._dead = np.zeros(len(rows.ids), np.bool_)
        self._slots = {each: slot for slot, each in enumerate(rows.ids)}

    def make_room(self, count: int) -> None:
        """Make sure that `count` more items fit: what could fail for want of memory fails here."""
        used = len(self._ids)
        if used + count <= len(self._units):
            return
        live = np.flatnonzero(~self._dead)
        units = np.empty((2 * (len(live) + count) + _FIRST_SLOTS, self._units.shape[1]), np.float32)
        # Without a copy between, and in one sweep where nothing has gone.
        if len(live) == used:
            units[:used] = self._units[:used]
        else:
            np.take(self._units, live, axis=0, out=units[: len(live)], mode="clip")
        self._ids = [self._ids[slot] for slot in live]
        self._units = units
        self._dead = np.zeros(len(live), np.bool_)
        self._slots = {each: slot for slot, each in enumerate(self._ids)}

    def put(self, rows: Rows) -> None:
        """Add items for which room was made, in place of those with their ids."""
        self.drop(rows.ids)
        used = len(self._ids)
        self._units[used : used + len(rows.ids)] = rows.units
        self._slots |= {each: slot for slot, each in enumerate(rows.ids, used)}
        self._ids += rows.ids
        self._dead = np.concatenate([self._dead, np.zeros(len(rows.ids), np.bool_)])

    def drop(self, ids: Sequence[str]) -> None:
        """Let items go; ids that are not here are no error."""
        self._dead = self._dead.copy()
        self._dead[[self._slots.pop(each) for each in ids if each in self._slots]] = True

    def present(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are here."""
        return {each for each in ids if each in self._slots}

    def seen(self) -> Fresh:
        """Return what a view may hold."""
        return Fresh(self._ids, self._units[: len(self._ids)], self._dead)


class Present:
    """The latest view and what it takes to make the next. One writer at a time; readers take `view` whenever they like."""

    def __init__(self, revision: int, build: ServedBuild | None, newer: Rows, deleted: Sequence[str]) -> None:
        """Serve `build` with what was written (`newer`) and deleted after the build's revision."""
        self._fresh = FreshItems(newer)
        dead = np.zeros(len(build.ids) if build else 0, np.bool_)
        self.view = View(revision, build, dead, self._fresh.seen())
        self._publish(revision, [*newer.ids, *deleted])

    def make_room(self, count: int) -> None:
        self._fresh.make_room(count)

    def put(self, revision: int, rows: Rows) -> None:
        """Show items that the write `revision` has put on the disk."""
        self._fresh.put(rows)
        self._publish(revision, rows.ids)

    def drop(self, revision: int, ids: Sequence[str]) -> None:
        """Show that the write `revision` has deleted items."""
        self._fresh.drop(ids)
        self._publish(revision, ids)

    def renumber(self, revision: int) -> None:
        """Show that the write `revision` has changed no vector."""
        self.view = replace(self.view, revision=revision)

    def present(self, ids: Sequence[str]) -> list[str]:
        """Return those of `ids` that are in the collection, each once, in their order."""
        fresh = self._fresh.present(ids)
        return [each for each in dict.fromkeys(ids) if each in fresh or not self._gone(each)]

    def _gone(self, item_id: str) -> bool:
        row = self.view.build.rows.get(item_id) if self.view.build else None
        return row is None or bool(self.view.dead[row])

    def _publish(self, revision: int, changed: Sequence[str]) -> None:
        dead = self.view.dead
        if self.view.build is not None:
            dead = dead.copy()
            rows = self.view.build.rows
            dead[[rows[each] for each in changed if each in rows]] = True
        self.view = replace(self.view, revision=revision, dead=dead, fresh=self._fresh.seen())
