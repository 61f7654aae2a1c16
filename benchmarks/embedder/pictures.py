"""Encoded pictures as a camera or a shop gives them: JPEG, a few hundred pixels a side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from lookalike_images import PICTURE_SUFFIXES, decode

_QUALITY = 88
_SMALLEST = 0.6
# The amplitude of photographs falls with about this power of the frequency (Field 1987, 10.1364/JOSAA.4.002379).
_FALL = 1.1


def jpegs(count: int, side: int, folder: Path | None, seed: int = 1) -> list[bytes]:
    """Return `count` JPEGs of `side` × `side` pixels: the pictures of a folder, scaled, or else crops of two photographs."""
    files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    rng = np.random.default_rng(seed)
    if not files:
        photographs = [Image.fromarray(each) for each in load_sample_images().images]
        return [_jpeg(_crop(photographs[number % len(photographs)], side, rng)) for number in range(count)]
    chosen = rng.permutation(len(files))[:count]
    scaled = [_jpeg(decode(files[at].read_bytes()).resize((side, side), Image.Resampling.BICUBIC)) for at in chosen]
    return (scaled * (count // len(scaled) + 1))[:count]


def drawn_jpegs(count: int, side: int, seed: int = 1) -> list[bytes]:
    """Return `count` JPEGs of `side` × `side` pixels, drawn with the spectrum of photographs, as sharp at any size."""
    return [_jpeg(drawn(side, seed + number)) for number in range(count)]


def _crop(photograph: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """Return a square of a photograph, of `_SMALLEST` to all of its lesser side, as `side` × `side` pixels."""
    edge = int(min(photograph.size) * rng.uniform(_SMALLEST, 1))
    left, top = (int(rng.integers(length - edge + 1)) for length in photograph.size)
    return photograph.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + edge, top + edge))


def drawn(side: int, seed: int) -> Image.Image:
    """Return noise with the spectrum of photographs over a gradient, RGB."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((side, side, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    noise = np.fft.irfft2(spectrum / frequency[..., None] ** _FALL, (side, side), axes=(0, 1))
    gradient = np.linspace(-0.5, 0.5, side)[:, None, None] * rng.standard_normal(3)
    samples = 127 + 127 * (noise / (4 * noise.std()) + gradient)
    return Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format="JPEG", quality=_QUALITY)
    return encoded.getvalue()
