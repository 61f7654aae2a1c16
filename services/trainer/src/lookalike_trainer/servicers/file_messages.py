"""Files as they go over the wire, in chunks."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lookalike_protos.types.v1.files_pb2 import FileChunk

CHUNK_BYTES = 1 << 20


async def file_chunks(folder: Path, paths: Iterable[str]) -> AsyncIterator[FileChunk]:
    """The files of a folder, one after the other. One that grows meanwhile is sent as long as it was at first."""
    for path in paths:
        chunks = _chunks(folder, path)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def _chunks(folder: Path, path: str) -> Iterator[FileChunk]:
    with (folder / path).open("rb") as file:
        digest, size = _measure(file)
        file.seek(0)
        yield FileChunk(path=path, sha256=digest, size_bytes=size, data=file.read(min(CHUNK_BYTES, size)))
        for start in range(CHUNK_BYTES, size, CHUNK_BYTES):
            yield FileChunk(data=file.read(min(CHUNK_BYTES, size - start)))


def _measure(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while data := file.read(CHUNK_BYTES):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size
