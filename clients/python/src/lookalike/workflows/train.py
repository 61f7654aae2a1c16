"""Training a model, or importing one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._models import FolderFile, ImportSpec, Init, Job, TrainSpec, WeightsFile
from lookalike._names import numbered_name, resource_id, version_name

MAX_WEIGHTS_BYTES = 4 * 1024**3
MAX_RECIPE_BYTES = 64 * 1024
MAX_FOLDER_FILES = 64

INIT_FORMS = "builtin:NAME, random:NETWORK, timm:NETWORK, weights:NETWORK=FILE, model:M, model:M@ALIAS or models/M/versions/V"


async def start_training(
    client: AsyncClient,
    dataset: str,
    model: str,
    *,
    recipe: str = "",
    recipe_file: Path | None = None,
    init: str | None = None,
    overrides: Mapping[str, str] | None = None,
    seed: int = 0,
    excluded_paths: tuple[str, ...] = (),
) -> Job:
    """Queue the training of a new version of `model` on `dataset`, without `excluded_paths`.

    `recipe` is the name of a recipe that comes with the trainer; `recipe_file` is a TOML file of one's own in its place. `init` is
    written as `INIT_FORMS` says. Raises InputError if both recipes are given, or the file cannot be read.
    """
    if recipe and recipe_file:
        raise InputError(
            f"recipe {recipe!r} and the file {recipe_file}: give one; a file builds on another by its `extends`", reason="BAD_RECIPE"
        )
    spec = TrainSpec(
        dataset=numbered_name("datasets", "revisions", dataset),
        model=resource_id("models", model),
        recipe=recipe,
        recipe_toml=await asyncio.to_thread(_recipe_text, recipe_file) if recipe_file else "",
        overrides=overrides or {},
        init=await resolve_init(client, init) if init else None,
        seed=seed,
        excluded_paths=excluded_paths,
    )
    return await client.trainer.create_job(spec)


async def start_import(client: AsyncClient, model: str, network: str, weights: Path | None = None, size: int = 0) -> Job:
    """Queue the import of the timm network `network` as a new version of `model`, with timm's own weights or those of a file."""
    name = resource_id("models", model)
    init = Init(timm=network) if weights is None else Init(weights=await upload_weights(client, network, weights))
    return await client.trainer.create_job(ImportSpec(name, init, size))


async def start_folder_import(client: AsyncClient, model: str, folder: Path) -> Job:
    """Queue the import of a folder as a new version of `model`: a bundle as `models download` gives it, or what timm and hubs write."""
    name = resource_id("models", model)
    files = await asyncio.to_thread(_files_of, folder)
    missing = await client.trainer.find_missing_blobs(digest for _, digest, _ in files.values())
    await client.trainer.upload_files([file for file in files.values() if file[1] in missing])
    return await client.trainer.create_job(
        ImportSpec(name, folder=tuple(FolderFile(path, digest) for path, (_, digest, _) in files.items()))
    )


def _files_of(folder: Path) -> dict[str, tuple[Path, str, int]]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", reason="NO_FOLDER")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not 1 <= len(paths) <= MAX_FOLDER_FILES:
        raise InputError(f"{folder} holds {len(paths)} files, a model's folder 1 to {MAX_FOLDER_FILES}", reason="BAD_FOLDER")
    return {path.relative_to(folder).as_posix(): (path, *_digest_and_size(path)) for path in paths}


async def resolve_init(client: AsyncClient, text: str) -> Init:
    """Return what `text` says to start from; a weights file is uploaded. Raises InputError unless it is of one of `INIT_FORMS`."""
    kind, colon, value = text.partition(":")
    if text.startswith("models/") or (kind == "model" and value):
        name = version_name(text if not colon else value)
        return Init(model_version=(await client.trainer.get_model_version(name)).name)
    network, equals, file = value.partition("=")
    match kind:
        case "builtin" if value:
            return Init(builtin=value)
        case "random" if value:
            return Init(random=value)
        case "timm" if value:
            return Init(timm=value)
        case "weights" if network and equals and file:
            return Init(weights=await upload_weights(client, network, Path(file)))
    raise InputError(f"{text!r} is nothing to start from: write {INIT_FORMS}", reason="BAD_INIT")


async def upload_weights(client: AsyncClient, network: str, file: Path) -> WeightsFile:
    """Bring a weights file to the trainer, unless it is there."""
    digest, size = await asyncio.to_thread(_digest_and_size, file)
    if await client.trainer.find_missing_blobs([digest]):
        await client.trainer.upload_files([(file, digest, size)])
    return WeightsFile(network, digest)


def _recipe_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_RECIPE_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"the recipe file {file} cannot be read: {error.strerror}", reason="NO_FILE") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the recipe file {file} is not text in UTF-8", reason="BAD_RECIPE") from error
    if not text.strip() or len(data) > MAX_RECIPE_BYTES:
        raise InputError(f"the recipe file {file} must have 1 to {MAX_RECIPE_BYTES:,} bytes", reason="BAD_SIZE")
    return text


def _digest_and_size(file: Path) -> tuple[str, int]:
    if not file.is_file():
        raise InputError(f"there is no weights file {file}", reason="NO_FILE")
    size = file.stat().st_size
    if not 0 < size <= MAX_WEIGHTS_BYTES:
        raise InputError(f"the file {file} has {size:,} bytes: it must have 1 to {MAX_WEIGHTS_BYTES:,}", reason="BAD_SIZE")
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest(), size
