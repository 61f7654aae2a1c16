"""An open collection: its store, and in memory what searches need. Writers take turns; searches never wait for them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from lookalike_indexer import augmentation
from lookalike_indexer.admission import Change, Offer, Refusal, judge, judge_changes, rounded
from lookalike_indexer.answer import NO_OPTIONS, Answer, Options, Wanted, answer, read_vectors
from lookalike_indexer.builds.manifest import DamagedBuild
from lookalike_indexer.candidates import NOTHING_ASKED, Asked
from lookalike_indexer.filters import Filter
from lookalike_indexer.labels import Overtaken
from lookalike_indexer.queries import Pictures
from lookalike_indexer.records import Collection, Space
from lookalike_indexer.served_build import ServedBuild, open_build
from lookalike_indexer.store import Columns, Rows, Store
from lookalike_indexer.view import Present, View
from lookalike_retrieval import normalise
from lookalike_runtime.data_folder import sync_folder
from lookalike_runtime.errors import FailedPrecondition, NotFound

ITEMS_FILE = "items.db"
BUILDS_FOLDER = "builds"
_ATTEMPTS = 3

log = structlog.get_logger()


class Written(NamedTuple):
    """What became of a chunk of items or changes: `kept` counts those that were written."""

    revision: int
    kept: int
    refusals: list[Refusal]


class OpenCollection:
    """One collection, open until `close`. Every method may raise NotFound once it is closed."""

    def __init__(self, folder: Path, record: Collection) -> None:
        """Open the collection in `folder`; if its active build is damaged, that is logged and `build_damaged` set."""
        self.uid = record.uid
        self.name = record.name
        self.space = record.space
        self.dtype = record.dtype
        self.engine = record.engine
        self.folder = folder
        self.build_damaged = False
        self._lock = threading.Lock()
        self._closed = False
        self.store = Store(folder / ITEMS_FILE)
        self._present = self._load(self._open_build(record.active_build))

    @property
    def view(self) -> View:
        """What searches see now."""
        self._refuse_closed()
        return self._present.view

    def upsert(self, offers: Sequence[Offer], vectors: NDArray[np.float32]) -> Written:
        """Write those offers that may come in; `vectors` is float32 [n, dim], one row an offer. Returns once they are on the disk."""
        as_stored = rounded(vectors, self.dtype)
        admitted, refusals = judge(offers, as_stored)
        stored = as_stored.stored[admitted] if refusals else as_stored.stored
        items = [offers[place].item for place in admitted]
        rows = Rows([item.id for item in items], normalise(stored.astype(np.float32, copy=False)))
        with self._lock:
            self._refuse_closed()
            if admitted:
                self._present.make_room(len(items))
                self._present.put(self.store.upsert(items, stored), rows)
            return Written(self._present.view.revision, len(admitted), refusals)

    def update(self, changes: Sequence[Change]) -> Written:
        """Change fields of items, not their vectors, in one write, those that may be changed. Returns once they are on the disk."""
        with self._lock:
            self._refuse_closed()
            _, there = self.store.get((change.id for change in changes), Columns(thumbnail=True))
            changed, refusals = judge_changes(changes, {each: item.new for each, item in there.items()})
            if changed:
                self._present.renumber(self.store.change(changed))
            return Written(self._present.view.revision, len(changed), refusals)

    def delete(self, ids: Sequence[str]) -> tuple[int, int]:
        """Delete items; returns the revision and how many were there, once it is on the disk."""
        with self._lock:
            self._refuse_closed()
            return self._delete(self._present.present(ids))

    def delete_matching(self, item_filter: Filter) -> tuple[int, int]:
        """Delete the items that meet a filter in one write; returns the revision and how many there were, once it is on the disk."""
        with self._lock:
            self._refuse_closed()
            return self._delete(self.store.matching(item_filter)[1])

    def search(
        self,
        pictures: Pictures | NDArray[np.float32],
        k: int,
        columns: Columns,
        *,
        exact: bool = False,
        asked: Asked = NOTHING_ASKED,
        options: Options = NO_OPTIONS,
        min_revision: int = 0,
        item_filter: Filter | None = None,
    ) -> Answer:
        """Find the `k` nearest items, of those that meet a filter, of each query that `pictures` make; an array [q, dim] is q of them.

        Raises FailedPrecondition below `min_revision`, NotFound for an item that is to be a query and is not there, InvalidArgument
        for a query without direction.
        """
        asked_with = pictures if isinstance(pictures, Pictures) else Pictures(pictures)
        wanted = Wanted(asked_with, k, columns, exact, asked, options, item_filter)
        for _ in range(_ATTEMPTS):
            view, raw = self._settled(wanted)
            require_revision(view.revision, min_revision)
            try:
                return answer(self.store, view, wanted, raw)
            except Overtaken:
                continue
        # Writers are too fast to be caught between two writes.
        with self.held() as present:
            view, raw = self._read(present, wanted)
            return answer(self.store, view, wanted, raw)

    def augment_waiting(self, most: int) -> tuple[int, int]:
        """Augment up to `most` fresh items that wait for it; returns how many waited, and how many vectors were replaced."""
        view = self.view
        augmented = augmentation.augment_waiting(view, most)
        if augmented is None:
            return 0, 0
        with self._lock:
            self._refuse_closed()
            now = self._present.view
            # Another build begins anew.
            current = augmented.still_true(now) if now.build is view.build else None
            if current and current.rows.ids:
                self._present.augment(current.rows, current.of_build, current.origins, current.averaged)
        return min(most, len(view.fresh.waiting)), len(current.rows.ids) if current else 0

    def serve(self, build: ServedBuild | None, commit: Callable[[], object]) -> None:
        """Let `build` answer searches, with all later writes applied, after `commit` has noted it; not if that returns False."""
        with self._lock:
            self._refuse_closed()
            present = self._load(build)
            if commit() is not False:
                self._present = present

    @contextmanager
    def held(self) -> Iterator[View]:
        """Keep writers out during the block."""
        with self._lock:
            yield self.view

    def build_folder(self, number: int) -> Path:
        return self.folder / BUILDS_FOLDER / str(number)

    def mark_closed(self) -> None:
        """Let no more calls in; for whoever holds the collection."""
        self._closed = True

    def close(self) -> None:
        self._closed = True
        self.store.close()

    def _delete(self, there: list[str]) -> tuple[int, int]:
        if there:
            self._present.drop(self.store.delete(there), there)
        return self._present.view.revision, len(there)

    def _settled(self, wanted: Wanted) -> tuple[View, NDArray[np.float32]]:
        """Return the view and the raw vectors of the queries, with what the store tells of either of one revision."""
        for _ in range(_ATTEMPTS):
            try:
                return self._read(self.view, wanted)
            except Overtaken:
                continue
        with self.held() as view:
            return self._read(view, wanted)

    def _read(self, view: View, wanted: Wanted) -> tuple[View, NDArray[np.float32]]:
        raw = wanted.pictures.vectors
        if raw is None:
            revision, raw = read_vectors(self.store, wanted.pictures.item_ids, self.space.dim)
            _require_same(revision, view)
        if wanted.item_filter is None:
            return view, raw
        revision, ids = self.store.matching(wanted.item_filter)
        _require_same(revision, view)
        return view.only(ids), raw

    def _load(self, build: ServedBuild | None) -> Present:
        newer, deleted = self.store.changes(build.revision if build else 0, self.space.dim)
        return Present(self.store.revision(), build, newer, deleted if build else [])

    def _open_build(self, number: int | None) -> ServedBuild | None:
        if number is None:
            return None
        try:
            return open_build(self.build_folder(number), number, self.space)
        except DamagedBuild as error:
            log.error("build_damaged", collection=self.name, build=number, error=str(error), then="searched exactly until the next build")
            self.build_damaged = True
            return None

    def _refuse_closed(self) -> None:
        if self._closed:
            raise NotFound("COLLECTION_NOT_FOUND", f"collection {self.name!r} was deleted meanwhile", metadata={"collection": self.name})


def leave_empty(store: Store) -> None:
    """Fill nothing in."""


def create_folder(folder: Path, fill: Callable[[Store], None] = leave_empty) -> None:
    """Make the folder of a new collection, its store filled by `fill`, on the disk when this returns."""
    (folder / BUILDS_FOLDER).mkdir(parents=True)
    with closing(Store(folder / ITEMS_FILE)) as store:
        fill(store)
    sync_folder(folder)
    sync_folder(folder.parent)


def etag_of(uid: str, revision: int, active_build: int | None) -> str:
    """Return what changes whenever the collection changes."""
    return hashlib.sha256(f"{uid}/{revision}/{active_build}".encode()).hexdigest()[:16]


def require_revision(revision: int, least: int) -> None:
    """Raise FailedPrecondition unless `revision` has reached `least`."""
    if revision < least:
        message = f"min_revision {least} is above the collection's revision {revision}: it was never written here"
        raise FailedPrecondition("REVISION_NOT_REACHED", message, metadata={"revision": str(revision)})


def require_space(expected: Space, offered: Space, *, whose: str) -> None:
    """Raise FailedPrecondition unless vectors of both spaces may be compared."""
    if (expected.fingerprint, expected.dim) != (offered.fingerprint, offered.dim):
        message = f"{whose} is of space {expected}, what was offered is of space {offered}: embed with what the first names"
        metadata = {"expected": expected.fingerprint, "offered": offered.fingerprint}
        raise FailedPrecondition("SPACE_MISMATCH", message, metadata=metadata)


def _require_same(revision: int, view: View) -> None:
    if revision != view.revision:
        raise Overtaken
