"""Files that a server streams, written into a folder: each beside its place, its SHA-256 compared, then renamed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from lookalike._exceptions import InputError, WorkIncomplete


@dataclass
class _Open:
    """A file on its way in."""

    target: Path
    aside: Path
    file: BinaryIO
    sha256: str
    left: int
    digest: Any

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.left -= len(data)

    def keep(self) -> Path:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if self.left or self.digest.hexdigest() != self.sha256:
            raise WorkIncomplete(f"{self.target.name} did not arrive as it was sent: download it again", reason="DIGEST_MISMATCH")
        self.aside.replace(self.target)
        return self.target

    def drop(self) -> None:
        self.file.close()
        self.aside.unlink(missing_ok=True)


async def receive_files(chunks: AsyncIterator[Any], folder: Path) -> tuple[Path, ...]:
    """Write the files of a stream of `FileChunk` into `folder`, and return their places.

    Raises InputError where nothing can be written, WorkIncomplete if a file did not arrive as it was sent or would leave the folder.
    """
    written: list[Path] = []
    current: _Open | None = None
    try:
        async for chunk in chunks:
            if chunk.path:
                _check_whole(current)
                current = await asyncio.to_thread(_begin, folder, chunk)
            if current is None:
                raise WorkIncomplete("the stream does not begin with a file", reason="BAD_STREAM")
            await asyncio.to_thread(current.write, chunk.data)
            if current.left <= 0:
                written.append(await asyncio.to_thread(current.keep))
                current = None
        _check_whole(current)
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be written: {error.strerror}", reason="NOT_WRITABLE") from None
    finally:
        if current is not None:
            current.drop()
    return tuple(written)


def _begin(folder: Path, chunk: Any) -> _Open:
    path = PurePosixPath(chunk.path)
    if path.is_absolute() or ".." in path.parts or "\\" in chunk.path or not path.parts:
        raise WorkIncomplete(f"the server sent a file called {chunk.path!r}, which would leave the folder", reason="LEADS_OUT")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    return _Open(target, aside, aside.open("wb"), chunk.sha256, chunk.size_bytes, hashlib.sha256())


def _check_whole(current: _Open | None) -> None:
    if current is not None:
        raise WorkIncomplete(f"{current.target.name} ended early: download it again", reason="DIGEST_MISMATCH")
