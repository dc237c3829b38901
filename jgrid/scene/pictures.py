"""The pictures, masks and depth maps of a capture, read."""

import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from jgrid import memory
from jgrid.image.files import load_rgba
from jgrid.scene.capture import Depths
from jgrid.scene.views import Pictures

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image
from tqdm import tqdm

Size = tuple[float, float]  # width, height
DYNAMIC = "dynamic_mask_"  # begins instant-ngp's masks
SMALLER = "the number or size of the pictures, or raise `shrink`"


def read_pictures(
    path: Path,
    files: list[Path],
    stated: Sequence[Optional[Size]],
    shrink: int = 1,
    progress: bool = False,
) -> tuple[Pictures, list[tuple[int, int]]]:
    """The pictures as they are stored, which is what their cameras see, as `Views` has them, every
    `shrink` x `shrink` pixels averaged into one; and the (width, height) of each in its file.

    stated: the sizes that the capture's file at `path` states. A picture that has it only when
    turned as its EXIF tag says is turned; pictures of several sizes without it are refused."""
    pictures: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    turned = 0
    whole = np.empty((0, 0, 0, 4), np.uint8)
    bar = tqdm(files, "reading", unit="picture", disable=not progress, leave=False, delay=2)
    for file, known in zip(bar, stated):
        read, was_turned = _read_turned(file, known)
        turned += was_turned
        height, width = read.shape[:2]
        sizes.append((width, height))
        if sizes[-1] != sizes[0] and not known:
            raise ValueError(
                f"{file}: {width} x {height} pixels, the pictures before it {sizes[0][0]} x"
                f" {sizes[0][1]}, and {path.name} does not state their w and h"
            )
        if min(width, height) < shrink:
            raise ValueError(f"{file}: {width} x {height} pixels, too few to make {shrink} x less")
        read = smaller(read, shrink)
        if not pictures:
            whole = room((len(files), *read.shape), np.uint8, path, "pictures")
        if read.shape == whole.shape[1:]:
            whole[len(pictures)] = read
            read = whole[len(pictures)]
        else:
            memory.require(2 * read.nbytes, f"{file}: the pictures before it and this", SMALLER)
        pictures.append(read)
    if turned:
        warnings.warn(
            f"{path}: {turned} pictures are turned as their EXIF tags say, to have its w and h",
            stacklevel=3,
        )
    alike = all(picture.shape == whole.shape[1:] for picture in pictures)
    return whole if alike else tuple(pictures), sizes


def _read_turned(file: Path, stated: Optional[Size]) -> tuple[np.ndarray, bool]:
    """A picture (H, W, 4) as it is stored, or turned as its EXIF tag says where only so it has the
    stated size; and whether it was."""
    stored = load_rgba(file, upright=False)
    if stated and stated == stored.shape[:2] and stated != stored.shape[1::-1]:
        upright = load_rgba(file)
        if upright.shape[1::-1] == stated:
            return upright, True
    return stored, False


