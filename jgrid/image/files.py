"""Pictures on disk: read as they are stored, or refused with a reason."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from jgrid import memory
from jgrid.image import light

import numpy as np
from numpy.typing import ArrayLike
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

Read = TypeVar("Read")
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
# TIFF: its first bytes, its tags, and a value of one
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUBFILE = 254
BITS_PER_SAMPLE = 258
PHOTOMETRIC = 262
SAMPLE_FORMAT = 339
WHITE_IS_ZERO = 0
HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
VALUE_BYTES = 10  # of a value while it is read
# names of the two halves of 16-bit colours
OTHER_HALF = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


def load_image(path: Union[str, os.PathLike], upright: bool = True) -> np.ndarray:
    """Any picture Pillow reads but EPS, which is a program -> (H, W, C) float32 in [0, 1], sRGB, C
    = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. OpenEXR and Radiance HDR (with the package OpenImageIO)
    and float TIFF hold linear light, which may be beyond 1: see `image.light.Tone`.

    8 bits, 16 bits (grey; RGB and RGBA of PNG and TIFF), palettes, CMYK and float pictures; a
    colour that stands for transparent ones becomes alpha; colours of another profile or gamma
    become sRGB; the first frame of an animation. upright: turned as its EXIF tag says, which is for
    display; a camera's numbers are of the picture as it is stored. Raises ValueError, saying what
    is wrong with the file, and memory.NotEnough.
    """
    return _check_values(_opened(path, lambda head: _read_kind(path, head, upright)), path)


def load_rgba(path: Union[str, os.PathLike], upright: bool = True) -> np.ndarray:
    """`load_image` of colours in [0, 1], in 8 bits and with alpha: (H, W, 4) uint8. A file of 8
    bits, as most are, is taken as it is: a JPEG of 12 megapixels in half the time."""
    as_it_is = _opened(path, lambda head: _read_bytes(path, head, upright))
    return as_bytes(load_image(path, upright), path) if as_it_is is None else as_it_is


def as_bytes(pixels: ArrayLike, name: Union[str, os.PathLike]) -> np.ndarray:
    """(H, W) or (H, W, C) values in [0, 1] of 1 to 4 channels -> (H, W, 4) uint8; ValueError where
    they are not such."""
    values = np.round(check_pixels(pixels, name) * 255).astype(np.uint8)
    channels = values.shape[2]
    rgba = np.full((*values.shape[:2], 4), 255, np.uint8)
    rgba[..., :3] = values[..., :3] if channels >= 3 else values[..., :1]
    if channels in (2, 4):
        rgba[..., 3] = values[..., -1]
    return rgba


def _opened(path: Union[str, os.PathLike], read: Callable[[bytes], Read]) -> Read:
    """What `read` makes of a file by its first bytes; what goes wrong there in words."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        with warnings.catch_warnings(), _of_any_size():
            # of damage that the decoder mends or then raises
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            return read(head)
    except memory.NotEnough:
        raise
    except light.Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise ValueError(
            f"{path}: not a picture Pillow can read ({type(error).__name__}: {error})"
        ) from None


def _read_bytes(path: Union[str, os.PathLike], head: bytes, upright: bool) -> Optional[np.ndarray]:
    """The bytes (H, W, 4) of a picture that has 8 bits of sRGB; None where it may be another."""
    if light.kind_of(head) or head[:4] in TIFF:
        return None
    try:
        image, halved = _decode(path, upright)
    except UnidentifiedImageError:
        return None
    plain = not halved and image.mode in ("L", "LA", "RGB", "RGBA")
    if not plain or "transparency" in image.info or _other_gamma(image.info):
        return None
    return np.asarray(_in_srgb(image, halved, path).convert("RGBA"))


def _read_kind(path: Union[str, os.PathLike], head: bytes, upright: bool) -> np.ndarray:
    """The values of a picture that begins with `head`."""
    kind = light.kind_of(head)
    if kind:
        return light.read_light(path, kind)
    if head.startswith(b"PF\n"):
        raise light.Refused("a colour PFM, which Pillow does not read: save it as OpenEXR or TIFF")
    if head[4:8] == b"ftyp" and head[8:12] in HEIF:
        raise light.Refused("HEIC, which Pillow does not read: save it as JPEG or PNG")
    try:
        return _read(path, upright)
    except UnidentifiedImageError:
        if head[:4] not in TIFF:
            raise
        return _light_of(light.read_tiff(path))


@contextlib.contextmanager
def _of_any_size() -> Iterator[None]:
    """Pillow opens pictures of as many pixels as memory has room for: what a header announces is
    held against that before anything is decoded."""
    most = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def check_pixels(pixels: ArrayLike, name: Union[str, os.PathLike]) -> np.ndarray:
    """(H, W) or (H, W, C) values -> (H, W, C) float32, or ValueError where they are not finite
    colours in [0, 1]."""
    values = _check_values(pixels, name)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{name}: values from {values.min():g} to {values.max():g}, wanted 0 to 1; what"
            " jgrid.image.tone_of returns encodes light beyond 1"
        )
    return values


def _check_values(pixels: ArrayLike, name: Union[str, os.PathLike]) -> np.ndarray:
    """(H, W) or (H, W, C) values -> (H, W, C) float32, or ValueError where they are not finite."""
    pixels = np.asarray(pixels, np.float32)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{name}: wanted pixels of shape (height, width, channels), got {pixels.shape}"
        )
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name}: {(~np.isfinite(pixels)).sum()} values are not finite")
    return pixels


