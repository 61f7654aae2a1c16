"""Filters out of messages, with the checks of the limits that the proto states."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from lookalike_indexer.filters import COLUMNS, PAYLOAD, AllOf, AnyOf, Bound, Exists, Filter, Not, OneOf, Path, Prefix, Range, Value
from lookalike_protos.indexer.v1 import filters_pb2, items_pb2, search_pb2
from lookalike_runtime.errors import invalid_field

MAX_DEPTH = 8
MAX_NODES = 256
MAX_VALUES = 1_000
MAX_PATH_BYTES = 256
MAX_TEXT_BYTES = 4 * 1024


Filtered = (
    search_pb2.SearchRequest
    | items_pb2.ListItemsRequest
    | items_pb2.CountItemsRequest
    | items_pb2.CountValuesRequest
    | items_pb2.DeleteItemsRequest
)


def filter_in(request: Filtered) -> Filter | None:
    """Return the filter of a request, None if it has none; raises InvalidArgument naming what is wrong in it."""
    return _Reader().read("filter", request.filter, 1) if request.HasField("filter") else None


class _Reader:
    """Reads one filter and counts what is in it."""

    def __init__(self) -> None:
        self._nodes = 0
        self._values = 0

    def read(self, field: str, message: filters_pb2.Filter, depth: int) -> Filter:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise invalid_field(field, f"it is more than {MAX_DEPTH} deep")
        if self._nodes > MAX_NODES:
            raise invalid_field(field, f"it is one of more than {MAX_NODES}: a set of values needs one_of alone")
        match message.WhichOneof("kind"):
            case "all_of":
                return AllOf(self._list(f"{field}.all_of.filters", message.all_of.filters, depth))
            case "any_of":
                return AnyOf(self._list(f"{field}.any_of.filters", message.any_of.filters, depth))
            case "negate":
                return Not(self.read(f"{field}.negate", message.negate, depth + 1))
            case None:
                raise invalid_field(field, "it has no kind: set one")
            case _:
                return self._leaf(field, message)

    def _leaf(self, field: str, message: filters_pb2.Filter) -> Filter:
        match message.WhichOneof("kind"):
            case "equals":
                path = field_path(f"{field}.equals.path", message.equals.path)
                return OneOf(path, (self._value(f"{field}.equals.value", message.equals.value),))
            case "one_of":
                return self._one_of(f"{field}.one_of", message.one_of)
            case "range":
                return _range(f"{field}.range", message.range)
            case "exists":
                return Exists(field_path(f"{field}.exists.path", message.exists.path))
            case _:
                path = field_path(f"{field}.prefix.path", message.prefix.path)
                return Prefix(path, _text(f"{field}.prefix.prefix", message.prefix.prefix))

    def _list(self, field: str, messages: Sequence[filters_pb2.Filter], depth: int) -> tuple[Filter, ...]:
        if not messages:
            raise invalid_field(field, "it is empty: at least 1")
        return tuple(self.read(f"{field}[{place}]", each, depth + 1) for place, each in enumerate(messages))

    def _one_of(self, field: str, message: filters_pb2.FieldOneOf) -> OneOf:
        path = field_path(f"{field}.path", message.path)
        if not message.values:
            raise invalid_field(f"{field}.values", "it is empty: at least 1")
        return OneOf(path, tuple(self._value(f"{field}.values[{place}]", each) for place, each in enumerate(message.values)))

    def _value(self, field: str, message: filters_pb2.FilterValue) -> Value:
        self._values += 1
        if self._values > MAX_VALUES:
            raise invalid_field(field, f"it is one of more than {MAX_VALUES:,} values in the filter")
        match message.WhichOneof("kind"):
            case "text":
                return _text(f"{field}.text", message.text)
            case "number":
                return _finite(f"{field}.number", message.number)
            case "truth":
                return message.truth
            case None:
                raise invalid_field(field, "it has no kind: set text, number or truth")


def _range(field: str, message: filters_pb2.FieldRange) -> Range:
    path = field_path(f"{field}.path", message.path)
    lower, upper = message.WhichOneof("lower"), message.WhichOneof("upper")
    if not lower and not upper:
        raise invalid_field(field, "it has no bound: set at least one")
    return Range(
        path,
        Bound(_finite(f"{field}.{lower}", getattr(message, lower)), lower == "at_least") if lower else None,
        Bound(_finite(f"{field}.{upper}", getattr(message, upper)), upper == "at_most") if upper else None,
    )


def field_path(field: str, path: str) -> Path:
    """Return what a path names; raises InvalidArgument naming what is wrong in `field`."""
    if len(path.encode()) > MAX_PATH_BYTES:
        raise invalid_field(field, f"{path[:40]!r}… has {len(path.encode())} bytes: at most {MAX_PATH_BYTES}")
    head, *keys = path.split(".")
    if path in COLUMNS or (head == PAYLOAD and keys and all(map(is_key, keys))):
        return (head, *keys)
    raise invalid_field(
        field, f"{path!r} names no field: id, label, uri, or payload.KEY, each key without '\"', '\\' and control characters"
    )


def is_key(key: str) -> bool:
    """Tell whether a path can name a key."""
    return bool(key) and not any(each in '"\\' or unicodedata.category(each) == "Cc" for each in key)


def _text(field: str, text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise invalid_field(field, f"it has {len(text.encode()):,} bytes: at most {MAX_TEXT_BYTES:,}")
    return text


def _finite(field: str, number: float) -> float:
    if not math.isfinite(number):
        raise invalid_field(field, f"{number} is not finite")
    return number
