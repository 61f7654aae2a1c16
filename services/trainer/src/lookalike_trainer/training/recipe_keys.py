"""The dotted keys that a recipe may have, read from its records. Needs no torch.

A `*` in a key stands for a name of one's own, or for a place in a list.
"""

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe import Recipe


@cache
def recipe_keys() -> tuple[str, ...]:
    """Every key that holds a value."""
    return tuple(_leaves(Recipe, ()))


def check_keys(document: Mapping[str, Any]) -> None:
    """Raise JobError (INVALID_RECIPE), naming the nearest key, if a document has a key that no recipe has."""
    for key, value in _unknown(document, ()):
        raise unknown_key(key, value)


def unknown_key(key: str, value: Any) -> JobError:
    """The error for a key that there is not."""
    return JobError(Reason.INVALID_RECIPE, f"`{key[:200]}` is no key of a recipe (it got {_shown(value)}); nearest is `{nearest_key(key)}`")


def is_key(key: str) -> bool:
    """Whether a value may stand at a dotted key."""
    return any(_matches(pattern, key.split(".")) for pattern in recipe_keys())


def known_prefix(path: tuple[object, ...]) -> str:
    """The longest beginning of a path that is a key or a section; empty if none is."""
    parts = [str(part) for part in path]
    for length in range(len(parts), 0, -1):
        if _is_section(parts[:length]) or any(_matches(pattern, parts[:length]) for pattern in recipe_keys()):
            return ".".join(parts[:length])
    return ""


def nearest_key(key: str) -> str:
    """The key that is spelt most alike, as a whole or by its last part."""
    own = key.split(".")
    known = [_with_names_of(pattern, own) for pattern in recipe_keys()]
    endings = {each.rpartition(".")[2]: each for each in reversed(known)}
    near = difflib.get_close_matches(key, known, n=1)
    by_ending = [endings[each] for each in difflib.get_close_matches(own[-1], endings, n=1)]
    return (near or by_ending or known)[0]


def _leaves(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield from _below(field.annotation, (*prefix, name))


def _below(kind: Any, path: tuple[str, ...]) -> Iterator[str]:
    arguments = get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from _leaves(kind, path)
    elif get_origin(kind) is dict:
        yield from _below(arguments[1], (*path, "*"))
    elif inner := [each for each in arguments if isinstance(each, type) and issubclass(each, BaseModel)]:
        if get_origin(kind) is tuple:
            yield ".".join(path)
            path = (*path, "*")
        yield from _leaves(inner[0], path)
    else:
        yield ".".join(path)


def _unknown(document: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        path = (*prefix, name)
        key = ".".join(path)
        if isinstance(value, Mapping) and (not is_key(key) or _is_section(path)):
            yield from _unknown(value, path)
            if not value and not _is_section(path):
                yield key, value
        elif not is_key(key) and not _is_section(path):
            yield key, value
        elif isinstance(value, list):
            for index, each in enumerate(value):
                if isinstance(each, Mapping):
                    yield from _unknown(each, (*path, str(index)))


def _is_section(path: tuple[str, ...] | list[str]) -> bool:
    return any(len(pattern.split(".")) > len(path) and _matches_beginning(pattern, path) for pattern in recipe_keys())


def _matches(pattern: str, parts: list[str]) -> bool:
    return pattern.count(".") == len(parts) - 1 and _matches_beginning(pattern, parts)


def _matches_beginning(pattern: str, parts: tuple[str, ...] | list[str]) -> bool:
    return all(wanted in ("*", part) for wanted, part in zip(pattern.split("."), parts, strict=False))


def _with_names_of(pattern: str, own: list[str]) -> str:
    """The pattern with the names that a key has in the places of its stars."""
    parts = pattern.split(".")
    return ".".join((own[index] if index < len(own) - 1 else "NAME") if part == "*" else part for index, part in enumerate(parts))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
