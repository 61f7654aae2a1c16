"""Draw the golden pictures: procedural textures, no photo of anybody, the same on every run.

    python libs/model/golden/make_golden.py OUTPUT_FOLDER

Each has detail as fine as a pixel and unlike channels, so that another resize filter, other colours or a lost rotation
show in its vector. Encoders change between versions of Pillow: files that are already part of bundles stay as they are.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def texture(width: int, height: int, seed: int) -> Pixels:
    """RGB uint8 [height, width, 3]: waves whose length shrinks to two pixels, blobs, sharp edges and a little noise."""
    random = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = []
    for channel in range(3):
        turn = random.uniform(0, np.pi)
        along = (np.cos(turn) * x + np.sin(turn) * y) / max(width, height)
        chirp = np.sin(np.pi * max(width, height) * (0.08 * along + 0.3 * along**2) + channel)
        centre = random.uniform(0.2, 0.8, 2) * (width, height)
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (0.08 * width * height))
        edge = ((x // random.integers(9, 23) + y // random.integers(9, 23)) % 2) * 2 - 1
        mixed = random.dirichlet((2, 2, 1)) @ np.stack([chirp, 2 * blob - 1, edge]).reshape(3, -1)
        channels.append(mixed.reshape(height, width) * 100 + random.uniform(90, 160))
    noise = random.normal(0, 6, (height, width, 3))
    return np.clip(np.stack(channels, axis=-1) + noise, 0, 255).astype(np.uint8)


def encode(image: Image.Image, picture_format: str, **options: object) -> bytes:
    """A picture's bytes in a format of Pillow's."""
    file = BytesIO()
    image.save(file, picture_format, **options)
    return file.getvalue()


def exif_rotated_jpeg() -> bytes:
    """Lies on its side; its EXIF orientation says so."""
    image = Image.fromarray(texture(180, 120, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, "JPEG", quality=80, exif=exif)


def cmyk_jpeg() -> bytes:
    """Four channels of ink, as print shops send them."""
    return encode(Image.fromarray(texture(128, 128, 2)).convert("CMYK"), "JPEG", quality=75)


def alpha_png() -> bytes:
    """A disc with a soft rim on a transparent ground."""
    pixels = texture(96, 96, 3)
    y, x = np.mgrid[0:96, 0:96]
    alpha = np.clip((46 - np.hypot(x - 48, y - 48)) * 24, 0, 255).astype(np.uint8)
    return encode(Image.fromarray(np.dstack([pixels // 8 * 8, alpha])), "PNG", optimize=True)


def palette_png() -> bytes:
    """Sixteen colours and a table."""
    image = Image.fromarray(texture(150, 110, 4)).quantize(16, dither=Image.Dither.NONE)
    return encode(image, "PNG", optimize=True)


def wide_jpeg() -> bytes:
    """Three times as wide as high."""
    return encode(Image.fromarray(texture(300, 100, 5)), "JPEG", quality=80)


def tall_webp() -> bytes:
    """Three times as high as wide."""
    return encode(Image.fromarray(texture(100, 300, 6)), "WEBP", quality=80)


def sixteen_bit_png() -> bytes:
    """Grey with 65,536 levels."""
    pixels = texture(80, 80, 7)
    return encode(Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1] // 64), "PNG", optimize=True)


def grey_jpeg() -> bytes:
    """One channel."""
    return encode(Image.fromarray(texture(140, 140, 8)[..., 1]), "JPEG", quality=80)


def small_png() -> bytes:
    """Has to be enlarged by every network."""
    return encode(Image.fromarray(texture(24, 20, 9)), "PNG", optimize=True)


def large_jpeg() -> bytes:
    """Has to be reduced by most networks, so that the resize filter matters."""
    return encode(Image.fromarray(texture(420, 360, 10)), "JPEG", quality=60)


PICTURES: dict[str, Callable[[], bytes]] = {
    "alpha.png": alpha_png,
    "cmyk.jpg": cmyk_jpeg,
    "exif_rotated.jpg": exif_rotated_jpeg,
    "grey.jpg": grey_jpeg,
    "large.jpg": large_jpeg,
    "palette.png": palette_png,
    "sixteen_bit.png": sixteen_bit_png,
    "small.png": small_png,
    "tall.webp": tall_webp,
    "wide.jpg": wide_jpeg,
}


def main(folder: Path) -> None:
    """Write each picture into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / name).write_bytes(draw())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
