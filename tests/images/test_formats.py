from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from lookalike_images import PICTURE_SUFFIXES, decode, sniff_format

Encode = Callable[..., bytes]

LOSSLESS = ["PNG", "WEBP lossless", "GIF", "BMP", "TIFF", "TIFF deflate"]
LOSSY = ["JPEG", "JPEG progressive", "WEBP", "AVIF", "HEIF"]


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_format_decodes_to_exactly_its_pixels(name: str, encoded: dict[str, bytes], picture: Image.Image) -> None:
    image = decode(encoded[name])
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(picture))


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_format_decodes_near_its_pixels(name: str, encoded: dict[str, bytes], picture: Image.Image) -> None:
    image = decode(encoded[name])
    assert image.mode == "RGB"
    assert image.size == picture.size
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(picture).astype(int))
    assert difference.mean() < 6


@pytest.mark.parametrize("name", LOSSLESS + LOSSY)
def test_format_is_told_by_content(name: str, encoded: dict[str, bytes]) -> None:
    assert sniff_format(encoded[name]) == name.split()[0]


@pytest.mark.parametrize("data", [b"", b"BM", b"BMW is a make of car, not a bitmap", b"RIFF....WAVE", b"\0\0\0\x18ftypmp42"])
def test_other_content_has_no_format(data: bytes) -> None:
    assert sniff_format(data) is None


def test_heic_with_a_general_major_brand_is_told_by_its_compatible_brands() -> None:
    def start(*brands: bytes) -> bytes:
        body = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
        return (len(body) + 4).to_bytes(4, "big") + body

    assert sniff_format(start(b"mif1", b"mif1", b"avif")) == "AVIF"
    assert sniff_format(start(b"mif1", b"mif1", b"heic")) == "HEIF"
    assert sniff_format(start(b"mif1", b"mif1")) == "HEIF"


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_several_is_taken(picture_format: str, encode: Encode) -> None:
    first, second = Image.new("RGB", (20, 10), (255, 0, 0)), Image.new("RGB", (20, 10), (0, 0, 255))
    options = {"lossless": True} if picture_format == "WEBP" else {}
    image = decode(encode(first, picture_format, save_all=True, append_images=[second], **options))
    assert image.getcolors() == [(200, (255, 0, 0))]


def test_metadata_does_not_survive(encode: Encode, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a private remark"
    data = encode(picture, "JPEG", exif=exif, icc_profile=b"profile", comment=b"a private remark")
    assert decode(data).info == {}


def test_suffixes_are_lower_case_with_their_dot() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".heic", ".gif", ".bmp", ".tiff", ".avif"} <= PICTURE_SUFFIXES
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in PICTURE_SUFFIXES)
    assert ".svg" not in PICTURE_SUFFIXES


def test_large_jpeg_is_decoded_whole(encode: Encode) -> None:
    """At a fraction of its size it would have another vector."""
    assert decode(encode(Image.new("RGB", (3000, 2000)), "JPEG")).size == (3000, 2000)
