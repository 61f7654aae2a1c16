"""Filters as conditions of SQL on the table `item`: true or false, never NULL. What a caller sent is bound, never part of the SQL.

JSON functions of SQLite end a text at its first NUL and do not promise the nearest double: numbers, and texts of a payload with a NUL, are
read by `value_at`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from lookalike_indexer.filters import COLUMNS, AllOf, AnyOf, Bound, Exists, Filter, Not, OneOf, Path, Prefix, Range

Bindable = str | bytes | float
_EVERYTHING = "1"
_NOTHING = "0"


class Condition(NamedTuple):
    """SQL that may stand behind WHERE, and the values of its question marks."""

    sql: str
    values: tuple[Bindable, ...] = ()


class Grouping(NamedTuple):
    """SQL of the kind (`NUMBER`, `TEXT`, `TRUTH`, NULL if it is missing, an object or a list) and the value of a field, what to group by,
    and the values of the question marks of `kind` and `value`, in this order.
    """

    kind: str
    value: str
    group: str
    values: tuple[Bindable, ...] = ()


NUMBER, TEXT, TRUTH = 0, 1, 2


def register(connection: sqlite3.Connection) -> None:
    """Give a connection the function that conditions call."""
    connection.create_function("value_at", 2, _value_at, deterministic=True)


def condition(item_filter: Filter | None) -> Condition:
    """Return the condition that holds for the items that meet a filter; None is met by all."""
    match item_filter:
        case None:
            return Condition(_EVERYTHING)
        case AllOf(filters):
            return _joined(" AND ", [condition(each) for each in filters])
        case AnyOf(filters):
            return _joined(" OR ", [condition(each) for each in filters])
        case Not(inner):
            negated = condition(inner)
            return Condition(f"NOT ({negated.sql})", negated.values)
        case _:
            return _on_column(item_filter) if item_filter.path[0] in COLUMNS else _on_payload(item_filter)


def grouping(path: Path) -> Grouping:
    """Return how to tell the values of a field apart."""
    if path[0] in COLUMNS:
        column = COLUMNS[COLUMNS.index(path[0])]
        return Grouping(f"CASE WHEN {column} <> '' THEN {TEXT} END", column, column)
    place, keys = _json_path(path[1:]), _keys(path[1:])
    kinds = {"integer": NUMBER, "real": NUMBER, "text": TEXT, "true": TRUTH, "false": TRUTH}
    cases = " ".join(f"WHEN '{name}' THEN {number}" for name, number in kinds.items())
    kind = f"CASE {_TYPE} {cases} END"
    value = f"CASE WHEN {_TYPE} IN ('true', 'false') THEN {_TYPE} = 'true' ELSE coalesce(({_NUMBER}), ({_TEXT})) END"
    return Grouping(kind, value, "kind, value", (place, place, place, place, keys, place, keys, place))


def _joined(word: str, conditions: Sequence[Condition]) -> Condition:
    sql = word.join(f"({each.sql})" for each in conditions)
    return Condition(sql, tuple(value for each in conditions for value in each.values))


def _on_column(leaf: OneOf | Range | Exists | Prefix) -> Condition:
    column = COLUMNS[COLUMNS.index(leaf.path[0])]
    match leaf:
        case OneOf(_, values):
            texts = [value for value in values if isinstance(value, str) and value]
            return Condition(f"{column} IN ({_marks(texts)})", tuple(texts))
        case Prefix(_, prefix):
            return Condition(f"{column} <> '' AND {_begins(column)}", _beginning(prefix))
        case Exists():
            return Condition(f"{column} <> ''")
        case Range():
            return Condition(_NOTHING)


# A payload that is empty is no JSON.
_JSON = "nullif(payload, '')"
_TYPE = f"json_type({_JSON}, ?)"
_TEXT = (
    f"CASE WHEN {_TYPE} = 'text' THEN CASE WHEN instr(payload, '\\u0000') THEN value_at(payload, ?) ELSE json_extract(payload, ?) END END"
)
_NUMBER = f"CASE WHEN {_TYPE} IN ('integer', 'real') THEN value_at(payload, ?) END"


def _on_payload(leaf: OneOf | Range | Exists | Prefix) -> Condition:
    place = _json_path(leaf.path[1:])
    match leaf:
        case OneOf(_, values):
            return _one_of(place, leaf.path[1:], values)
        case Range(_, lower, upper):
            return _joined(" AND ", [_bounded(place, leaf.path[1:], ">", lower), _bounded(place, leaf.path[1:], "<", upper)])
        case Exists():
            return Condition(f"coalesce({_TYPE}, 'null') <> 'null'", (place,))
        case Prefix(path, prefix):
            return Condition(f"coalesce({_begins(_TEXT)}, 0)", (place, _keys(path[1:]), place, *_beginning(prefix)))


def _one_of(place: str, path: Path, values: Sequence[str | float | bool]) -> Condition:
    truths = ["true" if value else "false" for value in values if isinstance(value, bool)]
    numbers = [value for value in values if isinstance(value, float)]
    texts = [value for value in values if isinstance(value, str)]
    kinds: list[tuple[Sequence[Bindable], str, tuple[Bindable, ...]]] = [
        (texts, f"({_TEXT}) IN ({_marks(texts)})", (place, _keys(path), place)),
        (numbers, f"({_NUMBER}) IN ({_marks(numbers)})", (place, _keys(path))),
        (truths, f"{_TYPE} IN ({_marks(truths)})", (place,)),
    ]
    return _joined(" OR ", [Condition(f"coalesce({sql}, 0)", (*bound, *given)) for given, sql, bound in kinds if given])


def _bounded(place: str, path: Path, sign: str, bound: Bound | None) -> Condition:
    if bound is None:
        return Condition(_EVERYTHING)
    comparison = sign + ("=" if bound.inclusive else "")
    return Condition(f"coalesce(({_NUMBER}) {comparison} ?, 0)", (place, _keys(path), bound.value))


def _begins(text: str) -> str:
    return f"substr(CAST({text} AS BLOB), 1, ?) = ?"


def _beginning(prefix: str) -> tuple[int, bytes]:
    return len(prefix.encode()), prefix.encode()


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _json_path(keys: Path) -> str:
    # Nothing in a key needs escaping within quotes: quotes, backslashes and control characters are not let in.
    return "$" + "".join(f'."{key}"' for key in keys)


def _keys(keys: Path) -> str:
    return ".".join(keys)


def _value_at(payload: str, keys: str) -> str | float:
    """Return the text or number that is known to be there."""
    value = json.loads(payload)
    for key in keys.split("."):
        value = value[key]
    return value if isinstance(value, str) else float(value)
