"""Shipped recipes by name, and overrides by dotted keys. Needs no torch."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.recipe import Recipe

DEFAULT_RECIPE = "normalised-softmax"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("lookalike_trainer.training") / "recipes"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_recipe(name: str | None = None, overrides: Mapping[str, str] | None = None) -> Recipe:
    """A shipped recipe with some of its values replaced.

    Args:
        name: the default recipe if None or empty.
        overrides: dotted key to value as TOML would write it; text needs no quotes.

    Raises:
        JobError: UNKNOWN_RECIPE, or INVALID_RECIPE naming the key, what it got, and what comes nearest.
    """
    name = name or DEFAULT_RECIPE
    if name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise JobError(Reason.UNKNOWN_RECIPE, f"there is no recipe `{name}`; {hint}There are: {', '.join(recipe_names())}")
    file = resources.files("lookalike_trainer.training") / "recipes" / f"{name}.toml"
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    for key, value in (overrides or {}).items():
        _put(document, key, _parse(value))
    try:
        return Recipe.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise JobError(Reason.INVALID_RECIPE, _explain(error)) from error


def recipe_keys() -> list[str]:
    """Every dotted key that a recipe may have."""
    return list(_leaves(Recipe))


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    if key not in recipe_keys():
        near = difflib.get_close_matches(key, recipe_keys(), n=1) or _same_ending(last) or recipe_keys()[:1]
        raise JobError(Reason.INVALID_RECIPE, f"`{key}` is no key of a recipe (it got {value!r}); nearest is `{near[0]}`")
    for section in sections:
        document = document.setdefault(section, {})
    document[last] = value


def _same_ending(last: str) -> list[str]:
    endings = {key.rpartition(".")[2]: key for key in recipe_keys()}
    return [endings[near] for near in difflib.get_close_matches(last, endings, n=1)]


def _parse(value: str) -> Any:
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        kinds = get_args(field.annotation) if get_origin(field.annotation) is UnionType else (field.annotation,)
        nested = [kind for kind in kinds if _is_section(kind)]
        if nested:
            yield from _leaves(nested[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _explain(error: ValidationError) -> str:
    by_key: dict[str, list[ErrorDetails]] = {}
    for problem in error.errors():
        by_key.setdefault(_key(problem), []).append(problem)
    key, problems = next(iter(by_key.items()))
    wanted = " or ".join(dict.fromkeys(_wanted(problem) for problem in problems))
    got = "" if isinstance(problems[0]["input"], dict) else f" got {json.dumps(problems[0]['input'], ensure_ascii=False)}:"
    return f"recipe key `{key}`{got} {wanted}{_nearest(problems)}"


def _key(problem: ErrorDetails) -> str:
    """The dotted key of a problem, without the names that pydantic gives to the members of a union."""
    sections = {key.rpartition(".")[0] for key in recipe_keys()}
    known, path = {*recipe_keys(), *sections}, ""
    for part in problem["loc"]:
        longer = f"{path}.{part}".lstrip(".")
        if longer not in known:
            break
        path = longer
    return path or "recipe"


def _wanted(problem: ErrorDetails) -> str:
    return problem["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")


def _nearest(problems: list[ErrorDetails]) -> str:
    """The bound of the range that was left, or the word that is spelt most alike."""
    contexts = [problem.get("ctx", {}) for problem in problems]
    bounds = [context[bound] for context in contexts for bound in ("ge", "le") if bound in context]
    if bounds:
        return f"; nearest is `{bounds[0]}`"
    words = [word.strip("'") for context in contexts for word in str(context.get("expected", "")).split()]
    near = difflib.get_close_matches(str(problems[0]["input"]), words, n=1)
    return f"; nearest is `{near[0]}`" if near else ""
