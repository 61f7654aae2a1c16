"""From a folder of labelled pictures to a dataset on the trainer."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._folders import LeftOut, Listing, PictureFile, scan, scan_csv
from lookalike._models import DatasetRevision, ManifestEntry
from lookalike._names import resource_id
from lookalike._threads import map_in_threads
from lookalike.workflows._observer import SILENT, Observer


@dataclass(frozen=True)
class Pushed:
    """What a push came to. `single_picture_classes` are used where they can be, never as an anchor."""

    revision: DatasetRevision
    uploaded_count: int
    uploaded_bytes: int
    left_out: tuple[LeftOut, ...]
    hidden_count: int
    single_picture_classes: tuple[str, ...]


async def push(client: AsyncClient, source: Path, name: str, observer: Observer = SILENT) -> Pushed:
    """Make a revision of the dataset `name` of a folder with a folder per class, or of a CSV file of `path,label`.

    Only contents that the server lacks are sent. Raises InputError for a source without pictures or with one class only.
    """
    dataset = resource_id("datasets", name)
    listing = await asyncio.to_thread(_scan, source)
    entries, changed = await _hashed(listing, observer)
    if not entries:
        raise InputError(f"no picture of {source} could be read", reason="NO_PICTURE")
    missing = await client.trainer.find_missing_blobs(entry.sha256 for entry, _ in entries)
    files = {entry.sha256: (picture.path, entry.sha256, entry.size_bytes) for entry, picture in entries if entry.sha256 in missing}
    total = sum(size for _, _, size in files.values())
    observer.say(f"sending {len(files):,} of {len(entries):,} pictures, {total / 2**20:,.1f} MiB")
    await _upload(client, list(files.values()), total, observer)
    revision = await client.trainer.commit_revision(dataset, [entry for entry, _ in entries])
    singles = tuple(label for label, count in sorted(listing.labels.items()) if count == 1)
    return Pushed(revision, len(files), total, (*listing.left_out, *changed), listing.hidden_count, singles)


def _scan(source: Path) -> Listing:
    return (scan_csv(source) if source.is_file() else scan(source)).labelled()


async def _hashed(listing: Listing, observer: Observer) -> tuple[list[tuple[ManifestEntry, PictureFile]], list[LeftOut]]:
    entries: list[tuple[ManifestEntry, PictureFile]] = []
    failed: list[LeftOut] = []
    total = len(listing.pictures)
    async for entry, picture in map_in_threads(_entry, listing.pictures):
        if isinstance(entry, LeftOut):
            failed.append(entry)
        else:
            entries.append((entry, picture))
        observer.progress("hash", len(entries) + len(failed), total, "pictures")
    return entries, failed


def _entry(picture: PictureFile) -> tuple[ManifestEntry | LeftOut, PictureFile]:
    try:
        with picture.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return LeftOut(picture.id, "NOT_READABLE", f"it cannot be read: {error.strerror}"), picture
    return ManifestEntry(picture.id, picture.label, digest, picture.size_bytes), picture


async def _upload(client: AsyncClient, files: list[tuple[Path, str, int]], total: int, observer: Observer) -> None:
    done = 0

    def sent(count: int) -> None:
        nonlocal done
        done += count
        observer.progress("upload", done, total, "bytes")

    await client.trainer.upload_files(files, sent)
