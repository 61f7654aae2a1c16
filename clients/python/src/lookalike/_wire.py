"""Between protobuf messages and the values of `_models`: by field name, so that nothing is listed twice.

A field called like a keyword has an underscore behind it (`import_`). Enums lose their prefix (`STATE_RUNNING` is `RUNNING`); a number that
this version does not know is `UNSPECIFIED`. An optional field is None where the message has no value.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from lookalike._models import Problem
from lookalike._status import problem_of

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
M = TypeVar("M", bound=Message)


def read(kind: type[T], message: Message) -> T:
    """Return `message` as a value of the dataclass `kind`."""
    return kind(**{name: take(message) for name, take in _readers(typing.cast(Any, kind), message.DESCRIPTOR)})


def write(value: Any, kind: type[M]) -> M:
    """Return the dataclass `value` as a message of the type `kind`; None stays unset."""
    message = kind()
    _fill(value, message)
    return message


@functools.cache
def _readers(kind: Any, descriptor: Any) -> list[tuple[str, Callable[[Message], Any]]]:
    """Return what takes each field of the dataclass `kind` out of a message; found out once, since searches read hundreds of items."""
    return [(name, _reader(descriptor.fields_by_name[wire_name], hint, optional)) for name, wire_name, hint, optional in _fields(kind)]


def _reader(field: Any, hint: Any, optional: bool) -> Callable[[Message], Any]:
    get = operator.attrgetter(field.name)
    if optional and field.has_presence:
        return lambda message: _value(hint, get(message), field) if message.HasField(field.name) else None
    plain = field.enum_type is None and field.message_type is None and get_origin(hint) is not tuple
    return get if plain else lambda message: _value(hint, get(message), field)


@functools.cache
def _fields(kind: Any) -> list[tuple[str, str, Any, bool]]:
    hints = typing.get_type_hints(kind)
    return [(f.name, f.name.rstrip("_"), *_required(hints[f.name])) for f in dataclasses.fields(kind)]


def _required(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (types.UnionType, typing.Union):
        (inner,) = (each for each in get_args(hint) if each is not type(None))
        return inner, True
    return hint, False


def _value(hint: Any, value: Any, field: Any) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_single(get_args(hint)[0], each, field.enum_type) for each in value)
    if get_origin(hint) is Mapping and not isinstance(value, Message):
        of_value = field.message_type.fields_by_name["value"]
        return {key: _single(get_args(hint)[1], each, of_value.enum_type) for key, each in value.items()}
    return _single(hint, value, field.enum_type)


def _single(hint: Any, value: Any, enum: Any | None) -> Any:
    if enum is not None:
        return member(hint, value, enum)
    if isinstance(value, Timestamp):
        return value.ToDatetime(tzinfo=UTC)
    if isinstance(value, Status) and hint is Problem:
        return problem_of(value)
    if dataclasses.is_dataclass(hint):
        return read(typing.cast(type, hint), value)
    return MessageToDict(value) if isinstance(value, Message) else value


def member(kind: type[E], number: int, enum: Any) -> E:
    """Return the member of `kind` that the number of the protobuf `enum` stands for."""
    known = enum.values_by_number.get(number)
    name = known.name.removeprefix(_prefix(enum)) if known else "UNSPECIFIED"
    return kind(name if name in kind.__members__ else "UNSPECIFIED")


def _prefix(enum: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"


def _fill(value: Any, message: Message) -> None:
    for name, wire_name, _, _ in _fields(typing.cast(Any, type(value))):
        part = getattr(value, name)
        if part is not None:
            _set(message, message.DESCRIPTOR.fields_by_name[wire_name], part)


def _set(message: Message, field: Any, part: Any) -> None:
    target = getattr(message, field.name)
    if field.enum_type is not None:
        setattr(message, field.name, field.enum_type.values_by_name[_prefix(field.enum_type) + part].number)
    elif isinstance(part, Mapping):
        target.update(part)
    elif isinstance(part, tuple):
        for each in part:
            if dataclasses.is_dataclass(each):
                _fill(each, target.add())
            else:
                target.append(each)
    elif isinstance(part, datetime):
        target.FromDatetime(part)
    elif dataclasses.is_dataclass(part):
        target.SetInParent()
        _fill(part, target)
    else:
        setattr(message, field.name, part)
