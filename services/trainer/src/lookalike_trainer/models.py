"""Models and their versions: numbered here, published in the registry, never changed."""

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from threading import RLock

from lookalike_model import registry
from lookalike_model.registry import Index, PublishedProfile, RegistryError, RegistryReader
from lookalike_runtime.errors import DataLoss, FailedPrecondition, NotFound
from lookalike_trainer.database import Database
from lookalike_trainer.jobs import Jobs
from lookalike_trainer.model_aliases import ModelAlias, ModelAliases
from lookalike_trainer.outcome import Result


class Origin(StrEnum):
    """How a version's network came to be; the names are those of the proto."""

    TRAINED = "TRAINED"
    IMPORTED = "IMPORTED"
    ENSEMBLE = "ENSEMBLE"


@dataclass(frozen=True, slots=True)
class Making:
    """Where a version comes from: the job, the model it belongs to, and what it was trained on (empty if imported)."""

    job: str
    model: str
    origin: Origin
    dataset_fingerprint: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A published version. `size` is in bytes, `create_time` in seconds since 1970, `path` below the registry's URL."""

    model: str
    number: int
    job: str
    origin: Origin
    path: str
    manifest_sha256: str
    result: Result
    dataset_fingerprint: str
    size: int
    create_time: float

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"models/{self.model}/versions/{self.number}"

    def published(self) -> registry.Version:
        """The version as embedders read it."""
        return registry.Version(
            path=self.path,
            manifest_sha256=self.manifest_sha256,
            create_time=datetime.fromtimestamp(self.create_time, UTC).isoformat().replace("+00:00", "Z"),
            default_profile=self.result.default_profile,
            profiles={name: PublishedProfile(fingerprint=p.fingerprint, dim=p.dim) for name, p in self.result.profiles.items()},
        )


