"""Random changes to pictures, a whole batch at once, each picture with its own.

torchvision's transforms take one set of parameters a batch; one affine grid and one linear colour map for all pictures
cost a fraction of changing them one by one.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lookalike_trainer.training.recipe import AugmentRecipe
from lookalike_trainer.training.sampler import stream_key

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_YIQ = (_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
_DRAWS = 10


def draw(seed: int, epoch: int, first: int, count: int) -> NDArray[np.float32]:
    """float32 [count, 10] in 0..1: row i is a hash of (seed, epoch, first + i), whatever else is drawn."""
    rows = [
        np.random.Generator(np.random.Philox(key=stream_key("augment", seed, epoch, index))).random(_DRAWS)
        for index in range(first, first + count)
    ]
    return np.stack(rows).astype(np.float32)


def augment(pixels: Tensor, recipe: AugmentRecipe, draws: NDArray[np.float32]) -> Tensor:
    """uint8 [n, s, s, 3] → float32 [n, 3, s, s] in 0..255, channels last in memory.

    Args:
        draws: float32 [n, 10] in 0..1, from `draw`; on the CPU.
    """
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    random = torch.from_numpy(draws).to(pixels.device)
    if _moves(recipe):
        images = _move(images, recipe, random[:, :6])
    if _colours(recipe):
        images = _recolour(images, recipe, random[:, 6:])
    return images


def _moves(recipe: AugmentRecipe) -> bool:
    return any((recipe.rotation, recipe.shift, recipe.shear, recipe.flip)) or recipe.scale != (1.0, 1.0)


def _colours(recipe: AugmentRecipe) -> bool:
    return any((recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue))


def _move(images: Tensor, recipe: AugmentRecipe, random: Tensor) -> Tensor:
    grid = affine_grid(_placement(recipe, random), list(images.shape), align_corners=False)
    if recipe.fill == "white":
        return grid_sample(images - 255, grid, padding_mode="zeros", align_corners=False) + 255
    mode = "border" if recipe.fill == "edge" else "reflection"
    return grid_sample(images, grid, padding_mode=mode, align_corners=False)


def _placement(recipe: AugmentRecipe, random: Tensor) -> Tensor:
    """float [n, 2, 3]: for each place in the result, where in the picture it comes from (both in −1..1)."""
    turn = _between(random[:, 0], -recipe.rotation, recipe.rotation) * (math.pi / 180)
    slant = torch.tan(_between(random[:, 1], -recipe.shear, recipe.shear) * (math.pi / 180))
    low, high = map(math.log, recipe.scale)
    size = torch.exp(_between(random[:, 2], low, high))
    across, down = (_between(random[:, i], -2 * recipe.shift, 2 * recipe.shift) for i in (3, 4))
    mirror = torch.where(random[:, 5] < (0.5 if recipe.flip else 0.0), -1.0, 1.0)
    cos, sin = turn.cos() / size, turn.sin() / size
    first = torch.stack([cos * mirror, cos * slant - sin, across], dim=1)
    second = torch.stack([sin * mirror, sin * slant + cos, down], dim=1)
    return torch.stack([first, second], dim=1)


def _recolour(images: Tensor, recipe: AugmentRecipe, random: Tensor) -> Tensor:
    """Hue and saturation, then brightness, then contrast about the mean grey: one 3 × 3 map and an offset a picture."""
    brightness, contrast, saturation = (
        _between(random[:, i], 1 - x, 1 + x).view(-1, 1, 1) for i, x in enumerate((recipe.brightness, recipe.contrast, recipe.saturation))
    )
    luma = images.new_tensor(_LUMA)
    grey = luma.expand(3, 3)
    saturate = saturation * torch.eye(3, device=images.device) + (1 - saturation) * grey
    turn = _turned_hue(_between(random[:, 3], -recipe.hue, recipe.hue) * (2 * math.pi))
    colours = brightness * contrast * (saturate @ turn)
    flat = images.permute(0, 2, 3, 1).flatten(1, 2)
    mean = (flat.mean(1) @ luma).view(-1, 1, 1) * brightness
    offset = ((1 - contrast) * mean).expand(-1, 1, 3)
    changed = torch.baddbmm(offset, flat, colours.transpose(1, 2)).clamp_(0, 255)
    return changed.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)


def _turned_hue(angle: Tensor) -> Tensor:
    """float [n, 3, 3]: a turn of the colour plane of YIQ, on RGB."""
    to_yiq = angle.new_tensor(_YIQ)
    nothing, whole = torch.zeros_like(angle), torch.ones_like(angle)
    cos, sin = angle.cos(), angle.sin()
    rows = ((whole, nothing, nothing), (nothing, cos, -sin), (nothing, sin, cos))
    turn = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    result: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return result


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + uniform * (high - low)
