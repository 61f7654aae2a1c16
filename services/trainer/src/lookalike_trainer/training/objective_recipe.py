"""What a recipe says about the objective. Needs no torch."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lookalike_model.records import Record
from lookalike_trainer.training import metric_learning_catalog as catalog

TapName = Literal["pool", "embedding"]
Scalar = bool | int | float | str
Parameters = dict[str, Scalar | tuple[Scalar, ...]]
MAX_PARTS = 8
_PART_NAME = re.compile(r"[a-z0-9_]{1,32}")


class NormalisedSoftmaxRecipe(Record):
    """Cross-entropy over cosines to a learnt vector a class (Zhai and Wu 2018, arXiv:1811.12649)."""

    weight: float = Field(default=1.0, gt=0)
    tap: TapName = "pool"
    temperature: float = Field(default=0.05, gt=0, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)


class CrossEntropyRecipe(Record):
    """Cross-entropy over a class FC, which exists in training only."""

    weight: float = Field(default=1.0, gt=0)
    tap: TapName = "pool"
    """What the class FC is put on. Where others take the embedding: pool makes two branches, embedding puts it in series."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)


class TripletRecipe(Record):
    """Triplets of anchor, positive and negative (Hermans et al. 2017, arXiv:1703.07737)."""

    weight: float = Field(default=1.0, gt=0)
    tap: TapName = "pool"
    margin: Annotated[float, Field(gt=0, le=2)] | Literal["soft"] = 0.2
    """A hinge at this difference between distances of unit vectors, which are 0..2; soft: log(1 + exp(difference)) instead."""
    mining: Literal["batch_hard", "semi_hard", "two_pass"] = "batch_hard"
    """batch_hard: each anchor with the farthest positive and the nearest negative of the batch. semi_hard: every triplet whose
    negative is farther than the positive, but not by the margin. two_pass: one anchor a class, chosen among all of the batch
    without gradients; only those chosen are run with gradients, for every part of the objective."""

    @model_validator(mode="after")
    def _semi_hard_has_a_margin(self) -> "TripletRecipe":
        if self.mining == "semi_hard" and self.margin == "soft":
            raise ValueError("semi_hard mining looks for negatives within the margin, so margin must be a number, such as 0.2")
        return self


class MetricLearningRecipe(Record):
    """A loss of pytorch-metric-learning, by name, with or without a miner of it."""

    loss: str
    loss_params: Parameters = Field(default_factory=dict)
    """Arguments of the loss; numbers of classes and widths are filled in."""
    miner: str | None = None
    miner_params: Parameters = Field(default_factory=dict)
    distance: str | None = None
    """Of loss and miner; none: what each has by default."""
    weight: float = Field(default=1.0, gt=0)
    tap: TapName = "pool"
    rate: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Rate of the loss's own weights, as a factor of `loop.rate`; none: `loop.class_rate`."""

    @field_validator("loss")
    @classmethod
    def _loss_is_known(cls, name: str) -> str:
        return catalog.check_name("losses", name)

    @field_validator("miner")
    @classmethod
    def _miner_is_known(cls, name: str | None) -> str | None:
        return name and catalog.check_name("miners", name)

    @field_validator("distance")
    @classmethod
    def _distance_is_known(cls, name: str | None) -> str | None:
        return name and catalog.check_name("distances", name)

    @model_validator(mode="after")
    def _parameters_are_known(self) -> "MetricLearningRecipe":
        catalog.check_parameters("losses", self.loss, "loss_params", self.loss_params)
        if self.miner is not None:
            catalog.check_parameters("miners", self.miner, "miner_params", self.miner_params)
        elif self.miner_params:
            raise ValueError(f"miner_params {', '.join(self.miner_params)} belong to a miner, and there is none: set miner")
        return self


PartRecipe = NormalisedSoftmaxRecipe | CrossEntropyRecipe | TripletRecipe | MetricLearningRecipe


class ObjectiveRecipe(Record):
    """A weighted sum of the parts that are there."""

    normalised_softmax: NormalisedSoftmaxRecipe | None = None
    cross_entropy: CrossEntropyRecipe | None = None
    triplet: TripletRecipe | None = None
    metric_learning: Annotated[dict[str, MetricLearningRecipe], Field(max_length=MAX_PARTS)] = Field(default_factory=dict)

    @field_validator("metric_learning")
    @classmethod
    def _names_are_short(cls, parts: dict[str, MetricLearningRecipe]) -> dict[str, MetricLearningRecipe]:
        for name in parts:
            if not _PART_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a part: 1 to 32 lower-case letters, digits or '_'")
        return parts

    @model_validator(mode="after")
    def _has_a_part(self) -> "ObjectiveRecipe":
        if not self.parts():
            raise ValueError("there must be at least one of normalised_softmax, cross_entropy, triplet, metric_learning.NAME")
        return self

    @property
    def selects(self) -> bool:
        """Whether only some pictures of a batch are run with gradients."""
        return self.triplet is not None and self.triplet.mining == "two_pass"

    def parts(self) -> dict[str, PartRecipe]:
        """The parts that are there, by their dotted keys below `objective`."""
        every = {
            "normalised_softmax": self.normalised_softmax,
            "cross_entropy": self.cross_entropy,
            "triplet": self.triplet,
            **{f"metric_learning.{name}": part for name, part in self.metric_learning.items()},
        }
        return {name: part for name, part in every.items() if part is not None}
