"""Choosing what to embed with, and saying why that."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError, NotFound, WorkFailed
from lookalike._models import ImportSpec, Init, ModelProfile, ModelVersion, Origin, Space, State
from lookalike._names import version_name
from lookalike.workflows._observer import Observer

ZERO_SHOT_MODEL = "zero-shot"
ZERO_SHOT_WEIGHTS = "efficientnet_lite0-imagenet"

_SERVED_WITHIN = 6.0
_LOOK_AGAIN = 0.5


@dataclass(frozen=True)
class ChosenModel:
    """A model version with one of its profiles; `why` is a phrase such as `the newest trained model`."""

    version: ModelVersion
    profile_name: str
    why: str

    @property
    def profile(self) -> ModelProfile:
        """The profile that is used."""
        return self.version.profiles[self.profile_name]

    @property
    def space(self) -> Space:
        """The space of its vectors."""
        return self.profile.space


async def choose_model(client: AsyncClient, model: str | None, observer: Observer) -> ChosenModel:
    """Return the model that `model` names, as `named_model` does.

    Without a name the newest trained model; where none was trained the built-in zero-shot one. That is imported if it is not there,
    named or not.
    """
    if model is not None:
        if version_name(model.partition(":")[0]) == f"models/{ZERO_SHOT_MODEL}":
            await zero_shot_model(client, observer)
        return await named_model(client, model)
    if trained := await _newest_trained(client):
        return ChosenModel(trained, trained.default_profile, "the newest trained model")
    built_in = await zero_shot_model(client, observer)
    return ChosenModel(built_in, built_in.default_profile, "the built-in zero-shot model, as no model has been trained yet")


async def named_model(client: AsyncClient, model: str) -> ChosenModel:
    """Return what `M`, `models/M`, `models/M/versions/V`, or `M@A` for an alias names; `:PROFILE` behind it takes another than its default.

    Raises NotFound if there is no such model, InputError if it has no such profile.
    """
    head, colon, profile = model.partition(":")
    version = await client.trainer.get_model_version(version_name(head))
    if colon and profile not in version.profiles:
        known = ", ".join(sorted(version.profiles))
        raise InputError(f"{version.name} has no profile {profile!r}; it has: {known}", reason="PROFILE_NOT_FOUND")
    return ChosenModel(version, profile or version.default_profile, "as asked for")


async def zero_shot_model(client: AsyncClient, observer: Observer) -> ModelVersion:
    """Return the built-in zero-shot model; makes it of the built-in weights if it is not there."""
    try:
        return await client.trainer.get_model_version(f"models/{ZERO_SHOT_MODEL}")
    except NotFound:
        observer.say(f"importing the built-in weights {ZERO_SHOT_WEIGHTS} as the model {ZERO_SHOT_MODEL}")
    spec = ImportSpec(ZERO_SHOT_MODEL, Init(builtin=ZERO_SHOT_WEIGHTS))
    for attempt in itertools.count(1):
        # The same id for all who want it now: it is imported once. A job of an earlier time that left no model takes another id.
        job = await client.trainer.create_job(spec, f"{ZERO_SHOT_MODEL}-{ZERO_SHOT_WEIGHTS}-{attempt}")
        if not job.state.ended:
            done = await client.trainer.wait_for_job(job.name, observer.event)
            return await client.trainer.get_model_version(done.model_version)
        if job.state is State.SUCCEEDED:
            try:
                return await client.trainer.get_model_version(job.model_version)
            except NotFound:
                continue
    raise WorkFailed("the zero-shot model could not be imported")  # pragma: no cover


async def wait_until_served(client: AsyncClient, version: str) -> None:
    """Wait until the embedder knows `models/M/versions/V`: it looks for new versions every few seconds.

    Raises NotFound if it still does not after 6 s.
    """
    deadline = asyncio.get_running_loop().time() + _SERVED_WITHIN
    while True:
        try:
            await client.embedder.get_served_model(version)
            return
        except NotFound:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_LOOK_AGAIN)


async def _newest_trained(client: AsyncClient) -> ModelVersion | None:
    trained: list[ModelVersion] = []
    for model in await client.trainer.list_models():
        versions = [model.latest] if model.version_count == 1 else await client.trainer.list_model_versions(model.name)
        trained.extend(version for version in versions if version.origin is Origin.TRAINED)
    return max(trained, key=lambda version: version.create_time, default=None)
