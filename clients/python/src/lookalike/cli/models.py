"""`lookalike models`: what there is to embed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike._names import numbered_name
from lookalike.cli._app import models
from lookalike.cli._arguments import Yes
from lookalike.cli._session import Session, command, table
from lookalike.cli.train import describe, wait_for_model

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="Model, or models/M/versions/V.", show_default=False)]


@command(
    models,
    "import",
    "lookalike models import --timm resnet50 --name resnet",
    "lookalike models import --timm tf_efficientnet_lite0 --weights ./lite0.pth --name lite0",
)
async def import_(
    session: Session,
    timm: Annotated[str, typer.Option("--timm", metavar="NETWORK", help="timm name of the network.", show_default=False)],
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="Model that gets a new version.", show_default=False)],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="safetensors, or PyTorch file of tensors. Default: timm's own weights.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=0, max=1024, help="Side that pictures are resized to; 0 is what the network was trained for.")
    ] = 0,
) -> None:
    """Make a model of a timm network as it is, without training."""
    job = await workflows.start_import(session.client, name, timm, weights, size)
    version = await wait_for_model(session, job.name)
    session.answer(version, *describe(version))


@command(models, "list", "lookalike models list")
async def list_(session: Session) -> None:
    """List models with their newest versions."""
    found = await session.client.trainer.list_models()
    shown = table("model", "newest", "#versions", "origin", "#held-out mAP", "made")
    for model in found:
        latest = model.latest
        score = f"{latest.metrics['heldout_map']:.3f}" if "heldout_map" in latest.metrics else ""
        made = f"{latest.create_time:%Y-%m-%d %H:%M}"
        shown.add_row(model.name.removeprefix("models/"), latest.name, str(model.version_count), latest.origin.lower(), score, made)
    session.answer({"models": found}, shown if found else "no models yet: lookalike train, or lookalike models import")


@command(models, "show", "lookalike models show shoes", "lookalike models show models/shoes/versions/2")
async def show(session: Session, model: _Model) -> None:
    """Show a version of a model: its profiles, spaces and figures."""
    version = await session.client.trainer.get_model_version(numbered_name("models", "versions", model))
    shown = table("profile", "#dim", "DBA advice", "space")
    for name, profile in sorted(version.profiles.items()):
        advice = f"{profile.dba_advice.k} neighbours, {profile.dba_advice.weights.lower()}" if profile.dba_advice else "none"
        mark = " (default)" if name == version.default_profile else ""
        shown.add_row(f"{name}{mark}", str(profile.space.dim), advice, profile.space.fingerprint)
    figures = table("figure", "#value")
    for name, value in sorted(version.metrics.items()):
        figures.add_row(name, f"{value:.4f}")
    session.answer(version, *describe(version), shown, *([figures] if version.metrics else []))


@command(models, "delete", "lookalike models delete models/shoes/versions/1", "lookalike models delete shoes --yes")
async def delete(session: Session, model: _Model, yes: Yes = False) -> None:
    """Delete a version, or a model with all its versions. Collections made with it can no longer be searched by picture."""
    name = numbered_name("models", "versions", model)
    session.confirm(f"Delete {name} for good?", yes)
    await session.client.trainer.delete_model(name)
    session.answer({"deleted": name}, f"{name} was deleted")
