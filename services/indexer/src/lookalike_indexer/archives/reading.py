"""An archive in, after every file in it has been proven; nothing is unpacked to the disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from lookalike_indexer.admission import MAX_THUMBNAIL_BYTES, Offer, judge, rounded
from lookalike_indexer.archives.layout import (
    COLLECTION_FILE,
    FORMAT,
    MANIFEST_FILE,
    MAX_LINE_BYTES,
    PART_ITEMS,
    Line,
    Part,
    Settings,
    size_limit,
)
from lookalike_indexer.store import StoredItem
from lookalike_runtime.errors import InvalidArgument

_READ_BYTES = 1 << 20


class ArchivedItems(NamedTuple):
    """Items as they were, and their raw vectors, [n, dim] in the order of the items, of the collection's dtype."""

    items: list[StoredItem]
    vectors: NDArray[Any]


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    sha256: dict[str, str]


class Archive:
    """An archive in a file that nobody writes any more. Every method raises InvalidArgument `ARCHIVE_DAMAGED`, naming the file at fault."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the list of files and prove each against the manifest."""
        self._file = file
        with _naming("the archive"):
            file.seek(0)
            self._members = _members(tarfile.open(fileobj=file, mode="r:"))  # noqa: SIM115 - it holds nothing but `file`
        self._prove()
        with _naming(COLLECTION_FILE):
            self.settings = Settings.model_validate_json(self._content(COLLECTION_FILE))
        if self.settings.format != FORMAT:
            raise _damaged(COLLECTION_FILE, f"it is of format {self.settings.format}: this server reads format {FORMAT}")

    def parts(self) -> Iterator[ArchivedItems]:
        """Yield all items, up to 1,000 at once, in the archive's order; each would be admitted to a collection of its space."""
        count, last = 0, ""
        for number in range((len(self._members) - 2) // 3):
            part = Part.numbered(number)
            archived = self._part(part)
            ids = [item.id for item in archived.items]
            if ids != sorted(set(ids)) or ids[0] <= last:
                raise _damaged(part.items, "its ids are not in order, or one stands in the archive twice")
            count, last = count + len(ids), ids[-1]
            yield archived
        if count != self.settings.item_count:
            raise _damaged("the archive", f"it holds {count:,} items instead of {self.settings.item_count:,}")

    def _part(self, part: Part) -> ArchivedItems:
        with _naming(part.items):
            lines = [_line(line) for line in self._content(part.items).split(b"\n")[:-1]]
        if not 1 <= len(lines) <= PART_ITEMS:
            raise _damaged(part.items, f"it holds {len(lines):,} items instead of 1 to {PART_ITEMS:,}")
        vectors = self._vectors(part.vectors, len(lines))
        thumbnails = self._thumbnails(part.thumbnails, len(lines))
        with _naming(part.items):
            items = [_item(line, thumbnail) for line, thumbnail in zip(lines, thumbnails, strict=True)]
        _, refusals = judge([Offer(item.new) for item in items], rounded(vectors, self.settings.dtype))
        if refusals:
            place, error = refusals[0]
            raise _damaged(part.items, f"item {items[place].id[:80]!r}: {error.message}")
        return ArchivedItems(items, vectors)

    def _vectors(self, name: str, count: int) -> NDArray[Any]:
        vectors, dtype = self._tensors(name).get("vectors"), self.settings.dtype
        if vectors is None or str(vectors.dtype) != dtype or vectors.shape != (count, self.settings.space.dim):
            raise _damaged(name, f"it lacks `vectors`, {dtype} [{count}, {self.settings.space.dim}]")
        return vectors

    def _thumbnails(self, name: str, count: int) -> list[bytes]:
        tensors = self._tensors(name)
        data, offsets = tensors.get("data"), tensors.get("offsets")
        if data is None or offsets is None or (str(data.dtype), str(offsets.dtype), offsets.shape) != ("uint8", "int64", (count + 1,)):
            raise _damaged(name, f"it lacks `data`, uint8, or `offsets`, int64 [{count + 1}]")
        sizes = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != len(data) or sizes.min() < 0 or sizes.max() > MAX_THUMBNAIL_BYTES:
            raise _damaged(name, "its offsets do not cut `data` into thumbnails")
        return [data[start:stop].tobytes() for start, stop in itertools.pairwise(offsets)]

    def _tensors(self, name: str) -> Mapping[str, NDArray[Any]]:
        with _naming(name):
            tensors: Mapping[str, NDArray[Any]] = load(self._content(name))
        return tensors

    def _prove(self) -> None:
        if MANIFEST_FILE not in self._members:
            raise _damaged("the archive", f"it has no {MANIFEST_FILE} at its end: it was cut short, or is no archive of a collection")
        with _naming(MANIFEST_FILE):
            expected = _Manifest.model_validate_json(self._content(MANIFEST_FILE)).sha256
        parts = [each for number in range((len(expected) - 1) // 3) for each in Part.numbered(number).model_dump().values()]
        if set(expected) != {COLLECTION_FILE, *parts} or set(self._members) != {*expected, MANIFEST_FILE}:
            raise _damaged(MANIFEST_FILE, "it does not list the files that are there")
        for name, checksum in expected.items():
            if self._checksum(name) != checksum:
                raise _damaged(name, "its bytes are not those that the manifest knows")

    def _checksum(self, name: str) -> str:
        start, left = self._members[name]
        self._file.seek(start)
        digest = hashlib.sha256()
        while left and (piece := self._file.read(min(_READ_BYTES, left))):
            digest.update(piece)
            left -= len(piece)
        return digest.hexdigest()

    def _content(self, name: str) -> bytes:
        start, size = self._members[name]
        self._file.seek(start)
        return self._file.read(size)


def _members(tar: tarfile.TarFile) -> dict[str, tuple[int, int]]:
    """Return where each file begins and how long it is."""
    members: dict[str, tuple[int, int]] = {}
    for member in tar:
        limit = size_limit(member.name)
        if not member.isreg() or limit is None or member.name in members:
            raise _damaged(member.name[:80], "no such file belongs into an archive, or it is there twice")
        if member.size > limit:
            raise _damaged(member.name, f"it has {member.size:,} bytes: at most {limit:,}")
        members[member.name] = (member.offset_data, member.size)
    return members


def _line(line: bytes) -> Line:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"an item has {len(line):,} bytes: at most {MAX_LINE_BYTES:,}")
    return Line.model_validate_json(line)


def _item(line: Line, thumbnail: bytes) -> StoredItem:
    payload = "" if line.payload is None else json.dumps(line.payload, ensure_ascii=False, allow_nan=False)
    return StoredItem(
        id=line.id,
        label=line.label,
        uri=line.uri,
        thumbnail=thumbnail,
        content_sha256=bytes.fromhex(line.content_sha256),
        payload=payload,
        create_time=line.create_time,
        update_time=line.update_time,
    )


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidArgument:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(name, f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
    except (tarfile.TarError, EOFError, ValueError, RecursionError, SafetensorError) as error:
        raise _damaged(name, str(error)) from None


def _damaged(name: str, problem: str) -> InvalidArgument:
    message = f"{name}: {problem}; nothing was made of it: export the collection again, or send the file whole"
    return InvalidArgument("ARCHIVE_DAMAGED", message, metadata={"file": name})
