"""What is in an archive, by name, and how large each file may be."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from lookalike_indexer.admission import MAX_ID_BYTES, MAX_LABEL_BYTES, MAX_PAYLOAD_BYTES, MAX_THUMBNAIL_BYTES, MAX_URI_BYTES
from lookalike_indexer.records import Dba, DType, Engine, Space

FORMAT: Final = 1
COLLECTION_FILE: Final = "collection.json"
MANIFEST_FILE: Final = "manifest.json"
PART_ITEMS: Final = 1_000

_MAX_DIM = 16_384
_HEADER = 1 << 16
# A character of text takes up to six bytes in JSON, a number of a payload less than eight times what it takes in a message.
MAX_LINE_BYTES: Final = 6 * (MAX_ID_BYTES + MAX_LABEL_BYTES + MAX_URI_BYTES) + 8 * MAX_PAYLOAD_BYTES + 1024
_PARTS: Final = {
    "items": (re.compile(r"items-[0-9]{6}\.jsonl"), PART_ITEMS * MAX_LINE_BYTES),
    "vectors": (re.compile(r"vectors-[0-9]{6}\.safetensors"), PART_ITEMS * _MAX_DIM * 4 + _HEADER),
    "thumbnails": (re.compile(r"thumbnails-[0-9]{6}\.safetensors"), PART_ITEMS * (MAX_THUMBNAIL_BYTES + 8) + _HEADER),
}
_SINGLES: Final = {COLLECTION_FILE: 1 << 16, MANIFEST_FILE: 64 << 20}


class Part(BaseModel):
    """Names of the three files of up to `PART_ITEMS` items."""

    model_config = ConfigDict(frozen=True)

    items: str
    vectors: str
    thumbnails: str

    @classmethod
    def numbered(cls, number: int) -> Part:
        return cls(
            items=f"items-{number:06}.jsonl", vectors=f"vectors-{number:06}.safetensors", thumbnails=f"thumbnails-{number:06}.safetensors"
        )


class Settings(BaseModel):
    """`collection.json`: what the collection was, and how much of it is in the archive."""

    model_config = ConfigDict(frozen=True)

    format: int
    name: str
    space: Space
    engine: Engine
    dba: Dba
    recall_target: float
    dtype: DType
    revision: int
    item_count: int
    exported: str


class Line(BaseModel):
    """An item in `items-N.jsonl`; times in microseconds since 1970."""

    model_config = ConfigDict(frozen=True)

    id: str
    label: str = ""
    uri: str = ""
    content_sha256: str = ""
    payload: dict[str, Any] | None = None
    create_time: int
    update_time: int


def size_limit(name: str) -> int | None:
    """Return how many bytes the file `name` may have, None if there is no such file in an archive."""
    if name in _SINGLES:
        return _SINGLES[name]
    return next((limit for pattern, limit in _PARTS.values() if pattern.fullmatch(name)), None)
