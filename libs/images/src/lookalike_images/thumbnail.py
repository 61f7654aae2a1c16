"""Small pictures that travel with search results."""

from io import BytesIO

from PIL import Image

_QUALITIES = (80, 60, 40, 20)
_MIN_BYTES = 1024


def thumbnail(image: Image.Image, side: int = 128, max_bytes: int = 32 * 1024) -> bytes:
    """A WebP of at most `max_bytes` bytes (≥ 1,024) that fits into `side` × `side` pixels (16..1024).

    Keeps the proportions, never enlarges, carries no metadata. Lowers the quality until it fits, then the side.
    Raises ValueError for values out of range.
    """
    if not 16 <= side <= 1024:
        raise ValueError(f"side is {side}; it must be 16..1024")
    if max_bytes < _MIN_BYTES:
        raise ValueError(f"max_bytes is {max_bytes}; it must be at least {_MIN_BYTES}")
    while True:
        small = _fitted(image, side)
        for quality in _QUALITIES:
            encoded = _webp(small, quality)
            if len(encoded) <= max_bytes:
                return encoded
        side = max(1, side // 2)  # ends: one pixel takes less than _MIN_BYTES


def _fitted(image: Image.Image, side: int) -> Image.Image:
    ratio = min(1.0, side / max(image.size))
    size = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
