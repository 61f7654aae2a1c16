"""Which versions are served: what the registry publishes, loaded when needed, proven, given up when room is needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from lookalike_embedder.aliases import Alias, AliasTable
from lookalike_embedder.loading import NotProven, ProvenModel, ServedProfile
from lookalike_embedder.room import Room
from lookalike_embedder.versions import ServedVersion, ServingState, Target, choose_profile, not_found, unreadable
from lookalike_model.registry import Index, Version
from lookalike_runtime.errors import ServiceError, Unavailable

log = structlog.get_logger()


ReadIndex = Callable[[], Index]
ReportHealth = Callable[[str, bool], Awaitable[None]]


class Loader(Protocol):
    """What brings a version, by model and number, into memory. Both calls block, and raise as `BundleLoader`'s do."""

    def size(self, model: str, number: str, version: Version, /) -> int:
        """Bytes that it will take."""

    def load(self, model: str, number: str, version: Version, /) -> ProvenModel:
        """Load and prove it."""


class ServedModels:
    """The table of versions. All of it happens on the event loop, apart from reading the registry and loading."""

    def __init__(self, read_index: ReadIndex, loader: Loader, room: Room) -> None:
        """`read_index` and `loader` block and run in threads; versions in memory keep to `room`."""
        self._read_index = read_index
        self._loader = loader
        self._room = room
        self.aliases = AliasTable()
        self._versions: dict[tuple[str, int], ServedVersion] = {}
        self._offered: set[ServedVersion] = set()
        # Bytes of versions that were given up while calls still use them.
        self._leaving: dict[ServedVersion, int] = {}
        self._one_refresh = asyncio.Lock()
        self._one_load = asyncio.Lock()
        self._report: ReportHealth = _report_to_nobody

    async def run(self, poll_seconds: float, report: ReportHealth) -> None:
        """Follow the registry until cancelled: load what aliases name and the newest of each model once, forget what is gone."""
        self._report = report
        while True:
            try:
                await self._refresh()
                await self._follow_aliases()
                await self._load_offered()
            except Exception as error:  # each file system has errors of its own; the next round tries again
                log.warning("registry_unreadable", error=str(error))
            await asyncio.sleep(poll_seconds)

    @asynccontextmanager
    async def lease(self, target: Target) -> AsyncIterator[ServedProfile]:
        """Hold a profile, loading its version if it is not in memory; it is not unloaded for room meanwhile.

        Raises NotFound, FailedPrecondition (another space; not proven), ResourceExhausted (no room), Unavailable.
        """
        version = await self.find(target.model, target.number, target.alias)
        profile = choose_profile(version, target)
        version.users += 1
        try:
            proven = await self._in_memory(version)
            yield proven.profiles[profile]
        finally:
            version.users -= 1
            if not version.users:
                self._leaving.pop(version, None)
            version.last_used = time.monotonic()

    async def find(self, model: str, number: int | None, alias: str | None = None) -> ServedVersion:
        """Return a published version: that of the number, that which the alias answers with, or the newest.

        Looks again before it raises NotFound.
        """
        found = self._lookup(model, number, alias)
        if found is None:
            await self._refresh_or_unavailable()
            found = self._lookup(model, number, alias)
        if found is None:
            raise not_found(model, number, alias)
        return found

    def in_memory_or_failed(self) -> list[ServedVersion]:
        """Return the versions that are loaded, being loaded or failed, by name."""
        return [version for _, version in sorted(self._versions.items()) if version.state is not ServingState.UNLOADED]

    async def load(self, model: str, number: int | None, alias: str | None = None) -> ServedVersion:
        """Load a version, or try again if it failed; raises as `lease` does."""
        version = await self.find(model, number, alias)
        if version.state is ServingState.FAILED:
            await self._drop(version)
        await self._in_memory(version)
        return version

    async def unload(self, model: str, number: int | None, alias: str | None = None) -> ServedVersion:
        """Give a version's memory back; calls that use it end properly."""
        version = await self.find(model, number, alias)
        if version.loading is not None:
            await asyncio.wait([version.loading])
        await self._drop(version)
        return version

    def _lookup(self, model: str, number: int | None, alias: str | None) -> ServedVersion | None:
        if alias is not None:
            key = Alias(model, alias)
            # The version that it answered with may be deleted before the one that it names now is proven.
            numbers = (self.aliases.answering(key), self.aliases.published(key))
            return next((found for each in numbers if each and (found := self._versions.get((model, each)))), None)
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
            self.aliases.update(index)
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

    async def _follow_aliases(self) -> None:
        """Load what moved aliases name now, and let them answer with it once it is proven; until then they answer as before."""
        for alias, number in self.aliases.moves().items():
            version = self._versions.get((alias.model, number))
            if version is None or version.error is not None:
                continue
            try:
                await self._in_memory(version)
            except ServiceError as error:
                log.warning("alias_not_moved", alias=f"models/{alias.model}@{alias.name}", version=version.name, error=error.message)
            else:
                self.aliases.switch(alias, number)
                log.info("alias_moved", alias=f"models/{alias.model}@{alias.name}", version=version.name)

    async def _load_offered(self) -> None:
        """Load what aliases name and each model's newest version, if that was not done before, as long as there is room for all."""
        keys = {*dict(sorted(self._versions)).items(), *self.aliases.named()}
        fresh = [version for key in keys if (version := self._versions.get(key)) and version not in self._offered]
        fresh.sort(key=lambda v: ((v.model, v.number) in self.aliases.named(), v.published.create_time), reverse=True)
        self._offered.update(fresh)
        sizes: list[int] = []
        for version in fresh:
            try:
                sizes.append(await self._size(version))
                if not self._room.holds(sizes):
                    break
                await self._in_memory(version)
            except ServiceError as error:
                log.warning("model_not_loaded", name=version.name, error=error.message)

    async def _size(self, version: ServedVersion) -> int:
        """Bytes of a version's tensors; raises NotProven, which is remembered, or Unavailable."""
        if version.size is None:
            try:
                version.size = await asyncio.to_thread(self._loader.size, version.model, str(version.number), version.published)
            except NotProven as error:
                version.error = error
                await self._set(version, ServingState.FAILED)
                raise
            except Exception as error:
                raise unreadable(version, error) from error
        return version.size

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
                await self._make_room(version)
                proven = await asyncio.to_thread(self._loader.load, version.model, str(version.number), version.published)
                version.proven, version.last_used = proven, time.monotonic()
                await self._set(version, ServingState.READY)
        except NotProven as error:
            version.error = error
            await self._set(version, ServingState.FAILED)
        except ServiceError as error:
            await self._set(version, ServingState.UNLOADED)
            return error
        except Exception as error:
            await self._set(version, ServingState.UNLOADED)
            return unreadable(version, error)
        finally:
            version.loading = None
        return None

    async def _make_room(self, version: ServedVersion) -> None:
        """Unload what was not used for longest until one more fits; raises ResourceExhausted if all are in use, or FailedPrecondition."""
        size = await self._size(version)
        self._room.check(version.name, size)
        while not self._room.holds([size, *self._held()]):
            idle = [each for each in self._versions.values() if each.proven and each.users == 0]
            if not idle:
                raise self._room.full()
            await self._drop(min(idle, key=lambda each: each.last_used))

    def _held(self) -> list[int]:
        """Bytes of each version in memory."""
        return [*(each.proven.memory_bytes for each in self._versions.values() if each.proven), *self._leaving.values()]

    async def _drop(self, version: ServedVersion) -> None:
        if version.proven is not None and version.users:
            self._leaving[version] = version.proven.memory_bytes
        version.proven = version.error = None
        await self._set(version, ServingState.UNLOADED)

    async def _set(self, version: ServedVersion, state: ServingState) -> None:
        """Note the state and report it; what is no longer published is never reported as serving."""
        version.state = state
        published = self._versions.get((version.model, version.number)) is version
        await self._report(version.name, published and state is ServingState.READY)


async def _report_to_nobody(_name: str, _serving: bool) -> None:
    return
