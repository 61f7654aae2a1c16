"""One more profile of a model."""

from __future__ import annotations

from collections.abc import Sequence

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._models import Job, ProfileSpec
from lookalike._names import numbered_name, resource_id, version_name


async def start_profile(
    client: AsyncClient,
    model: str,
    name: str,
    *,
    views: Sequence[str] = (),
    tap: str = "",
    project: int = 0,
    dataset: str = "",
    default: bool = False,
) -> Job:
    """Queue the making of a new version of `model` that has the profile `name` beside those it has.

    `model` is `M`, `M@ALIAS` or `models/M/versions/V`, resolved now. `views` are averaged; `tap` is `pool` or `embedding`; `project` fits a
    PCA to so many values on the pictures of `dataset`, `D` or `datasets/D/revisions/R`. With `default` it becomes the default profile.
    Raises InputError if nothing is asked for, or a projection without pictures or the other way round.
    """
    profile = resource_id("profiles", name)
    if not (views or tap or project or dataset):
        raise InputError("a profile differs from others by --views, --tap or --project: give one of them", reason="BAD_PROFILE")
    if project and not dataset:
        raise InputError("a projection is fitted on pictures: name a dataset that was pushed with --dataset", reason="BAD_PROFILE")
    if dataset and not project:
        raise InputError("only a projection needs a dataset: say to how many values with --project", reason="BAD_PROFILE")
    version = await client.trainer.get_model_version(version_name(model))
    pictures = numbered_name("datasets", "revisions", dataset) if dataset else ""
    return await client.trainer.create_job(ProfileSpec(version.name, profile, tuple(views), tap, project, pictures, default))
