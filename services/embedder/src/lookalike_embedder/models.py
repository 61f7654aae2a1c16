"""Which versions are served: what the registry publishes, loaded when needed, proven, given up when room is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import structlog

from lookalike_embedder.loading import NotProven, ProvenModel, ServedProfile
from lookalike_model.registry import Index, Version
from lookalike_runtime.errors import FailedPrecondition, NotFound, ResourceExhausted, ServiceError, Unavailable

log = structlog.get_logger()


class ServingState(Enum):
    """Where a version stands."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Target(NamedTuple):
    """What somebody wants to embed with."""

    model: str
    number: int | None
    """None is the newest."""
    profile: str | None
    """None is the version's default."""
    fingerprint: str | None
    """The space that is expected, if any is."""


@dataclass(slots=True, eq=False)
class ServedVersion:
    """A published version as this replica sees it."""

    model: str
    number: int
    published: Version
    state: ServingState = ServingState.UNLOADED
    proven: ProvenModel | None = None
    error: NotProven | None = None
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)
    loading: asyncio.Task[ServiceError | None] | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"models/{self.model}/versions/{self.number}"

    @property
    def golden_error(self) -> float | None:
        """Largest 1 − cosine on the golden pictures, once they were embedded."""
        if self.error is not None:
            return self.error.golden_error
        return None if self.proven is None else self.proven.golden_error


ReadIndex = Callable[[], Index]
Load = Callable[[str, str, Version], ProvenModel]
ReportHealth = Callable[[str, bool], Awaitable[None]]