class Models:
    """All models of one server, the only one that writes its registry.

    Attributes:
        aliases: names that move between versions; change them here, where they are published too.
    """

    def __init__(self, database: Database, jobs: Jobs, url: str, cache: Path) -> None:
        """`cache` is a folder for bundles fetched from a registry elsewhere."""
        self._database = database
        self._jobs = jobs
        self._url = url
        self._cache = cache
        self._publishing = RLock()
        self.aliases = ModelAliases(database)

    def publish(self, making: Making, bundle: Path, result: Result) -> ModelVersion:
        """Publish a bundle as the next version of its model.

        What the storage raises comes through; nothing is published then.
        """
        path = f"bundles/{making.job}"
        with self._publishing:
            registry.remove_bundle(self._url, path)  # of a start that the server did not survive
            digest = registry.publish_bundle(bundle, self._url, making.job)
            size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
            number = self._database.next_number("model", making.model)
            version = ModelVersion(
                making.model, number, making.job, making.origin, path, digest, result, making.dataset_fingerprint, size, time.time()
            )
            self._insert(version)
            try:
                self.publish_index()
            except BaseException:
                self._forget(making.model, number)
                registry.remove_bundle(self._url, path)
                raise
        return version

    def publish_index(self) -> None:
        """Bring `registry.json` up to what the database says, then remove the bundles of deleted versions."""
        with self._publishing:
            models: dict[str, registry.Model] = {}
            for row in self._database.rows("SELECT * FROM versions ORDER BY model, number"):
                version = _version(row)
                if version.model not in models:
                    aliases = {each.alias: str(each.number) for each in self.aliases.of(version.model)}
                    models[version.model] = registry.Model(aliases=aliases, versions={})
                model = models[version.model]
                model.versions[str(version.number)] = version.published()
            if self._published() != models:
                registry.write_index(self._url, Index(sequence=self._database.next_number("index", ""), models=models))
            for row in self._database.rows("SELECT path FROM removed_bundles"):
                registry.remove_bundle(self._url, row["path"])
                with self._database.transaction() as connection:
                    connection.execute("DELETE FROM removed_bundles WHERE path = ?", (row["path"],))

    def get(self, model: str, number: int | None) -> ModelVersion:
        """One version, or the newest for None; raises NotFound (MODEL_NOT_FOUND)."""
        query = "SELECT * FROM versions WHERE model = ?1 AND (?2 IS NULL OR number = ?2) ORDER BY number DESC LIMIT 1"
        row = self._database.row(query, model, number)
        if row is None:
            name = f"models/{model}" + (f"/versions/{number}" if number else "")
            raise NotFound("MODEL_NOT_FOUND", f"there is no {name}: list the models to see which there are", metadata={"model": name})
        return _version(row)

    def made_by(self, job: str) -> ModelVersion | None:
        """The version that a job made."""
        row = self._database.row("SELECT * FROM versions WHERE job = ?", job)
        return _version(row) if row else None

    def page(self, after: str, size: int) -> list[tuple[ModelVersion, int]]:
        """The newest versions of at most `size` models whose names come after `after`, by name, each with how many there are."""
        # Beside max(), SQLite takes the other columns from the row that holds the maximum.
        query = """
            SELECT *, max(number), count(*) AS versions FROM versions WHERE model > ? GROUP BY model ORDER BY model LIMIT ?
        """
        return [(_version(row), row["versions"]) for row in self._database.rows(query, after, size)]

    def versions(self, model: str, before: int | None, size: int) -> list[ModelVersion]:
        """At most `size` versions, newest first, whose number is below `before`; raises NotFound (MODEL_NOT_FOUND)."""
        self.get(model, None)
        query = "SELECT * FROM versions WHERE model = ? AND number < ? ORDER BY number DESC LIMIT ?"
        return [_version(row) for row in self._database.rows(query, model, before or 1 << 62, size)]

    def bundle(self, model: str, number: int) -> Path:
        """A version's bundle as a local folder, every checksum compared.

        Raises:
            NotFound: no such version (MODEL_NOT_FOUND).
            DataLoss: a file is missing or was changed (BUNDLE_DAMAGED).
        """
        self._cache.mkdir(parents=True, exist_ok=True)
        version = self.get(model, number)
        try:
            return RegistryReader(self._url).fetch(version.published(), self._cache)
        except RegistryError as error:
            raise DataLoss(
                "BUNDLE_DAMAGED", f"{version.name} is not what was published: {error}", metadata={"name": version.name}
            ) from error

    def set_alias(self, model: str, alias: str, number: int, etag: str = "") -> ModelAlias:
        """Make an alias name a version, and publish that.

        Raises:
            NotFound: no such version (MODEL_NOT_FOUND).
            Aborted: it has another etag than the one that is given, if one is (ETAG_MISMATCH).
            ResourceExhausted: the model has too many aliases already (TOO_MANY_ALIASES).
        """
        with self._publishing:
            with self._database.transaction():
                self.get(model, number)
                made = self.aliases.set(model, alias, number, etag)
            self.publish_index()
        return made

    def delete_alias(self, model: str, alias: str, etag: str = "") -> None:
        """Delete an alias, and publish that; raises as `ModelAliases.delete` does."""
        with self._publishing:
            self.aliases.delete(model, alias, etag)
            self.publish_index()

    def delete(self, model: str, number: int | None, *, force: bool = False) -> None:
        """Delete one version, or all for None: first from `registry.json`, then its files. With `force` aliases that name it go with it.

        Raises:
            NotFound: no such model or version (MODEL_NOT_FOUND).
            FailedPrecondition: a job that has not ended starts from it (MODEL_IN_USE), or an alias names it (MODEL_ALIASED).
        """
        with self._publishing:
            with self._database.transaction() as connection:
                self.get(model, number)
                self._release(model, number, force=force)
                if uid := self._jobs.using_model(model, number):
                    name = f"models/{model}" + (f"/versions/{number}" if number else "")
                    message = f"jobs/{uid} starts from {name}: wait for it or cancel it"
                    raise FailedPrecondition("MODEL_IN_USE", message, metadata={"job": f"jobs/{uid}"})
                gone = "DELETE FROM versions WHERE model = ?1 AND (?2 IS NULL OR number = ?2) RETURNING path"
                paths = connection.execute(gone, (model, number)).fetchall()
                connection.executemany("INSERT INTO removed_bundles VALUES (?)", [tuple(row) for row in paths])
            self.publish_index()

    def _release(self, model: str, number: int | None, *, force: bool) -> None:
        naming = self.aliases.naming(model, number)
        if naming and not force:
            named = ", ".join(f"models/{model}@{each.alias}" for each in naming)
            message = f"{named} names it: move or delete the alias, or force the deletion"
            raise FailedPrecondition("MODEL_ALIASED", message, metadata={"alias": naming[0].name})
        for each in naming:
            self.aliases.delete(model, each.alias, "")

    def _published(self) -> dict[str, registry.Model] | None:
        try:
            return dict(RegistryReader(self._url).index().models)
        except RegistryError:
            return None  # what cannot be read is written anew

    def _insert(self, version: ModelVersion) -> None:
        values = [getattr(version, name) for name in ModelVersion.__slots__]
        values[ModelVersion.__slots__.index("result")] = version.result.model_dump_json()
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _forget(self, model: str, number: int) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM versions WHERE model = ? AND number = ?", (model, number))


def _version(row: sqlite3.Row) -> ModelVersion:
    return ModelVersion(
        row["model"],
        row["number"],
        row["job"],
        Origin(row["origin"]),
        row["path"],
        row["manifest_sha256"],
        Result.model_validate_json(row["result"]),
        row["dataset_fingerprint"],
        row["bytes"],
        row["create_time"],
    )
