"""A published version as this replica sees it, and what somebody asks for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from lookalike_embedder.loading import NotProven, ProvenModel
from lookalike_model.registry import Version
from lookalike_runtime.errors import FailedPrecondition, NotFound, ServiceError, Unavailable


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
    """None is the newest, or what `alias` names."""
    profile: str | None
    """None is the version's default."""
    fingerprint: str | None
    """The space that is expected, if any is."""
    alias: str | None = None
    """An alias of the model, in place of `number`."""


@dataclass(slots=True, eq=False)
class ServedVersion:
    """A published version as this replica sees it."""

    model: str
    number: int
    published: Version
    state: ServingState = ServingState.UNLOADED
    proven: ProvenModel | None = None
    error: NotProven | None = None
    size: int | None = None
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


def not_found(model: str, number: int | None, alias: str | None) -> NotFound:
    """The error for what the registry does not have."""
    if alias is not None:
        name = f"models/{model}@{alias}"
        return NotFound("ALIAS_NOT_FOUND", f"the registry has no {name}: list the model's aliases", metadata={"name": name})
    name = f"models/{model}" if number is None else f"models/{model}/versions/{number}"
    return NotFound("MODEL_NOT_FOUND", f"the registry has no {name}: list the models to see what there is", metadata={"name": name})


def unreadable(version: ServedVersion, error: Exception) -> Unavailable:
    """The error for a version whose files cannot be reached now."""
    return Unavailable("REGISTRY_UNREADABLE", f"{version.name} cannot be read from the registry: {error}", retry_after=1)


def choose_profile(version: ServedVersion, target: Target) -> str:
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
