"""What the boxes of an ISO media file (HEIC, AVIF; ISO 14496-12 and 23008-12) say without decoding."""

from collections.abc import Iterator

_MAX_FTYP_BYTES = 256
_ISPE = b"\x00\x00\x00\x14ispe\x00\x00\x00\x00"  # size, type, version and flags; width and height follow


def brands(data: bytes) -> list[bytes]:
    """The major brand, then the compatible ones."""
    end = min(int.from_bytes(data[:4], "big"), _MAX_FTYP_BYTES)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]


def boxes_overrun(data: bytes) -> bool:
    """Whether the last top-level box says that it is longer than the data."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:  # to the end of the file
            return False
        at += max(size, 8)
    return at != len(data)


def stated_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each image item, before its clean aperture crops it: what will be decoded."""
    at = data.find(_ISPE)
    while at >= 0:
        start = at + len(_ISPE)
        yield int.from_bytes(data[start : start + 4], "big"), int.from_bytes(data[start + 4 : start + 8], "big")
        at = data.find(_ISPE, start)
