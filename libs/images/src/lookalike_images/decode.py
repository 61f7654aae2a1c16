"""From untrusted bytes to an upright RGB image, under limits."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile

from lookalike_images.colours import to_rgb
from lookalike_images.errors import PictureError, PictureReason
from lookalike_images.iso_media import stated_sizes
from lookalike_images.sniff import PictureFormat, is_cut_short, sniff_format

DECODER_REVISION: int = 1
"""Part of an embedding space's identity: raise it with every change here that alters the pixels of any picture."""

# The readers themselves and not Image.open: it would look at all of Pillow's formats, and at its process-wide pixel
# limit, before we see the size.
_READERS: dict[PictureFormat, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "HEIF": HeifImageFile,
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation; 1 is upright."""


@dataclass(frozen=True)
class DecodeLimits:
    """The largest picture that is decoded. Both limits are inclusive and at least 1 (else ValueError)."""

    max_bytes: int = 15 * 1024 * 1024
    """Bytes of the encoded picture."""
    max_pixels: int = 64_000_000
    """Width × height. An AVIF that understates its size is bounded by libavif instead, at 16,384 × 16,384."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


def decode(data: bytes, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """The first frame of an encoded picture: mode RGB, upright, 8 bits, alpha over white, without metadata.

    Reads JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF and AVIF, told by content. Safe to call from many threads; changes none
    of Pillow's global settings, and relies on `ImageFile.LOAD_TRUNCATED_IMAGES` being False as it is by default.

    Raises PictureError, and nothing else whatever the bytes: empty, more bytes or pixels than `limits` (told from the
    header, before decoding), another format, truncated, corrupt.
    """
    _check_bytes(data, limits)
    picture_format = sniff_format(data)
    if picture_format is None:
        raise PictureError(
            PictureReason.UNSUPPORTED_FORMAT,
            f"not a picture of a known format (first bytes {data[:8].hex(' ')}); use JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF or AVIF",
        )
    try:
        return _decode_as(picture_format, data, limits)
    except PictureError:
        raise
    except Exception as error:  # decoders raise a dozen types on damaged bytes, struct.error and KeyError among them
        raise _damaged(picture_format, data, error) from error


def _decode_as(picture_format: PictureFormat, data: bytes, limits: DecodeLimits) -> Image.Image:
    read = _READERS[picture_format]
    if picture_format in ("AVIF", "HEIF"):
        for size in stated_sizes(data):
            _check_pixels(size, limits)
    image = read(BytesIO(data))
    _check_pixels(image.size, limits)
    if picture_format == "PNG":
        # Pillow skips the checksums of pixel data when it loads; verifying them uses the image up.
        image.verify()
        image = read(BytesIO(data))
    orientation = _orientation(image)
    image.load()
    rgb = to_rgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info = {}
    return rgb


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation 1..8 that is still to be undone; 1 where there is none or it cannot be read."""
    if isinstance(image, TiffImageFile):  # Pillow turns these as it loads them
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata is no reason to refuse the pixels
        return 1


def _check_bytes(data: bytes, limits: DecodeLimits) -> None:
    if not data:
        raise PictureError(PictureReason.EMPTY, "the picture has 0 bytes; check the file and how it was copied")
    if len(data) > limits.max_bytes:
        raise PictureError(
            PictureReason.TOO_MANY_BYTES,
            f"the picture has {len(data):,} bytes, the limit is {limits.max_bytes:,}; make it smaller or compress it more",
        )


def _check_pixels(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise PictureError(
            PictureReason.TOO_MANY_PIXELS,
            f"the picture is {width:,} × {height:,} = {width * height:,} pixels, the limit is {limits.max_pixels:,}; scale it down",
        )


def _damaged(picture_format: PictureFormat, data: bytes, error: Exception) -> PictureError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return PictureError(PictureReason.TOO_MANY_PIXELS, f"{error}; scale the picture down")
    detail = " ".join(str(error).split())[:200] or type(error).__name__
    if is_cut_short(data, picture_format) or "truncated" in detail.lower():
        return PictureError(
            PictureReason.TRUNCATED,
            f"the {picture_format} picture ends too early, after {len(data):,} bytes ({detail}); copy it again",
        )
    return PictureError(
        PictureReason.CORRUPT,
        f"the {picture_format} picture is damaged ({detail}); restore it from a good copy or save it anew",
    )
