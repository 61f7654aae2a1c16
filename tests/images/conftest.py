"""Encoded pictures, made here: nothing is read from disk."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

Encode = Callable[..., bytes]
MakePng = Callable[..., bytes]


def _encode(image: Image.Image, picture_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    if picture_format == "HEIF":
        exif = options.pop("exif", None)
        heif = pillow_heif.from_pillow(image)
        heif.save(buffer, **{"quality": 90, "exif": exif, **options})
    else:
        image.save(buffer, picture_format, **options)
    return buffer.getvalue()


def _make_png(
    width: int, height: int, rows: bytes, depth: int = 8, colour_type: int = 2, before: dict[bytes, bytes] | None = None
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    extra = b"".join(chunk(kind, body) for kind, body in (before or {}).items())
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def encode() -> Encode:
    """encode(image, format, **options) -> bytes"""
    return _encode


@pytest.fixture(scope="session")
def make_png() -> MakePng:
    """make_png(width, height, rows with filter bytes, depth, colour_type, {chunk: body}) -> bytes, by hand"""
    return _make_png


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """RGB, 96 × 64, blocks of 16 pixels: not square, no symmetry, friendly to lossy formats."""
    colours = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((16, 16, 1), np.uint8)))


@pytest.fixture(scope="session")
def encoded(picture: Image.Image) -> dict[str, bytes]:
    """The picture in each format that decode reads; some in two codings."""
    return {
        "JPEG": _encode(picture, "JPEG", quality=95, subsampling=0),
        "JPEG progressive": _encode(picture, "JPEG", quality=95, subsampling=0, progressive=True),
        "PNG": _encode(picture, "PNG"),
        "WEBP": _encode(picture, "WEBP", quality=95),
        "WEBP lossless": _encode(picture, "WEBP", lossless=True),
        "GIF": _encode(picture, "GIF"),
        "BMP": _encode(picture, "BMP"),
        "TIFF": _encode(picture, "TIFF"),
        "TIFF deflate": _encode(picture, "TIFF", compression="tiff_adobe_deflate"),
        "AVIF": _encode(picture, "AVIF", quality=95, subsampling="4:4:4"),
        "HEIF": _encode(picture, "HEIF", chroma=444),
    }
