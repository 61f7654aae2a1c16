"""Which format a picture has, told by its first bytes and never by its name."""

from typing import Literal

from lookalike_images.iso_media import boxes_overrun, brands

PictureFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]

PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".hif"),
    )
)
"""File name suffixes, lower case with the dot, of the formats that `decode` reads."""

_PREFIXES: tuple[tuple[bytes, PictureFormat], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),  # BigTIFF
    (b"MM\x00\x2b", "TIFF"),
)
_BMP_HEADER_SIZES = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_BRANDS: dict[bytes, PictureFormat] = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIF"),
}


def sniff_format(data: bytes) -> PictureFormat | None:
    """The format of an encoded picture, or None when it is none that `decode` reads."""
    for prefix, name in _PREFIXES:
        if data.startswith(prefix):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data[4:8] == b"ftyp":
        return _sniff_brands(data)
    return None


def is_cut_short(data: bytes, picture_format: PictureFormat) -> bool:
    """Whether the container's own structure says that bytes are missing at the end; False where it doesn't tell."""
    match picture_format:
        case "JPEG":
            return b"\xff\xd9" not in data
        case "PNG":
            return b"IEND" not in data
        case "GIF":
            return b"\x3b" not in data[-16:]
        case "WEBP":
            return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "AVIF" | "HEIF":
            return boxes_overrun(data)
        case "BMP" | "TIFF":  # Pillow's own message says it
            return False


def _sniff_brands(data: bytes) -> PictureFormat | None:
    found = brands(data)
    for brand in found:
        if brand in _BRANDS:
            return _BRANDS[brand]
    return "HEIF" if b"mif1" in found or b"msf1" in found else None
