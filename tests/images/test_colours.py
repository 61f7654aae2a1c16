from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageChops

from lookalike_images import decode

Encode = Callable[..., bytes]
MakePng = Callable[..., bytes]


def pixels(data: bytes) -> list[list[int]]:
    """The first row."""
    row: list[list[int]] = np.asarray(decode(data))[0].tolist()
    return row


def test_grey_becomes_three_equal_channels(encode: Encode) -> None:
    image = Image.fromarray(np.array([[0, 77, 255]], np.uint8))
    assert pixels(encode(image, "PNG")) == [[0] * 3, [77] * 3, [255] * 3]


def test_one_bit_becomes_black_and_white(encode: Encode) -> None:
    image = Image.fromarray(np.array([[False, True]]))
    assert pixels(encode(image, "PNG")) == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("picture_format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(picture_format: str, encode: Encode) -> None:
    rgba = np.array([[[200, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51], [0, 200, 100, 128]]], np.uint8)
    options = {"lossless": True, "exact": True} if picture_format == "WEBP" else {}
    colour, alpha = rgba[0, :, :3].astype(float), rgba[0, :, 3:] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    actual = pixels(encode(Image.fromarray(rgba), picture_format, **options))
    assert np.abs(np.array(actual) - expected).max() <= 1
    assert actual[:2] == [[200, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("picture_format", ["HEIF", "AVIF"])
def test_alpha_of_lossy_formats_is_laid_over_white(picture_format: str, encode: Encode) -> None:
    image = decode(encode(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), picture_format))
    assert np.asarray(image).min() >= 250


def test_grey_with_alpha_is_laid_over_white(encode: Encode) -> None:
    image = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8))
    assert pixels(encode(image, "PNG")) == [[10] * 3, [255] * 3]


def palette_image() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = image.convert("P")
    image.putdata([0, 1, 2])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


@pytest.mark.parametrize("picture_format", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette_is_looked_up(picture_format: str, encode: Encode) -> None:
    assert pixels(encode(palette_image(), picture_format)) == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


@pytest.mark.parametrize("picture_format", ["PNG", "GIF"])
def test_transparent_palette_entry_shows_white(picture_format: str, encode: Encode) -> None:
    data = encode(palette_image(), picture_format, transparency=1)
    assert pixels(data) == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_palette_with_an_alpha_each_is_laid_over_white(encode: Encode) -> None:
    data = encode(palette_image(), "PNG", transparency=bytes([255, 0, 255]))
    assert pixels(data) == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]


def test_transparent_key_colour_shows_white(make_png: MakePng) -> None:
    rows = b"\0" + bytes([1, 2, 3, 4, 5, 6])
    assert pixels(make_png(2, 1, rows, before={b"tRNS": bytes([0, 1, 0, 2, 0, 3])})) == [[255] * 3, [4, 5, 6]]


def test_cmyk_tiff_is_converted(encode: Encode) -> None:
    cmyk = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], np.uint8)
    data = encode(Image.fromarray(cmyk, mode="CMYK"), "TIFF")
    assert pixels(data) == [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]]


def test_cmyk_jpeg_is_not_inverted(encode: Encode, picture: Image.Image) -> None:
    image = decode(encode(picture.convert("CMYK"), "JPEG", quality=95, subsampling=0))
    difference = np.asarray(ImageChops.difference(image, picture))
    assert difference.mean() < 6


GREY16 = np.array([0, 255, 256, 0x8000, 0xFEFF, 0xFFFF], np.uint16)
GREY16_EXPECTED = [[v] * 3 for v in (0, 0, 1, 128, 254, 255)]


def test_sixteen_bit_grey_png_is_scaled_not_clipped(make_png: MakePng) -> None:
    rows = b"\0" + GREY16.astype(">u2").tobytes()
    assert pixels(make_png(6, 1, rows, depth=16, colour_type=0)) == GREY16_EXPECTED


def test_sixteen_bit_grey_and_colour_agree(make_png: MakePng) -> None:
    rows = b"\0" + np.repeat(GREY16, 3).astype(">u2").tobytes()
    assert pixels(make_png(6, 1, rows, depth=16, colour_type=2)) == GREY16_EXPECTED


def test_sixteen_bit_grey_with_alpha_is_laid_over_white(make_png: MakePng) -> None:
    samples = np.array([0x1234, 0xFFFF, 0x1234, 0], ">u2")
    assert pixels(make_png(2, 1, b"\0" + samples.tobytes(), depth=16, colour_type=4)) == [[0x12] * 3, [255] * 3]


def test_sixteen_bit_grey_key_shows_white(make_png: MakePng) -> None:
    samples = np.array([0x1234, 0x1235], ">u2")
    data = make_png(2, 1, b"\0" + samples.tobytes(), depth=16, colour_type=0, before={b"tRNS": b"\x12\x34"})
    assert pixels(data) == [[255] * 3, [0x12] * 3]


def test_sixteen_bit_colour_key_shows_white(make_png: MakePng) -> None:
    samples = np.array([0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0], ">u2")
    key = samples[:3].tobytes()
    data = make_png(2, 1, b"\0" + samples.tobytes(), depth=16, colour_type=2, before={b"tRNS": key})
    assert pixels(data) == [[255] * 3, [255, 0, 0]]


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_sixteen_bit_tiff_is_scaled_not_clipped(options: dict[str, object], encode: Encode) -> None:
    assert pixels(encode(Image.fromarray(GREY16[None]), "TIFF", **options)) == GREY16_EXPECTED


def test_sixteen_bit_tiff_whose_white_is_zero_is_inverted(encode: Encode) -> None:
    data = encode(Image.fromarray(GREY16[None]), "TIFF")
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # PhotometricInterpretation, SHORT, one value
    at = data.index(tag) + len(tag)
    assert data[at] == 1
    inverted = data[:at] + b"\0" + data[at + 1 :]
    assert pixels(inverted) == [[255 - v[0]] * 3 for v in GREY16_EXPECTED]


def test_twelve_bit_tiff_reaches_white(encode: Encode) -> None:
    data = encode(Image.fromarray(np.zeros((1, 2), np.uint16)), "TIFF")
    bits = b"\x02\x01\x03\x00\x01\x00\x00\x00"  # BitsPerSample, SHORT, one value
    at = data.index(bits) + len(bits)
    data = data[:at] + b"\x0c" + data[at + 1 :]
    strips = b"\x11\x01\x04\x00\x01\x00\x00\x00"  # StripOffsets, LONG, one value
    start = int.from_bytes(data[data.index(strips) + 8 :][:4], "little")
    samples = b"\xff\xf0\x80\x00"  # 0xFFF, 0x080 and padding
    assert pixels(data[:start] + samples + data[start + 4 :]) == [[255] * 3, [8] * 3]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_white_level_are_stretched(dtype: type[np.generic], encode: Encode) -> None:
    samples = np.array([[-100, 0, 100, 300]], dtype)
    assert pixels(encode(Image.fromarray(samples), "TIFF")) == [[0] * 3, [64] * 3, [128] * 3, [255] * 3]


def test_floats_that_are_not_finite_do_no_harm(encode: Encode) -> None:
    samples = np.array([[np.nan, np.inf, -np.inf, 0.0]], np.float32)
    assert pixels(encode(Image.fromarray(samples), "TIFF")) == [[128] * 3, [255] * 3, [0] * 3, [128] * 3]


def test_constant_floats_are_black(encode: Encode) -> None:
    assert pixels(encode(Image.fromarray(np.full((1, 2), 7.0, np.float32)), "TIFF")) == [[0] * 3] * 2
