"""Names for versions of models that may move from one version to another."""

from dataclasses import dataclass

from lookalike_runtime.errors import Aborted, NotFound, ResourceExhausted
from lookalike_trainer.database import Database

MAX_ALIASES = 100


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """An alias and the number of the version that it names. `etag` is another one after each move."""

    model: str
    alias: str
    number: int
    etag: str

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"models/{self.model}/aliases/{self.alias}"


class ModelAliases:
    """All aliases of one server, in its database; whoever changes them publishes the index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, model: str, alias: str) -> ModelAlias:
        """One alias; raises NotFound (ALIAS_NOT_FOUND)."""
        found = self._find(model, alias)
        if found is None:
            there = ", ".join(each.alias for each in self.of(model)) or "none"
            message = f"models/{model} has no alias {alias!r}; it has: {there}"
            raise NotFound("ALIAS_NOT_FOUND", message, metadata={"alias": f"models/{model}/aliases/{alias}"})
        return found

    def of(self, model: str) -> list[ModelAlias]:
        """The aliases of a model, by name."""
        rows = self._database.rows("SELECT * FROM model_aliases WHERE model = ? ORDER BY alias", model)
        return [ModelAlias(*row) for row in rows]

    def naming(self, model: str, number: int | None) -> list[ModelAlias]:
        """The aliases that name a version, or any version of a model."""
        return [each for each in self.of(model) if number is None or each.number == number]

    def set(self, model: str, alias: str, number: int, etag: str) -> ModelAlias:
        """Make an alias name a version, which must be there.

        Raises:
            Aborted: the alias has another etag than the one that is given, if one is (ETAG_MISMATCH).
            ResourceExhausted: the model has too many already (TOO_MANY_ALIASES).
        """
        with self._database.transaction() as connection:
            found = self._find(model, alias)
            _check_etag(model, alias, found, etag)
            if found is None and len(self.of(model)) >= MAX_ALIASES:
                raise ResourceExhausted("TOO_MANY_ALIASES", f"models/{model} has {MAX_ALIASES} aliases already: delete one")
            if found is None or found.number != number:
                changed = str(self._database.next_number("alias", f"{model}/{alias}"))
                connection.execute("INSERT OR REPLACE INTO model_aliases VALUES (?, ?, ?, ?)", (model, alias, number, changed))
        return self.get(model, alias)

    def delete(self, model: str, alias: str, etag: str) -> None:
        """Delete an alias.

        Raises:
            NotFound: there is none (ALIAS_NOT_FOUND).
            Aborted: it has another etag than the one that is given, if one is (ETAG_MISMATCH).
        """
        with self._database.transaction() as connection:
            _check_etag(model, alias, self.get(model, alias), etag)
            connection.execute("DELETE FROM model_aliases WHERE model = ? AND alias = ?", (model, alias))

    def _find(self, model: str, alias: str) -> ModelAlias | None:
        row = self._database.row("SELECT * FROM model_aliases WHERE model = ? AND alias = ?", model, alias)
        return ModelAlias(*row) if row else None


def _check_etag(model: str, alias: str, found: ModelAlias | None, etag: str) -> None:
    if etag and (found is None or found.etag != etag):
        now = f"names version {found.number} with etag {found.etag!r}" if found else "is not there any more"
        message = f"models/{model}@{alias} has changed since etag {etag!r} was read, it {now}: look again"
        raise Aborted("ETAG_MISMATCH", message, metadata={"alias": f"models/{model}/aliases/{alias}", "etag": found.etag if found else ""})
