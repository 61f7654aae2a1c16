"""Items to messages and back, and how much of them fits into an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from lookalike_indexer.admission import Change, Offer
from lookalike_indexer.filters import PAYLOAD, Value
from lookalike_indexer.records import Space
from lookalike_indexer.servicers.filter_messages import is_key
from lookalike_indexer.servicers.translate import set_timestamp, space_message
from lookalike_indexer.store import Columns, NewItem, StoredItem, layout_of
from lookalike_protos.indexer.v1 import filters_pb2, items_pb2
from lookalike_protos.packing import MAX_BATCH_BYTES
from lookalike_protos.types.v1 import vectors_pb2
from lookalike_runtime.errors import InvalidArgument, invalid_field

# Room for the rest of an answer is left below the limit of a message, 16 MiB.
MAX_ITEMS_BYTES = 12 * 1024 * 1024
MAX_MASK_PATHS = 64

_DTYPES = {2: vectors_pb2.D_TYPE_FLOAT16, 4: vectors_pb2.D_TYPE_FLOAT32}
_FIELDS = ("label", "uri", "thumbnail", "content_sha256")

COLUMNS = {
    items_pb2.ITEM_VIEW_UNSPECIFIED: Columns(),
    items_pb2.ITEM_VIEW_BASIC: Columns(),
    items_pb2.ITEM_VIEW_THUMBNAIL: Columns(thumbnail=True),
    items_pb2.ITEM_VIEW_VECTOR: Columns(vector=True),
    items_pb2.ITEM_VIEW_FULL: Columns(thumbnail=True, vector=True),
    items_pb2.ITEM_VIEW_ID: Columns(rest=False),
}


def columns_of(view: items_pb2.ItemView.ValueType) -> Columns:
    """Return what a view shows; raises InvalidArgument for an unknown one."""
    columns = COLUMNS.get(view)
    if columns is None:
        raise invalid_field("view", f"{view} is unknown")
    return columns


def offer_of(item: items_pb2.Item) -> Offer:
    """Return an item that asks to come in."""
    new = NewItem(item.id, item.label, item.uri, item.thumbnail, item.content_sha256)
    return _with_payload(new, item.payload) if item.HasField("payload") else Offer(new)


def change_of(change: items_pb2.ItemChange) -> Change:
    """Return a change; what is wrong with its mask is found when it is applied."""
    return Change(change.item.id, partial(_applied, change))


def _applied(change: items_pb2.ItemChange, present: NewItem) -> Offer:
    paths = _paths_of(change)
    fields: dict[str, Any] = {name: getattr(change.item, name) for name in _FIELDS if name in paths}
    changed = replace(NewItem(*(getattr(present, name) for name in ("id", *_FIELDS, PAYLOAD))), **fields)
    if PAYLOAD in paths:
        return _with_payload(changed, change.item.payload) if change.item.HasField("payload") else Offer(replace(changed, payload=""))
    keys = [path.removeprefix(f"{PAYLOAD}.") for path in paths if path not in _FIELDS]
    return _with_payload(changed, _merged(present.payload, keys, change.item.payload)) if keys else Offer(changed)


def _paths_of(change: items_pb2.ItemChange) -> set[str]:
    """Return what a change is about; raises InvalidArgument for a mask that names no field, an unknown one, or too many."""
    paths = set(change.update_mask.paths)
    if not 1 <= len(change.update_mask.paths) <= MAX_MASK_PATHS:
        raise invalid_field("update_mask", f"it has {len(change.update_mask.paths)} paths: 1 to {MAX_MASK_PATHS}")
    for path in paths - {*_FIELDS, PAYLOAD}:
        head, _, key = path.partition(".")
        if head != PAYLOAD or "." in key or not is_key(key):
            raise invalid_field(
                "update_mask", f"{path[:80]!r} cannot be changed: {', '.join(_FIELDS)}, payload, or payload.KEY with one key can"
            )
        if PAYLOAD in paths:
            raise invalid_field("update_mask", f"{path[:80]!r} stands beside payload, which replaces all of it: name either")
    return paths


def _merged(payload: str, keys: Sequence[str], given: Struct) -> Struct:
    """Return a payload with those of `keys` that `given` has set, and the others taken away."""
    merged = Struct()
    merged.update(json.loads(payload or "{}"))
    for key in keys:
        if key in given.fields:
            merged.fields[key].CopyFrom(given.fields[key])
        elif key in merged.fields:
            del merged.fields[key]
    return merged


def _with_payload(item: NewItem, payload: Struct) -> Offer:
    try:
        text = json.dumps(json_format.MessageToDict(payload), ensure_ascii=False)
    except ValueError:  # JSON has no NaN
        return Offer(item, payload.ByteSize(), payload_finite=False)
    return Offer(replace(item, payload=text), payload.ByteSize())


def value_message(value: Value) -> filters_pb2.FilterValue:
    if isinstance(value, bool):
        return filters_pb2.FilterValue(truth=value)
    return filters_pb2.FilterValue(text=value) if isinstance(value, str) else filters_pb2.FilterValue(number=value)


def item_message(item: StoredItem) -> items_pb2.Item:
    if not item.revision:  # nothing else was read
        return items_pb2.Item(id=item.id)
    message = items_pb2.Item(
        id=item.id,
        label=item.label,
        uri=item.uri,
        thumbnail=item.thumbnail,
        content_sha256=item.content_sha256,
        revision=item.revision,
    )
    # In place: messages that are made for themselves are copied into the one that they are part of.
    set_timestamp(message.create_time, item.create_time)
    set_timestamp(message.update_time, item.update_time)
    if item.payload:
        message.payload.update(json.loads(item.payload))
    return message


def batch_message(items: Sequence[StoredItem], space: Space) -> vectors_pb2.VectorBatch:
    """Return the raw vectors of items that were read with them."""
    dtype = layout_of(len(items[0].vector), space.dim).itemsize if items else 4
    data = b"".join(item.vector for item in items)
    return vectors_pb2.VectorBatch(data=data, dim=space.dim, dtype=_DTYPES[dtype], space=space_message(space))


def most_rows(columns: Columns, space: Space) -> int:
    """Return how many items' vectors fit into an answer."""
    return max(1, MAX_BATCH_BYTES // (4 * space.dim)) if columns.vector else 2**31


def require_room(items: Sequence[StoredItem], columns: Columns, space: Space) -> None:
    """Raise InvalidArgument if items take more than an answer holds."""
    if len(items) > most_rows(columns, space):
        raise _too_much(f"the vectors of {len(items):,} items of {space.dim} dimensions", f"{MAX_BATCH_BYTES:,}")
    require_bytes(len(items), sum(item.size for item in items))


def require_bytes(count: int, size: int) -> None:
    """Raise InvalidArgument if `count` items of together `size` bytes are more than an answer holds."""
    if size > MAX_ITEMS_BYTES:
        raise _too_much(f"{count:,} items of together {size:,} bytes", f"{MAX_ITEMS_BYTES:,}")


def _too_much(what: str, most: str) -> InvalidArgument:
    return invalid_field(
        "view", f"{what} do not fit into one answer, which holds {most} bytes of them: ask for fewer, or for a lesser view"
    )
