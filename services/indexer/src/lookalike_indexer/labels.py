"""The labels that the items of a view have: the store is asked when they are needed, and must be of the view's revision."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.filters import Filter
from lookalike_indexer.store import Store
from lookalike_indexer.view import View

_LEFT_OUT = -1


class Overtaken(Exception):
    """A writer was faster than a reader: the store has gone on from the view that was searched."""


class Labels:
    """Labels of the items of `view`, which holds those that meet `item_filter`. Every read may raise Overtaken."""

    def __init__(self, store: Store, view: View, item_filter: Filter | None) -> None:
        self._store = store
        self._view = view
        self._filter = item_filter

    def of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return labels by id, empty where an item has none."""
        wanted = set(ids)
        found = self._store.labels(wanted)
        if len(found) < len(wanted) or any(sequence > self._view.revision for _, sequence in found.values()):
            raise Overtaken
        return {each: label for each, (label, _) in found.items()}

    @cached_property
    def group_count(self) -> int:
        """How many groups there are: labels, and items without one."""
        revision, count = self._store.group_count(self._filter)
        self._require(revision)
        return count

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The number of each place's group, from 0; −1 for places that do not count."""
        revision, labels = self._store.all_labels()
        self._require(revision)
        groups = np.full(len(self._view.dead) + len(self._view.fresh.ids), _LEFT_OUT)
        numbers: dict[str | tuple[str], int] = {}
        for each, label in labels:
            if each in self.places:
                groups[self.places[each]] = numbers.setdefault(label or (each,), len(numbers))
        return groups

    @cached_property
    def places(self) -> dict[str, int]:
        """The places of the items by id, as a ranking has them."""
        rows, build, fresh = len(self._view.dead), self._view.build, self._view.fresh
        places = {fresh.ids[slot]: rows + slot for slot in fresh.live.tolist()}
        if build is not None:
            places |= {build.ids[row]: row for row in self._view.absent.live.tolist()}
        return places

    def _require(self, revision: int) -> None:
        if revision != self._view.revision:
            raise Overtaken