def _read(path: Union[str, os.PathLike], upright: bool) -> np.ndarray:
    """The values of a picture, 1 being the most that its kind can hold."""
    image, halved = _decode(path, upright)
    image = _in_srgb(image, halved, path)
    key = image.info.get("transparency")  # a value, or of a palette the alpha of its entries
    if image.mode not in MODES:
        transparent = image.mode in ("PA", "La", "RGBa") or key is not None
        to = "L" if image.mode == "1" else "RGBA" if transparent else "RGB"
        key = 255 * bool(key) if image.mode == "1" and isinstance(key, int) else None
        image = image.convert(to)
    pixels = np.array(image, dtype=np.float32)
    top = 65535 if halved else MODES[image.mode]
    if halved:
        pixels *= 256
        pixels += np.asarray(_decode(path, upright, lower=True)[0], dtype=np.float32)
    visible = None
    if image.mode in ("L", "I;16", "RGB") and isinstance(key, (int, tuple)):
        visible = (np.atleast_3d(pixels) != np.array(key, np.float32)).any(-1)
    if image.mode == "F":
        return _light_of(pixels)
    pixels /= top
    pixels = _of_gamma(pixels, image.info)
    return pixels if visible is None else np.dstack([pixels, visible])


def _light_of(pixels: np.ndarray) -> np.ndarray:
    """The values of a float picture; ValueError where they are levels, and not light."""
    if pixels.max() > 1 and (pixels == np.round(pixels)).all():
        raise light.Refused(
            f"values from {pixels.min():g} to {pixels.max():g}, all whole: which of them is white?"
            " Divide them by that"
        )
    return pixels


def _of_gamma(pixels: np.ndarray, info: dict) -> np.ndarray:
    """Values in sRGB, of which a PNG may say that they are stored with another gamma."""
    gamma = _other_gamma(info)
    if not gamma:
        return pixels
    n = 3 if pixels.ndim == 3 and pixels.shape[2] > 2 else 1
    values = np.atleast_3d(pixels).copy()
    linear = values[..., :n] ** (1 / gamma)
    values[..., :n] = np.where(
        linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return values


def _other_gamma(info: dict) -> Optional[float]:
    """What a PNG says of its gamma, where that is not sRGB's."""
    gamma = info.get("gamma")
    if not gamma or {"icc_profile", "srgb"} & info.keys() or abs(gamma - 1 / 2.2) < 0.005:
        return None
    return gamma


def _in_srgb(image: Image.Image, halved: bool, path: Union[str, os.PathLike]) -> Image.Image:
    """A picture whose colours are those of a profile of its own, in sRGB."""
    stored = image.info.get("icc_profile")
    if not stored or image.mode not in ("RGB", "RGBA"):
        return image
    try:
        profile = ImageCms.getOpenProfile(io.BytesIO(stored))
        name = ImageCms.getProfileDescription(profile).strip()
        if "srgb" in name.lower() and "linear" not in name.lower():
            return image
        if not halved:
            made = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
            return image if made is None else made
        problem = f"{name!r} is not applied to 16 bits"
    except ImageCms.PyCMSError:
        problem = "is damaged"
    warnings.warn(f"{path}: its colour profile {problem}; colours are taken for sRGB", stacklevel=7)
    return image


def _tag(image: Image.Image, number: int, default: Any = None) -> Any:
    """A tag of a TIFF; of another picture the default."""
    return getattr(image, "tag_v2", {}).get(number, default)


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
        _skip_thumbnails(opened)
        memory.require(
            VALUE_BYTES * len(opened.getbands()) * opened.width * opened.height,
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
        deep = opened.format == "PPM" and any(_most(tile) > 255 for tile in opened.tile)
        if colour and (deep or sixteen and not halved):
            warnings.warn(f"{path}: of its 16 bits Pillow reads 8", stacklevel=6)
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
        white_is_zero = _tag(opened, PHOTOMETRIC) == WHITE_IS_ZERO
        image = ImageOps.exif_transpose(opened)
        key = image.info.get("transparency")
        if orders[:1] in (["L;2"], ["L;4"]) and isinstance(key, int):
            image.info["transparency"] = 255 // (2 ** int(orders[0][-1]) - 1) * key
        if white_is_zero and image.mode.startswith("I;16"):  # of 8 bits Pillow knows it
            image = Image.fromarray(65535 - np.asarray(image))
        return image, halved


def _forget_orientation(opened: Image.Image) -> None:
    """Let a picture that is not loaded yet be as it is stored; Pillow turns TIFF when it loads."""
    opened.getexif().pop(ExifTags.Base.Orientation, None)
    getattr(opened, "tag_v2", {}).pop(ExifTags.Base.Orientation, None)


def _most(tile: Any) -> int:
    """What counts as white in a PPM."""
    return tile.args[1] if isinstance(tile.args, tuple) and len(tile.args) > 1 else 255


def _skip_thumbnails(opened: Image.Image) -> None:
    """Go to the first page of a TIFF that is no smaller version of another."""
    for page in range(getattr(opened, "n_frames", 1) if opened.format == "TIFF" else 0):
        opened.seek(page)
        if not _tag(opened, SUBFILE, 0) & 1:
            return
    if opened.format == "TIFF":
        opened.seek(0)


def _check_tiff(opened: Image.Image, eight: bool) -> None:
    """ValueError for a TIFF that Pillow would read wrongly; eight: it takes colours for 8 bits."""
    bits = _tag(opened, BITS_PER_SAMPLE, ())
    if opened.mode == "LAB":
        raise light.Refused("a picture in CIELab, which does not say its white: save it as RGB")
    if opened.mode == "I" and 32 in bits:
        raise light.Refused("a TIFF of 32-bit integers, which do not say what is white")
    if 2 in _tag(opened, SAMPLE_FORMAT, ()):
        raise light.Refused("a TIFF of signed integers, which do not say what is white")
    if eight and 16 in bits:
        raise light.Refused("a TIFF of 16 bits with each colour apart")
