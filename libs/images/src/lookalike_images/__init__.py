"""Pictures: decode under limits, orient, bring to RGB, preprocess, make thumbnails. Pillow and numpy only."""

from lookalike_images.decode import DECODER_REVISION, DecodeLimits, decode
from lookalike_images.errors import PictureError, PictureReason
from lookalike_images.preprocess import Preprocessing, ResizeFilter, ResizeMode, preprocess
from lookalike_images.sniff import PICTURE_SUFFIXES, PictureFormat, sniff_format
from lookalike_images.thumbnail import thumbnail

__all__ = [
    "DECODER_REVISION",
    "PICTURE_SUFFIXES",
    "DecodeLimits",
    "PictureError",
    "PictureFormat",
    "PictureReason",
    "Preprocessing",
    "ResizeFilter",
    "ResizeMode",
    "decode",
    "preprocess",
    "sniff_format",
    "thumbnail",
]
