"""Whatever the bytes: an RGB image or a PictureError."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from lookalike_images import DecodeLimits, PictureError, decode

NAMES = [
    *("JPEG", "JPEG progressive", "PNG", "WEBP", "WEBP lossless", "GIF", "BMP", "TIFF", "TIFF deflate"),
    *("AVIF", "HEIF"),
]
# A flipped size must not make the test slow.
LIMITS = DecodeLimits(max_pixels=1_000_000)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", NAMES)
def test_cut_picture_is_refused_or_whole_never_half(name: str, encoded: dict[str, bytes]) -> None:
    data = encoded[name]
    whole = decode(data).tobytes()
    for length in range(0, len(data), max(1, len(data) // 150)):
        try:
            image = decode(data[:length], LIMITS)
        except PictureError:
            continue
        assert image.tobytes() == whole


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_raise_nothing_but_picture_error(name: str, encoded: dict[str, bytes]) -> None:
    random = np.random.default_rng(7)
    for trial in range(200):
        damaged = np.frombuffer(encoded[name], np.uint8).copy()
        # Half of the flips go to the header, where they do most.
        end = min(200, len(damaged)) if trial % 2 else len(damaged)
        at = random.integers(0, end, size=random.integers(1, 6))
        damaged[at] ^= (1 << random.integers(0, 8, size=len(at))).astype(np.uint8)
        try:
            image = decode(damaged.tobytes(), LIMITS)
        except PictureError:
            continue
        assert image.mode == "RGB"
        assert len(image.tobytes()) == image.width * image.height * 3


@pytest.mark.parametrize("name", NAMES)
def test_overwritten_bytes_raise_nothing_but_picture_error(name: str, encoded: dict[str, bytes]) -> None:
    random = np.random.default_rng(8)
    for _ in range(60):
        damaged = np.frombuffer(encoded[name], np.uint8).copy()
        start = int(random.integers(0, len(damaged)))
        damaged[start : start + 40] = random.integers(0, 256)
        with suppress(PictureError):
            decode(damaged.tobytes(), LIMITS)


def test_noise_after_a_known_signature_raises_nothing_but_picture_error(encoded: dict[str, bytes]) -> None:
    random = np.random.default_rng(9)
    for data in encoded.values():
        for _ in range(20):
            with pytest.raises(PictureError):
                decode(data[:18] + random.bytes(500), LIMITS)


def test_threads_do_not_disturb_one_another(encoded: dict[str, bytes]) -> None:
    names = NAMES * 8
    alone = {name: decode(encoded[name]).tobytes() for name in NAMES}
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda name: decode(encoded[name]).tobytes(), names)
        assert all(pixels == alone[name] for name, pixels in zip(names, together, strict=True))
