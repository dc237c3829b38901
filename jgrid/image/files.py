"""Pictures on disk: read as they are stored, or refused with a reason."""

import os
import sys
import warnings
from pathlib import Path
from typing import Union

from jgrid import memory

import numpy as np
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, ImageOps

# Pillow's modes that are read as they are: channels and the value that counts as 1
MODES = {
    "L": 255,
    "LA": 255,
    "RGB": 255,
    "RGBA": 255,
    "I;16": 65535,
    "I;16B": 65535,
    "I": 65535,
    "F": 1,
}
BITS_PER_SAMPLE = 258  # the TIFF tag
# names of the two halves of 16-bit colours
OTHER_HALF = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


def load_image(path: Union[str, os.PathLike], upright: bool = True) -> np.ndarray:
    """Any picture Pillow reads but EPS, which is a program -> (H, W, C) float32 in [0, 1], sRGB, C
    = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.

    8 bits, 16 bits (grey; RGB and RGBA of PNG and TIFF), palettes, CMYK and float pictures; the
    first frame of an animation. upright: turned as its EXIF tag says, which is for display; a
    camera's numbers are of the picture as it is stored. Raises ValueError, saying what is wrong
    with the file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # of damage that the decoder mends or then raises
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            pixels = _read(path, upright)
    except memory.NotEnough:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; crop or shrink it first"
        ) from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise ValueError(
            f"{path}: not a picture Pillow can read ({type(error).__name__}: {error})"
        ) from None
    return check_pixels(pixels, path)


def check_pixels(pixels: ArrayLike, name: Union[str, os.PathLike]) -> np.ndarray:
    """(H, W) or (H, W, C) values -> (H, W, C) float32, or ValueError where they are not finite
    colours in [0, 1]."""
    pixels = np.asarray(pixels, np.float32)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{name}: wanted pixels of shape (height, width, channels), got {pixels.shape}"
        )
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name}: {(~np.isfinite(pixels)).sum()} values are not finite")
    if pixels.min() < 0 or pixels.max() > 1:
        raise ValueError(f"{name}: values from {pixels.min():g} to {pixels.max():g}, wanted 0 to 1")
    return pixels


def _read(path: Union[str, os.PathLike], upright: bool) -> np.ndarray:
    """The values of a picture, 1 being the most that its kind can hold."""
    image, halved = _decode(path, upright)
    if image.mode not in MODES:
        transparent = image.mode in ("PA", "La", "RGBa") or "transparency" in image.info
        image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
    pixels = np.asarray(image, dtype=np.float32)
    if halved:
        lower, _ = _decode(path, upright, lower=True)
        return (256 * pixels + np.asarray(lower, dtype=np.float32)) / 65535
    return pixels / MODES[image.mode]


def _decode(
    path: Union[str, os.PathLike], upright: bool, lower: bool = False
) -> tuple[Image.Image, bool]:
    """(the picture, whether these are only the upper 8 of the 16 bits of its colours); lower: the
    lower 8 of them instead.

    Pillow has no mode for colours of 16 bits and takes one byte of each; told that they are stored
    the other way round, the other.
    """
    Image.init()
    with Image.open(path, formats=[name for name in Image.ID if name != "EPS"]) as opened:
        memory.require(
            16 * len(opened.getbands()) * opened.width * opened.height,
            f"{path}: a picture of {opened.width} x {opened.height} pixels",
            "its size",
        )
        orders = [
            str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args)
            for tile in opened.tile
        ]
        colour = opened.mode in ("RGB", "RGBA")
        sixteen = any(order[-4:] in OTHER_HALF for order in orders)
        _check_tiff(opened, colour and not sixteen)
        halved = colour and sixteen and all(order[:-4] == opened.mode for order in orders)
        if colour and sixteen and not halved:
            warnings.warn(f"{path}: of its 16 bits Pillow reads 8", stacklevel=4)
        if lower:
            opened.tile = [
                tile._replace(
                    args=(order, *tile.args[1:]) if isinstance(tile.args, tuple) else order
                )
                for tile, order in zip(
                    opened.tile, [order[:-4] + OTHER_HALF[order[-4:]] for order in orders]
                )
            ]
        if not upright:
            _forget_orientation(opened)
        return ImageOps.exif_transpose(opened), halved


def _forget_orientation(opened: Image.Image) -> None:
    """Let a picture that is not loaded yet be as it is stored; Pillow turns TIFF when it loads."""
    opened.getexif().pop(ExifTags.Base.Orientation, None)
    getattr(opened, "tag_v2", {}).pop(ExifTags.Base.Orientation, None)


def _check_tiff(opened: Image.Image, eight: bool) -> None:
    """ValueError for a TIFF that Pillow would read wrongly; eight: it takes colours for 8 bits."""
    bits = getattr(opened, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    if opened.mode == "I" and 32 in bits:
        raise ValueError("a TIFF of 32-bit integers, which do not say what is white")
    if eight and 16 in bits:
        raise ValueError("a TIFF of 16 bits with each colour apart")
