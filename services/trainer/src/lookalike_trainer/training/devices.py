"""How many devices a training job takes."""

from pathlib import Path

import numpy as np
import torch

from lookalike_trainer.training.dataset import read_pictures
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.frozen import first_frozen
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.plan import choose_device
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.resolve import Device, ResolvedRecipe, TrainingSet, choose_batch

_FEWEST_ROWS = 2
_ROWS_WORTH_A_DEVICE = 8


def devices_of(job: TrainJob, folder: Path) -> tuple[Device, int]:
    """The kind of device and their number: what the job began with, else what its recipe asks for.

    Raises:
        JobError: there are fewer.
    """
    frozen = first_frozen(folder)
    if frozen is not None:
        return _still_there(frozen.resolved)
    recipe = load_recipe(job.recipe, job.overrides, job.recipe_toml)
    device = choose_device(recipe)
    asked = recipe.loop.devices
    if asked != "auto":
        if device == "cuda" and asked > (there := torch.cuda.device_count()):
            message = f"recipe key `loop.devices` is {asked}, but this machine has {there} CUDA devices: take at most {there}, or `auto`"
            raise JobError(Reason.INVALID_RECIPE, message)
        return device, asked
    there = torch.cuda.device_count() if device == "cuda" else 1
    return device, 1 if there == 1 else min(there, _worth_while(job, recipe))


def check_batch(resolved: ResolvedRecipe, rows: int) -> None:
    """Raise JobError (INVALID_RECIPE) if a batch is too small for its devices.

    Args:
        rows: of a batch.
    """
    if resolved.recipe.objective.selects:
        rows = min(rows, 3 * resolved.classes_per_batch)  # a triplet a class
    if resolved.devices > 1 and rows < _FEWEST_ROWS * resolved.devices:
        raise JobError(
            Reason.INVALID_RECIPE,
            f"recipe key `loop.devices`: a batch of {rows} pictures is too small for {resolved.devices} devices, each of which needs "
            f"{_FEWEST_ROWS}; set it to at most {max(rows // _FEWEST_ROWS, 1)}, or take more `sampler.classes` or `sampler.pictures`",
        )


def _still_there(resolved: ResolvedRecipe) -> tuple[Device, int]:
    there = torch.cuda.device_count()
    if resolved.device == "cuda" and resolved.devices > there:
        message = f"the job began on {resolved.devices} CUDA devices, and this machine has {there} now: bring them back, or start a new job"
        raise JobError(Reason.DEVICE_MISSING, message)
    return resolved.device, resolved.devices


def _worth_while(job: TrainJob, recipe: Recipe) -> int:
    """Devices that a batch keeps busy, at least 1; judged before any picture is decoded or class held out."""
    labels = [picture.label for picture in read_pictures(job.dataset)]
    counts = np.unique(labels, return_counts=True)[1]
    classes, pictures = choose_batch(recipe, TrainingSet(len(labels), len(counts), int(counts.max())))
    return max(classes * pictures // _ROWS_WORTH_A_DEVICE, 1)
