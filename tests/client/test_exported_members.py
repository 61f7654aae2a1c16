"""The public surface is what `__all__` says, and nothing else."""

from __future__ import annotations

import types

import lookalike
from lookalike import workflows


def test_all_names_every_public_member() -> None:
    for module in (lookalike, workflows):
        members = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        public = {name for name, value in members.items() if not isinstance(value, types.ModuleType)}
        if module is lookalike:
            public |= {"filters", "workflows", "__version__"}
        assert set(module.__all__) == public
        assert len(module.__all__) == len(set(module.__all__))


def test_every_exported_class_has_a_docstring_of_its_own() -> None:
    for name in lookalike.__all__:
        value = getattr(lookalike, name)
        if isinstance(value, type):
            assert value.__doc__, name
