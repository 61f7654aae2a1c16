"""Resource names as people write them: `shoes` or `models/shoes`, checked before any server is asked."""

from __future__ import annotations

import re

from lookalike._exceptions import InputError

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_RULE = "1 to 63 lower-case letters, digits, '.', '_' or '-', the first a letter or digit, no '..'"


def resource_id(kind: str, value: str) -> str:
    """Return the id in `value`, which is an id or `<kind>/<id>`; raises InputError for anything else.

    `kind` is a plural such as `collections`.
    """
    name = value.removeprefix(f"{kind}/")
    if not _ID.fullmatch(name) or ".." in name:
        raise InputError(f"{value!r} is no name for one of the {kind}: {_RULE}", reason="BAD_NAME", metadata={"name": value})
    return name


def resource_name(kind: str, value: str) -> str:
    """Return `<kind>/<id>` for an id or such a name; raises InputError for anything else."""
    return f"{kind}/{resource_id(kind, value)}"


def numbered_name(kind: str, part: str, value: str) -> str:
    """Return `<kind>/<id>` or `<kind>/<id>/<part>/<number>` for an id or such a name; raises InputError for anything else."""
    head, slash, number = value.partition(f"/{part}/")
    if slash and not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise InputError(f"{value!r} has no number from 1 behind {part}/", reason="BAD_NAME", metadata={"name": value})
    return f"{resource_name(kind, head)}{slash}{number}"


def build_name(value: str) -> str:
    """Return `collections/<id>/builds/<number>` for such a name or `<id>/<number>`; raises InputError for anything else."""
    found = re.fullmatch(r"([^/]+)/(?:builds/)?([1-9][0-9]{0,8})", value.removeprefix("collections/"))
    if found is None:
        raise InputError(
            f"{value!r} names no build: write COLLECTION/NUMBER, such as photos/3", reason="BAD_NAME", metadata={"name": value}
        )
    return f"{resource_name('collections', found[1])}/builds/{found[2]}"


def version_name(value: str) -> str:
    """Return `models/<id>`, `models/<id>/versions/<number>` or `models/<id>@<alias>` for a model as people write it; raises InputError."""
    head, at, alias = value.partition("@")
    if not at:
        return numbered_name("models", "versions", value)
    return f"{resource_name('models', head)}@{resource_id('aliases', alias)}"
