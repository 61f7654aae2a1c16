"""From a decoded image to the square of pixels that a network is given."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

ResizeMode = Literal["squash", "crop", "pad"]
ResizeFilter = Literal["bicubic", "bilinear", "lanczos"]

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
# Bounds the memory of "crop": a picture of 60,000,000 × 1 would otherwise be enlarged to millions of pixels a side.
_MAX_ASPECT = 16


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes `size` × `size` pixels; part of an embedding space's identity.

    The image is resized to `scale = floor(size / crop_pct)` and the centre of `size` × `size` is taken, as timm's
    evaluation transforms do (crop_mode squash, center and border). Invalid values raise ValueError.
    """

    size: int
    """Side of the square in pixels, 16..1024."""
    resize: ResizeMode = "squash"
    """squash: both sides to `scale`; crop: the shorter side; pad: the longer side, on `background`."""
    crop_pct: float = 1.0
    """Share of the resized side that the centre keeps, 0.5..1."""
    filter: ResizeFilter = "bicubic"
    """Pillow's resampling filter, which widens with the reduction and so does not alias."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green and blue, 0..255 each, around a padded image."""

    def __post_init__(self) -> None:
        _require(_is_int(self.size) and 16 <= self.size <= 1024, "size", self.size, "an integer of 16..1024")
        _require(self.resize in get_args(ResizeMode), "resize", self.resize, "squash, crop or pad")
        is_number = _is_int(self.crop_pct) or isinstance(self.crop_pct, float)
        _require(is_number and 0.5 <= self.crop_pct <= 1, "crop_pct", self.crop_pct, "a number of 0.5..1")
        _require(self.filter in get_args(ResizeFilter), "filter", self.filter, "bicubic, bilinear or lanczos")
        is_colour = isinstance(self.background, tuple) and len(self.background) == 3
        is_colour = is_colour and all(_is_int(sample) and 0 <= sample <= 255 for sample in self.background)
        _require(is_colour, "background", self.background, "three integers of 0..255")

    def to_json(self) -> dict[str, Any]:
        """JSON values; equal specifications give equal documents."""
        return {
            "size": self.size,
            "resize": self.resize,
            "crop_pct": float(self.crop_pct),
            "filter": self.filter,
            "background": list(self.background),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Missing, unknown or invalid keys raise ValueError."""
        if not isinstance(document, Mapping):
            raise ValueError(f"preprocessing is {document!r}; it must be an object")
        names = {field.name for field in fields(cls)}
        if unknown := sorted(document.keys() - names):
            raise ValueError(f"preprocessing has unknown keys {unknown}; known are {sorted(names)}")
        if missing := sorted(names - document.keys()):
            raise ValueError(f"preprocessing lacks the keys {missing}")
        background = document["background"]
        if isinstance(background, list):
            background = tuple(background)
        return cls(**{**document, "background": background})


def preprocess(image: Image.Image, spec: Preprocessing) -> npt.NDArray[np.uint8]:
    """An RGB image (ValueError for another mode) to uint8 [size, size, 3], contiguous and writable."""
    if image.mode != "RGB":
        raise ValueError(f"the image has mode {image.mode}; preprocess takes RGB, as decode returns it")
    if spec.resize == "crop":
        image = _limit_aspect(image)
    resized = image.resize(_resized_size(image.size, spec), _FILTERS[spec.filter])
    canvas = Image.new("RGB", (spec.size, spec.size), spec.background)
    canvas.paste(resized, (_offset(resized.width, spec.size), _offset(resized.height, spec.size)))
    return np.array(canvas)


def _resized_size(size: tuple[int, int], spec: Preprocessing) -> tuple[int, int]:
    """Rounded as torchvision's Resize (crop) and timm's ResizeKeepRatio (pad) do."""
    width, height = size
    scale = math.floor(spec.size / spec.crop_pct)
    match spec.resize:
        case "squash":
            return scale, scale
        case "crop":
            shorter = min(size)
            return (scale, scale * height // shorter) if width == shorter else (scale * width // shorter, scale)
        case "pad":
            ratio = max(width / scale, height / scale)
            return max(1, round(width / ratio)), max(1, round(height / ratio))


def _offset(length: int, size: int) -> int:
    """Where an axis of `length` starts on one of `size`, both centred; rounded as timm's CenterCropOrPad does."""
    return (size - length) // 2 if length < size else -round((length - size) / 2)


def _limit_aspect(image: Image.Image) -> Image.Image:
    longest = min(image.size) * _MAX_ASPECT
    if max(image.size) <= longest:
        return image
    width, height = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"preprocessing {name} is {value!r}; it must be {expected}")
