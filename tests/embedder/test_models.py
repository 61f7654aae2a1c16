"""The table of versions, with a registry and a loader of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from lookalike_embedder.loading import NotProven, ProvenModel, ServedProfile
from lookalike_embedder.models import ServedModels
from lookalike_embedder.room import Room
from lookalike_embedder.trial import Threads
from lookalike_embedder.versions import ServingState, Target
from lookalike_model.fingerprint import Space
from lookalike_model.numerics import Numerics
from lookalike_model.registry import Index, Model, PublishedProfile, Version
from lookalike_runtime.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable

ComesTrue = Callable[[Callable[[], bool]], Awaitable[None]]


class FakeRegistry:
    """Publishes what it is told, counts what is loaded, fails as it is told."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], Version] = {}
        self.sizes: dict[str, int] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.loaded: list[str] = []
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def publish(self, model: str, number: int, content: str = "0") -> None:
        self.versions[model, number] = Version(
            path=f"bundles/{model}-{number}",
            manifest_sha256=content * 64,
            create_time=f"2026-01-01T00:00:{len(self.versions):02}Z",
            default_profile="plain",
            profiles={"plain": PublishedProfile(fingerprint=f"ls1:{model}{number}", dim=3)},
        )

    def index(self) -> Index:
        models: dict[str, dict[str, Version]] = {}
        for (model, number), version in self.versions.items():
            models.setdefault(model, {})[str(number)] = version
        aliases = {name: {a: str(number) for (model, a), number in self.aliases.items() if model == name} for name in models}
        return Index(models={name: Model(aliases=aliases[name], versions=versions) for name, versions in models.items()})

    def size(self, model: str, number: str, version: Version) -> int:
        assert version
        return self.sizes.get(f"{model}/{number}", 1)

    def load(self, model: str, number: str, version: Version) -> ProvenModel:
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        self.loaded.append(f"{model}/{number}")
        space = Space(f"ls1:{model}{number}", model, number, "plain", 3)
        return ProvenModel(
            {"plain": ServedProfile(f"models/{model}/versions/{number}", cast("Any", None), space)},
            1e-7,
            Numerics(),
            Threads(),
            self.size(model, number, version),
        )


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def served(registry: FakeRegistry, max_models: int = 2, size: int | None = None) -> ServedModels:
    return ServedModels(registry.index, registry, Room(max_models, size))


def target(model: str, number: int | None = None, profile: str | None = None, fingerprint: str | None = None) -> Target:
    return Target(model, number, profile, fingerprint)


async def name_of(models: ServedModels, wanted: Target) -> str:
    async with models.lease(wanted) as profile:
        return profile.name


async def test_least_recently_used_version_makes_room(registry: FakeRegistry) -> None:
    models = served(registry)
    for number in (1, 2, 3):
        registry.publish("m", number)
    for number in (1, 2, 1, 3):
        await name_of(models, target("m", number))
    assert [version.number for version in models.in_memory_or_failed()] == [1, 3]
    await name_of(models, target("m", 1))
    assert registry.loaded == ["m/1", "m/2", "m/3"]


async def test_version_in_use_is_never_unloaded_for_room(registry: FakeRegistry) -> None:
    models = served(registry, max_models=1)
    registry.publish("m", 1)
    registry.publish("m", 2)
    async with models.lease(target("m", 1)):
        with pytest.raises(ResourceExhausted) as raised:
            await name_of(models, target("m", 2))
        assert raised.value.retry_after
        assert (await models.find("m", 1)).state is ServingState.READY
    assert await name_of(models, target("m", 2)) == "models/m/versions/2"


async def test_newest_is_the_highest_number_and_what_was_just_published_is_found(registry: FakeRegistry) -> None:
    models = served(registry)
    with pytest.raises(NotFound):
        await name_of(models, target("m"))
    for number in (2, 10, 9):
        registry.publish("m", number)
    assert await name_of(models, target("m")) == "models/m/versions/10"


async def test_many_who_ask_for_one_version_wait_for_one_loading(registry: FakeRegistry) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.gate.clear()
    asking = [asyncio.create_task(name_of(models, target("m"))) for _ in range(5)]
    await asyncio.sleep(0.05)
    asking[0].cancel()
    registry.gate.set()
    assert set(await asyncio.gather(*asking[1:])) == {"models/m/versions/1"}
    assert registry.loaded == ["m/1"]


