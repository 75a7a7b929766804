"""Image files of any kind, decoded by Pillow: upright, 8 bits, gray or RGB."""

import io
from typing import Any

import numpy as np

from train.errors import UsageError, line

MODES = {1: "L", 3: "RGB"}


def decoded(encoded: bytes, *, name: str, channels: int) -> Any:
    """Decodes a file to a Pillow image in gray or RGB, turned by its EXIF data, with transparent parts on black.

    Args:
      encoded: content of the file; the first frame counts.
      name: name of the file, for messages.
      channels: 1 or 3.

    Raises:
      UsageError: if the file is not an image, is broken, or has floating-point pixels, whose range is unknown.
    """
    from PIL import Image, ImageOps

    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        if image.mode.startswith("I"):
            image = _of_16_bits(image)
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        elif image.mode == "F":
            raise ValueError("its pixels are floating-point numbers")
        return image.convert("RGB").convert(MODES[channels])  # some modes have a way to RGB only
    except Exception as error:  # Pillow's readers raise all kinds
        raise UsageError(
            f"cannot read {name}, {_reason(error)}: replace it by a whole image of 8 or 16 bits, or remove it"
        ) from None


def _of_16_bits(image: Any) -> Any:
    """In 8 bits, by rounding, where Pillow's convert saturates; the gray that counts as transparent is black."""
    from PIL import Image

    values = np.asarray(image, np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels range from {values.min()} to {values.max()}")
    values = np.where(values == image.info.get("transparency", -1), 0, values)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def check(channels: int) -> None:
    """Raises a UsageError unless images can have this number of channels."""
    if channels not in MODES:
        raise UsageError(f"data.channels={channels}: take 1 (gray) or 3 (RGB)")


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "which is no image"  # Pillow's own words name the buffer
    return line(error)
