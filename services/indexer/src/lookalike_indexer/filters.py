"""Conditions on the fields of items.

A path is `id`, `label`, `uri`, or `payload` and the keys below it. An empty label or uri, a key that is not there, and null are missing; a
missing field meets no condition, so that `Not` of one on it is met. Text, numbers and truth values never equal one another. Text is
compared bytewise, numbers as doubles; lists are not entered.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("id", "label", "uri")
PAYLOAD = "payload"

Path = tuple[str, ...]
Value = str | float | bool


@dataclass(frozen=True)
class AllOf:
    """Every one is met."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one is met."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """It is not met."""

    filter: Filter


@dataclass(frozen=True)
class OneOf:
    """The field equals one of the values; numbers are floats."""

    path: Path
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Bound:
    """An end of a range; `inclusive` tells whether it belongs to it."""

    value: float
    inclusive: bool


@dataclass(frozen=True)
class Range:
    """The field is a number within bounds; None is no bound."""

    path: Path
    lower: Bound | None = None
    upper: Bound | None = None


@dataclass(frozen=True)
class Exists:
    """The field is not missing."""

    path: Path


@dataclass(frozen=True)
class Prefix:
    """The field is a text that begins with another."""

    path: Path
    prefix: str


Filter = AllOf | AnyOf | Not | OneOf | Range | Exists | Prefix
