"""Conditions on items, as they are written on the command line.

```
condition = ["!"] field ("?" | operator value {"|" value})
field     = "id" | "label" | "uri" | "payload" "." key {"." key}
operator  = "=" | "!=" | "^=" | "<" | "<=" | ">" | ">="
value     = JSON text in double quotes | number | "true" | "false" | other text
```

`!` negates what follows it. `^=` asks for a beginning. Several values mean any of them; `<` and its like take one, a number. `id`, `label`
and `uri` are texts, so that each value of theirs is one too. Spaces around each part count for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NoReturn

from lookalike import filters
from lookalike._exceptions import InputError

_HEAD = re.compile(r"\s*(?P<negated>!?)\s*(?P<field>[^=!<>^?]*?)\s*(?P<operator>[!^<>]?=|[<>?])")
_FIELD = re.compile(r"(?P<column>id|label|uri)|payload(?:\.[^.\"\\\x00-\x1f]+)+")
_VALUE = re.compile(r"\s*(?:(?P<quoted>\"(?:[^\"\\]|\\.)*\")|(?P<bare>[^\s\"=!<>|](?:[^|]*[^|\s])?))\s*(?:(?P<more>\|)|$)")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_BOUNDS = {"<": "below", "<=": "at_most", ">": "above", ">=": "at_least"}
_SHOWN = 100


def wanted(labels: Sequence[str] | None, conditions: Sequence[str] | None) -> filters.Filter | None:
    """Return the filter that has one of `labels`, if there are any, and meets all `conditions`; None where nothing is asked.

    Raises InputError for a condition that cannot be read.
    """
    parts = [parse_condition(each) for each in conditions or ()]
    if labels:
        parts.insert(0, filters.OneOf("label", labels))
    return parts[0] if len(parts) == 1 else filters.AllOf(tuple(parts)) if parts else None


def parse_condition(text: str) -> filters.Filter:
    """Return the filter that a condition means; raises InputError that names the place and an example."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        _refuse(text, error.start, "this is no UTF-8", "label=shoe")
    head = _HEAD.match(text)
    if head is None:
        begun = re.match(r"\s*!?[^=!<>^?]*", text)
        _refuse(text, begun.end() if begun else 0, "here one of = != ^= < <= > >= ? must follow", "label=shoe or payload.sold?")
    field = _FIELD.fullmatch(head["field"])
    if field is None:
        said = f"{head['field']!r} is no field: it is id, label, uri or payload.KEY"
        _refuse(text, head.start("field"), said, f"payload.price{head['operator']}{'' if head['operator'] == '?' else '100'}")
    found = _asked(text, head, is_text=field["column"] is not None)
    return ~found if head["negated"] else found


def _asked(text: str, head: re.Match[str], *, is_text: bool) -> filters.Filter:
    """Return what the operator asks of the field, before any `!`."""
    path, operator = head["field"], head["operator"]
    if operator == "?":
        if text[head.end() :].strip():
            _refuse(text, head.end(), "nothing may follow the ?", f"{path}? for any value, {path}=shoe for one")
        return filters.Exists(path)
    if operator in _BOUNDS:
        return filters.Range(path, **{_BOUNDS[operator]: _bound(text, head, is_text)})
    values = _values(text, head.end(), path, is_text=is_text or operator == "^=")
    if operator == "^=":
        beginnings = tuple(filters.Prefix(path, str(value)) for value in values)
        return beginnings[0] if len(beginnings) == 1 else filters.AnyOf(beginnings)
    equal = filters.Equals(path, values[0]) if len(values) == 1 else filters.OneOf(path, values)
    return ~equal if operator == "!=" else equal


def _bound(text: str, head: re.Match[str], is_text: bool) -> float:
    if is_text:
        _refuse(text, head.start("operator"), f"{head['field']} is a text, and {head['operator']} compares numbers", "payload.price<100")
    (value, *more) = _values(text, head.end(), head["field"], is_text=False)
    if more or isinstance(value, str | bool):
        _refuse(text, head.end(), f"{head['operator']} takes one number", f"{head['field']}{head['operator']}100")
    return value


def _values(text: str, start: int, path: str, *, is_text: bool) -> list[filters.Value]:
    """Return the values from a place to the end."""
    values: list[filters.Value] = []
    while True:
        part = _VALUE.match(text, start)
        if part is None:
            _refuse_value(text, start, path)
        values.append(_value(text, part, path, is_text))
        if not part["more"]:
            return values
        start = part.end()


def _value(text: str, part: re.Match[str], path: str, is_text: bool) -> filters.Value:
    if part["quoted"] is not None:
        return _unquoted(text, part, path)
    bare = part["bare"]
    if is_text:
        return bare
    if _NUMBER.fullmatch(bare):
        if abs(number := float(bare)) == float("inf"):
            _refuse(text, part.start("bare"), f"{bare} is too large a number", f"{path}=1e308")
        return number
    return {"true": True, "false": False}.get(bare, bare)


def _unquoted(text: str, part: re.Match[str], path: str) -> str:
    try:
        value = str(json.loads(part["quoted"], strict=False))
        value.encode()
    except ValueError:  # half a character is one, too
        said = 'no JSON text: \\ stands only before one of " \\ / b f n r t, or before u with the 4 digits of a character'
        _refuse(text, part.start("quoted"), said, f'{path}="a\\\\b"')
    return value


def _refuse_value(text: str, start: int, path: str) -> NoReturn:
    place = start + len(text[start:]) - len(text[start:].lstrip())
    rest = text[place:]
    if not rest or rest[0] == "|":
        _refuse(text, place, "a value is missing here", f"{path}=shoe, or !{path}? where the field is missing")
    if rest[0] == '"':
        _refuse(text, place, "a text in quotes ends with its second quote, behind which only | may follow", f'{path}="a shoe"|boot')
    _refuse(text, place, f"a value begins with {rest[0]} only if it stands in quotes", f'{path}="{rest[:1]}x", or {path}=shoe')


def _refuse(text: str, place: int, why: str, example: str) -> NoReturn:
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    where = f"at character {place + 1}" if text[place:].strip() else "at its end"
    raise InputError(
        f"--where {shown!r}, {where}: {why}; such as {example}",
        reason="BAD_CONDITION",
        metadata={"condition": text.encode(errors="replace").decode(), "position": str(place)},
    )
