from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from lookalike_images import decode

Encode = Callable[..., bytes]

# What a camera does to the upright scene before it notes the orientation: EXIF 2.32, 4.6.4.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIF": {"chroma": 444},
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_picture_comes_out_upright(picture_format: str, orientation: int, encode: Encode, picture: Image.Image) -> None:
    upright = np.asarray(picture)
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, picture_format, exif=exif.tobytes(), **OPTIONS.get(picture_format, {}))
    actual = np.asarray(decode(data))
    assert actual.shape == upright.shape
    assert np.abs(actual.astype(int) - upright.astype(int)).mean() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"])
def test_damaged_exif_is_ignored(exif: bytes, encode: Encode, picture: Image.Image) -> None:
    assert decode(encode(picture, "JPEG", exif=exif)).size == picture.size


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range_is_ignored(orientation: int, encode: Encode, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(picture, "JPEG", exif=exif)).size == picture.size
