"""`auto` into numbers: from the pictures, the device and the start, by rules that are the same everywhere."""

from dataclasses import dataclass
from typing import Literal

from lookalike_images import Preprocessing
from lookalike_model.network import default_pool
from lookalike_model.records import Record
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import built_for_one_size
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.job import Start
from lookalike_trainer.training.recipe import Recipe
from lookalike_trainer.training.start import StartingPoint

Device = Literal["cpu", "cuda"]

_SIZE: dict[Device, int] = {"cpu": 96, "cuda": 224}
_PASSES: dict[Device, int] = {"cpu": 60_000, "cuda": 600_000}
_EPOCHS: dict[Device, tuple[int, int]] = {"cpu": (1, 40), "cuda": (4, 60)}
_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Figures of what is trained on."""

    pictures: int
    classes: int
    largest_class: int


class PixelPlan(Record):
    """Sizes in pixels a side: of serving, and of each phase of the training."""

    serving: int
    phases: tuple[int, ...]


class ResolvedRecipe(Record):
    """A recipe with all that was chosen for it; stored in the bundle.

    Attributes:
        name: of the recipe.
        recipe: as asked for.
        start: what it starts from; of a path, only the last part.
        fold: of a k-fold split that is left out, from 0.
        network, pixels, classes_per_batch, pictures_per_class, epochs, device, devices, threads, precision,
            memory_format: chosen; threads are those of each device's process.
    """

    name: str
    recipe: Recipe
    start: Start
    seed: int
    fold: int | None = None
    network: NetworkSpec
    pixels: PixelPlan
    classes_per_batch: int
    pictures_per_class: int
    epochs: int
    device: Device
    devices: int = 1
    threads: int
    precision: Literal["fp32", "bf16"] = "fp32"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"


def plan_pixels(recipe: Recipe, device: Device, point: StartingPoint) -> PixelPlan:
    """Serving size (asked for, else the bundle's, else the device's) and the size of each phase.

    Raises:
        JobError: INVALID_RECIPE, for several sizes with a network that is built for one.
    """
    automatic = point.preprocessing.size if point.preprocessing else _SIZE[device]
    size = automatic if recipe.pixels.size == "auto" else recipe.pixels.size
    phases = tuple(_scaled(size, phase.scale) for phase in recipe.loop.phases)
    if built_for_one_size(point.architecture) and set(phases) != {size}:
        raise JobError(
            Reason.INVALID_RECIPE,
            f"recipe key `loop.phases`: {point.architecture} is built for one size, so every phase must have scale 1",
        )
    return PixelPlan(serving=size, phases=phases)


def _scaled(size: int, scale: float) -> int:
    return size if scale == 1 else max(16, round(size * scale / _MULTIPLE) * _MULTIPLE)


def preprocessing_for(recipe: Recipe, plan: PixelPlan) -> Preprocessing:
    """How pictures become pixels in serving."""
    pixels = recipe.pixels
    return Preprocessing(plan.serving, pixels.resize, pixels.crop_pct, pixels.filter)


def choose_network(recipe: Recipe, plan: PixelPlan, point: StartingPoint) -> NetworkSpec:
    """The network: what is asked for, else the bundle's, else what suits the architecture.

    Raises:
        JobError: INVALID_RECIPE, if an objective takes a tap that the network does not have.
    """
    asked = recipe.network
    spec = NetworkSpec(
        architecture=point.architecture,
        pool=asked.pool if asked.pool != "auto" else point.pool or default_pool(point.architecture),
        embedding=asked.embedding or point.embedding,
        image_size=plan.serving if built_for_one_size(point.architecture) else None,
    )
    for name, part in recipe.objective.parts().items():
        if part.tap == "embedding" and spec.embedding is None:
            raise JobError(
                Reason.INVALID_RECIPE,
                f"recipe key `objective.{name}.tap` is `embedding`, but the network has no embedding FC; "
                "set `network.embedding.size`, or take `pool`",
            )
    return spec


def choose_batch(recipe: Recipe, data: TrainingSet) -> tuple[int, int]:
    """P and K, as `SamplerRecipe` says; P is never more than the classes there are."""
    sampler = recipe.sampler
    asked = max(sampler.batch // sampler.least, 2) if sampler.classes == "auto" else sampler.classes
    classes = min(asked, data.classes)
    if sampler.pictures != "auto":
        return classes, sampler.pictures
    return classes, min(max(sampler.batch // classes, sampler.least), max(data.largest_class, 2))


def choose_epochs(recipe: Recipe, data: TrainingSet, device: Device) -> int:
    """As many as make the picture passes that are asked for, within the device's bounds."""
    if recipe.loop.epochs != "auto":
        return recipe.loop.epochs
    passes = recipe.loop.passes
    fewest, most = _EPOCHS[device]
    return min(max(round((_PASSES[device] if passes == "auto" else passes) / data.pictures), fewest), most)
