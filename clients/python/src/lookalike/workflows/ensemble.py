"""One model of several."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._models import EnsembleMember, EnsembleSpec, Job
from lookalike._names import resource_id, version_name


async def start_ensemble(client: AsyncClient, model: str, members: Sequence[str], weights: Sequence[float] = ()) -> Job:
    """Queue the making of a new version of `model` of 2 to 6 members.

    A member is written `M`, `M@ALIAS` or `models/M/versions/V`, with `:PROFILE` behind it if not its default profile is meant; names are
    resolved now. `weights` has one for each, or is empty if all count alike. Raises InputError if the numbers do not fit.
    """
    name = resource_id("models", model)
    if weights and len(weights) != len(members):
        raise InputError(f"{len(members)} members and {len(weights)} weights: give one weight for each member", reason="BAD_WEIGHTS")
    if bad := [weight for weight in weights if not 0 < weight < float("inf")]:
        raise InputError(f"the weight {bad[0]:g} is not above 0", reason="BAD_WEIGHTS")
    parts = [member.partition(":") for member in members]
    versions = await asyncio.gather(*(client.trainer.get_model_version(version_name(head)) for head, _, _ in parts))
    shares = weights or [1.0] * len(members)
    found = (EnsembleMember(v.name, profile, weight) for v, (_, _, profile), weight in zip(versions, parts, shares, strict=True))
    return await client.trainer.create_job(EnsembleSpec(name, tuple(found)))
