"""The proof that a model computes here what it computed where it was made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from lookalike_model.embedding_model import PictureModel
from lookalike_model.numerics import TOLERANCE

if TYPE_CHECKING:
    from lookalike_model.bundle import Bundle
    from lookalike_model.ensemble import Ensemble


class GoldenError(ValueError):
    """The bundle was proved on pictures that this version of the library does not have."""


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """An encoded picture that ships with the library."""

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How far a model is from its bundle's golden vectors.

    Attributes:
        worst: largest 1 − cosine over the golden pictures; infinite if a vector is zero or not finite.
        picture: name of the picture it happened on.
        tolerance: the largest that is accepted at the model's precision.
    """

    worst: float
    picture: str
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the model may be served."""
        return self.worst <= self.tolerance


@cache
def golden_pictures() -> tuple[GoldenPicture, ...]:
    """The golden pictures of this version of the library, by name."""
    folder = resources.files("lookalike_model") / "golden_pictures"
    files = sorted((f for f in folder.iterdir() if f.name != "README.md"), key=lambda f: f.name)
    encoded = [(file.name, file.read_bytes()) for file in files]
    return tuple(GoldenPicture(name, data, hashlib.sha256(data).hexdigest()) for name, data in encoded)


def prove(model: PictureModel, bundle: Bundle | Ensemble) -> Proof:
    """Embed the golden pictures through the whole path and compare with the vectors stored in the bundle.

    Raises:
        GoldenError: the bundle was proved on pictures that are not here.
    """
    here = {picture.sha256: picture for picture in golden_pictures()}
    if unknown := [name for name, sha256 in bundle.golden.pictures.items() if sha256 not in here]:
        raise GoldenError(f"the bundle was proved on pictures that this version does not have: {', '.join(unknown)}")
    pictures = [here[sha256] for sha256 in bundle.golden.pictures.values()]
    ours = model.embed_pictures([picture.data for picture in pictures]).astype(np.float64)
    theirs = bundle.golden.vectors[model.profile_name].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    distance = np.where(np.isfinite(cosine), 1.0 - cosine, np.inf)
    worst = int(distance.argmax())
    return Proof(float(distance[worst]), pictures[worst].name, TOLERANCE[model.precision])
