"""Which items may come in: each is judged by itself, so that a bad one never costs the others of its chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.store import NewItem
from lookalike_runtime.errors import FieldViolation, InvalidArgument

MAX_ID_BYTES = 512
MAX_LABEL_BYTES = 512
MAX_URI_BYTES = 4 * 1024
MAX_THUMBNAIL_BYTES = 32 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024
SHA256_BYTES = 32


class Offer(NamedTuple):
    """An item that asks to come in. `payload_bytes` is its payload's size as it was sent; `payload_finite` whether its numbers are."""

    item: NewItem
    payload_bytes: int = 0
    payload_finite: bool = True


class Refusal(NamedTuple):
    """The offer at `place` of a chunk, and why it stays out."""

    place: int
    error: InvalidArgument


def judge(offers: Sequence[Offer], vectors: NDArray[np.float32]) -> tuple[list[int], list[Refusal]]:
    """Return the places of the offers that may come in and the refusals; `vectors` is float32 [n, dim], one row an offer."""
    largest = np.abs(vectors).max(axis=1)
    seen: set[str] = set()
    admitted: list[int] = []
    refusals: list[Refusal] = []
    for place, offer in enumerate(offers):
        error = _fault(offer, float(largest[place]), seen)
        seen.add(offer.item.id)
        if error is None:
            admitted.append(place)
        else:
            refusals.append(Refusal(place, error))
    return admitted, refusals


def _fault(offer: Offer, largest: float, seen: set[str]) -> InvalidArgument | None:
    """Return what is wrong with an offer whose vector's largest absolute value is `largest`."""
    size = len(offer.item.id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        return _error("INVALID_ID", "id", f"{offer.item.id[:40]!r} has {size} bytes: 1 to {MAX_ID_BYTES}")
    if offer.item.id in seen:
        return _error("DUPLICATE_ID", "id", f"{offer.item.id!r} stands in the chunk twice: the first is the one that counts")
    if not np.isfinite(largest):
        return _error("NOT_FINITE", "vector", "it holds NaN or infinity")
    if largest == 0:
        return _error("ZERO_VECTOR", "vector", "all its numbers are zero: it has no direction")
    return _fault_beside_vector(offer)


def _fault_beside_vector(offer: Offer) -> InvalidArgument | None:
    item = offer.item
    sizes = (
        ("label", len(item.label.encode()), MAX_LABEL_BYTES),
        ("uri", len(item.uri.encode()), MAX_URI_BYTES),
        ("thumbnail", len(item.thumbnail), MAX_THUMBNAIL_BYTES),
        ("payload", offer.payload_bytes, MAX_PAYLOAD_BYTES),
    )
    for field, size, most in sizes:
        if size > most:
            return _error("TOO_LARGE", field, f"it has {size:,} bytes: at most {most:,}")
    if len(item.content_sha256) not in (0, SHA256_BYTES):
        return _error("INVALID_FIELD", "content_sha256", f"it has {len(item.content_sha256)} bytes: {SHA256_BYTES} or none")
    if not offer.payload_finite:
        return _error("NOT_FINITE", "payload", "it holds NaN or infinity")
    return None


def _error(reason: str, field: str, description: str) -> InvalidArgument:
    return InvalidArgument(reason, f"{field}: {description}", violations=[FieldViolation(field, description)])
