"""What a search sees: a build, which of its rows no longer count, and the items that are newer.

A view never changes; each write makes the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.candidates.absent import Absent
from lookalike_indexer.served_build import ServedBuild
from lookalike_indexer.store import Rows

# Room for so much is asked for at least: the kernel gives pages once they are written to, and moving rows costs more than asking.
_LEAST_ROOM_BYTES = 64 << 20


class Averaged(NamedTuple):
    """What was averaged into an item, nearest first: `weights` float32 [k], where the item itself has 1, `similarities` float32 [k]."""

    ids: list[str]
    weights: NDArray[np.float32]
    similarities: NDArray[np.float32]


def _no_slots() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Fresh:
    """Items newer than the build, in slots by order of arrival; `dead` [n] slots were replaced or deleted since.

    `units` are served. An item that is augmented has moved to a new slot: `raw_slots` [n] is where its raw row stays, of any other the slot
    itself, and `averaged` [n] tells what is in it. Some are here only because they were augmented anew: `newer` [n] is false of those that
    the build holds as they are. `arrivals` [n] rise, and are never used again. Left out, these four fit if there is no item.
    """

    ids: Sequence[str]
    units: NDArray[np.float32]
    dead: NDArray[np.bool_]
    raw_slots: NDArray[np.int64] = field(default_factory=_no_slots)
    averaged: Sequence[Averaged | None] = ()
    arrivals: NDArray[np.int64] = field(default_factory=_no_slots)
    newer: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """Slots that count."""
        return np.flatnonzero(~self.dead)

    @cached_property
    def waiting(self) -> NDArray[np.int64]:
        """Slots that count and are not augmented."""
        return np.flatnonzero(~self.dead & (self.raw_slots == np.arange(len(self.dead))))

    def holds(self, arrivals: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of `arrivals` [n] are in slots that count."""
        slots = np.searchsorted(self.arrivals, arrivals)
        there = slots < len(self.arrivals)
        there[there] = self.arrivals[slots[there]] == arrivals[there]
        there[there] = ~self.dead[slots[there]]
        return there

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

    @cached_property
    def absent(self) -> Absent:
        return Absent(self.dead)

    @cached_property
    def built(self) -> NDArray[np.float32]:
        """The vectors [n, dim] that the build serves, those that no longer count among them."""
        return self.build.vectors if self.build else np.empty((0, self.dim), np.float32)

    @property
    def alive_rows(self) -> int:
        """Rows of the build that count."""
        return self.absent.alive

    @property
    def item_count(self) -> int:
        return self.alive_rows + len(self.fresh.live)

    @property
    def dim(self) -> int:
        return int(self.fresh.units.shape[1])

    @property
    def fresh_item_count(self) -> int:
        """Items that are newer than the build."""
        return int(self.fresh.newer[self.fresh.live].sum())

    @property
    def build_augmented(self) -> bool:
        """Whether the build's rows are augmented."""
        return self.build is not None and self.build.augmentation is not None

    def all_built(self, places: Sequence[int]) -> bool:
        """Tell whether none of `places` is a slot of what is newer, as is most often so."""
        return not self.fresh.ids or max(places, default=0) < len(self.dead)

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
        count = len(rows.ids)
        self._ids = rows.ids
        self._units = rows.units
        self._dead = np.zeros(count, np.bool_)
        self._raw_slots = np.arange(count)
        self._averaged: list[Averaged | None] = [None] * count
        self._arrivals = np.arange(count)
        self._newer = np.ones(count, np.bool_)
        self._arrived = count
        self._slots = {each: slot for slot, each in enumerate(rows.ids)}

    def make_room(self, count: int) -> None:
        """Make sure that `count` more slots are there: what could fail for want of memory fails here."""
        if len(self._ids) + count > len(self._units):
            self._pack(count)

    def _pack(self, count: int) -> None:
        """Move to new arrays with room for as much again, without slots that neither count nor hold the raw row of one that does."""
        live = np.flatnonzero(~self._dead)
        kept = np.union1d(live, self._raw_slots[live])
        dim = self._units.shape[1]
        room = len(kept) + count + max(len(kept) + count, _LEAST_ROOM_BYTES // (4 * dim))
        units = np.empty((room, dim), np.float32)
        # Without a copy between, and in one sweep where nothing has gone.
        if len(kept) == len(self._ids):
            units[: len(kept)] = self._units[: len(kept)]
        else:
            np.take(self._units, kept, axis=0, out=units[: len(kept)], mode="clip")
        raw_slots, arrivals, newer = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.bool_)
        raw_slots[: len(kept)] = np.searchsorted(kept, self._raw_slots[kept])
        arrivals[: len(kept)] = self._arrivals[kept]
        newer[: len(kept)] = self._newer[kept]
        self._ids = [self._ids[slot] for slot in kept.tolist()]
        self._averaged = [self._averaged[slot] for slot in kept.tolist()]
        self._units, self._raw_slots, self._arrivals, self._newer = units, raw_slots, arrivals, newer
        self._dead = self._dead[kept]
        self._slots = {self._ids[slot]: slot for slot in np.searchsorted(kept, live).tolist()}

    def put(self, rows: Rows) -> None:
        """Add items for which room was made, in place of those with their ids."""
        self._add(rows, self._next_slots(len(rows.ids)), [None] * len(rows.ids), True)

    def adopt(self, rows: Rows) -> NDArray[np.int64]:
        """Add raw rows of items that the build holds, for which room was made; returns their arrivals."""
        slots = self._next_slots(len(rows.ids))
        self._add(rows, slots, [None] * len(rows.ids), False)
        return self._arrivals[slots]

    def augment(self, rows: Rows, arrivals: NDArray[np.int64], averaged: Sequence[Averaged]) -> None:
        """Serve `rows`, for which room was made, for the items that came in under `arrivals` [n], all of which count."""
        slots = np.searchsorted(self._arrivals[: len(self._ids)], arrivals)
        self._add(rows, self._raw_slots[slots], averaged, self._newer[slots])

    def _next_slots(self, count: int) -> NDArray[np.int64]:
        return np.arange(len(self._ids), len(self._ids) + count)

    def _add(self, rows: Rows, raw_slots: NDArray[np.int64], averaged: Sequence[Averaged | None], newer: NDArray[np.bool_] | bool) -> None:
        self.drop(rows.ids)
        count, used = len(rows.ids), len(self._ids)
        slots = slice(used, used + count)
        self._units[slots] = rows.units
        self._raw_slots[slots] = raw_slots
        self._newer[slots] = newer
        self._arrivals[slots] = np.arange(self._arrived, self._arrived + count)
        self._arrived += count
        self._slots |= {each: slot for slot, each in enumerate(rows.ids, used)}
        self._averaged += averaged
        self._ids += rows.ids
        self._dead = np.concatenate([self._dead, np.zeros(count, np.bool_)])

    def drop(self, ids: Sequence[str]) -> None:
        """Let items go; ids that are not here are no error."""
        self._dead = self._dead.copy()
        self._dead[[self._slots.pop(each) for each in ids if each in self._slots]] = True

    def present(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are here."""
        return {each for each in ids if each in self._slots}

    def seen(self) -> Fresh:
        """Return what a view may hold."""
        used = len(self._ids)
        columns = (self._raw_slots[:used], self._averaged, self._arrivals[:used], self._newer[:used])
        return Fresh(self._ids, self._units[:used], self._dead, *columns)


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

    def augment(self, rows: Rows, of_build: NDArray[np.bool_], origins: NDArray[np.int64], averaged: Sequence[Averaged]) -> None:
        """Serve augmented `rows` of items that count: of the build's rows `origins` [n] where `of_build` [n], else of these arrivals."""
        built = np.flatnonzero(of_build)
        adopted = Rows([rows.ids[place] for place in built], np.empty((0, rows.units.shape[1]), np.float32))
        if self.view.build is not None:
            adopted = adopted._replace(units=self.view.build.raw[origins[built]])
        self._fresh.make_room(len(built) + len(rows.ids))
        arrivals = origins.copy()
        arrivals[built] = self._fresh.adopt(adopted)
        self._fresh.augment(rows, arrivals, averaged)
        self._publish(self.view.revision, adopted.ids)

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
