"""A dataset's manifest: which picture shows what. Its canonical lines, sorted by path, are what a revision's fingerprint is over."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lookalike_runtime.data_folder import sync_folder
from lookalike_runtime.errors import InvalidArgument, invalid_field
from lookalike_trainer.blobs import check_sha256

MAX_ENTRIES = 1_000_000
MAX_PATH_BYTES = 512
MAX_LABEL_BYTES = 512
MAX_PICTURE_BYTES = 15 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture: its path in the dataset, its label, its content's SHA-256 and bytes."""

    path: str
    label: str
    sha256: str
    size: int

    def line(self) -> bytes:
        """The entry as a line of `manifest.jsonl`."""
        document = {"path": self.path, "label": self.label, "sha256": self.sha256, "size": self.size}
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The entries of a revision, sorted by the bytes of their paths, and figures about them."""

    entries: tuple[Entry, ...]
    fingerprint: str
    classes: int
    single_picture_classes: int
    size: int

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Manifest":
        """Bring checked entries into their order; raises InvalidArgument (EMPTY_DATASET) if there is none."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.path.encode()))
        if not ordered:
            raise InvalidArgument("EMPTY_DATASET", "the manifest has no entry: name at least one picture")
        digest = hashlib.sha256()
        for entry in ordered:
            digest.update(entry.line())
        pictures = Counter(entry.label for entry in ordered)
        single = sum(1 for count in pictures.values() if count == 1)
        return cls(ordered, f"ld1:{digest.hexdigest()}", len(pictures), single, sum(entry.size for entry in ordered))

    def write(self, folder: Path) -> None:
        """Write `manifest.jsonl` into a new folder; it is on the disk when this returns."""
        folder.mkdir(parents=True)
        with (folder / "manifest.jsonl").open("wb") as file:
            file.writelines(entry.line() for entry in self.entries)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
        sync_folder(folder.parent)


class ManifestDraft:
    """Entries as they come in, each checked."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, field: str, entry: Entry) -> None:
        """Take one entry; raises InvalidArgument naming what is wrong below `field`."""
        check_path(f"{field}.path", entry.path)
        _check_text(f"{field}.label", entry.label, MAX_LABEL_BYTES)
        check_sha256(f"{field}.sha256", entry.sha256)
        if not 1 <= entry.size <= MAX_PICTURE_BYTES:
            raise invalid_field(f"{field}.size_bytes", f"{entry.path!r} has {entry.size} bytes, out of range: 1 to {MAX_PICTURE_BYTES}")
        if entry.path in self._entries:
            raise invalid_field(f"{field}.path", f"{entry.path!r} stands in the manifest twice")
        if len(self._entries) == MAX_ENTRIES:
            raise invalid_field("entries", f"more than {MAX_ENTRIES} pictures in one revision")
        self._entries[entry.path] = entry

    def finish(self) -> Manifest:
        """The manifest; raises InvalidArgument (EMPTY_DATASET) if nothing was added."""
        return Manifest.of(self._entries.values())


def check_path(field: str, path: str) -> None:
    """Raise InvalidArgument naming `field` unless `path` stays inside its dataset."""
    _check_text(field, path, MAX_PATH_BYTES)
    if any(part in {"", ".", ".."} for part in path.split("/")):
        raise invalid_field(field, f"{path!r} is no path inside a dataset: relative, '/' between its parts, no empty part, '.' or '..'")


def read_entries(manifest: Path) -> Iterator[Entry]:
    """The entries of a `manifest.jsonl`."""
    with manifest.open("rb") as file:
        for line in file:
            yield Entry(**json.loads(line))


def digests_in(manifest: Path) -> Iterator[str]:
    """The SHA-256 of each content that a `manifest.jsonl` names."""
    with manifest.open("rb") as file:
        for line in file:
            yield json.loads(line)["sha256"]


def _check_text(field: str, text: str, limit: int) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if not 1 <= size <= limit:
        raise invalid_field(field, f"{text[:40]!r} has {size} bytes: 1 to {limit}")
    if "\0" in text:
        raise invalid_field(field, f"{text[:40]!r} holds a zero byte")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid_field(field, f"{text!r} is no UTF-8") from None
