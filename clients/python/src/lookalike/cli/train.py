"""`lookalike train`: a model from a dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike._exceptions import InputError
from lookalike._models import ModelVersion
from lookalike._names import resource_name
from lookalike.cli._app import LEARN, app
from lookalike.cli._session import Session, command


@command(
    app,
    "train",
    "lookalike train shoes --model shoes",
    "lookalike train shoes --model shoes --set loop.epochs=3",
    "lookalike train shoes --model shoes --recipe cross-entropy --then triplet-batch-hard",
    "lookalike train shoes --model shoes --recipe-file ./mine.toml",
    "lookalike train shoes --model shoes --exclude checked/suspects.csv",
    "lookalike train shoes --model shoes --recipe triplet --init model:shoes",
    "lookalike train shoes --model shoes --init weights:resnet50=./resnet50.safetensors",
    panel=LEARN,
)
async def train(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Dataset, or datasets/D/revisions/R.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="Model that gets a new version.", show_default=False)],
    recipe: Annotated[
        str, typer.Option("--recipe", help="Name of a recipe: lookalike recipes list. Default: the trainer's.", show_default=False)
    ] = "",
    recipe_file: Annotated[
        Path | None,
        typer.Option("--recipe-file", metavar="FILE", help="TOML file that extends a recipe, in place of --recipe.", show_default=False),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option("--then", metavar="RECIPE", help="Recipe to go on with from the version made before; repeatable.", show_default=False),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help=f"What to start from: {workflows.INIT_FORMS}. Default: the recipe's.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; repeatable.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="All randomness follows from it.")] = 0,
    exclude: Annotated[
        Path | None,
        typer.Option("--exclude", metavar="FILE", help="CSV whose column `path` lists pictures to leave out.", show_default=False),
    ] = None,
) -> None:
    """Train a new version of a model and wait for it, showing loss and held-out mAP of each epoch.

    Without options this is a good default for any folder of pictures. Ctrl-C leaves the training running and says how to watch it and how
    to cancel it.
    """
    overrides = _overrides(settings or [])
    await _check_recipes(session, then or [])
    excluded = await workflows.read_excluded(exclude) if exclude else ()
    start = partial(workflows.start_training, session.client, name, model, overrides=overrides, seed=seed, excluded_paths=excluded)
    job = await start(recipe=recipe, recipe_file=recipe_file, init=init)
    session.note(f"{job.name} was queued")
    version = await wait_for_model(session, job.name)
    for following in then or []:
        session.note(f"{version.name} was made; going on from it with {following}")
        job = await start(recipe=following, init=version.name)
        version = await wait_for_model(session, job.name)
    session.answer(version, *describe(version))


async def _check_recipes(session: Session, names: list[str]) -> None:
    """A recipe that is not there is told before the first job, not after it."""
    for each in names:
        await session.client.trainer.get_recipe(resource_name("recipes", each))


async def wait_for_model(session: Session, job: str) -> ModelVersion:
    """Show `jobs/J` to its end and return the version that it made; Ctrl-C leaves it running."""
    number = job.removeprefix("jobs/")
    session.if_interrupted = f"{job} goes on; watch it: lookalike jobs watch {number}; cancel it: lookalike jobs cancel {number}"
    done = await session.client.trainer.wait_for_job(job, session.observer.event)
    return await session.client.trainer.get_model_version(done.model_version)


def describe(version: ModelVersion) -> list[str]:
    """Return lines that say what a version is and how good."""
    metrics = version.metrics
    lines = [f"{version.name} ({version.origin.lower()}, profiles: {', '.join(sorted(version.profiles))})"]
    if "heldout_map" in metrics:
        low, high = metrics.get("heldout_map_low"), metrics.get("heldout_map_high")
        interval = f" (95 % interval {low:.3f} – {high:.3f})" if low is not None and high is not None else ""
        lines.append(f"mAP on classes held out of training: {metrics['heldout_map']:.3f}{interval}")
    return [*lines, *version.notes]


def _overrides(settings: list[str]) -> dict[str, str]:
    overrides: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: write KEY=VALUE, such as loop.epochs=3", reason="BAD_SETTING")
        overrides[key.strip()] = value.strip()
    return overrides
