"""`lookalike models`: what there is to embed with."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lookalike import workflows
from lookalike._exceptions import InputError
from lookalike._models import ModelAlias, ModelProfile
from lookalike._names import numbered_name, resource_id, resource_name, version_name
from lookalike.cli._app import models
from lookalike.cli._arguments import Yes
from lookalike.cli._documents import document
from lookalike.cli._session import Session, command, table
from lookalike.cli.train import describe, wait_for_model

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="Model, M@ALIAS or models/M/versions/V.", show_default=False)]
Tap = StrEnum("Tap", ["pool", "embedding"])
_Alias = Annotated[str, typer.Argument(metavar="M@ALIAS", help="Model and alias, such as shoes@production.", show_default=False)]


@command(
    models,
    "import",
    "lookalike models import --timm resnet50 --name resnet",
    "lookalike models import --timm tf_efficientnet_lite0 --weights ./lite0.pth --name lite0",
    "lookalike models import --folder ./shoes-v3 --name shoes",
)
async def import_(
    session: Session,
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="Model that gets a new version.", show_default=False)],
    timm: Annotated[str | None, typer.Option("--timm", metavar="NETWORK", help="timm name of the network.", show_default=False)] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="A downloaded bundle, or a folder as timm and hubs write it.", show_default=False),
    ] = None,
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
    """Make a model of a timm network or of a folder as it is, without training."""
    if (timm is None) == (folder is None) or (folder and (weights or size)):
        raise InputError("name a network with --timm (with --weights and --size, if you like), or a --folder alone", reason="BAD_IMPORT")
    if folder:
        job = await workflows.start_folder_import(session.client, name, folder)
    else:
        job = await workflows.start_import(session.client, name, timm or "", weights, size)
    version = await wait_for_model(session, job.name)
    session.answer(version, *describe(version))


@command(
    models,
    "ensemble",
    "lookalike models ensemble shoes boots --name both",
    "lookalike models ensemble shoes@production models/boots/versions/2:tuned --name both --weights 2,1",
)
async def ensemble(
    session: Session,
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help="2 to 6 of M, M@ALIAS or models/M/versions/V, each with :PROFILE if you like.", show_default=False
        ),
    ],
    name: Annotated[str, typer.Option("--name", metavar="MODEL", help="Model that gets a new version.", show_default=False)],
    weights: Annotated[
        str, typer.Option("--weights", metavar="W,W…", help="How much each counts. Default: all alike.", show_default=False)
    ] = "",
) -> None:
    """Make one model of several: a cosine is the weighted mean of theirs. Pictures are decoded once for all."""
    job = await workflows.start_ensemble(session.client, name, members, _weights(weights))
    version = await wait_for_model(session, job.name)
    session.answer(version, *describe(version))


@command(
    models,
    "profile",
    "lookalike models profile shoes --name tuned --views identity,flip,scale-1.25",
    "lookalike models profile shoes@production --name small --project 128 --dataset shoes --default",
    "lookalike models profile models/shoes/versions/2 --name head --tap embedding",
)
async def profile(
    session: Session,
    model: _Model,
    name: Annotated[str, typer.Option("--name", metavar="PROFILE", help="Name of the new profile.", show_default=False)],
    views: Annotated[
        str,
        typer.Option(
            "--views",
            metavar="V,V…",
            help="Views of a picture whose outputs are averaged: identity (as it is), flip (mirrored), scale-S (S times larger, 0.5 to 2), "
            "flip-scale-S. Default: identity.",
            show_default=False,
        ),
    ] = "",
    tap: Annotated[
        Tap | None,
        typer.Option("--tap", help="Output of the network: after the pooling, or the embedding FC. Default: pool.", show_default=False),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option("--project", min=1, metavar="DIM", help="Project to so many values by a PCA fitted on --dataset.", show_default=False),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            metavar="DATASET",
            help="Pushed dataset, or datasets/D/revisions/R, that --project is fitted on: at most 8,000 pictures at random. Of the dataset "
            "that the model was trained on, classes held out are not used; of another, all are: take none that you measure on.",
            show_default=False,
        ),
    ] = "",
    default: Annotated[bool, typer.Option("--default", help="Make it the default profile of the new version.")] = False,
) -> None:
    """Make a new version of a model that has one more profile: another way to make vectors with the same network, without training.

    The version that is named stays as it is, and so do its collections. Nothing is measured: `lookalike evaluate` tells whether it pays.
    """
    chosen = [view.strip() for view in views.split(",")] if views else []
    start = workflows.start_profile(
        session.client, model, name, views=chosen, tap=tap or "", project=project or 0, dataset=dataset, default=default
    )
    version = await wait_for_model(session, (await start).name)
    session.answer(version, *describe(version), f"embed with it: --model {version.name}{'' if default else f':{name}'}")


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
    version = await session.client.trainer.get_model_version(version_name(model))
    shown = table("profile", "#dim", "vectors", "DBA advice", "space")
    for name, profile in sorted(version.profiles.items()):
        advice = f"{profile.dba_advice.k} neighbours, {profile.dba_advice.weights.lower()}" if profile.dba_advice else "none"
        mark = " (default)" if name == version.default_profile else ""
        shown.add_row(f"{name}{mark}", str(profile.space.dim), _vectors(profile), advice, profile.space.fingerprint)
    figures = table("figure", "#value")
    for name, value in sorted(version.metrics.items()):
        figures.add_row(name, f"{value:.4f}")
    aliases = await session.client.trainer.list_model_aliases(version.name.partition("/versions/")[0])
    names = table("alias", "version")
    for each in aliases:
        names.add_row(each.name.rpartition("/")[2], each.version)
    shown_last = ([figures] if version.metrics else []) + ([names] if aliases else [])
    session.answer({**document(version), "aliases": document(aliases)}, *describe(version), shown, *shown_last)


@command(models, "download", "lookalike models download shoes --to ./shoes", "lookalike models download shoes@production --to ./shoes")
async def download(
    session: Session,
    model: _Model,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder that is made for it.", show_default=False)],
) -> None:
    """Fetch a version's bundle, every checksum compared. timm reads it: `timm.create_model("local-dir:DIR", pretrained=True)`."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} exists and is not an empty folder: name another", reason="NOT_WRITABLE")
    version = await session.client.trainer.get_model_version(version_name(model))
    files = await session.client.trainer.download_model_version(version.name, to)
    session.answer({"version": version.name, "files": files}, f"{version.name}: {len(files)} files in {to}")