class ServedModels:
    """The table of versions. All of it happens on the event loop, apart from reading the registry and loading."""

    def __init__(self, read_index: ReadIndex, load: Load, max_models: int) -> None:
        """`read_index` and `load` block and run in threads; at most `max_models` versions are in memory."""
        self._read_index = read_index
        self._load = load
        self._max_models = max_models
        self._versions: dict[tuple[str, int], ServedVersion] = {}
        self._offered: set[ServedVersion] = set()
        self._one_refresh = asyncio.Lock()
        self._one_load = asyncio.Lock()
        self._report: ReportHealth = _report_to_nobody

    async def run(self, poll_seconds: float, report: ReportHealth) -> None:
        """Follow the registry until cancelled: load the newest version of each model once, forget what is gone."""
        self._report = report
        while True:
            try:
                await self._refresh()
                await self._load_newest()
            except Exception as error:  # each file system has errors of its own; the next round tries again
                log.warning("registry_unreadable", error=str(error))
            await asyncio.sleep(poll_seconds)

    @asynccontextmanager
    async def lease(self, target: Target) -> AsyncIterator[ServedProfile]:
        """Hold a profile, loading its version if it is not in memory; it is not unloaded for room meanwhile.

        Raises NotFound, FailedPrecondition (another space; not proven), ResourceExhausted (no room), Unavailable.
        """
        version = await self.find(target.model, target.number)
        profile = _choose_profile(version, target)
        version.users += 1
        try:
            proven = await self._in_memory(version)
            yield proven.profiles[profile]
        finally:
            version.users -= 1
            version.last_used = time.monotonic()

    async def find(self, model: str, number: int | None) -> ServedVersion:
        """Return a published version, the newest without `number`; looks again before it raises NotFound."""
        found = self._lookup(model, number)
        if found is None:
            await self._refresh_or_unavailable()
            found = self._lookup(model, number)
        if found is None:
            name = f"models/{model}" if number is None else f"models/{model}/versions/{number}"
            raise NotFound("MODEL_NOT_FOUND", f"the registry has no {name}: list the models to see what there is", metadata={"name": name})
        return found

    def in_memory_or_failed(self) -> list[ServedVersion]:
        """Return the versions that are loaded, being loaded or failed, by name."""
        return [version for _, version in sorted(self._versions.items()) if version.state is not ServingState.UNLOADED]

    async def load(self, model: str, number: int | None) -> ServedVersion:
        """Load a version, or try again if it failed; raises as `lease` does."""
        version = await self.find(model, number)
        if version.state is ServingState.FAILED:
            await self._drop(version)
        await self._in_memory(version)
        return version

    async def unload(self, model: str, number: int | None) -> ServedVersion:
        """Give a version's memory back; calls that use it end properly."""
        version = await self.find(model, number)
        if version.loading is not None:
            await asyncio.wait([version.loading])
        await self._drop(version)
        return version

    def _lookup(self, model: str, number: int | None) -> ServedVersion | None:
        if number is None:
            number = dict(sorted(self._versions)).get(model, 0)
        return self._versions.get((model, number))

    async def _refresh_or_unavailable(self) -> None:
        try:
            await self._refresh()
        except Exception as error:
            raise Unavailable("REGISTRY_UNREADABLE", f"the registry cannot be read: {error}", retry_after=1) from error

    async def _refresh(self) -> None:
        """Bring the table in line with the registry."""
        async with self._one_refresh:
            index = await asyncio.to_thread(self._read_index)
            published = {
                (model, int(number)): version for model, entry in index.models.items() for number, version in entry.versions.items()
            }
            for key, known in list(self._versions.items()):
                if published.get(key) != known.published:
                    del self._versions[key]
                    self._offered.discard(known)
                    await self._drop(known)
            for key in published.keys() - self._versions.keys():
                version = self._versions[key] = ServedVersion(*key, published[key])
                await self._report(version.name, False)

    async def _load_newest(self) -> None:
        """Load each model's newest version, if that was not done before; at most as many as there is room for."""
        newest = (self._versions[key] for key in dict(sorted(self._versions)).items())
        fresh = sorted((v for v in newest if v not in self._offered), key=lambda v: v.published.create_time, reverse=True)
        for version in fresh[: self._max_models]:
            try:
                await self._in_memory(version)
            except (NotProven, ResourceExhausted) as error:
                log.warning("model_not_loaded", name=version.name, error=error.message)
            self._offered.add(version)
        self._offered.update(fresh)

    async def _in_memory(self, version: ServedVersion) -> ProvenModel:
        """Return the version's profiles once they are proven; who asks meanwhile waits for the same loading."""
        while version.proven is None:
            if version.error is not None:
                raise version.error.with_traceback(None)
            if version.loading is None:
                version.loading = asyncio.create_task(self._bring_in(version))
            if (obstacle := await asyncio.shield(version.loading)) is not None:
                raise obstacle.with_traceback(None)
        return version.proven

    async def _bring_in(self, version: ServedVersion) -> ServiceError | None:
        """Load and prove a version; returns what keeps it from being loaded now, though it may be later."""
        try:
            async with self._one_load:
                await self._set(version, ServingState.LOADING)
                await self._make_room()
                version.proven = await asyncio.to_thread(self._load, version.model, str(version.number), version.published)
                version.last_used = time.monotonic()
                await self._set(version, ServingState.READY)
        except NotProven as error:
            version.error = error
            await self._set(version, ServingState.FAILED)
        except ResourceExhausted as error:
            await self._set(version, ServingState.UNLOADED)
            return error
        except Exception as error:
            await self._set(version, ServingState.UNLOADED)
            return Unavailable("REGISTRY_UNREADABLE", f"{version.name} cannot be read from the registry: {error}", retry_after=1)
        finally:
            version.loading = None
        return None

    async def _make_room(self) -> None:
        """Unload what was not used for longest until one more fits; raises ResourceExhausted if all are in use."""
        while len(loaded := [v for v in self._versions.values() if v.proven is not None]) >= self._max_models:
            idle = [version for version in loaded if version.users == 0]
            if not idle:
                message = f"all {self._max_models} models in memory are in use: try again later, or start the server with --max-models"
                raise ResourceExhausted("QUEUE_FULL", message, retry_after=5)
            await self._drop(min(idle, key=lambda version: version.last_used))

    async def _drop(self, version: ServedVersion) -> None:
        version.proven = version.error = None
        await self._set(version, ServingState.UNLOADED)

    async def _set(self, version: ServedVersion, state: ServingState) -> None:
        """Note the state and report it; what is no longer published is never reported as serving."""
        version.state = state
        published = self._versions.get((version.model, version.number)) is version
        await self._report(version.name, published and state is ServingState.READY)


async def _report_to_nobody(_name: str, _serving: bool) -> None:
    return


def _choose_profile(version: ServedVersion, target: Target) -> str:
    """Return the profile's name; raises NotFound, or FailedPrecondition if it makes another space than is expected."""
    name = target.profile or version.published.default_profile
    profile = version.published.profiles.get(name)
    if profile is None:
        known = ", ".join(sorted(version.published.profiles))
        raise NotFound("MODEL_NOT_FOUND", f"{version.name} has no profile {name!r}; it has: {known}", metadata={"name": version.name})
    if target.fingerprint is not None and target.fingerprint != profile.fingerprint:
        message = f"profile {name!r} of {version.name} makes space {profile.fingerprint}, not {target.fingerprint} as expected"
        raise FailedPrecondition(
            "SPACE_MISMATCH", message, metadata={"expected": target.fingerprint, "actual": profile.fingerprint, "name": version.name}
        )
    return name
