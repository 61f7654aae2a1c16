"""Every colour mode that a decoder may hand over, brought to 8-bit RGB."""

import numpy as np
from PIL import Image, TiffImagePlugin

_WHITE = (255, 255, 255)
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation
_FLOAT_BOUND = 1e37  # keeps differences of two float32 finite


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode to mode RGB.

    Transparent parts show white. 16-bit samples keep their high byte, as Pillow itself does for 16-bit colour. 32-bit
    integers and floats state no white level: the range present in the picture is stretched to 0..255. Colour profiles
    are not applied. An image that is RGB already is returned as it is.
    """
    if image.mode.startswith("I;16"):
        image = _from_sixteen_bits(image)
    elif image.mode in ("I", "F"):
        image = _from_stretched(image)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The key of a 16-bit PNG, while Pillow has kept the samples' high bytes.
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    rgba = image.convert("RGBA")
    background = Image.new("RGB", image.size, _WHITE)
    background.paste(rgba, mask=rgba.getchannel("A"))
    return background


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    samples = np.asarray(image).astype(np.uint16)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    grey = (samples >> (bits - 8)).astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        grey = 255 - grey
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(grey)
    alpha = np.where(samples == key, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack((grey, alpha), axis=-1))


def _from_stretched(image: Image.Image) -> Image.Image:
    samples = np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0)
    samples = np.clip(samples, -_FLOAT_BOUND, _FLOAT_BOUND)
    low, high = float(samples.min()), float(samples.max())
    if high <= low:
        return Image.new("L", image.size, 0)
    return Image.fromarray(np.rint((samples - low) * (255.0 / (high - low))).astype(np.uint8))
