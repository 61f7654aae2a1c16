"""Items to messages and back, and how much of them fits into an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from google.protobuf import json_format

from lookalike_indexer.admission import Offer
from lookalike_indexer.records import Space
from lookalike_indexer.servicers.translate import space_message, timestamp
from lookalike_indexer.store import Columns, NewItem, StoredItem
from lookalike_protos.indexer.v1 import items_pb2
from lookalike_protos.packing import MAX_BATCH_BYTES, pack_vectors
from lookalike_protos.types.v1 import vectors_pb2
from lookalike_runtime.errors import InvalidArgument, invalid_field

# Room for the rest of an answer is left below the limit of a message, 16 MiB.
MAX_ITEMS_BYTES = 12 * 1024 * 1024

COLUMNS = {
    items_pb2.ITEM_VIEW_UNSPECIFIED: Columns(),
    items_pb2.ITEM_VIEW_BASIC: Columns(),
    items_pb2.ITEM_VIEW_THUMBNAIL: Columns(thumbnail=True),
    items_pb2.ITEM_VIEW_VECTOR: Columns(vector=True),
    items_pb2.ITEM_VIEW_FULL: Columns(thumbnail=True, vector=True),
}


def columns_of(view: items_pb2.ItemView.ValueType) -> Columns:
    """Return what a view shows; raises InvalidArgument for an unknown one."""
    columns = COLUMNS.get(view)
    if columns is None:
        raise invalid_field("view", f"{view} is unknown")
    return columns


def offer_of(item: items_pb2.Item) -> Offer:
    """Return an item that asks to come in."""
    payload, finite = "", True
    if item.HasField("payload"):
        try:
            payload = json.dumps(json_format.MessageToDict(item.payload), ensure_ascii=False)
        except ValueError:  # JSON has no NaN
            finite = False
    new = NewItem(item.id, item.label, item.uri, item.thumbnail, item.content_sha256, payload)
    return Offer(new, item.payload.ByteSize(), finite)


def item_message(item: StoredItem) -> items_pb2.Item:
    message = items_pb2.Item(
        id=item.id,
        label=item.label,
        uri=item.uri,
        thumbnail=item.thumbnail,
        content_sha256=item.content_sha256,
        revision=item.revision,
        create_time=timestamp(item.create_time),
        update_time=timestamp(item.update_time),
    )
    if item.payload:
        message.payload.update(json.loads(item.payload))
    return message


def batch_message(items: Sequence[StoredItem], space: Space) -> vectors_pb2.VectorBatch:
    """Return the raw vectors of items that were read with them."""
    raw = np.frombuffer(b"".join(item.vector for item in items), "<f4").reshape(-1, space.dim)
    return pack_vectors(raw, space_message(space))


def most_rows(columns: Columns, space: Space) -> int:
    """Return how many items' vectors fit into an answer."""
    return max(1, MAX_BATCH_BYTES // (4 * space.dim)) if columns.vector else 2**31


def require_room(items: Sequence[StoredItem], columns: Columns, space: Space) -> None:
    """Raise InvalidArgument if items take more than an answer holds."""
    if len(items) > most_rows(columns, space):
        raise _too_much(f"the vectors of {len(items):,} items of {space.dim} dimensions", f"{MAX_BATCH_BYTES:,}")
    size = sum(item.size for item in items)
    if size > MAX_ITEMS_BYTES:
        raise _too_much(f"{len(items):,} items of together {size:,} bytes", f"{MAX_ITEMS_BYTES:,}")


def _too_much(what: str, most: str) -> InvalidArgument:
    return invalid_field(
        "view", f"{what} do not fit into one answer, which holds {most} bytes of them: ask for fewer, or for a lesser view"
    )