async def test_expected_space_and_profile_are_checked_before_anything_is_loaded(registry: FakeRegistry) -> None:
    models = served(registry)
    registry.publish("m", 1)
    with pytest.raises(FailedPrecondition) as raised:
        await name_of(models, target("m", fingerprint="ls1:other"))
    assert raised.value.reason == "SPACE_MISMATCH"
    assert "ls1:other" in raised.value.message
    assert "ls1:m1" in raised.value.message
    with pytest.raises(NotFound, match="tuned"):
        await name_of(models, target("m", profile="tuned"))
    assert registry.loaded == []
    assert await name_of(models, target("m", profile="plain", fingerprint="ls1:m1"))


async def test_failed_proof_is_remembered_until_somebody_asks_to_load_again(registry: FakeRegistry) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.failure = NotProven("missed by 0.25", 0.25)
    for _ in range(2):
        with pytest.raises(NotProven, match=r"0\.25"):
            await name_of(models, target("m"))
    version = await models.find("m", 1)
    assert (version.state, version.golden_error) == (ServingState.FAILED, 0.25)
    registry.failure = None
    with pytest.raises(NotProven):
        await name_of(models, target("m"))
    assert (await models.load("m", 1)).state is ServingState.READY


async def test_registry_out_of_reach_is_no_failed_proof(registry: FakeRegistry) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.failure = ConnectionError("no route")
    with pytest.raises(Unavailable, match="no route"):
        await name_of(models, target("m"))
    registry.failure = None
    assert await name_of(models, target("m")) == "models/m/versions/1"


