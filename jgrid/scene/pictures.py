"""The pictures, masks and depth maps of a capture, read."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from jgrid import memory
from jgrid.image.files import check_pixels, load_image
from jgrid.scene.capture import Depths
from jgrid.scene.views import Pictures

import numpy as np
from PIL import Image

Size = tuple[float, float]  # width, height


def read_pictures(path: Path, files: list[Path], stated: Sequence[Optional[Size]]) -> Pictures:
    """The pictures as they are stored, which is what their cameras see, as `Views` has them.

    stated: the sizes that the capture's file at `path` states. A picture that has it only when
    turned as its EXIF tag says is turned; pictures of several sizes without it are refused."""
    whole = np.empty((0, 0, 0, 4), np.uint8)
    pictures: list[np.ndarray] = []
    turned = 0
    for n, (file, size) in enumerate(zip(files, stated)):
        read = check_pixels(load_image(file, upright=False), file)
        if size and size == read.shape[:2] and size != read.shape[1::-1]:
            upright = load_image(file)
            turned += upright.shape[1::-1] == size
            read = upright if upright.shape[1::-1] == size else read
        rgba = _rgba(read)
        if not n:
            memory.require(
                len(files) * rgba.nbytes,
                f"{path}: {len(files)} pictures of {rgba.shape[1]} x {rgba.shape[0]} pixels",
                "their number or size",
            )
            # what is not written to takes no memory
            whole = np.empty((len(files), *rgba.shape), np.uint8)
        elif rgba.shape != pictures[0].shape and not size:
            raise ValueError(
                f"{file}: {rgba.shape[1]} x {rgba.shape[0]} pixels, the pictures before it "
                f"{pictures[0].shape[1]} x {pictures[0].shape[0]}, and {path.name} does not state"
                " their w and h"
            )
        if rgba.shape == whole.shape[1:]:
            whole[n] = rgba
            rgba = whole[n]
        pictures.append(rgba)
    if turned:
        warnings.warn(
            f"{path}: {turned} pictures are turned as their EXIF tags say, to have its w and h",
            stacklevel=3,
        )
    alike = all(picture.shape == whole.shape[1:] for picture in pictures)
    return whole if alike else tuple(pictures)


def read_masks(
    path: Path, files: list[Path], masks: list[list[Path]], pictures: Pictures
) -> Optional[Pictures]:
    """The pixels (H, W) bool of each picture that masks keep, or None without masks.

    A mask is a picture of the same size: those that the capture names, and masks/NAME.png.png
    beside images/NAME.png (COLMAP), are 0 where a pixel is left out, dynamic_mask_NAME.png beside
    NAME.png (instant-ngp) is not."""
    kept: list[np.ndarray] = []
    masked = 0
    for picture, file, named in zip(pictures, files, masks):
        kept.append(np.ones(picture.shape[:2], bool))
        found = list(named)
        inside = Path(os.path.relpath(file, path.parent)).parts[1:]
        beside = path.parent.joinpath("masks", *inside[:-1], f"{file.name}.png")
        if inside and not found and beside.is_file():
            found.append(beside)
        dynamic = file.with_name(f"dynamic_mask_{file.stem}.png")
        found += [dynamic] if dynamic.is_file() else []
        masked += bool(found)
        for mask in found:
            shown = _shows(mask, picture.shape[:2])
            kept[-1] &= ~shown if mask is dynamic else shown
    if not masked:
        return None
    count = sum(pixels.sum() for pixels in kept)
    if not count:
        raise ValueError(f"{path}: masks leave out every pixel")
    whose = f", in {masked} of {len(files)} pictures" if masked < len(files) else ""
    share = 1 - count / sum(pixels.size for pixels in kept)
    warnings.warn(f"{path}: masks leave out {share:.1%} of the pixels{whose}", stacklevel=3)
    return np.stack(kept) if isinstance(pictures, np.ndarray) else tuple(kept)


def _rgba(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 1 to 4) in [0, 1] -> (H, W, 4) uint8."""
    channels = pixels.shape[2]
    alpha = pixels[..., -1:] if channels in (2, 4) else np.ones_like(pixels[..., :1])
    colour = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.round(np.concatenate([colour, alpha], axis=2) * 255).astype(np.uint8)


def _shows(mask: Path, shape: tuple) -> np.ndarray:
    """Where a mask is not 0: (H, W) bool; where lossy compression blurs it, not nearly 0."""
    pixels = _of_size(load_image(mask, upright=False), shape, f"{mask}: a mask")
    lossy = mask.suffix.lower() in (".jpg", ".jpeg", ".webp")
    return (_rgba(pixels)[..., :3] > (127 if lossy else 0)).any(-1)


def read_depths(depths: Depths, chosen: Sequence[int], pictures: Pictures) -> Pictures:
    """The depth map (H, W) float32 of each chosen picture, 0 where it is not known, as `Views` has
    them."""
    maps = []
    for n, picture in zip(chosen, pictures):
        file = depths.files[n]
        shape = picture.shape[:2]
        if file:
            maps.append(_of_size(_depth(file, depths.unit), shape, f"{file}: a depth map"))
        else:
            maps.append(np.zeros(shape, np.float32))
    return np.stack(maps) if isinstance(pictures, np.ndarray) else tuple(maps)


def _depth(file: Path, unit: float) -> np.ndarray:
    """The depths (H, W) in a file, whole numbers times `unit`; not finite ones are not known."""
    try:
        if file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as opened:
                values = np.asarray(opened)
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise ValueError(f"{file}: not a depth map ({type(error).__name__}: {error})") from None
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or not values.size or values.dtype.kind not in "uif":
        raise ValueError(
            f"{file}: wanted depths of shape (height, width), got {values.dtype} {values.shape}"
        )
    depth = (values * (1.0 if values.dtype.kind == "f" else unit)).astype(np.float32)
    depth[~np.isfinite(depth)] = 0
    if (depth < 0).any():
        raise ValueError(f"{file}: depths down to {depth.min():g}; they grow from the camera on")
    return depth


def _of_size(pixels: np.ndarray, shape: Sequence[int], what: str) -> np.ndarray:
    """Pixels (H, W, ...) in the shape of their picture; where that was shrunk, or they are fewer,
    the nearest."""
    height, width = pixels.shape[:2]
    if abs(height * shape[1] / width - shape[0]) >= 1:
        raise ValueError(
            f"{what} of {width} x {height} pixels, its picture has {shape[1]} x {shape[0]}"
        )
    rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip(shape, (height, width)))
    return pixels[np.ix_(rows.astype(int), columns.astype(int))]
