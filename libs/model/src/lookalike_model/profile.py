"""Which output of a network is the vector, and what is done to it."""

from typing import Literal

from lookalike_model.records import Record

Tap = Literal["pool", "embedding"]
View = Literal["identity"]


class Profile(Record):
    """How a network's outputs become vectors; each profile is a space of its own.

    Attributes:
        tap: the output that is taken, after the pooling or after the embedding FC.
        projection: nothing is projected yet.
        views: test-time views of the picture whose vectors are averaged; the picture as it is.
        normalise: whether vectors are scaled to unit length.
    """

    tap: Tap = "pool"
    projection: None = None
    views: tuple[View, ...] = ("identity",)
    normalise: bool = True


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