async def test_follower_loads_the_newest_of_each_model_once_and_reports_health(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    models = served(registry)
    health: dict[str, bool] = {}
    rounds = 0
    read = registry.index

    def counted() -> Index:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise ConnectionError("the registry is away for a moment")
        return read()

    models._read_index = counted

    async def report(name: str, serving: bool) -> None:
        health[name] = serving

    async def look_twice() -> None:
        seen = rounds
        await comes_true(lambda: rounds >= seen + 2)

    for model, number in (("a", 1), ("a", 2), ("b", 1)):
        registry.publish(model, number)
    following = asyncio.create_task(models.run(0.005, report))
    await look_twice()
    await look_twice()
    assert sorted(registry.loaded) == ["a/2", "b/1"]
    assert health == {"models/a/versions/1": False, "models/a/versions/2": True, "models/b/versions/1": True}
    await models.unload("b", 1)
    await look_twice()
    assert not health["models/b/versions/1"]
    assert len(registry.loaded) == 2

    # The same number with another content is another version; what is gone is gone.
    registry.publish("b", 1, content="1")
    del registry.versions["a", 2], registry.versions["a", 1]
    await look_twice()
    await look_twice()
    assert registry.loaded[2:] == ["b/1"]
    assert health == {"models/a/versions/1": False, "models/a/versions/2": False, "models/b/versions/1": True}
    with pytest.raises(NotFound):
        await models.find("a", None)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_version_that_disappears_while_it_loads_is_not_reported_as_serving(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    models = served(registry)
    health: dict[str, bool] = {}

    async def report(name: str, serving: bool) -> None:
        health[name] = serving

    registry.publish("m", 1)
    registry.gate.clear()
    following = asyncio.create_task(models.run(0.005, report))
    await comes_true(lambda: bool(models.in_memory_or_failed()))
    version = await models.find("m", 1)
    registry.versions.clear()
    await models._refresh()
    registry.gate.set()
    assert version.loading is not None
    await asyncio.wait([version.loading])
    assert health == {"models/m/versions/1": False}
    assert models.in_memory_or_failed() == []
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_least_recently_used_versions_make_room_for_a_large_one(registry: FakeRegistry) -> None:
    registry.sizes = {"m/1": 40, "m/2": 30, "m/3": 20, "m/4": 60}
    models = served(registry, max_models=10, size=100)
    for number in (1, 2, 3, 4):
        registry.publish("m", number)
    for number in (1, 2, 3, 1, 4):
        await name_of(models, target("m", number))
    # 2 went first, but 40 + 20 + 60 is still too much; then 3, and 40 + 60 fit.
    assert [version.number for version in models.in_memory_or_failed()] == [1, 4]


async def test_version_in_use_keeps_its_memory_and_one_above_the_limit_is_refused(registry: FakeRegistry) -> None:
    registry.sizes = {"m/1": 60, "m/2": 50, "m/3": 101}
    models = served(registry, max_models=10, size=100)
    for number in (1, 2, 3):
        registry.publish("m", number)
    async with models.lease(target("m", 1)):
        with pytest.raises(ResourceExhausted, match="--models-mib"):
            await name_of(models, target("m", 2))
        with pytest.raises(FailedPrecondition) as raised:
            await name_of(models, target("m", 3))
        assert raised.value.reason == "MODEL_TOO_LARGE"
        assert (await models.find("m", 1)).state is ServingState.READY
    assert await name_of(models, target("m", 2)) == "models/m/versions/2"
    assert registry.loaded == ["m/1", "m/2"]


async def test_version_that_is_unloaded_while_calls_use_it_counts_until_they_end(registry: FakeRegistry) -> None:
    registry.sizes = {"m/1": 60, "m/2": 50}
    models = served(registry, max_models=10, size=100)
    registry.publish("m", 1)
    registry.publish("m", 2)
    async with models.lease(target("m", 1)):
        await models.unload("m", 1)
        with pytest.raises(ResourceExhausted):
            await name_of(models, target("m", 2))
    assert await name_of(models, target("m", 2)) == "models/m/versions/2"


async def test_follower_loads_only_what_fits_together_what_aliases_name_first(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    registry.sizes = {"a/1": 60, "b/1": 50, "c/1": 50}
    models = served(registry, max_models=10, size=110)
    for model in ("a", "b", "c"):
        registry.publish(model, 1)
    registry.aliases["a", "production"] = 1
    async with following(models):
        await comes_true(lambda: len(registry.loaded) == 2)
        await asyncio.sleep(0.05)
    assert registry.loaded == ["a/1", "c/1"]


@asynccontextmanager
async def following(models: ServedModels) -> AsyncIterator[None]:
    async def report(_name: str, _serving: bool) -> None:
        return

    task = asyncio.create_task(models.run(0.005, report))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def aliased(alias: str = "production") -> Target:
    return Target("m", None, None, None, alias)


async def test_moved_alias_answers_with_its_old_version_until_the_new_one_is_proven(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.publish("m", 2)
    registry.aliases["m", "production"] = 1
    async with following(models):
        assert await name_of(models, aliased()) == "models/m/versions/1"
        await comes_true(lambda: len(registry.loaded) == 2)
        await models.unload("m", 2)
        registry.gate.clear()
        registry.aliases["m", "production"] = 2
        await comes_true(lambda: models.aliases.waiting_for("m", 2) == ["production"])
        assert await name_of(models, aliased()) == "models/m/versions/1"
        registry.gate.set()
        await comes_true(lambda: models.aliases.answered_by("m", 2) == ["production"])
        assert models.aliases.answered_by("m", 1) == models.aliases.waiting_for("m", 2) == []
        assert await name_of(models, aliased()) == "models/m/versions/2"


async def test_alias_stays_where_it_was_while_its_new_version_fails_the_proof(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.aliases["m", "production"] = 1
    async with following(models):
        await comes_true(lambda: registry.loaded == ["m/1"])
        registry.failure = NotProven("missed by 0.25", 0.25)
        registry.publish("m", 2)
        registry.aliases["m", "production"] = 2
        await comes_true(lambda: any(v.state is ServingState.FAILED for v in models.in_memory_or_failed()))
        assert await name_of(models, aliased()) == "models/m/versions/1"
        assert models.aliases.waiting_for("m", 2) == ["production"]
        # A better one repairs it.
        registry.failure = None
        registry.publish("m", 3)
        registry.aliases["m", "production"] = 3
        await comes_true(lambda: models.aliases.answered_by("m", 3) == ["production"])


async def test_alias_whose_old_version_is_deleted_waits_for_the_new_one(registry: FakeRegistry, comes_true: ComesTrue) -> None:
    models = served(registry)
    registry.publish("m", 1)
    registry.aliases["m", "production"] = 1
    async with following(models):
        await comes_true(lambda: registry.loaded == ["m/1"])
        registry.gate.clear()
        registry.publish("m", 2)
        registry.aliases["m", "production"] = 2
        del registry.versions["m", 1]
        # A look may have come between the lines above.
        await comes_true(lambda: [(v.number, v.state) for v in models.in_memory_or_failed()] == [(2, ServingState.LOADING)])
        asking = asyncio.create_task(name_of(models, aliased()))
        await asyncio.sleep(0.02)
        assert not asking.done()
        registry.gate.set()
        assert await asking == "models/m/versions/2"


async def test_unknown_alias_is_not_found(registry: FakeRegistry) -> None:
    models = served(registry)
    registry.publish("m", 1)
    with pytest.raises(NotFound, match="m@staging") as raised:
        await name_of(models, aliased("staging"))
    assert raised.value.reason == "ALIAS_NOT_FOUND"