@command(models, "alias", "lookalike models alias shoes@live models/shoes/versions/3", "lookalike models alias shoes@live shoes")
async def alias(
    session: Session,
    alias: _Alias,
    model: _Model,
    etag: Annotated[str, typer.Option("--etag", help="Only if the alias still has this etag.", show_default=False)] = "",
) -> None:
    """Make an alias name a version of its model; where it named another before, it moves at once."""
    version = await session.client.trainer.get_model_version(version_name(model))
    made = await session.client.trainer.set_model_alias(ModelAlias(_alias_name(alias), version.name, etag))
    session.answer(made, f"{alias} names {made.version} (etag {made.etag})")


@command(models, "unalias", "lookalike models unalias shoes@production")
async def unalias(session: Session, alias: _Alias) -> None:
    """Delete an alias. The version stays."""
    await session.client.trainer.delete_model_alias(_alias_name(alias))
    session.answer({"deleted": _alias_name(alias)}, f"{alias} was deleted")


@command(models, "delete", "lookalike models delete models/shoes/versions/1", "lookalike models delete shoes --yes")
async def delete(
    session: Session,
    model: _Model,
    yes: Yes = False,
    force: Annotated[bool, typer.Option("--force", help="Even if aliases name it; they go too.")] = False,
) -> None:
    """Delete a version, or a model with all its versions. Collections made with it can no longer be searched by picture."""
    name = numbered_name("models", "versions", model)
    session.confirm(f"Delete {name} for good?", yes)
    await session.client.trainer.delete_model(name, force=force)
    session.answer({"deleted": name}, f"{name} was deleted")


def _vectors(profile: ModelProfile) -> str:
    """What is done to a network's outputs, in a few words."""
    views = "" if profile.views in ((), ("identity",)) else f"mean of {', '.join(profile.views)}"
    return "; ".join(part for part in (profile.tap, views, "projected" if profile.projected else "") if part)


def _weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"{text!r} are no weights: write numbers with commas between them, such as 2,1", reason="BAD_WEIGHTS") from None


def _alias_name(text: str) -> str:
    model, at, name = text.partition("@")
    if not at:
        raise InputError(f"{text!r} is no alias: write MODEL@ALIAS, such as shoes@production", reason="BAD_NAME")
    return f"{resource_name('models', model)}/aliases/{resource_id('aliases', name)}"