def room(shape: tuple[int, ...], dtype: DTypeLike, path: Path, what: str) -> np.ndarray:
    """Zeros (N, H, W, ...) for N `what` of the capture at `path`: in memory, or where they would
    take more than half of what is free in a file beside it, which is gone with this process;
    NotEnough where the disk has no room for that either."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed <= memory.available() / 2:
        return np.zeros(shape, dtype)  # what is not written to takes no memory
    folder = path if path.is_dir() else path.parent
    folder = folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    size = (
        f"{path}: {shape[0]} {what} of {shape[2]} x {shape[1]} pixels take"
        f" {needed / 2**30:,.1f} GiB, more than half of the memory that is free"
    )
    if needed > free:
        raise memory.NotEnough(
            f"{size}, and {folder} has {free / 2**30:,.1f} GiB: raise `shrink`, or free some"
        )
    warnings.warn(f"{size}: a file in {folder} holds them", stacklevel=4)
    file = tempfile.TemporaryFile(dir=folder)
    if hasattr(os, "posix_fallocate"):  # else a disk that fills meanwhile kills the process
        try:
            os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            raise memory.NotEnough(f"{size}, and {folder}: {error.strerror}") from None
    return np.memmap(file, dtype, shape=shape)


def smaller(pixels: np.ndarray, shrink: int) -> np.ndarray:
    """Pixels (H, W, 4) uint8, every shrink x shrink of them averaged into one, colours by their
    alpha; those left over at the right and the bottom are left out."""
    if shrink == 1:
        return pixels
    height, width = (n // shrink for n in pixels.shape[:2])
    whole = (0, 0, width * shrink, height * shrink)
    return np.asarray(Image.fromarray(pixels).reduce(shrink, whole))


def read_masks(
    path: Path,
    files: list[Path],
    masks: list[list[Path]],
    sizes: list[tuple[int, int]],
    shrink: int = 1,
) -> Optional[Pictures]:
    """The pixels (H, W) bool of each picture of (width, height) that masks keep, or None without
    masks; of shrunk ones those of which all is kept.

    A mask is a picture of the same size: those that the capture names, and masks/NAME.png.png
    beside images/NAME.png (COLMAP), are 0 where a pixel is left out, dynamic_mask_NAME.png beside
    NAME.png (instant-ngp) is not."""
    found = [_masks_of(path, file, named) for file, named in zip(files, masks)]
    masked = sum(map(bool, found))
    if not masked:
        return None
    kept = _empty(sizes, shrink, bool, path, "masks")
    for n, (size, shown_by) in enumerate(zip(sizes, found)):
        keeps = np.ones(size[::-1], bool)
        for mask in shown_by:
            shown = _shows(mask, keeps.shape)
            keeps &= ~shown if mask.name.startswith(DYNAMIC) else shown
        kept[n][:] = _blocks(keeps, shrink).all((1, 3))
    count = sum(int(pixels.sum()) for pixels in kept)
    if not count:
        raise ValueError(f"{path}: masks leave out every pixel")
    whose = f", in {masked} of {len(files)} pictures" if masked < len(files) else ""
    share = 1 - count / sum(pixels.size for pixels in kept)
    warnings.warn(f"{path}: masks leave out {share:.1%} of the pixels{whose}", stacklevel=3)
    return kept


def _masks_of(path: Path, file: Path, named: list[Path]) -> list[Path]:
    """The masks of a picture."""
    found = list(named)
    inside = Path(os.path.relpath(file, path.parent)).parts[1:]
    beside = path.parent.joinpath("masks", *inside[:-1], f"{file.name}.png")
    if inside and not found and beside.is_file():
        found.append(beside)
    dynamic = file.with_name(f"{DYNAMIC}{file.stem}.png")
    return found + [dynamic] if dynamic.is_file() else found


def _empty(
    sizes: list[tuple[int, int]], shrink: int, dtype: DTypeLike, path: Path, what: str
) -> Pictures:
    """Zeros of shrunk pictures of (width, height) each."""
    shapes = [(height // shrink, width // shrink) for width, height in sizes]
    if len(set(shapes)) > 1:
        needed = sum(map(math.prod, shapes)) * np.dtype(dtype).itemsize
        memory.require(needed, f"{path}: {len(shapes)} {what}", SMALLER)
        return tuple(np.zeros(shape, dtype) for shape in shapes)
    return room((len(shapes), *shapes[0]), dtype, path, what)


def _blocks(pixels: np.ndarray, shrink: int) -> np.ndarray:
    """Pixels (H, W), those left over at the right and the bottom left out, by blocks: (H / shrink,
    shrink, W / shrink, shrink)."""
    height, width = (n // shrink for n in pixels.shape)
    whole = pixels[: height * shrink, : width * shrink]
    return whole.reshape(height, shrink, width, shrink)


def _shows(mask: Path, shape: tuple) -> np.ndarray:
    """Where a mask is not 0: (H, W) bool; where lossy compression blurs it, not nearly 0."""
    pixels = _of_size(load_rgba(mask, upright=False), shape, f"{mask}: a mask")
    lossy = mask.suffix.lower() in (".jpg", ".jpeg", ".webp")
    return (pixels[..., :3] > (127 if lossy else 0)).any(-1)


def read_depths(
    path: Path,
    depths: Depths,
    chosen: Sequence[int],
    sizes: list[tuple[int, int]],
    shrink: int = 1,
) -> Pictures:
    """The depth map (H, W) float32 of each chosen picture of (width, height), 0 where it is not
    known, as `Views` has them; of shrunk ones the depth in the middle of what becomes a pixel."""
    maps = _empty(sizes, shrink, np.float32, path, "depth maps")
    for n, own, size in zip(chosen, maps, sizes):
        file = depths.files[n]
        if file:
            depth = _of_size(_depth(file, depths.unit), size[::-1], f"{file}: a depth map")
            own[:] = _blocks(depth, shrink)[:, shrink // 2, :, shrink // 2]
    return maps


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
