import pickle
import resource
import struct
import sys
import tracemalloc
from collections.abc import Callable

import pytest
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from pillow_heif import HeifImageFile

from lookalike_images import DecodeLimits, PictureError, PictureReason, decode

Encode = Callable[..., bytes]
MakePng = Callable[..., bytes]


def refusal(data: bytes, *limits: DecodeLimits) -> PictureError:
    with pytest.raises(PictureError) as caught:
        decode(data, *limits)
    return caught.value


def test_empty() -> None:
    error = refusal(b"")
    assert error.reason is PictureReason.EMPTY
    assert "0 bytes" in str(error)


@pytest.mark.parametrize("data", [b"a shopping list", b"\0" * 100, b"%PDF-1.7 ...", b"<svg xmlns='...'/>", b"8BPS\0\1"])
def test_what_is_no_known_picture_is_unsupported(data: bytes) -> None:
    error = refusal(data)
    assert error.reason is PictureReason.UNSUPPORTED_FORMAT
    assert "JPEG" in str(error)


@pytest.mark.parametrize("picture_format", ["PPM", "TGA", "ICO", "JPEG2000", "PCX", "EPS", "ICNS"])
def test_other_formats_of_pillow_are_unsupported(picture_format: str, encode: Encode) -> None:
    image = Image.new("RGB", (32, 32))
    assert refusal(encode(image, picture_format)).reason is PictureReason.UNSUPPORTED_FORMAT


def test_too_many_bytes_names_value_and_limit(encoded: dict[str, bytes]) -> None:
    data = encoded["PNG"]
    assert decode(data, DecodeLimits(max_bytes=len(data)))
    error = refusal(data, DecodeLimits(max_bytes=len(data) - 1))
    assert error.reason is PictureReason.TOO_MANY_BYTES
    assert f"{len(data):,}" in str(error)
    assert f"{len(data) - 1:,}" in str(error)


def test_too_many_pixels_names_value_and_limit_in_every_format(encoded: dict[str, bytes], picture: Image.Image) -> None:
    pixels = picture.width * picture.height
    for data in encoded.values():
        assert decode(data, DecodeLimits(max_pixels=pixels))
        error = refusal(data, DecodeLimits(max_pixels=pixels - 1))
        assert error.reason is PictureReason.TOO_MANY_PIXELS
        assert "96 × 64 = 6,144" in str(error)
        assert "6,143" in str(error)


def patched(data: bytes, after: bytes, replacement: bytes, skip: int = 0) -> bytes:
    at = data.index(after) + len(after) + skip
    return data[:at] + replacement + data[at + len(replacement) :]


def huge(picture_format: str, encode: Encode, make_png: MakePng) -> bytes:
    """A small file whose header says 30,000 × 30,000, or as much as its format's reader lets through."""
    if picture_format == "PNG":
        return make_png(30_000, 30_000, bytes(100))
    data = encode(Image.new("RGB", (64, 64)), picture_format)
    match picture_format:
        case "JPEG":
            return patched(data, b"\xff\xc0", struct.pack(">HH", 30_000, 30_000), skip=3)
        case "GIF":
            return patched(data, b"GIF87a", struct.pack("<HH", 30_000, 30_000))
        case "BMP":
            return patched(data, b"BM", struct.pack("<II", 30_000, 30_000), skip=16)
        case "TIFF":
            for tag in (b"\x00\x01", b"\x01\x01"):  # ImageWidth, ImageLength
                data = patched(data, tag + b"\x04\x00\x01\x00\x00\x00", struct.pack("<I", 30_000))
            return data
        case "WEBP":
            return patched(data, b"\x9d\x01\x2a", struct.pack("<HH", 12_000, 12_000))
        case _:
            return patched(data, b"ispe\0\0\0\0", struct.pack(">II", 12_000, 12_000))


FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF"]


@pytest.mark.parametrize("picture_format", FORMATS)
def test_bomb_is_refused_without_decoding(picture_format: str, encode: Encode, make_png: MakePng, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: object) -> None:
        pytest.fail("the bomb was decoded")

    data = huge(picture_format, encode, make_png)
    for reader in (ImageFile.ImageFile, AvifImageFile, HeifImageFile):
        monkeypatch.setattr(reader, "load", never)
    tracemalloc.start()
    try:
        error = refusal(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.reason is PictureReason.TOO_MANY_PIXELS
    assert peak < 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_bombs_take_no_memory(encode: Encode, make_png: MakePng) -> None:
    bombs = [huge(picture_format, encode, make_png) for picture_format in FORMATS]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        refusal(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_heic_cropped_to_a_small_aperture_is_judged_by_what_is_decoded(encode: Encode) -> None:
    data = encode(Image.new("RGB", (1023, 767)), "HEIF")  # coded as 1024 × 768 and cropped
    aperture = struct.pack(">IIII", 16, 1, 16, 1)
    error = refusal(patched(data, b"clap", aperture), DecodeLimits(max_pixels=100_000))
    assert error.reason is PictureReason.TOO_MANY_PIXELS


def test_heic_that_understates_its_size_is_refused(encode: Encode) -> None:
    data = encode(Image.new("RGB", (640, 480)), "HEIF")
    refusal(patched(data, b"ispe\0\0\0\0", struct.pack(">II", 16, 16)), DecodeLimits(max_pixels=1000))


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_is_refused_and_said(name: str, share: float, encoded: dict[str, bytes]) -> None:
    data = encoded[name][: int(len(encoded[name]) * share)]
    error = refusal(data)
    assert error.reason is PictureReason.TRUNCATED
    assert f"{len(data):,} bytes" in str(error)


def test_corrupted_png_is_refused_even_where_its_pixels_would_decode(make_png: MakePng) -> None:
    data = bytearray(make_png(4, 4, bytes(4 * 13)))
    data[-17] ^= 1  # the checksum of the pixel data
    assert refusal(bytes(data)).reason is PictureReason.CORRUPT


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_damaged_header_is_corrupt(name: str, encoded: dict[str, bytes]) -> None:
    data = encoded[name]
    start = {"TIFF": 8, "AVIF": 40, "HEIF": 40}.get(name, 12)
    error = refusal(data[:start] + b"\xff" * 60 + data[start + 60 :])
    assert error.reason in (PictureReason.CORRUPT, PictureReason.TRUNCATED)
    assert name in str(error)


def test_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(refusal(b"")))
    assert error.reason is PictureReason.EMPTY
    assert "0 bytes" in str(error)


def test_global_settings_of_pillow_stay_as_they_were(encoded: dict[str, bytes]) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, sorted(Image.OPEN))
    for data in encoded.values():
        decode(data)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, sorted(Image.OPEN)) == before
    assert "HEIF" not in Image.OPEN


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_pixels": -1}])
def test_senseless_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DecodeLimits(**limits)
