import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike_images import Preprocessing, ResizeFilter, ResizeMode, preprocess


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """RGB, 157 × 101, smooth with detail."""
    y, x = np.mgrid[:101, :157]
    channels = [127 + 127 * np.sin(x * a + y * b) for a, b in ((0.11, 0.3), (0.7, 0.05), (0.02, 0.9))]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


TIMM_MODE = {"squash": "squash", "crop": "center", "pad": "border"}


@pytest.mark.parametrize("size", [32, 75, 224])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_pixels_are_those_of_timms_evaluation_transform(
    resize: ResizeMode, name: ResizeFilter, crop_pct: float, size: int, photo: Image.Image
) -> None:
    transforms = pytest.importorskip("timm.data.transforms_factory")
    spec = Preprocessing(size, resize, crop_pct, name, background=(51, 102, 204))
    peer = transforms.transforms_imagenet_eval(size, crop_pct, TIMM_MODE[resize], interpolation=name, mean=(0.2, 0.4, 0.8), normalize=False)
    for image in (photo, photo.transpose(Image.Transpose.ROTATE_90)):
        expected = peer(image).permute(1, 2, 0).numpy()
        assert np.array_equal(preprocess(image, spec), expected)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_result_is_a_contiguous_writable_square(resize: ResizeMode, photo: Image.Image) -> None:
    pixels = preprocess(photo, Preprocessing(64, resize))
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_squash_shows_all_of_the_picture() -> None:
    halves = Image.new("RGB", (200, 50), (255, 0, 0))
    halves.paste((0, 0, 255), (100, 0, 200, 50))
    pixels = preprocess(halves, Preprocessing(20, "squash"))
    assert (pixels[:, :8] == (255, 0, 0)).all()
    assert (pixels[:, 12:] == (0, 0, 255)).all()


def test_crop_shows_the_centre_only() -> None:
    thirds = Image.new("RGB", (150, 50), (255, 0, 0))
    thirds.paste((0, 255, 0), (50, 0, 100, 50))
    pixels = preprocess(thirds, Preprocessing(50, "crop"))
    assert (pixels == (0, 255, 0)).all()


def test_pad_keeps_proportions_on_the_background() -> None:
    pixels = preprocess(Image.new("RGB", (100, 50), (9, 9, 9)), Preprocessing(40, "pad", background=(1, 2, 3)))
    assert (pixels[10:30] == 9).all()
    assert (pixels[:10] == (1, 2, 3)).all()
    assert (pixels[30:] == (1, 2, 3)).all()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(200_000, 1), (1, 200_000), (1, 1)])
def test_extreme_proportions_stay_small(size: tuple[int, int], resize: ResizeMode, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    original = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        nonlocal largest
        largest = max(largest, math.prod(size))
        return original(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    pixels = preprocess(Image.new("RGB", size, (5, 6, 7)), Preprocessing(64, resize))
    assert (pixels == (5, 6, 7)).all(axis=-1).any()
    assert 0 < largest <= 16 * 64 * 64


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="mode RGBA"):
        preprocess(Image.new("RGBA", (4, 4)), Preprocessing(16))


def test_json_comes_back_as_it_went() -> None:
    spec = Preprocessing(96, "pad", 0.9, "lanczos", (1, 2, 3))
    assert Preprocessing.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_equal_specifications_give_equal_json() -> None:
    assert json.dumps(Preprocessing(96, crop_pct=1).to_json()) == json.dumps(Preprocessing(96, crop_pct=1.0).to_json())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 15),
        ("size", 1025),
        ("size", 96.0),
        ("size", True),
        ("size", "96"),
        ("resize", "stretch"),
        ("resize", ["crop"]),
        ("crop_pct", 0.49),
        ("crop_pct", 1.01),
        ("crop_pct", math.nan),
        ("crop_pct", "1"),
        ("filter", "nearest"),
        ("filter", None),
        ("background", [0, 0]),
        ("background", [0, 0, 256]),
        ("background", [0, 0, 0.5]),
        ("background", "white"),
    ],
)
def test_value_out_of_range_is_refused_by_name(key: str, value: object) -> None:
    document = Preprocessing(96).to_json() | {key: value}
    with pytest.raises(ValueError, match=key):
        Preprocessing.from_json(document)


def test_unknown_and_missing_keys_are_refused() -> None:
    document = Preprocessing(96).to_json()
    with pytest.raises(ValueError, match="sharpen"):
        Preprocessing.from_json(document | {"sharpen": 1})
    del document["filter"]
    with pytest.raises(ValueError, match="filter"):
        Preprocessing.from_json(document)
    with pytest.raises(ValueError, match="object"):
        Preprocessing.from_json([1])  # type: ignore[arg-type]
