"""What a recipe says. Needs no torch.

`auto` is filled in by `resolve`, from the number of pictures and the device, never by timing.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lookalike_model.records import Record
from lookalike_model.spec import EmbeddingSpec, Pool
from lookalike_trainer.training.objective_recipe import ObjectiveRecipe

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]
_FOLDS, _MOST_RUNS = 5, 50
_START = re.compile(r"auto|(builtin|random|timm):[A-Za-z0-9_.-]{1,128}")


class NetworkRecipe(Record):
    """Which network is trained."""

    start: str = "auto"
    """Where training starts if the job does not say: `builtin:NAME`, `random:NETWORK` or `timm:NETWORK`; auto: the built-in weights."""
    architecture: str = "auto"
    """A timm name; auto: that of the weights it starts from."""
    pool: Pool | Auto = "auto"
    """auto: that of the bundle it starts from, else the class token of a ViT and the average of the rest."""
    embedding: EmbeddingSpec | None = None
    """An FC after the pooling; none unless the bundle it starts from has one."""

    @field_validator("start")
    @classmethod
    def _start_has_its_form(cls, start: str) -> str:
        if not _START.fullmatch(start):
            raise ValueError("it must be `auto`, `builtin:NAME`, `random:NETWORK` or `timm:NETWORK`")
        return start


class PixelsRecipe(Record):
    """How pictures become pixels, in training and in serving alike."""

    size: Annotated[int, Field(ge=16, le=1024)] | Auto = "auto"
    """Pixels a side in serving; auto: that of the bundle it starts from, else 96 on a CPU and 224 on a GPU."""
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_pct: float = Field(default=1.0, ge=0.5, le=1)
    filter: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"


class SplitRecipe(Record):
    """Which classes are never trained on, so that something can be measured, and how often is trained."""

    kind: Literal["class-disjoint", "k-fold"] = "class-disjoint"
    """k-fold: the classes that are trained on are measured too, on a fold of their pictures at a time; one training a fold."""
    folds: Annotated[int, Field(ge=2, le=20)] | Auto = "auto"
    """auto: 5 for k-fold."""
    seeds: int = Field(default=1, ge=1, le=20)
    """How many seeds are trained with, counting up from the job's: other held-out classes, batches and random weights each time."""
    held_out: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the classes, at least 3 and at most 100 classes; none of fewer than 10 classes."""

    @property
    def fold_count(self) -> int:
        """Folds of a k-fold split."""
        return _FOLDS if self.folds == "auto" else self.folds

    @model_validator(mode="after")
    def _folds_are_of_a_k_fold(self) -> "SplitRecipe":
        if self.folds != "auto" and self.kind != "k-fold":
            raise ValueError(f"folds is {self.folds}, but kind is {self.kind}, which has none: set kind to k-fold")
        if self.kind == "k-fold" and self.seeds * self.fold_count > _MOST_RUNS:
            raise ValueError(f"{self.seeds} seeds of {self.fold_count} folds are more than {_MOST_RUNS} trainings: take fewer")
        return self


class SamplerRecipe(Record):
    """P × K: how a batch is put together."""

    batch: int = Field(default=128, ge=4, le=65_536)
    """P × K, where they are auto and the data allow it."""
    least: int = Field(default=4, ge=1, le=256)
    """Fewest pictures of a class where K is auto. A classification gains from many classes a batch, a triplet from many pairs."""
    classes: Annotated[int, Field(ge=2, le=4096)] | Auto = "auto"
    """P; auto: batch / least, or all classes if there are fewer."""
    pictures: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    """K; auto: what makes the batch, at least `least` and at most the pictures of the largest class."""


class AugmentRecipe(Record):
    """Random changes to a picture in training; each picture draws its own."""

    rotation: float = Field(default=15.0, ge=0, le=180)
    """Degrees, to either side."""
    shift: float = Field(default=0.08, ge=0, le=0.5)
    """Share of the side, in each direction."""
    scale: tuple[Annotated[float, Field(ge=0.1, le=10)], Annotated[float, Field(ge=0.1, le=10)]] = (0.75, 1.2)
    """Smallest and largest factor; drawn evenly on a logarithmic scale."""
    shear: float = Field(default=8.0, ge=0, le=45)
    """Degrees, to either side."""
    brightness: Share = 0.3
    """Factors are drawn from 1 − x to 1 + x; so for contrast and saturation."""
    contrast: Share = 0.3
    saturation: Share = 0.4
    hue: float = Field(default=0.05, ge=0, le=0.5)
    """Turns of the colour circle, to either side."""
    flip: bool = False
    """Mirror every other picture. Letters and arrows change their meaning by it."""
    fill: Literal["edge", "reflect", "white"] = "edge"
    """What shows where the picture was moved away."""

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> "AugmentRecipe":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must go from small to large, not from {self.scale[0]} to {self.scale[1]}")
        return self


class Phase(Record):
    """A stretch of the training at a size of its own."""

    scale: float = Field(gt=0, le=2)
    """Pixels a side as a factor of the serving size, rounded to a multiple of 8."""
    share: float = Field(gt=0, le=1)
    """Of all steps."""


class LoopRecipe(Record):
    """The optimisation. AdamW, warm-up, then a cosine down to zero."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    """auto: as many as make `passes` picture passes, 1 to 40 on a CPU and 4 to 60 on a GPU."""
    passes: Annotated[int, Field(ge=1)] | Auto = "auto"
    """How often a picture goes through the network in all; auto: 60,000 on a CPU, 600,000 on a GPU."""
    rate: float = Field(default=1e-3, gt=0, le=1)
    class_rate: float = Field(default=10.0, gt=0, le=1000)
    """Rate of the objective's own weights, as a factor of `rate`."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decays of AdamW's averages of the gradient and of its square."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """On matrices and filters of the network alone."""
    warm_up: float = Field(default=0.15, ge=0, le=0.9)
    """Share of all steps."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    batch_norm: Literal["live", "frozen"] = "live"
    """Whether batch statistics are used and learnt, or those it starts with kept."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of weights that is evaluated and kept; 0 keeps the weights themselves."""
    recompute: Literal["none", "early", "all"] = "early"
    """early, all: save memory by computing the network's first stages, or all its blocks, again in the backward pass."""
    phases: tuple[Phase, ...] = (Phase(scale=1.0, share=1.0),)
    """Sizes one after the other; their shares make 1."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    """How many train together, each with its part of a batch; auto: all CUDA devices that get 8 pictures of a batch, 1 on a CPU."""
    optimiser: str = "adamw"
    """A name of timm's."""
    optimiser_options: dict[str, bool | float | tuple[float, ...]] = Field(default={})
    """Further arguments of the optimiser, such as momentum."""
    schedule: Literal["cosine", "constant", "tanh", "step", "multistep", "poly"] = "cosine"
    """What the rate does after the warm-up; the last four are timm's."""
    schedule_options: dict[str, float | tuple[int, ...]] = Field(default={})
    """Arguments of a schedule of timm's, such as decay_rate; those that count time count epochs."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each of the backbone's layers learns at this factor of the rate of the one after it."""
    patience: int = Field(default=0, ge=0, le=10_000)
    """Epochs without a better mAP on the held-out classes after which the training ends; 0: it runs to its end."""
    keep: Literal["auto", "last", "best"] = "auto"
    """Which weights become the model: those of the last epoch, or of the one with the best mAP on the held-out classes; auto: the last,
    unless it ranks the held-out classes worse than the weights that were started from."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: measured on a GPU and on CPUs made for bf16, else fp32."""
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    """auto: measured."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    """Of the CPU; auto: as many as torch takes, or half of them if that was measured to be faster."""
    checkpoint_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """Between checkpoints inside an epoch; more where writing would take over 2 % of the time."""
    retreats: int = Field(default=2, ge=0, le=5)
    """How often a training that goes wrong steps back and tries half the rate."""

    @model_validator(mode="after")
    def _phases_make_a_whole(self) -> "LoopRecipe":
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            raise ValueError(f"the shares of the phases make {sum(p.share for p in self.phases):g} instead of 1")
        return self


class Recipe(Record):
    """All that decides a training, apart from the pictures, the start and the seed."""

    description: str
    network: NetworkRecipe = NetworkRecipe()
    pixels: PixelsRecipe = PixelsRecipe()
    split: SplitRecipe = SplitRecipe()
    sampler: SamplerRecipe = SamplerRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    objective: ObjectiveRecipe
    loop: LoopRecipe = LoopRecipe()
