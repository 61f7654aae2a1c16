"""What is settled for a training job before a picture is decoded."""

from dataclasses import dataclass

import torch

from lookalike_images import Preprocessing
from lookalike_model.spec import NetworkSpec
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.job import TrainJob
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.recipe_files import load_recipe
from lookalike_trainer.training.resolve import Device, PixelPlan, ResolvedRecipe, choose_network, plan_pixels, preprocessing_for
from lookalike_trainer.training.start import StartingPoint, open_start


@dataclass(frozen=True)
class Plan:
    """What all runs of a job have in common."""

    recipe: Recipe
    device: Device
    point: StartingPoint
    pixels: PixelPlan
    network: NetworkSpec

    @property
    def preprocessing(self) -> Preprocessing:
        """Of serving."""
        return preprocessing_for(self.recipe, self.pixels)


def make_plan(job: TrainJob) -> Plan:
    """What a job asks for.

    Raises:
        JobError: it cannot be had.
    """
    recipe = load_recipe(job.recipe, job.overrides, job.recipe_toml)
    asked = recipe.network.architecture
    point = open_start(job.init, None if asked == "auto" else asked)
    device = choose_device(recipe)
    pixels = plan_pixels(recipe, device, point)
    return Plan(recipe, device, point, pixels, choose_network(recipe, pixels, point))


def make_plan_again(job: TrainJob, resolved: ResolvedRecipe) -> Plan:
    """What was settled when the job began, whatever the recipe's file or the machine say now.

    Raises:
        JobError: DEVICE_MISSING, or what it started from is not there any more.
    """
    if resolved.device == "cuda" and not torch.cuda.is_available():
        message = "the job began on a CUDA device, and this machine has none now: bring it back, or start a new job"
        raise JobError(Reason.DEVICE_MISSING, message)
    point = open_start(job.init, None)
    return Plan(resolved.recipe, resolved.device, point, resolved.pixels, resolved.network)


def choose_device(recipe: Recipe) -> Device:
    """The kind of device that a recipe asks for.

    Raises:
        JobError: INVALID_RECIPE, if there is none.
    """
    there = torch.cuda.is_available()
    if recipe.loop.device == "cuda" and not there:
        raise JobError(Reason.INVALID_RECIPE, "recipe key `loop.device` is `cuda`, but this machine has no CUDA device; take `cpu`")
    return "cuda" if there and recipe.loop.device != "cpu" else "cpu"
