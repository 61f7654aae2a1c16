"""Which items a call is about: conditions on `id`, `label`, `uri` and `payload.KEY`, joined by `&`, `|` and `~`.

```python
wanted = filters.Equals("label", "shoe") & filters.Range("payload.price", below=100) & ~filters.Exists("payload.sold")
```

A missing field meets no condition, so that `~` of one on it is met. Text, numbers and truth values never equal one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lookalike._exceptions import InputError
from lookalike_protos.indexer.v1 import filters_pb2

__all__ = ["AllOf", "AnyOf", "Equals", "Exists", "Filter", "Not", "OneOf", "Prefix", "Range", "Value"]

Value = str | float | bool


class Filter:
    """A condition; one of the classes of this module."""

    def __and__(self, other: Filter) -> Filter:
        return AllOf((*_parts(self, AllOf), *_parts(other, AllOf)))

    def __or__(self, other: Filter) -> Filter:
        return AnyOf((*_parts(self, AnyOf), *_parts(other, AnyOf)))

    def __invert__(self) -> Filter:
        return Not(self)

    def message(self) -> filters_pb2.Filter:
        """Return what is sent to the indexer; raises InputError for a value that no field can have."""
        raise NotImplementedError


@dataclass(frozen=True)
class AllOf(Filter):
    """Every one is met."""

    filters: tuple[Filter, ...]

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(all_of=filters_pb2.FilterList(filters=[each.message() for each in self.filters]))


@dataclass(frozen=True)
class AnyOf(Filter):
    """At least one is met."""

    filters: tuple[Filter, ...]

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(any_of=filters_pb2.FilterList(filters=[each.message() for each in self.filters]))


@dataclass(frozen=True)
class Not(Filter):
    """It is not met."""

    filter: Filter

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(negate=self.filter.message())


@dataclass(frozen=True)
class Equals(Filter):
    """The field equals a value."""

    path: str
    value: Value

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(equals=filters_pb2.FieldEquals(path=self.path, value=_value(self.value)))


@dataclass(frozen=True)
class OneOf(Filter):
    """The field equals one of several values."""

    path: str
    values: tuple[Value, ...]

    def __init__(self, path: str, values: Iterable[Value]) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "values", tuple(values))

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(one_of=filters_pb2.FieldOneOf(path=self.path, values=map(_value, self.values)))


@dataclass(frozen=True)
class Range(Filter):
    """The field is a number within bounds, of which at least one is given and at most one on either side."""

    path: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        for one, other in (("above", "at_least"), ("below", "at_most")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise InputError(f"a range of {self.path!r} has both {one} and {other}: give one of them", reason="BAD_FILTER")

    def message(self) -> filters_pb2.Filter:
        bounds = {name: _number(bound) for name in ("above", "at_least", "below", "at_most") if (bound := getattr(self, name)) is not None}
        return filters_pb2.Filter(range=filters_pb2.FieldRange(path=self.path, **bounds))


@dataclass(frozen=True)
class Exists(Filter):
    """The field is not missing."""

    path: str

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(exists=filters_pb2.FieldExists(path=self.path))


@dataclass(frozen=True)
class Prefix(Filter):
    """The field is a text that begins with another."""

    path: str
    prefix: str

    def message(self) -> filters_pb2.Filter:
        return filters_pb2.Filter(prefix=filters_pb2.FieldPrefix(path=self.path, prefix=self.prefix))


def _parts(item_filter: Filter, kind: type[AllOf] | type[AnyOf]) -> tuple[Filter, ...]:
    """Return the filters that one of a kind joins, so that a long chain does not become a deep one."""
    return item_filter.filters if isinstance(item_filter, kind) else (item_filter,)


def _value(value: Value) -> filters_pb2.FilterValue:
    if isinstance(value, bool):
        return filters_pb2.FilterValue(truth=value)
    if isinstance(value, str):
        return filters_pb2.FilterValue(text=value)
    return filters_pb2.FilterValue(number=_number(value))


def _number(value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{value!r} in a filter is no text, number or truth value", reason="BAD_FILTER") from None
