"""Contents by their SHA-256: pictures of datasets and weights files. Written aside, verified, synced, renamed."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from lookalike_runtime.data_folder import sync_folder
from lookalike_runtime.errors import DataLoss, ResourceExhausted, invalid_field

MAX_BLOB_BYTES = 4 << 30
MAX_CHUNK_BYTES = 2 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_sha256(field: str, value: str) -> str:
    """Return `value` if it is a digest as callers write it; raises InvalidArgument naming `field` otherwise."""
    if not _SHA256.fullmatch(value):
        raise invalid_field(field, f"{value[:80]!r} is no SHA-256: 64 lower-case hexadecimal digits")
    return value


def blob_path(root: Path, sha256: str) -> Path:
    """Where the content with this digest lies."""
    return root / sha256[:2] / sha256


class BlobStore:
    """The contents below one folder."""

    def __init__(self, root: Path) -> None:
        """Make or open `root`; what an earlier process left half-written is removed."""
        self.root = root
        self._aside = root / "partial"
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(parents=True)

    def path(self, sha256: str) -> Path:
        """Where the content with this digest lies, or would."""
        return blob_path(self.root, sha256)

    def size(self, sha256: str) -> int | None:
        """Bytes of a content, None if it is not here."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of the digests whose content is not here, each once, in their order."""
        return [sha256 for sha256 in dict.fromkeys(digests) if not self.path(sha256).exists()]

    def receive(self) -> "BlobReceiver":
        """Begin to take contents in chunks."""
        return BlobReceiver(self)

    def remove(self, digests: Iterable[str]) -> None:
        """Remove contents; those that are not here are passed over."""
        for sha256 in digests:
            self.path(sha256).unlink(missing_ok=True)

    def begin(self, sha256: str, size: int) -> "_Partial":
        """Begin to write one content; raises ResourceExhausted (DISK_FULL) if it cannot fit."""
        if shutil.disk_usage(self.root).free < size:
            raise _disk_full(sha256)
        return _Partial(self._aside / secrets.token_hex(8), self.path(sha256), sha256, size)


class BlobReceiver:
    """Takes the chunks of contents, one content after the other. Leaving its context drops the one that is not whole.

    Attributes:
        blob_count: contents kept.
        byte_count: bytes of them.
    """

    def __init__(self, store: BlobStore) -> None:
        self.blob_count = 0
        self.byte_count = 0
        self._store = store
        self._open: _Partial | None = None
        self._folders: set[Path] = set()

    def receive(self, sha256: str, size: int, data: bytes) -> None:
        """Take a chunk. `sha256` and `size` stand in the first of a content, and are empty and 0 in its later ones.

        Raises:
            InvalidArgument: a field is wrong (INVALID_FIELD).
            DataLoss: the content is not what its digest says (DIGEST_MISMATCH).
            ResourceExhausted: no room for it (DISK_FULL).
        """
        if len(data) > MAX_CHUNK_BYTES:
            raise invalid_field("data", f"{len(data)} bytes in a chunk, at most {MAX_CHUNK_BYTES}")
        if sha256 or self._open is None:
            self._begin(sha256, size)
        elif size:
            raise invalid_field("size_bytes", "stands in the first chunk of a content only, beside sha256")
        partial = self._open
        assert partial is not None
        partial.write(data)
        if partial.is_whole:
            self._finish(partial)

    def add(self, content: bytes) -> str:
        """Take a whole content and return its SHA-256; what is here already is not written again. Raises as `receive` does."""
        sha256 = hashlib.sha256(content).hexdigest()
        if self._store.size(sha256) is None:
            for start in range(0, len(content), MAX_CHUNK_BYTES):
                first = start == 0
                self.receive(sha256 if first else "", len(content) if first else 0, content[start : start + MAX_CHUNK_BYTES])
        return sha256

    def end(self) -> None:
        """No more chunks come: what was kept is on the disk from now on; raises DataLoss if the last content is not whole."""
        self._check_whole()
        for folder in (*self._folders, self._store.root):
            sync_folder(folder)
        self._folders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.drop()

    def drop(self) -> None:
        """Forget the content that is not whole, if there is one."""
        if self._open:
            self._open.discard()
            self._open = None

    def _begin(self, sha256: str, size: int) -> None:
        self._check_whole()
        check_sha256("sha256", sha256)
        if not 1 <= size <= MAX_BLOB_BYTES:
            raise invalid_field("size_bytes", f"{size} is out of range: 1 to {MAX_BLOB_BYTES} bytes")
        self._open = self._store.begin(sha256, size)

    def _check_whole(self) -> None:
        if self._open:
            raise DataLoss(
                "DIGEST_MISMATCH", f"content {self._open.sha256} ended early: send it again", metadata={"sha256": self._open.sha256}
            )

    def _finish(self, partial: "_Partial") -> None:
        partial.keep()
        self._open = None
        self._folders.add(partial.target.parent)
        self.blob_count += 1
        self.byte_count += partial.size


class _Partial:
    """One content on its way in."""

    def __init__(self, aside: Path, target: Path, sha256: str, size: int) -> None:
        self.target, self.sha256, self.size = target, sha256, size
        self._aside = aside
        self._digest = hashlib.sha256()
        self._written = 0
        with self._room():
            self._file = aside.open("xb")

    @property
    def is_whole(self) -> bool:
        return self._written == self.size

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self.size:
            raise self._mismatch(f"more bytes came than its {self.size}")
        self._digest.update(data)
        with self._room():
            self._file.write(data)

    def keep(self) -> None:
        if self._digest.hexdigest() != self.sha256:
            raise self._mismatch(f"what came has {self._digest.hexdigest()}")
        with self._room():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._aside.rename(self.target)

    def discard(self) -> None:
        # What is still buffered may not fit on the disk either: it is dropped with the file.
        with contextlib.suppress(OSError):
            self._file.close()
        self._aside.unlink(missing_ok=True)

    def _mismatch(self, what: str) -> DataLoss:
        return DataLoss("DIGEST_MISMATCH", f"content {self.sha256}: {what}; send it again", metadata={"sha256": self.sha256})

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise _disk_full(self.sha256) from error
            raise


def _disk_full(sha256: str) -> ResourceExhausted:
    message = f"no room on the server for content {sha256}: free some, then send it again"
    return ResourceExhausted("DISK_FULL", message, metadata={"sha256": sha256})
