"""A service's own folder on the disk: a format number that later versions can tell, and a lock that keeps a second process out."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from lookalike_runtime.errors import FailedPrecondition


class DataFolder:
    """The folder of one service, held by one process until `close`."""

    def __init__(self, path: Path, format_number: int) -> None:
        """Make or open `path`; raises FailedPrecondition if another process holds it or its format is another."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / "LOCK")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            message = f"{path} is in use by another server: stop that one, or choose another folder with --data"
            raise FailedPrecondition("DATA_FOLDER_LOCKED", message) from None
        self._check_format(format_number)

    def _check_format(self, expected: int) -> None:
        marker = self.path / "FORMAT"
        if not marker.exists():
            marker.write_text(f"{expected}\n", encoding="ascii")
        found = marker.read_text(encoding="ascii", errors="replace").strip()
        if found != str(expected):
            self.close()
            message = f"{self.path} has format {found!r}, this version reads {expected}: use the version that wrote it, or another folder"
            raise FailedPrecondition("DATA_FOLDER_FORMAT", message)

    def close(self) -> None:
        """Let others in."""
        self._lock.release()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole, on the disk, or not at all; what was there before is replaced."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
