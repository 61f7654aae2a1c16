"""A collection out into an archive."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from lookalike_indexer.archives.layout import COLLECTION_FILE, FORMAT, MANIFEST_FILE, PART_ITEMS, Line, Part, Settings
from lookalike_indexer.collection import OpenCollection
from lookalike_indexer.records import Collection
from lookalike_indexer.store import StoredItem, layout_of


def write_archive(collection: OpenCollection, record: Collection, file: BinaryIO) -> Settings:
    """Write the items of `collection` as of one revision, whatever is written meanwhile; returns what the archive says of itself."""
    checksums: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar, collection.store.one_state(PART_ITEMS) as state:
        settings = Settings(
            format=FORMAT,
            **record.model_dump(include={"name", "space", "engine", "dba", "recall_target", "dtype"}),
            revision=state.revision,
            item_count=state.item_count,
            exported=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        _add(tar, checksums, COLLECTION_FILE, settings.model_dump_json(indent=1).encode())
        for number, items in enumerate(state.parts):
            part = Part.numbered(number)
            _add(tar, checksums, part.items, b"".join(_line(item) for item in items))
            _add(tar, checksums, part.vectors, save({"vectors": _vectors(items, record.space.dim)}))
            _add(tar, checksums, part.thumbnails, save(_thumbnails(items)))
        _add(tar, {}, MANIFEST_FILE, json.dumps({"sha256": checksums}, indent=1).encode())
    return settings


def _add(tar: tarfile.TarFile, checksums: dict[str, str], name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    checksums[name] = hashlib.sha256(content).hexdigest()


def _line(item: StoredItem) -> bytes:
    line = Line(
        id=item.id,
        label=item.label,
        uri=item.uri,
        content_sha256=item.content_sha256.hex(),
        payload=json.loads(item.payload) if item.payload else None,
        create_time=item.create_time,
        update_time=item.update_time,
    )
    return line.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _vectors(items: Sequence[StoredItem], dim: int) -> NDArray[np.floating[Any]]:
    layout = layout_of(len(items[0].vector), dim)
    return np.frombuffer(b"".join(item.vector for item in items), layout).reshape(-1, dim)


def _thumbnails(items: Sequence[StoredItem]) -> dict[str, NDArray[Any]]:
    offsets = np.cumsum([0, *(len(item.thumbnail) for item in items)], dtype=np.int64)
    return {"data": np.frombuffer(b"".join(item.thumbnail for item in items), np.uint8), "offsets": offsets}
