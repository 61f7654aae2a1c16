"""Resource names such as `models/shoes/versions/3`: parsed in one place, so that no name can lead out of its folder."""

from __future__ import annotations

import re

from lookalike_runtime.errors import invalid_field

ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
ID_RULE = "1 to 63 lower-case letters, digits, '.', '_' or '-', the first a letter or digit"


def check_id(field: str, value: str) -> str:
    """Return `value` if it may be the id of a resource; raises InvalidArgument naming `field` otherwise."""
    if not ID.fullmatch(value) or ".." in value:
        raise invalid_field(field, f"{value!r} is no valid name: {ID_RULE}")
    return value


def parse_name(field: str, value: str, *collections: str) -> tuple[str, ...]:
    """Return the ids of a resource name: `parse_name("name", "models/m/versions/3", "models", "versions")` is `("m", "3")`.

    Raises InvalidArgument naming `field` if `value` is not of that form.
    """
    parts = value.split("/")
    if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections:
        pattern = "/".join(f"{collection}/{{{collection[0].upper()}}}" for collection in collections)
        raise invalid_field(field, f"{value!r} is no name of the form {pattern}")
    return tuple(check_id(field, part) for part in parts[1::2])


def parse_number(field: str, value: str) -> int:
    """Return a number that is part of a resource name, from 1; raises InvalidArgument naming `field` otherwise."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise invalid_field(field, f"{value!r} is no number from 1")
    return int(value)


def parse_optional_version(field: str, value: str, parent: str, child: str) -> tuple[str, int | None]:
    """Return id and number of `models/M/versions/V`, or id and None of `models/M`; raises InvalidArgument naming `field` otherwise."""
    if value.count("/") == 1:
        return parse_name(field, value, parent)[0], None
    name, number = parse_name(field, value, parent, child)
    return name, parse_number(field, number)


def parse_model(field: str, value: str) -> tuple[str, int | None, str | None]:
    """Return model, number and alias of `models/M/versions/V` (no alias), `models/M@A` (no number) or `models/M` (neither).

    Raises InvalidArgument naming `field` otherwise.
    """
    head, at, alias = value.partition("@")
    if not at:
        return (*parse_optional_version(field, value, "models", "versions"), None)
    return parse_name(field, head, "models")[0], None, check_id(field, alias)
