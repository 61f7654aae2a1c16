"""Shipped recipes by name, files of one's own that extend them, and overrides by dotted keys. Needs no torch."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import tomli_w
from pydantic import ValidationError

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.recipe_errors import explain
from lookalike_trainer.training.recipe_keys import check_keys, is_key, nearest_key, unknown_key

DEFAULT_RECIPE = "normalised-softmax"
MAX_TEXT_BYTES = 64 << 10
_EXTENDS, _WITHOUT = "extends", "without"
_MAX_DEPTH = 8


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("lookalike_trainer.training") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The file of a shipped recipe.

    Raises:
        JobError: UNKNOWN_RECIPE, naming those there are and what comes nearest.
    """
    if name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise JobError(Reason.UNKNOWN_RECIPE, f"there is no recipe `{name}`; {hint}There are: {', '.join(recipe_names())}")
    return (resources.files("lookalike_trainer.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_recipe(name: str | None = None, overrides: Mapping[str, str] | None = None, text: str | None = None) -> Recipe:
    """A shipped recipe, or one of the user's own, with some of its values replaced.

    Args:
        name: of a shipped one; the default recipe if None or empty.
        overrides: dotted key to value as TOML would write it; text needs no quotes.
        text: a recipe of one's own as TOML, in place of `name`. It stands alone, or has `extends` with the name of a
            shipped one, and then perhaps `without`, a list of sections and keys that it does not take over.

    Raises:
        JobError: UNKNOWN_RECIPE, or INVALID_RECIPE naming the key, what it got, and what comes nearest.
    """
    document = _complete(_parse_file(text) if text else {_EXTENDS: name or DEFAULT_RECIPE})
    for key, value in (overrides or {}).items():
        _put(document, key, _parse(value))
    check_keys(document)
    try:
        return Recipe.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise JobError(Reason.INVALID_RECIPE, explain(error)) from error


def recipe_label(name: str | None, text: str | None) -> str:
    """What a bundle calls the recipe that it was trained with: `NAME`, `NAME+file` for a file that extends it, or `file`."""
    if not text:
        return name or DEFAULT_RECIPE
    base = _parse_file(text).get(_EXTENDS)
    return f"{base}+file" if base else "file"


def extended_by(name: str) -> str | None:
    """The shipped recipe that a shipped one extends, if it does."""
    base: str | None = tomllib.loads(recipe_text(name)).get(_EXTENDS)
    return base


def complete_text(recipe: Recipe) -> str:
    """A recipe with every key that has a value, as TOML; `load_recipe` reads it back."""
    return tomli_w.dumps(json.loads(recipe.model_dump_json(exclude_none=True)))


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """A document with what it extends below it."""
    base, without = document.pop(_EXTENDS, None), document.pop(_WITHOUT, [])
    if base is None:
        if without:
            raise JobError(Reason.INVALID_RECIPE, f"recipe key `without` got {without!r}, but there is no `extends` to leave it out of")
        return document
    if not isinstance(base, str):
        raise JobError(Reason.INVALID_RECIPE, f"recipe key `extends` got {base!r}: it must be the name of a recipe")
    below = _complete(tomllib.loads(recipe_text(base)))
    _leave_out(below, without, base)
    return _merged(below, document)


def _leave_out(document: dict[str, Any], keys: Any, base: str) -> None:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise JobError(Reason.INVALID_RECIPE, f"recipe key `without` got {keys!r}: it must be a list of keys and sections")
    for key in keys:
        *sections, last = key.split(".")
        inside: Any = document
        for section in sections:
            inside = inside.get(section) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            near = difflib.get_close_matches(key, _paths(document), n=1, cutoff=0)
            raise JobError(Reason.INVALID_RECIPE, f"recipe key `without` got {key!r}, which `{base}` does not set; nearest is `{near[0]}`")
        del inside[last]


def _paths(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    paths = []
    for name, value in document.items():
        paths.append(f"{prefix}{name}")
        if isinstance(value, Mapping):
            paths += _paths(value, f"{prefix}{name}.")
    return paths


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections key by key; anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    if not is_key(key):
        raise unknown_key(key, value)
    *sections, last = key.split(".")
    for section in sections:
        inside = document.setdefault(section, {})
        if not isinstance(inside, dict):
            raise JobError(Reason.INVALID_RECIPE, f"`{key}` cannot be set: `{section}` is no section; nearest is `{nearest_key(section)}`")
        document = inside
    document[last] = value


def _parse(value: str) -> Any:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return value


def _parse_file(text: str) -> dict[str, Any]:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise JobError(Reason.INVALID_RECIPE, f"the recipe file has {len(text.encode())} bytes, at most {MAX_TEXT_BYTES} are read")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        cause = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise JobError(Reason.INVALID_RECIPE, f"the recipe file is not TOML: {cause}") from error
    if _depth(document) > _MAX_DEPTH:
        raise JobError(Reason.INVALID_RECIPE, f"the recipe file is nested deeper than {_MAX_DEPTH} levels, and no recipe is")
    return document


def _depth(value: Any) -> int:
    """Levels of tables and lists, counted without recursion."""
    level, depth = [value], 0
    while level := [inner for each in level for inner in _inside(each)]:
        depth += 1
    return depth


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
