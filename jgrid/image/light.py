"""Pictures of light, linear and beyond 1: on disk, and how they are learned and shown."""

import os
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import memory
from jgrid.checkpoint import atomic_path
from jgrid.config import Positive, config

import numpy as np
import tifffile

MU = 5000.0
BYTES = 12  # of a value while it is read
COLOURS = ("R", "G", "B")


class Refused(ValueError):
    """A picture that is not read, as that would be wrong; the message says what it is."""


@config
class Tone:
    """The curve by which light v from 0 to `top` becomes a value in [0, 1], which is learned,
    measured and shown:

        t(v) = log(1 + mu v / top) / log(1 + mu),   mu = 5000

    A PSNR of such values is PSNR-mu (Kalantari and Ramamoorthi 2017). Alpha stays.
    """

    top: Positive

    def encode(self, light: np.ndarray) -> np.ndarray:
        """(H, W, C) light -> values in [0, 1]; what is negative counts as 0."""
        colours, alpha = _apart(np.asarray(light, np.float32))
        shown = np.log1p(MU * np.clip(colours / self.top, 0, 1)) / np.log1p(MU)
        return np.concatenate([shown, alpha], axis=2).astype(np.float32)

    def decode(self, shown: np.ndarray) -> np.ndarray:
        """The inverse of `encode`: (H, W, C) values, clipped to [0, 1] -> light up to `top`."""
        colours, alpha = _apart(np.clip(np.asarray(shown, np.float32), 0, 1))
        light = self.top * np.expm1(colours * np.log1p(MU)) / MU
        return np.concatenate([light, alpha], axis=2).astype(np.float32)


def tone_of(pixels: np.ndarray) -> Optional[Tone]:
    """The curve for a picture (H, W, C); None where all its colours are in [0, 1]."""
    colours, _ = _apart(pixels)
    inside = 0 <= colours.min() and colours.max() <= 1
    return None if inside else Tone(max(1.0, float(colours.max())))


def _apart(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours, and alpha, which may have no channel."""
    n = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    return pixels[..., :n], pixels[..., n:]


def kind_of(head: bytes) -> Optional[str]:
    """What `read_light` reads, by the first bytes of a file; None for all else."""
    if head.startswith(b"\x76\x2f\x31\x01"):
        return "OpenEXR"
    return "Radiance HDR" if head.startswith((b"#?RADIANCE", b"#?RGBE")) else None


def read_light(path: Union[str, os.PathLike], kind: str) -> np.ndarray:
    """An OpenEXR or Radiance HDR picture: (H, W, C) float32 as it is stored, but with straight
    alpha; within its display window, 0 where it holds nothing.

    Refused where the package that reads it is missing, or the picture is no grey or RGB one.
    """
    try:
        import OpenImageIO
    except ImportError:
        raise Refused(
            f"{kind}, which the package OpenImageIO reads: pip install 'jgrid[hdr]'"
        ) from None
    opened = OpenImageIO.ImageInput.open(str(path))
    if opened is None:
        raise Refused(f"damaged {kind} ({OpenImageIO.geterror()})")
    try:
        spec = opened.spec()
        channels = _channels(list(spec.channelnames))
        whole = max(spec.width * spec.height, spec.full_width * spec.full_height)
        memory.require(
            BYTES * spec.nchannels * whole,
            f"{path}: a picture of {spec.full_width} x {spec.full_height} pixels",
            "its size",
        )
        stored = opened.read_image("float")
        if stored is None:
            raise Refused(f"damaged {kind} ({opened.geterror()})")
    finally:
        opened.close()
    pixels = _in_window(np.asarray(stored, np.float32)[..., channels], spec)
    colours, alpha = _apart(pixels)
    if not alpha.shape[2]:
        return colours
    straight = np.divide(colours, alpha, out=colours.copy(), where=alpha > 0)
    return np.concatenate([straight, alpha], axis=2)


def _channels(names: list[str]) -> list[int]:
    """Where grey or red, green, blue, and alpha if it is there, are among a picture's channels."""
    chosen = [name for name in (*COLOURS, "A") if name in names]
    if not set(COLOURS) <= set(chosen):
        chosen = [name for name in ("Y", "A") if name in names]
    if not chosen or chosen == ["A"]:
        if len(names) == 1:
            return [0]
        raise Refused(f"channels {', '.join(names)}, wanted R, G, B or Y, and A")
    return [names.index(name) for name in chosen]


def _in_window(pixels: np.ndarray, spec: Any) -> np.ndarray:
    """The part of the display window that the data window covers, 0 around it."""
    left = spec.x - spec.full_x
    top = spec.y - spec.full_y
    height, width = pixels.shape[:2]
    if (left, top, width, height) == (0, 0, spec.full_width, spec.full_height):
        return pixels
    window = np.zeros((spec.full_height, spec.full_width, pixels.shape[2]), np.float32)
    rows = slice(max(0, top), max(0, min(spec.full_height, top + height)))
    columns = slice(max(0, left), max(0, min(spec.full_width, left + width)))
    window[rows, columns] = pixels[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return window


def read_tiff(path: Union[str, os.PathLike]) -> np.ndarray:
    """A TIFF of floats that Pillow has no mode for: (H, W, C) float32 as it is stored. Refused,
    saying what it is, for another TIFF."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        photometric = getattr(page.photometric, "name", page.photometric)
        if photometric in ("CFA", "LINEAR_RAW"):
            raise Refused(f"a raw picture of a camera ({photometric}): develop it first")
        if page.dtype is None or page.dtype.kind != "f" or page.ndim not in (2, 3):
            raise Refused(f"a TIFF of {page.dtype} {page.shape}, {photometric}")
        memory.require(BYTES * page.size, f"{path}: a picture of shape {page.shape}", "its size")
        values = page.asarray().astype(np.float32)
        apart = values.ndim == 3 and page.planarconfig == 2  # each colour
    return np.moveaxis(values, 0, 2) if apart else values


def save_tiff(path: Union[str, os.PathLike], light: np.ndarray) -> Path:
    """Write (H, W, C) light as a float TIFF; returns the path."""
    colours, alpha = _apart(light)
    pixels = light[..., 0] if light.shape[2] == 1 else light
    options: dict[str, Any] = {"photometric": "rgb" if colours.shape[2] == 3 else "minisblack"}
    if alpha.shape[2]:
        options["extrasamples"] = ["unassalpha"]
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, pixels.astype(np.float32), planarconfig="contig", **options)
    return Path(path)
