"""Photographs and films, made ready for structure from motion."""

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Union

from jgrid.image.files import check_pixels, load_image
from jgrid.scene.capture import pictures_in
from jgrid.scene.locate import ENDINGS, listed
from jgrid.scene.motion import FEWEST
from jgrid.scene.path import import_ffmpeg

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

CANDIDATES = 10  # frames of a stretch of a film that are looked at, at most
KEPT = (".jpg", ".jpeg", ".png")  # endings of formats that COLMAP and browsers read
QUALITY = 95  # of JPEG
ORIENTATION = 0x0112  # EXIF's tags
DEVICE = (0x010F, 0x0110)
DETAILS = 0x8769
FOCAL_LENGTHS = (0x920A, 0xA405)


def copy_photos(
    photos: Union[str, os.PathLike], images: Path, size: int, each: bool, progress: bool = False
) -> list[list[str]]:
    """Copy the photographs of a folder to the folder `images`, no side longer than `size` pixels;
    returns names of those that share a camera: each has its own, or those do that have one size,
    and one device and focal length in their EXIF tags.

    They stay as they are stored, not turned as EXIF says: so does the sensor. What is neither JPEG
    nor PNG becomes PNG; a warning names what is left out. ValueError, naming it, where a picture
    cannot be read, or there are too few."""
    photos = Path(photos)
    if not photos.is_dir():
        raise ValueError(f"{photos}: no such folder")
    names = pictures_in(photos)
    if len(names) < FEWEST:
        raise ValueError(
            f"{photos}: {len(names) or 'no'} pictures ({', '.join(ENDINGS)}); poses are found from"
            f" {FEWEST} or more"
        )
    others = sorted(path.name for path in photos.iterdir() if path.is_file())
    others = [name for name in others if name not in names and not name.startswith(".")]
    if others:
        warnings.warn(f"{photos}: left out: {listed(others)}", stacklevel=2)
    groups: dict[Any, list[str]] = {}
    for name in tqdm(names, "pictures", disable=not progress, leave=False, delay=2):
        kept = name.lower().endswith(KEPT)
        to = images / (name if kept else f"{name}.png")
        camera = _copy(photos / name, to, size)
        groups.setdefault(name if each else camera, []).append(to.name)
    return list(groups.values())


def _copy(photo: Path, to: Path, size: int) -> Any:
    """Copy a photograph, and shrink it; returns what tells its camera from others."""
    pixels = check_pixels(load_image(photo, upright=False), photo)
    if to.exists():
        raise ValueError(f"{photo}: another picture would be named {to.name}, too")
    exif = _exif(photo)
    if max(pixels.shape[:2]) <= size and photo.name == to.name and ORIENTATION not in exif:
        shutil.copyfile(photo, to)
    else:
        levels = np.round(pixels * 255).astype(np.uint8)
        shown = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
        shown.thumbnail((size, size), Image.Resampling.LANCZOS)
        shown.save(to, quality=QUALITY, exif=_of_the_camera(exif))
    return pixels.shape[:2], str(sorted(_of_the_camera(exif).items()))


def _exif(photo: Path) -> Image.Exif:
    """A picture's EXIF tags; none where they cannot be read."""
    try:
        with Image.open(photo) as opened:
            exif = opened.getexif()
            exif[DETAILS] = exif.get_ifd(DETAILS)
            return exif
    except Exception:  # what Pillow's readers raise; the pixels were read
        return Image.Exif()


def _of_the_camera(exif: Image.Exif) -> Image.Exif:
    """Of EXIF tags those that tell a camera and its focal length from others."""
    kept = Image.Exif()
    kept.update({tag: exif[tag] for tag in DEVICE if tag in exif})
    details = exif.get(DETAILS, {})
    lengths = {tag: details[tag] for tag in FOCAL_LENGTHS if tag in details}
    if lengths:
        kept[DETAILS] = lengths
    return kept


def sharpest_frames(
    video: Union[str, os.PathLike], images: Path, size: int, frames: int, progress: bool = False
) -> list[str]:
    """Cut a film into so many stretches of one length, and save of each the sharpest frame in the
    folder `images`, no side longer than `size` pixels; returns the names, frame_0001.jpg and so on.

    Sharp is a large variance of the Laplacian of grey. A film of fewer frames leaves all of them.
    ValueError where ffmpeg reads no film."""
    video = Path(video)
    if not video.is_file():
        raise ValueError(f"{video}: no such file")
    names: list[str] = []
    for _, stretch in groupby(_frames(video, size, frames, progress), lambda frame: frame[0]):
        pixels = max((pixels for _, pixels in stretch), key=_sharpness)
        names.append(f"frame_{len(names) + 1:04}.jpg")
        Image.fromarray(pixels).save(images / names[-1], quality=QUALITY)
    if len(names) < FEWEST:
        raise ValueError(
            f"{video}: a film of {len(names)} frames; poses are found from {FEWEST} or more"
        )
    return names


def _frames(
    video: Path, size: int, stretches: int, progress: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """The stretch and the pixels (H, W, 3) of the frames that are looked at."""
    ffmpeg = import_ffmpeg()
    # it warns where frames are shrunk
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
    try:
        n, seconds = ffmpeg.count_frames_and_secs(str(video))
        n = min(n, CANDIDATES * stretches)
        smaller = f"scale='if(gt(iw,ih),min(iw,{size}),-2)':'if(gt(iw,ih),-2,min(ih,{size}))'"
        chosen = ["-an", "-vf", f"fps={n / max(seconds, 1e-3):.6f},{smaller}"]
        read = ffmpeg.read_frames(str(video), output_params=chosen)
        with contextlib.closing(read):
            width, height = next(read)["size"]
            for k, frame in enumerate(
                tqdm(read, "frames", n, disable=not progress, leave=False, delay=2)
            ):
                pixels = np.frombuffer(frame, np.uint8).reshape(height, width, 3)
                yield min(k * stretches // n, stretches - 1), pixels
    except (OSError, RuntimeError, ValueError, KeyError, ZeroDivisionError, StopIteration):
        raise ValueError(f"{video}: no film that ffmpeg can read") from None


def _sharpness(pixels: np.ndarray) -> float:
    """The variance of the Laplacian of grey."""
    return float(ndimage.laplace(pixels.mean(-1, dtype=np.float32)).var())
