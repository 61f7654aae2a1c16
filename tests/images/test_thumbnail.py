from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lookalike_images import decode, sniff_format, thumbnail


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_thumbnail_is_a_webp_that_fits_and_keeps_proportions() -> None:
    data = thumbnail(noise(400, 300))
    assert sniff_format(data) == "WEBP"
    assert decode(data).size == (128, 96)


def test_small_picture_is_not_enlarged() -> None:
    assert decode(thumbnail(noise(40, 20))).size == (40, 20)


def test_colours_are_kept() -> None:
    pixels = np.asarray(decode(thumbnail(Image.new("RGB", (300, 300), (200, 30, 90))))).astype(int)
    assert np.abs(pixels - (200, 30, 90)).max() <= 8


@pytest.mark.parametrize("max_bytes", [1024, 4096, 8192])
def test_size_limit_holds_for_the_hardest_picture(max_bytes: int) -> None:
    data = thumbnail(noise(500, 500), max_bytes=max_bytes)
    assert len(data) <= max_bytes
    assert decode(data)


def test_quality_is_lowered_before_the_side() -> None:
    full = len(thumbnail(noise(500, 500)))
    lowered = thumbnail(noise(500, 500), max_bytes=full - 1)
    assert decode(lowered).size == (128, 128)


def test_no_metadata_travels() -> None:
    image = noise(64, 64)
    image.info = {"icc_profile": b"p" * 50_000, "exif": b"e" * 50_000}
    assert Image.open(BytesIO(thumbnail(image))).info.keys().isdisjoint({"icc_profile", "exif", "xmp"})


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000)])
def test_extreme_proportions_keep_a_pixel(size: tuple[int, int]) -> None:
    assert min(decode(thumbnail(Image.new("RGB", size))).size) == 1


@pytest.mark.parametrize("wrong", [{"side": 15}, {"side": 1025}, {"max_bytes": 1023}])
def test_values_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        thumbnail(Image.new("RGB", (8, 8)), **wrong)
