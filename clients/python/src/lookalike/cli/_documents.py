"""Values as JSON documents: `--json` of every command goes through here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lookalike._exceptions import LookalikeError


def document(value: Any) -> Any:
    """Return `value` as JSON takes it: dataclasses as objects, times as ISO 8601, bytes in hexadecimal, NaN as null, no thumbnails."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name.rstrip("_"): document(each) for name, each in fields if name != "thumbnail"}
    if isinstance(value, Mapping):
        return {str(key): document(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [document(each) for each in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def error_document(error: LookalikeError) -> dict[str, Any]:
    """Return an error as the document that stands for a command's answer."""
    fields = ("message", "code", "reason", "metadata", "violations", "retry_after")
    return {"error": {name: document(getattr(error, name)) for name in fields}}


def to_json(value: Any) -> str:
    """Return `value` as one JSON text."""
    return json.dumps(document(value), ensure_ascii=False, indent=2)
