"""Datasets: series of immutable revisions, each a row in the database and a manifest on the disk."""

import secrets
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lookalike_runtime.errors import FailedPrecondition, NotFound, invalid_field
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.database import Database
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.manifest import Manifest, digests_in

_LISTED = 3


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of a dataset, for ever. `create_time` is in seconds since 1970, `size` in bytes."""

    dataset: str
    number: int
    uid: str
    fingerprint: str
    pictures: int
    classes: int
    single_picture_classes: int
    size: int
    create_time: float

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"datasets/{self.dataset}/revisions/{self.number}"


class Datasets:
    """All datasets of one server."""

    def __init__(self, database: Database, jobs: Jobs, blobs: BlobStore, folder: Path) -> None:
        """`folder` holds a folder per revision, by uid; those of revisions that never came to be are removed."""
        self._database = database
        self._jobs = jobs
        self._blobs = blobs
        self._folder = folder
        # Between looking for contents and naming them, none may be removed.
        self._contents = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        known = {row["uid"] for row in database.rows("SELECT uid FROM revisions")}
        for left in folder.iterdir():
            if left.name not in known:
                shutil.rmtree(left)

    def commit(self, dataset: str, manifest: Manifest) -> Revision:
        """Make a new revision, unless the newest is equal: then that one is the answer.

        Raises:
            FailedPrecondition: contents are not here (BLOBS_MISSING).
            InvalidArgument: an entry says another size than its content has.
        """
        with self._contents:
            self._check_contents(manifest)
            newest = self._newest(dataset)
            if newest and newest.fingerprint == manifest.fingerprint:
                return newest
            uid = secrets.token_hex(8)
            manifest.write(self._folder / uid)
            with self._database.transaction() as connection:
                revision = Revision(
                    dataset,
                    self._database.next_number("dataset", dataset),
                    uid,
                    manifest.fingerprint,
                    len(manifest.entries),
                    manifest.classes,
                    manifest.single_picture_classes,
                    manifest.size,
                    time.time(),
                )
                values = [getattr(revision, name) for name in Revision.__slots__]
                connection.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            return revision

    def get(self, dataset: str, number: int | None) -> Revision:
        """One revision, or the newest for None; raises NotFound (DATASET_NOT_FOUND)."""
        if number is None:
            found = self._newest(dataset)
        else:
            row = self._database.row("SELECT * FROM revisions WHERE dataset = ? AND number = ?", dataset, number)
            found = _revision(row) if row else None
        if found is None:
            name = f"datasets/{dataset}" + (f"/revisions/{number}" if number else "")
            raise NotFound("DATASET_NOT_FOUND", f"there is no {name}: list the datasets to see which there are", metadata={"dataset": name})
        return found

    def page(self, after: str, size: int) -> list[Revision]:
        """The newest revisions of at most `size` datasets whose names come after `after`, by name."""
        query = """
            SELECT * FROM revisions
            WHERE dataset > ? AND number = (SELECT max(number) FROM revisions AS other WHERE other.dataset = revisions.dataset)
            ORDER BY dataset LIMIT ?
        """
        return [_revision(row) for row in self._database.rows(query, after, size)]

    def manifest_path(self, revision: Revision) -> Path:
        """The file that lists a revision's pictures, a JSON object a line: path, label, sha256, size."""
        return self._folder / revision.uid / "manifest.jsonl"

    def delete(self, dataset: str) -> None:
        """Delete a dataset and the contents that nothing else names.

        Raises:
            NotFound: no such dataset (DATASET_NOT_FOUND).
            FailedPrecondition: a job that has not ended uses it (DATASET_IN_USE).
        """
        with self._contents:
            with self._database.transaction() as connection:
                self.get(dataset, None)
                if uid := self._jobs.using_dataset(dataset):
                    message = f"jobs/{uid} uses datasets/{dataset}: wait for it or cancel it"
                    raise FailedPrecondition("DATASET_IN_USE", message, metadata={"job": f"jobs/{uid}"})
                gone = connection.execute("DELETE FROM revisions WHERE dataset = ? RETURNING uid", (dataset,)).fetchall()
            self._remove([self._folder / row["uid"] for row in gone])

    def _remove(self, folders: list[Path]) -> None:
        """Remove revisions' folders with the contents that neither another revision nor a job names."""
        contents = {sha256 for folder in folders for sha256 in digests_in(folder / "manifest.jsonl")}
        for folder in folders:
            shutil.rmtree(folder)
        contents -= self._jobs.weights_in_use()
        for other in self._folder.iterdir():
            contents.difference_update(digests_in(other / "manifest.jsonl"))
        self._blobs.remove(contents)

    def _newest(self, dataset: str) -> Revision | None:
        row = self._database.row("SELECT * FROM revisions WHERE dataset = ? ORDER BY number DESC LIMIT 1", dataset)
        return _revision(row) if row else None

    def _check_contents(self, manifest: Manifest) -> None:
        missing: dict[str, str] = {}
        for entry in manifest.entries:
            size = self._blobs.size(entry.sha256)
            if size is None:
                missing.setdefault(entry.sha256, entry.path)
            elif size != entry.size:
                raise invalid_field("entries.size_bytes", f"{entry.path!r} says {entry.size} bytes, its content has {size}")
        if missing:
            some = ", ".join(f"{path!r} ({sha256[:12]}…)" for sha256, path in list(missing.items())[:_LISTED])
            message = f"{len(missing)} contents are not on the server, such as of {some}: FindMissingBlobs, UploadBlobs, then commit again"
            raise FailedPrecondition("BLOBS_MISSING", message, metadata={"count": str(len(missing))})


def _revision(row: sqlite3.Row) -> Revision:
    return Revision(*row)
