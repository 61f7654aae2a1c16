"""Encoded pictures as a camera or a shop gives them: JPEG, a few hundred pixels a side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike_images import PICTURE_SUFFIXES, decode

_QUALITY = 88
# The amplitude of photographs falls with about this power of the frequency (Field 1987, 10.1364/JOSAA.4.002379).
_FALL = 1.1


def jpegs(count: int, side: int, folder: Path | None, seed: int = 1) -> list[bytes]:
    """Return `count` JPEGs of `side` × `side` pixels: those of a folder, scaled, or else drawn with the spectrum of photographs."""
    files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        return [_jpeg(drawn(side, seed + number)) for number in range(count)]
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    scaled = [_jpeg(decode(files[at].read_bytes()).resize((side, side), Image.Resampling.BICUBIC)) for at in chosen]
    return (scaled * (count // len(scaled) + 1))[:count]


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
