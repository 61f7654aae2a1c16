"""Which items may come in: each is judged by itself, so that a bad one never costs the others of its chunk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.records import DType
from lookalike_indexer.store import NewItem
from lookalike_runtime.errors import FieldViolation, InvalidArgument, NotFound, ServiceError

MAX_ID_BYTES = 512
MAX_LABEL_BYTES = 512
MAX_URI_BYTES = 4 * 1024
MAX_THUMBNAIL_BYTES = 32 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024
SHA256_BYTES = 32
_LIMITS = (("label", MAX_LABEL_BYTES), ("uri", MAX_URI_BYTES), ("thumbnail", MAX_THUMBNAIL_BYTES), ("payload", MAX_PAYLOAD_BYTES))


class Offer(NamedTuple):
    """An item that asks to come in. `payload_bytes` is its payload's size as it was sent; `payload_finite` whether its numbers are."""

    item: NewItem
    payload_bytes: int = 0
    payload_finite: bool = True


class Change(NamedTuple):
    """A change of the item `id`: `applied` returns what the item as it is becomes, or raises InvalidArgument."""

    id: str
    applied: Callable[[NewItem], Offer]


class Refusal(NamedTuple):
    """The offer or change at `place` of what was sent, and why it was refused."""

    place: int
    error: ServiceError


@dataclass(frozen=True)
class Vectors:
    """Vectors [n, dim] as they are stored, and how large the largest number of each was before (`sent` [n]) and is now (`largest` [n])."""

    stored: NDArray[np.float32 | np.float16]
    sent: NDArray[np.float32]
    largest: NDArray[np.float32]


def rounded(vectors: NDArray[np.float32 | np.float16], dtype: DType) -> Vectors:
    """Return `vectors` [n, dim] as numbers of `dtype`; float16 ones are only asked for as such."""
    sent = _largest(vectors)
    if dtype == "float32":
        return Vectors(vectors, sent, sent)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = vectors.astype(np.float16)
    return Vectors(stored, sent, _largest(stored))


def judge(offers: Sequence[Offer], vectors: Vectors) -> tuple[list[int], list[Refusal]]:
    """Return the places of the offers that may come in and the refusals; `vectors` has one row an offer."""
    seen: set[str] = set()
    admitted: list[int] = []
    refusals: list[Refusal] = []
    sound = (_sound(vectors.sent) & _sound(vectors.largest)).tolist()
    for place, (offer, is_sound) in enumerate(zip(offers, sound, strict=True)):
        error = _fault_of_id(offer.item.id, seen)
        if error is None and not is_sound:
            error = _fault_of_vector(float(vectors.sent[place]), float(vectors.largest[place]))
        error = error or _fault_beside_vector(offer)
        seen.add(offer.item.id)
        if error is None:
            admitted.append(place)
        else:
            refusals.append(Refusal(place, error))
    return admitted, refusals


def judge_changes(changes: Sequence[Change], there: Mapping[str, NewItem]) -> tuple[list[NewItem], list[Refusal]]:
    """Return what the items that may change become, and the refusals; `there` are the items as they are, by id."""
    seen: set[str] = set()
    changed: list[NewItem] = []
    refusals: list[Refusal] = []
    for place, change in enumerate(changes):
        try:
            changed.append(_changed(change, there, seen))
        except ServiceError as error:
            refusals.append(Refusal(place, error))
        seen.add(change.id)
    return changed, refusals


def _changed(change: Change, there: Mapping[str, NewItem], seen: set[str]) -> NewItem:
    if change.id in seen:
        raise _error("DUPLICATE_ID", "id", f"{change.id!r} is changed twice: the first is the one that counts")
    if change.id not in there:
        raise NotFound("ITEM_NOT_FOUND", f"no such item: {change.id[:80]!r}", metadata={"id": change.id[:80]})
    offer = change.applied(there[change.id])
    fault = _fault_beside_vector(offer)
    if fault:
        raise fault
    return offer.item


def _largest(vectors: NDArray[np.float32 | np.float16]) -> NDArray[np.float32]:
    """Return the largest absolute value of each row [n]; NaN where there is one."""
    largest: NDArray[np.float32] = np.maximum(vectors.max(axis=1), -vectors.min(axis=1)).astype(np.float32)
    return largest


def _sound(largest: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.isfinite(largest) & (largest > 0)


def _fault_of_id(item_id: str, seen: Set[str]) -> InvalidArgument | None:
    size = len(item_id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        return _error("INVALID_ID", "id", f"{item_id[:40]!r} has {size} bytes: 1 to {MAX_ID_BYTES}")
    if item_id in seen:
        return _error("DUPLICATE_ID", "id", f"{item_id!r} stands in the chunk twice: the first is the one that counts")
    return None


def _fault_of_vector(sent: float, largest: float) -> InvalidArgument:
    """Return what is wrong with a vector whose largest absolute value was `sent`, and is `largest` as it is stored."""
    if not math.isfinite(sent):
        return _error("NOT_FINITE", "vector", "it holds NaN or infinity")
    if sent == 0:
        return _error("ZERO_VECTOR", "vector", "all its numbers are zero: it has no direction")
    stored = "float16, as the collection stores it, rounds to"
    if not math.isfinite(largest):
        return _error("NOT_FINITE", "vector", f"it holds {sent:g}, which {stored} infinity: scale it down")
    return _error("ZERO_VECTOR", "vector", f"all its numbers are at most {sent:g}, which {stored} zero")


def _fault_beside_vector(offer: Offer) -> InvalidArgument | None:
    item = offer.item
    sizes = len(item.label.encode()), len(item.uri.encode()), len(item.thumbnail), offer.payload_bytes
    for (field, most), size in zip(_LIMITS, sizes, strict=True):
        if size > most:
            return _error("TOO_LARGE", field, f"it has {size:,} bytes: at most {most:,}")
    if len(item.content_sha256) not in (0, SHA256_BYTES):
        return _error("INVALID_FIELD", "content_sha256", f"it has {len(item.content_sha256)} bytes: {SHA256_BYTES} or none")
    if not offer.payload_finite:
        return _error("NOT_FINITE", "payload", "it holds NaN or infinity")
    return None


def _error(reason: str, field: str, description: str) -> InvalidArgument:
    return InvalidArgument(reason, f"{field}: {description}", violations=[FieldViolation(field, description)])
