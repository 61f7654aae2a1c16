"""What is wrong with a recipe, in a sentence. Needs no torch."""

import difflib
import json
import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lookalike_trainer.training.recipe_keys import known_prefix

_NO_SECTION = ("model_type", "model_attributes_type", "dict_type")


def explain(error: ValidationError) -> str:
    """The first key that is wrong, what it got, what it must be, and what comes nearest."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for problem in error.errors():
        by_key.setdefault(known_prefix(problem["loc"]) or "recipe", []).append(problem)
    key, problems = next(iter(by_key.items()))
    wanted = " or ".join(dict.fromkeys(_wanted(problem) for problem in problems))
    got = "" if isinstance(problems[0]["input"], dict) else f" got {json.dumps(problems[0]['input'], ensure_ascii=False)}:"
    return f"recipe key `{key}`{got} {wanted}{_nearest(problems)}"


def _wanted(problem: ErrorDetails) -> str:
    if problem["type"] in _NO_SECTION:
        return "it must be a section with keys of its own"
    if problem["type"] == "missing":
        return f"`{problem['loc'][-1]}` is missing"
    return problem["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")


def _nearest(problems: list[ErrorDetails]) -> str:
    """The bound of the range that was left, or the word that is spelt most alike."""
    contexts = [problem.get("ctx", {}) for problem in problems]
    bounds = [context[bound] for context in contexts for bound in ("ge", "le") if bound in context]
    if bounds:
        return f"; nearest is `{bounds[0]}`"
    words = [word for context in contexts for word in re.findall(r"'([^']*)'", str(context.get("expected", "")))]
    near = difflib.get_close_matches(str(problems[0]["input"]), words, n=1)
    return f"; nearest is `{near[0]}`" if near else ""
