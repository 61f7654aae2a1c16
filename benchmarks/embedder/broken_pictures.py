"""Pictures broken by a fuzzer with a fixed seed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pillow_heif
from PIL import Image

KINDS = ("truncated", "flipped", "lying header", "bomb", "empty", "text", "zip", "svg")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")


class Broken(NamedTuple):
    """What was done, to which format, and the bytes."""

    kind: str
    data: bytes


def broken_pictures(count: int, seed: int) -> list[Broken]:
    """Return `count` broken pictures, of every kind and format in turn."""
    rng = np.random.default_rng(seed)
    whole = {name: _encode(rng, name) for name in _FORMATS}
    return [_break(rng, KINDS[number % len(KINDS)], whole, number) for number in range(count)]


def _break(rng: np.random.Generator, kind: str, whole: dict[str, bytes], number: int) -> Broken:
    name = _FORMATS[number // len(KINDS) % len(_FORMATS)]
    data = whole[name]
    match kind:
        case "truncated":
            return Broken(kind, data[: int(rng.integers(1, len(data) * 9 // 10))])
        case "flipped":
            return Broken(kind, _flip(rng, data))
        case "lying header":
            return Broken(kind, _lie(rng, name, data))
        case "bomb":
            return Broken(kind, _bomb(int(rng.integers(9_000, 60_000))))
        case "empty":
            return Broken(kind, b"")
        case "text":
            return Broken(kind, rng.integers(32, 127, int(rng.integers(1, 5_000)), dtype=np.uint8).tobytes())
        case "zip":
            return Broken(kind, _zip(data))
        case _:
            return Broken(kind, b"<svg xmlns='http://www.w3.org/2000/svg' width='%d'/>" % rng.integers(1, 1_000))


def _encode(rng: np.random.Generator, name: str) -> bytes:
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((120, 90))
    encoded = io.BytesIO()
    if name == "HEIF":
        pillow_heif.from_pillow(image).save(encoded, quality=90)
    else:
        image.save(encoded, format=name)
    return encoded.getvalue()


def _flip(rng: np.random.Generator, data: bytes) -> bytes:
    """Flip up to eight bits, half of the time in the header, where they do most."""
    damaged = np.frombuffer(data, np.uint8).copy()
    end = min(200, len(damaged)) if rng.random() < 0.5 else len(damaged)
    at = rng.integers(0, end, rng.integers(1, 9))
    damaged[at] ^= (1 << rng.integers(0, 8, len(at))).astype(np.uint8)
    return damaged.tobytes()


def _lie(rng: np.random.Generator, name: str, data: bytes) -> bytes:
    """Let the header state another size than the picture has."""
    width, height = (int(side) for side in rng.integers(200, 12_000, 2))
    for at, size in _size_fields(name, data, width, height):
        data = data[:at] + size + data[at + len(size) :]
    return data


def _size_fields(name: str, data: bytes, width: int, height: int) -> Iterator[tuple[int, bytes]]:
    match name:
        case "JPEG":
            yield data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width)
        case "PNG":  # with the checksum that belongs to it
            header = struct.pack(">II", width, height) + data[24:29]
            yield 16, header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        case "WEBP":
            yield data.index(b"\x9d\x01\x2a") + 3, struct.pack("<HH", width, height)
        case "GIF":
            yield 6, struct.pack("<HH", width, height)
        case "BMP":
            yield 18, struct.pack("<II", width, height)
        case "TIFF":
            for tag, side in ((b"\x00\x01", width), (b"\x01\x01", height)):
                field = next(at for kind in (b"\x03", b"\x04") if (at := data.find(tag + kind + b"\x00\x01\x00\x00\x00")) >= 0)
                yield field + 2, struct.pack("<HII", 4, 1, side)
        case _:
            yield data.index(b"ispe\0\0\0\0") + 8, struct.pack(">II", width, height)


def _bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that states `side` × `side` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def _zip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("picture.jpg"), data)
    return packed.getvalue()
