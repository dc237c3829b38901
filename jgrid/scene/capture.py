"""What the files of a capture say, of whatever format, before its pictures are read."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from jgrid.scene.camera import Box, Camera
from jgrid.scene.locate import ENDINGS, listed

import numpy as np

HELD_OUT = 8  # of a capture without splits every eighth picture is for testing
IMAGES = re.compile(r"images(?:_(\d+))?")


class Depths(NamedTuple):
    """The file with the depth map of each picture, if it has one; unit: of whole numbers in them,
    in units of the poses."""

    files: list[Optional[Path]]
    unit: float


class Capture(NamedTuple):
    """N pictures that files name, and how they were taken.

    path: the file or folder, for messages; kind: what it is; names, files, poses (N, 4, 4), None
    for a file that is not there; camera: of picture n, for pixels of this (width, height); chosen:
    the numbers of those in the split; sizes: (w, h) of each that the files state, if they do; masks
    of each, which are 0 where a pixel is left out; model, stated, points: as `Views` has them;
    depths: None where there are none, or nobody asked for them.
    """

    path: Path
    kind: str
    names: list[str]
    files: list[Optional[Path]]
    poses: np.ndarray
    camera: Callable[[int, int, int], Camera]
    chosen: Sequence[int]
    sizes: list[Optional[tuple[float, float]]]
    masks: list[list[Path]]
    model: str
    stated: Optional[Box] = None
    points: Optional[np.ndarray] = None
    depths: Optional[Depths] = None


def held_out(n: int, split: str, path: Path) -> list[int]:
    """Of n pictures every eighth for testing, the others to train with; ValueError where these are
    none."""
    chosen = [k for k in range(n) if (k % HELD_OUT == 0) == (split != "train")]
    if not chosen:
        raise ValueError(f"{path}: {n} frames are too few to hold some out for testing")
    return chosen


def present(capture: Capture) -> list[int]:
    """The pictures of the split whose files are there, each once; a warning names what is left out.

    ValueError where more than half are missing, or one picture has two poses."""
    path = capture.path
    names = capture.names
    files = capture.files
    missing = [name for name, file in zip(names, files) if file is None]
    if missing:
        what = f"{path}: {len(missing)} of {len(names)} pictures are missing"
        if 2 * len(missing) > len(names):
            raise ValueError(f"{what}: {listed(missing[:1])}{', ...' * (len(missing) > 1)}")
        warnings.warn(f"{what} and left out: {listed(missing)}", stacklevel=3)
    first: dict[str, int] = {}
    for n, file in enumerate(files):
        m = n if file is None else first.setdefault(os.path.normpath(file), n)
        if not np.allclose(capture.poses[n], capture.poses[m], atol=1e-6):
            raise ValueError(
                f"{path}: frames {m} and {n} are one picture with two poses: {names[n]!r:.200}"
            )
    again = sum(file is not None for file in files) - len(first)
    if again:
        warnings.warn(f"{path}: {again} frames name a picture again and are left out", stacklevel=3)
    there = set(first.values())
    return [n for n in capture.chosen if n in there]


def picture_folders(folder: Path) -> list[Path]:
    """Its folders images and images_N, which hold the pictures N times smaller, the largest
    first."""
    found = []
    for entry in sorted(folder.iterdir()):
        match = IMAGES.fullmatch(entry.name)
        if match and entry.is_dir():
            found.append((int(match[1] or 1), entry))
    return [entry for _, entry in sorted(found)]


def pictures_in(folder: Path) -> list[str]:
    """The names of the pictures in a folder, sorted."""
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(ENDINGS))


def scaled(camera: Camera, width: int, height: int, path: Path) -> Camera:
    """A camera for pictures of another size; ValueError where these are not the same picture,
    shrunk or enlarged."""
    if abs(camera.height * width / camera.width - height) >= 1:
        raise ValueError(
            f"{path}: the camera's pictures are {camera.width} x {camera.height}, those found"
            f" {width} x {height}"
        )
    return camera.resized(width, height)
