"""Which output of a network is the vector, and what is done to it."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lookalike_model.names import check_name
from lookalike_model.records import Record

Tap = Literal["pool", "embedding"]

MAX_VIEWS = 16
MAX_DIM = 65_536
MIN_SCALE, MAX_SCALE = 0.5, 2.0
_VIEW = re.compile(r"identity|flip|(?:flip-)?scale-(\d(?:\.\d{1,2})?)")


def check_view(view: str) -> str:
    """The view itself, if it is `identity`, `flip`, `scale-S` or `flip-scale-S`; S is 0.5 to 2, not 1, in at most two decimals.

    A view has one spelling only, since it is part of a space's identity. Raises ValueError for anything else.
    """
    found = _VIEW.fullmatch(view)
    scale = found and found[1]
    if not found or (scale and (f"{float(scale):g}" != scale or not MIN_SCALE <= float(scale) <= MAX_SCALE or float(scale) == 1)):
        raise ValueError(
            f"view {view!r} is none of identity, flip, scale-S, flip-scale-S; "
            f"S is {MIN_SCALE:g} to {MAX_SCALE:g}, not 1, in at most two decimals, such as 1.25"
        )
    return view


View = Annotated[str, AfterValidator(check_view)]


@dataclass(frozen=True, slots=True)
class ViewParts:
    """What a view does to a picture: whether it is mirrored, and how many times larger than usual the network sees it."""

    flip: bool
    scale: float

    @classmethod
    def of(cls, view: str) -> "ViewParts":
        """The parts of a view's name."""
        _, at, scale = view.partition("scale-")
        return cls(view.startswith("flip"), float(scale) if at else 1.0)


class ProjectionSpec(Record):
    """A linear map behind the tap: the name of its tensors in the bundle, and how many values it leaves."""

    name: Annotated[str, AfterValidator(check_name)]
    dim: int = Field(ge=1, le=MAX_DIM)


class Profile(Record):
    """How a network's outputs become vectors; each profile is a space of its own.

    Attributes:
        tap: the output that is taken, after the pooling or after the embedding FC.
        projection: what the vectors are projected with, after they are scaled to unit length; None keeps them.
        views: test-time views of the picture whose outputs are averaged, before anything is scaled.
        normalise: whether vectors are scaled to unit length.
    """

    tap: Tap = "pool"
    projection: ProjectionSpec | None = None
    views: Annotated[tuple[View, ...], Field(min_length=1, max_length=MAX_VIEWS)] = ("identity",)
    normalise: bool = True

    def model_post_init(self, _context: object) -> None:
        if len(set(self.views)) != len(self.views):
            raise ValueError(f"views {', '.join(self.views)}: each may stand there once")


class DbaAdvice(Record):
    """Database-side augmentation that did well with a profile: advice, outside the space.

    Attributes:
        k: neighbours besides the item itself.
        weights: k + 1 weights, the item's own first; empty for equal ones, or with `power`.
        power: the exponent, if each neighbour counts with its cosine to a power.
        rounds: how often; each round augments what the one before came to.
    """

    k: int
    weights: tuple[float, ...] = ()
    power: float | None = None
    rounds: int = 1


class Advice(Record):
    """What a client may copy into a collection's build, unless told otherwise."""

    dba: DbaAdvice | None = None
