"""Which version each alias answers with on this replica: the one that the registry says, once it is proven here."""

from __future__ import annotations

from typing import NamedTuple

from lookalike_model.registry import Index


class Alias(NamedTuple):
    """`models/M@A`."""

    model: str
    name: str


class AliasTable:
    """An alias that moves goes on answering with the version it had, until it is switched to the one it has now."""

    def __init__(self) -> None:
        self._published: dict[Alias, int] = {}
        self._answering: dict[Alias, int] = {}

    def update(self, index: Index) -> None:
        """Take over what the registry says. A new alias answers with its version at once, for it has no other."""
        self._published = {
            Alias(model, name): int(number) for model, entry in index.models.items() for name, number in entry.aliases.items()
        }
        self._answering = {alias: self._answering.get(alias, number) for alias, number in self._published.items()}

    def answering(self, alias: Alias) -> int | None:
        """The number of the version that it answers with; None if there is no such alias."""
        return self._answering.get(alias)

    def published(self, alias: Alias) -> int | None:
        """The number of the version that it names in the registry; None if there is no such alias."""
        return self._published.get(alias)

    def moves(self) -> dict[Alias, int]:
        """Aliases that wait for the version that they name now."""
        return {alias: number for alias, number in self._published.items() if self._answering[alias] != number}

    def switch(self, alias: Alias, number: int) -> None:
        """Answer with another version from now on, if the alias still names it."""
        if self._published.get(alias) == number:
            self._answering[alias] = number

    def named(self) -> set[tuple[str, int]]:
        """Model and number of each version that an alias names."""
        return {(alias.model, number) for alias, number in self._published.items()}

    def answered_by(self, model: str, number: int) -> list[str]:
        """Aliases that answer with a version."""
        return sorted(alias.name for alias, answering in self._answering.items() if (alias.model, answering) == (model, number))

    def waiting_for(self, model: str, number: int) -> list[str]:
        """Aliases that name a version, and do not answer with it yet."""
        return sorted(alias.name for alias, named in self.moves().items() if (alias.model, named) == (model, number))
