"""Making a collection, and holding one that is there against what was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lookalike._client import AsyncClient
from lookalike._exceptions import FailedPrecondition, InputError, SpaceMismatch
from lookalike._models import Collection, DbaSpec, DType, Engine
from lookalike._names import resource_id
from lookalike.workflows._dba import DbaChoice, choose_dba
from lookalike.workflows._model import choose_model, named_model
from lookalike.workflows._observer import SILENT, Observer

_ELSEWHERE = "or take another collection"


@dataclass(frozen=True)
class Fixed:
    """What is fixed once a collection is made; None where nothing was asked for.

    Raises InputError for a recall target that is not over 0, to 1.
    """

    model: str | None = None
    engine: Engine | None = None
    recall_target: float | None = None
    dtype: DType | None = None

    def __post_init__(self) -> None:
        if self.recall_target is not None and not 0 < self.recall_target <= 1:
            raise InputError(f"the recall target {self.recall_target:g} is out of range: over 0, to 1", reason="BAD_RECALL_TARGET")


@dataclass(frozen=True)
class Created:
    """A collection that was made.

    model_why: why for the model that it pins. dba: how its builds augment unless they say otherwise.
    """

    collection: Collection
    model_why: str
    dba: DbaChoice


async def create_collection(
    client: AsyncClient,
    collection: str,
    *,
    model: str | None = None,
    dba: int | DbaSpec | None = None,
    engine: Engine | None = None,
    recall_target: float | None = None,
    dtype: DType | None = None,
    observer: Observer = SILENT,
) -> Created:
    """Make an empty collection for `model`, else the newest trained model, else the built-in zero-shot one.

    `recall_target` is the least recall at 10 that its builds must reach, over 0 to 1 (.95 by default). DBA is what the model's profile
    advises unless it is given. Raises AlreadyExists for a name that a collection or alias has.
    """
    return await make(client, resource_id("collections", collection), Fixed(model, engine, recall_target, dtype), dba, observer)


async def make(client: AsyncClient, collection_id: str, fixed: Fixed, dba: int | DbaSpec | None, observer: Observer) -> Created:
    """Make an empty collection; see `create_collection`."""
    chosen = await choose_model(client, fixed.model, observer)
    choice = choose_dba(dba, chosen.profile.dba_advice)
    made = await client.indexer.create_collection(
        collection_id,
        chosen.space,
        engine=fixed.engine or Engine.ANNOY,
        dba=choice.spec,
        recall_target=fixed.recall_target or 0.0,
        dtype=fixed.dtype or DType.UNSPECIFIED,
    )
    return Created(made, chosen.why, choice)


async def check_fixed(client: AsyncClient, there: Collection, fixed: Fixed) -> None:
    """Raise SpaceMismatch or FailedPrecondition where a collection was made with something else than is asked for."""
    if fixed.model is not None:
        named = await named_model(client, fixed.model)
        version, by_profile = named.version, ":" in fixed.model
        fitting = [named.profile] if by_profile else version.profiles.values()
        if there.space.fingerprint not in {profile.space.fingerprint for profile in fitting}:
            pinned = f"{there.space.model_version}, profile {there.space.profile}"
            asked = f"{version.name}, profile {named.profile_name}" if by_profile else version.name
            raise SpaceMismatch(
                f"{there.name} holds vectors of {pinned}, not of {asked}: leave --model out, {_ELSEWHERE}",
                reason="SPACE_MISMATCH",
                metadata={"collection": there.name, "pinned": there.space.model_version, "asked": version.name},
            )
    if fixed.engine not in (None, there.engine):
        raise _fixed_otherwise(there, "engine", there.engine.lower(), fixed.engine.lower(), "--engine", "ENGINE_FIXED")
    if fixed.recall_target is not None and not math.isclose(fixed.recall_target, there.recall_target):
        raise _fixed_otherwise(
            there, "recall target", f"{there.recall_target:g}", f"{fixed.recall_target:g}", "--recall", "RECALL_TARGET_FIXED"
        )
    if fixed.dtype not in (None, there.dtype):
        raise _fixed_otherwise(there, "dtype", there.dtype.lower(), fixed.dtype.lower(), "--dtype", "DTYPE_FIXED")


def _fixed_otherwise(there: Collection, what: str, has: str, asked: str, option: str, reason: str) -> FailedPrecondition:
    return FailedPrecondition(f"{there.name} was made with the {what} {has}, not {asked}: leave {option} out, {_ELSEWHERE}", reason=reason)
