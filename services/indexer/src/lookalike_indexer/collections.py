"""All collections: made, opened on first use, summed up, deleted."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from lookalike_indexer.archives.reading import Archive
from lookalike_indexer.build_log import BuildLog
from lookalike_indexer.catalog import Catalog, etag_mismatch
from lookalike_indexer.collection import BUILDS_FOLDER, ITEMS_FILE, OpenCollection, create_folder, etag_of, leave_empty
from lookalike_indexer.database import refusing_when_full
from lookalike_indexer.engines import require_engine
from lookalike_indexer.records import Collection, Dba, DType, Engine, Space, now
from lookalike_indexer.store import Store
from lookalike_runtime.errors import NotFound, Unavailable


class Summary(NamedTuple):
    """A collection and what is in it now."""

    record: Collection
    revision: int
    item_count: int
    fresh_item_count: int
    etag: str


class Drift(NamedTuple):
    """How far a collection is from its active build: items written or deleted since, of `item_count`."""

    revision: int
    item_count: int
    changed: int


class Collections:
    """The collections under one folder, each in a folder named by its uid."""

    def __init__(self, root: Path, catalog: Catalog, builds: BuildLog) -> None:
        self._root = root
        self._catalog = catalog
        self._builds = builds
        self._open: dict[str, OpenCollection] = {}
        self._lock = threading.Lock()
        root.mkdir(exist_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left behind: folders that the catalog knows nothing of."""
        uids = {record.uid for record in self._catalog.all()}
        for folder in self._root.iterdir():
            if folder.name not in uids:
                shutil.rmtree(folder)
                continue
            kept = {str(number) for number in self._builds.kept(folder.name)}
            for build in (folder / BUILDS_FOLDER).iterdir():
                if build.name not in kept:
                    shutil.rmtree(build)

    def create(
        self, name: str, space: Space, engine: Engine, dba: Dba, recall_target: float, expire_time: int | None, dtype: DType = "float32"
    ) -> Summary:
        """Make an empty collection; raises AlreadyExists or ResourceExhausted."""
        record = Collection(
            uid=uuid.uuid4().hex,
            name=name,
            space=space,
            engine=engine,
            dba=dba,
            recall_target=recall_target,
            create_time=now(),
            expire_time=expire_time,
            dtype=dtype,
        )
        return self._add(record)

    def restore(self, name: str, archive: Archive, expire_time: int | None) -> Summary:
        """Make a collection of an archive; raises AlreadyExists, ResourceExhausted, or InvalidArgument for a damaged archive."""

        def fill(store: Store) -> None:
            for items, vectors in archive.parts():
                store.restore(items, vectors)

        require_engine(archive.settings.engine)
        kept = archive.settings.model_dump(include={"space", "engine", "dba", "recall_target", "dtype"})
        record = Collection(uid=uuid.uuid4().hex, name=name, **kept, create_time=now(), expire_time=expire_time)
        return self._add(record, fill)

    def _add(self, record: Collection, fill: Callable[[Store], None] = leave_empty) -> Summary:
        """Let a collection be known once its store is filled."""
        folder = self._root / record.uid
        try:
            with refusing_when_full():
                create_folder(folder, fill)
            self._catalog.add(record)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self.summary(record)

    def get(self, name: str) -> OpenCollection:
        """Return the collection that a name or alias means, open; raises NotFound."""
        return self.open(self._catalog.resolve(name))

    def open(self, record: Collection) -> OpenCollection:
        """Return the open collection of a record; raises NotFound if it is no more."""
        opened = self._open.get(record.uid)
        if opened is not None:
            return opened
        with self._lock:
            opened = self._open.get(record.uid)
            if opened is None:
                opened = OpenCollection(self._root / record.uid, self._read_again(record))
                self._open[record.uid] = opened
        if opened.build_damaged and record.active_build is not None:
            self._builds.discard(record.uid, record.active_build)
            shutil.rmtree(opened.build_folder(record.active_build), ignore_errors=True)
        return opened

    def opened(self) -> list[OpenCollection]:
        """Return the collections that are open now."""
        return list(self._open.values())

    def _read_again(self, record: Collection) -> Collection:
        """Return a record as it is now: a deletion or another build may have come between."""
        current = self._catalog.by_uid(record.uid)
        if current is None:
            raise NotFound(
                "COLLECTION_NOT_FOUND", f"collection {record.name!r} was deleted meanwhile", metadata={"collection": record.name}
            )
        return current

    def summary(self, record: Collection) -> Summary:
        """Return what is in a collection, without opening it for searches."""
        opened = self._open.get(record.uid)
        if opened is not None:
            view = opened.view
            active = view.build.number if view.build else None
            revision, items, fresh = view.revision, view.item_count, view.fresh_item_count
        else:
            active = record.active_build
            with closing(Store(self._root / record.uid / ITEMS_FILE)) as store:
                revision, items, fresh = store.counts(self._built_revision(record))
        record = record.model_copy(update={"active_build": active})
        return Summary(record, revision, items, fresh, etag_of(record.uid, revision, active))

    def revision(self, uid: str) -> int | None:
        """Return the revision of an open collection; one that is not open does not change."""
        opened = self._open.get(uid)
        return opened.view.revision if opened else None

    def drift(self, record: Collection) -> Drift:
        """Return what has changed since a collection's active build, without opening it for searches."""
        since, opened = self._built_revision(record), self._open.get(record.uid)
        with nullcontext(opened.store) if opened else closing(Store(self._root / record.uid / ITEMS_FILE)) as store:
            return Drift(*store.drift(since))

    def _built_revision(self, record: Collection) -> int:
        """Return the revision that a collection's active build holds, 0 without one."""
        built = self._builds.get(record.uid, record.active_build).report if record.active_build else None
        return built.revision if built else 0

    def summaries(self, records: Iterable[Collection]) -> list[Summary]:
        """Return what is in each of several collections, less those that are deleted meanwhile."""
        summaries = []
        for record in records:
            with suppress(NotFound, Unavailable, sqlite3.OperationalError):
                summaries.append(self.summary(record))
        return summaries

    def remove(self, record: Collection, etag: str = "") -> None:
        """Let a collection be no more, but for its files; raises NotFound, Aborted, or FailedPrecondition while an alias points at it."""
        opened = self.open(record)
        with opened.held() as view:
            if etag and etag != etag_of(record.uid, view.revision, view.build.number if view.build else None):
                raise etag_mismatch("collection", record.name, etag)
            self._catalog.remove(record)
            opened.mark_closed()
        del self._open[record.uid]
        opened.close()

    def erase(self, uid: str) -> None:
        """Remove the files of a collection that is no more."""
        shutil.rmtree(self._root / uid)

    def close(self) -> None:
        """Close all; after the last call has ended."""
        for opened in self._open.values():
            opened.close()
