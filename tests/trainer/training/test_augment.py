"""Augmentation: each picture's own, from a hash; checked against plain maths."""

import colorsys

import numpy as np
import pytest
import torch

from lookalike_trainer.training.augment import augment, draw
from lookalike_trainer.training.recipe import AugmentRecipe

STILL = AugmentRecipe(rotation=0, shift=0, scale=(1.0, 1.0), shear=0, brightness=0, contrast=0, saturation=0, hue=0, flip=False)


def change(**values: object) -> AugmentRecipe:
    return AugmentRecipe.model_validate({**STILL.model_dump(), **values})


@pytest.fixture
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8, generator=generator)


def channels(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).float()


def test_a_pictures_randomness_is_a_hash_of_seed_epoch_and_index() -> None:
    together = draw(1, 2, 0, 10)
    np.testing.assert_array_equal(together[4:6], draw(1, 2, 4, 2))
    assert not np.array_equal(together, draw(1, 3, 0, 10))
    assert not np.array_equal(together, draw(2, 2, 0, 10))
    assert len({row.tobytes() for row in together}) == 10
    assert 0.4 < draw(0, 0, 0, 500).mean() < 0.6


def test_a_picture_is_changed_the_same_in_any_batch(pixels: torch.Tensor) -> None:
    draws = draw(0, 0, 0, 6)
    whole = augment(pixels, AugmentRecipe(), draws)
    torch.testing.assert_close(whole[2:4], augment(pixels[2:4], AugmentRecipe(), draws[2:4]), atol=1e-3, rtol=0)


def test_no_change_is_no_change(pixels: torch.Tensor) -> None:
    torch.testing.assert_close(augment(pixels, STILL, draw(0, 0, 0, 6)), channels(pixels))


def test_values_stay_in_range_and_channels_lie_last(pixels: torch.Tensor) -> None:
    changed = augment(pixels, AugmentRecipe(), draw(0, 0, 0, 6))
    assert changed.shape == (6, 3, 16, 16)
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not torch.equal(changed, channels(pixels))


def test_a_flip_mirrors(pixels: torch.Tensor) -> None:
    draws = np.full((6, 10), 0.5, dtype=np.float32)
    draws[:3, 5] = 0.1
    draws[3:, 5] = 0.9
    changed = augment(pixels, change(flip=True), draws)
    torch.testing.assert_close(changed[:3], channels(pixels)[:3].flip(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(changed[3:], channels(pixels)[3:], atol=1e-2, rtol=0)


def test_a_quarter_turn_turns(pixels: torch.Tensor) -> None:
    draws = np.full((6, 10), 0.5, dtype=np.float32)
    draws[:, 0] = 1.0
    turned = augment(pixels, change(rotation=90), draws)
    expected = torch.rot90(channels(pixels), 1, (2, 3))
    other_way = torch.rot90(channels(pixels), -1, (2, 3))
    errors = [(turned - each).abs().max() for each in (expected, other_way)]
    assert min(errors) < 1e-1


def test_a_shift_moves_by_its_share_and_fills_as_asked() -> None:
    black = torch.zeros((1, 16, 16, 3), dtype=torch.uint8)
    draws = np.full((1, 10), 0.5, dtype=np.float32)
    draws[:, 3] = 1.0
    white = augment(black, change(shift=0.25, fill="white"), draws)
    assert (white[..., :12] < 1).all()
    assert (white[..., 12:] > 254).all()
    assert (augment(black, change(shift=0.25, fill="edge"), draws) == 0).all()


def test_a_scale_above_one_enlarges() -> None:
    dot = torch.zeros((1, 32, 32, 3), dtype=torch.uint8)
    dot[:, 12:20, 12:20] = 255
    draws = np.full((1, 10), 0.5, dtype=np.float32)
    area = [float(augment(dot, change(scale=(s, s)), draws).sum()) for s in (0.5, 1.0, 2.0)]
    assert area[0] < 0.5 * area[1]
    assert area[2] > 2 * area[1]


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation"])
def test_colours_change_as_in_torchvision(pixels: torch.Tensor, part: str) -> None:
    from torchvision.transforms.v2 import functional

    index = {"brightness": 6, "contrast": 7, "saturation": 8}[part]
    draws = np.full((6, 10), 0.5, dtype=np.float32)
    draws[:, index] = 0.1
    changed = augment(pixels, change(**{part: 0.5}), draws)
    adjust = getattr(functional, f"adjust_{part}")
    expected = adjust(channels(pixels) / 255, 1 - 0.5 + 0.1) * 255
    torch.testing.assert_close(changed, expected, atol=0.1, rtol=0)


def test_hue_turns_red_towards_yellow_or_violet() -> None:
    red = torch.zeros((1, 4, 4, 3), dtype=torch.uint8)
    red[..., 0] = 200
    hues = []
    for value in (0.0, 1.0):
        draws = np.full((1, 10), 0.5, dtype=np.float32)
        draws[:, 9] = value
        colour = augment(red, change(hue=0.1), draws)[0, :, 0, 0] / 255
        hues.append(colorsys.rgb_to_hsv(*colour.tolist())[0])
    assert {0.02 < hue < 0.2 for hue in hues} == {True, False}
    assert any(hue > 0.8 for hue in hues)
