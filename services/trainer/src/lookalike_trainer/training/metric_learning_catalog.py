"""What pytorch-metric-learning offers, read from its source: importing it would bring torch into the service.

Losses, miners and distances by name, and what each may be told. The arguments of a class are those of its `__init__` and,
where that passes others on, of its bases.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Kind = Literal["losses", "miners", "distances"]

_FILLED_IN = {"num_classes", "embedding_size", "descriptors_dim", "l"}
_OBJECTS = {
    "distance",
    "reducer",
    "collect_stats",
    "embedding_regularizer",
    "weight_regularizer",
    "weight_init_func",
    "embedding_reg_weight",  # does nothing without its regularizer
    "weight_reg_weight",
}
_NEEDS_ANOTHER = {"loss", "losses", "mat_based_loss", "distance"}
_NO_USE: dict[str, str] = {
    "VICRegLoss": "it compares two views of each picture, and a batch holds one",
    "EmbeddingsAlreadyPackagedAsTriplets": "a batch is not packaged as triplets",
}


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """Those that a recipe may name."""
    exported = _exported(kind)
    return tuple(sorted(name for name in exported if name not in _NO_USE and not _is_unfinished(name)))


@cache
def parameters(name: str) -> tuple[str, ...]:
    """What a loss, miner or distance may be told in a recipe."""
    return tuple(sorted(each for each in _arguments(name) if each not in _FILLED_IN | _OBJECTS))


def filled_in(name: str) -> tuple[str, ...]:
    """Arguments that must be given and follow from the data and the network: numbers of classes and widths."""
    return tuple(each for each, required in _arguments(name).items() if required and each in _FILLED_IN)


def check_name(kind: Kind, name: str) -> str:
    """Return `name` if there is such a loss, miner or distance.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name in names(kind):
        return name
    if name in _NO_USE:
        raise ValueError(f"it cannot be used here: {_NO_USE[name]}")
    raise ValueError(f"it must be one of pytorch-metric-learning's {kind}{_nearest(name, names(kind))}")


def check_parameters(kind: Kind, name: str, key: str, given: Mapping[str, object]) -> None:
    """Check the names of arguments.

    Args:
        key: where they stand in the recipe, for the message.

    Raises:
        ValueError: `name` has no such argument (the message names the nearest), or lacks one that it needs.
    """
    known = parameters(name)
    for parameter, value in given.items():
        if parameter not in known:
            raise ValueError(f"{key}.{parameter} (it got {value!r}) is no parameter of {name}{_nearest(parameter, known)}")
    needed = [each for each, required in _arguments(name).items() if required and each in known and each not in given]
    if needed:
        raise ValueError(f"{key}.{needed[0]} is missing: {name} cannot do without it ({kind} of pytorch-metric-learning)")


def _nearest(word: str, known: Iterable[str]) -> str:
    every = list(known)
    lowered = {each.lower(): each for each in every}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.4)
    if near:
        return f"; nearest is `{lowered[near[0]]}`"
    return f"; there are: {', '.join(every)}" if every else "; it has none"


def _is_unfinished(name: str) -> bool:
    """Base classes, and those that only wrap others."""
    needed = {argument for argument, required in _arguments(name).items() if required}
    return name.startswith("Base") or name.endswith("Mixin") or bool(needed & _NEEDS_ANOTHER)


@cache
def _folder() -> Path:
    spec = find_spec("pytorch_metric_learning")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pytorch-metric-learning is not installed")
    return Path(spec.submodule_search_locations[0])


@cache
def _exported(kind: Kind) -> tuple[str, ...]:
    tree = ast.parse((_folder() / kind / "__init__.py").read_text(encoding="utf-8"))
    return tuple(alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names)


@cache
def _classes() -> dict[str, ast.ClassDef]:
    folders = ("losses", "miners", "distances", "utils")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for each in folders for file in sorted((_folder() / each).glob("*.py"))]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


@cache
def _arguments(name: str) -> dict[str, bool]:
    """Arguments by name, and whether each must be given."""
    definition = _classes().get(name)
    if definition is None:
        return {}
    own = [node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    found = _signature(own[0].args) if own else {}
    if not own or own[0].args.kwarg is not None:
        settled = _settled(own[0]) if own else set()
        for base in definition.bases:
            inherited = _arguments(base.id if isinstance(base, ast.Name) else "")
            found = {**{each: needed for each, needed in inherited.items() if each not in settled - _FILLED_IN}, **found}
    return found


def _settled(initialiser: ast.FunctionDef) -> set[str]:
    """What a class tells its bases itself."""
    calls = [node for node in ast.walk(initialiser) if isinstance(node, ast.Call)]
    to_bases = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"]
    return {keyword.arg for call in to_bases for keyword in call.keywords if keyword.arg}


def _signature(arguments: ast.arguments) -> dict[str, bool]:
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][1:]
    first_default = len(positional) - len(arguments.defaults)
    found = {name: index < first_default for index, name in enumerate(positional)}
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {each.arg: default is None for each, default in keywords}
