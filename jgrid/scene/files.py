"""Scenes on disk: photographs with their cameras, in NeRF-synthetic's and instant-ngp's format."""

import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import checkpoint, memory, picture
from jgrid.image.files import check_pixels, load_image
from jgrid.scene.camera import Box, Camera
from jgrid.scene.transforms import (
    MASKS,
    check_meaning,
    frame_names,
    listed,
    locate,
    picture_size,
    read_camera,
    read_transforms,
    split_frames,
    stated_box,
)

import numpy as np

SPLIT_FILES = ("transforms_train.json", "transforms_val.json", "transforms_test.json")


@dataclass(frozen=True)
class Views:
    """Pictures (N, H, W, 4) uint8, straight alpha, from one camera at poses (N, 4, 4),
    camera-to-world; kept: the pixels (N, H, W) that masks keep, None without masks; names: of the
    pictures, as the scene's file has them, for messages; stated: the box that this file says holds
    the scene."""

    pixels: np.ndarray
    poses: np.ndarray
    camera: Camera
    kept: Optional[np.ndarray] = None
    names: tuple[str, ...] = ()
    stated: Optional[Box] = None

    def name(self, n: int) -> str:
        """What picture n is called in messages."""
        return self.names[n] if self.names else f"picture {n}"

    def without(self, lost: np.ndarray) -> "Views":
        """The views but those of these numbers."""
        if not len(lost):
            return self
        left = np.setdiff1d(np.arange(len(self.poses)), lost)
        return replace(
            self,
            pixels=self.pixels[left],
            poses=self.poses[left],
            kept=None if self.kept is None else self.kept[left],
            names=tuple(self.names[n] for n in left) if self.names else (),
        )

    @cached_property
    def counted(self) -> Optional[np.ndarray]:
        """The pixels (N, H, W) that are learnt and scored: those that masks keep and the lens
        reaches; None where these are all."""
        reached = self.camera.reached()
        if reached.all():
            return self.kept
        shape = self.pixels.shape[:3]
        return np.broadcast_to(reached, shape) if self.kept is None else self.kept & reached

    def empty(self, n: int) -> np.ndarray:
        """Where picture n says that nothing is: transparent pixels that count, (H, W) bool."""
        transparent = self.pixels[n, ..., 3] == 0
        return transparent if self.counted is None else transparent & self.counted[n]

    def opaque(self, n: int) -> np.ndarray:
        """What picture n shows: pixels that count and are more opaque than not, (H, W) bool."""
        opaque = self.pixels[n, ..., 3] > 127
        return opaque if self.counted is None else opaque & self.counted[n]

    @property
    def transparent(self) -> bool:
        """Whether a pixel is not opaque."""
        return bool((self.pixels[..., 3] < 255).any())

    def on(self, n: int, background: Union[float, np.ndarray]) -> np.ndarray:
        """Picture n laid over a background: (H, W, 3) float32 in [0, 1]."""
        rgba = self.pixels[n].astype(np.float32) / 255
        return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * np.float32(background)


def load_views(scene: Union[str, os.PathLike], split: str, outside: bool = False) -> Views:
    """The split "train" or "test" of a scene, a folder or its transforms file:
    transforms_SPLIT.json, or of a capture's transforms.json the frames that it names itself, or
    every eighth for testing.

    Missing pictures are left out; a warning names them, and all else that is mended or assumed.
    outside: the file may name pictures that are not in the folder, by "..", links or whole paths.
    Raises ValueError, naming the file and what is wrong with it.
    """
    scene = Path(scene)
    folder = scene.parent if scene.is_file() else scene
    whole = scene if scene.is_file() else folder / "transforms.json"
    path = folder / f"transforms_{split}.json"
    if scene.is_file() and scene.name not in SPLIT_FILES:
        path = whole
    # a capture's file beside one of a split would hold pictures of both
    elif whole.is_file() and not any((folder / name).is_file() for name in SPLIT_FILES):
        path = whole
    frames, poses, read = read_transforms(path)
    check_meaning(read, path)
    names = frame_names(frames, path)
    files = locate(path, names, outside)
    present = _present(path, names, poses, files)
    chosen = [n for n in split_frames(read, names, split, path == whole, path) if n in present]
    if not chosen:
        raise ValueError(f"{path}: no picture to {split} with is there")
    there = [file for n in chosen if (file := files[n])]
    pixels = _read_pictures(path, there, picture_size(read, path))
    height, width = pixels.shape[1:3]
    camera = read_camera(read, width, height, path)
    unreached = 1 - camera.reached().mean()
    if unreached > 0:
        what = f"{path}: the lens (k1, k2, p1, p2) reaches no more than {1 - unreached:.1%} of the"
        if unreached > 0.5:
            raise ValueError(f"{what} picture; its numbers are of another camera or size")
        warnings.warn(f"{what} pixels; the others are left out", stacklevel=2)
    opaque = int((pixels[..., 3] == 255).all((1, 2)).sum())
    if 0 < opaque < len(pixels) / 2:
        warnings.warn(
            f"{path}: {opaque} of {len(pixels)} pictures have no transparent pixel, the others"
            " have; were these not cut out?",
            stacklevel=2,
        )
    kept = _masks(path, [frames[n] for n in chosen], there, pixels.shape[1:3], outside)
    names = [names[n] for n in chosen]
    return Views(pixels, poses[chosen], camera, kept, tuple(names), stated_box(read))


def save_views(folder: Union[str, os.PathLike], split: str, views: Views) -> None:
    """Write a split in NeRF-synthetic's format."""
    folder = Path(folder)
    camera = views.camera
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for n, (pixels, pose) in enumerate(zip(views.pixels, views.poses)):
        picture.save(folder / split / f"r_{n}.png", pixels / 255)
        frames.append({"file_path": f"./{split}/r_{n}", "transform_matrix": pose.tolist()})
    angle = 2 * np.arctan(camera.width / 2 / camera.fx)
    checkpoint.write_json(
        folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames}
    )


def _read_pictures(
    path: Path, files: list[Path], stated: Optional[tuple[float, float]]
) -> np.ndarray:
    """The pictures, all of one size, as they are stored, which is what their cameras see: (N, H, W,
    4) uint8. One that has the stated size only when turned as its EXIF tag says is turned."""
    pixels: list[np.ndarray] = []
    turned = 0
    for file in files:
        read = check_pixels(load_image(file, upright=False), file)
        if stated and stated == read.shape[:2] and stated != read.shape[1::-1]:
            upright = load_image(file)
            turned += upright.shape[1::-1] == stated
            read = upright if upright.shape[1::-1] == stated else read
        rgba = _rgba(read)
        if not pixels:
            memory.require(
                2 * len(files) * rgba.nbytes,
                f"{path}: {len(files)} pictures of {rgba.shape[1]} x {rgba.shape[0]} pixels",
                "their number or size",
            )
        elif rgba.shape != pixels[0].shape:
            raise ValueError(
                f"{file}: {rgba.shape[1]} x {rgba.shape[0]} pixels, the pictures before it "
                f"{pixels[0].shape[1]} x {pixels[0].shape[0]}"
            )
        pixels.append(rgba)
    if turned:
        warnings.warn(
            f"{path}: {turned} pictures are turned as their EXIF tags say, to have its w and h",
            stacklevel=3,
        )
    return np.stack(pixels)


def _rgba(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 1 to 4) in [0, 1] -> (H, W, 4) uint8."""
    channels = pixels.shape[2]
    alpha = pixels[..., -1:] if channels in (2, 4) else np.ones_like(pixels[..., :1])
    colour = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.round(np.concatenate([colour, alpha], axis=2) * 255).astype(np.uint8)


def _present(
    path: Path, names: list[str], poses: np.ndarray, files: list[Optional[Path]]
) -> set[int]:
    """The frames whose picture is there, each picture once; a warning names what is left out.

    ValueError where more than half are missing, or one picture has two poses."""
    missing = [name for name, file in zip(names, files) if file is None]
    if missing:
        what = f"{path}: {len(missing)} of {len(names)} pictures are missing"
        if 2 * len(missing) > len(names):
            raise ValueError(f"{what}: {listed(missing[:1])}{', ...' * (len(missing) > 1)}")
        warnings.warn(f"{what} and left out: {listed(missing)}", stacklevel=3)
    first: dict[str, int] = {}
    for n, file in enumerate(files):
        m = n if file is None else first.setdefault(os.path.normpath(file), n)
        if not np.allclose(poses[n], poses[m], atol=1e-6):
            raise ValueError(
                f"{path}: frames {m} and {n} are one picture with two poses: {names[n]!r:.200}"
            )
    again = sum(file is not None for file in files) - len(first)
    if again:
        warnings.warn(f"{path}: {again} frames name a picture again and are left out", stacklevel=3)
    return set(first.values())


def _masks(
    path: Path, frames: list[dict[str, Any]], files: list[Path], shape: tuple, outside: bool
) -> Optional[np.ndarray]:
    """The pixels (N, H, W) that masks keep, or None without masks.

    A mask is a picture of the same size: `mask_path` of a frame (nerfstudio) and
    masks/NAME.png.png beside images/NAME.png (COLMAP) are 0 where a pixel is left out,
    dynamic_mask_NAME.png beside NAME.png (instant-ngp) is not."""
    kept = None
    masked = 0
    for n, (frame, file) in enumerate(zip(frames, files)):
        names = [frame[key] for key in MASKS if frame.get(key)]
        found = [file for file in locate(path, list(map(str, names)), outside) if file]
        if len(found) < len(names):
            raise ValueError(f"{path}: the mask {names[0]!r:.200} is missing")
        inside = Path(os.path.relpath(file, path.parent)).parts[1:]
        beside = path.parent.joinpath("masks", *inside[:-1], f"{file.name}.png")
        if inside and not found and beside.is_file():
            found.append(beside)
        dynamic = file.with_name(f"dynamic_mask_{file.stem}.png")
        found += [dynamic] if dynamic.is_file() else []
        masked += bool(found)
        for mask in found:
            shown = _shows(mask, shape)
            if kept is None:
                kept = np.ones((len(files), *shape), bool)
            kept[n] &= ~shown if mask is dynamic else shown
    if kept is not None:
        if not kept.any():
            raise ValueError(f"{path}: masks leave out every pixel")
        whose = f", in {masked} of {len(files)} pictures" if masked < len(files) else ""
        warnings.warn(
            f"{path}: masks leave out {1 - kept.mean():.1%} of the pixels{whose}", stacklevel=3
        )
    return kept


def _shows(mask: Path, shape: tuple) -> np.ndarray:
    """Where a mask is not 0: (H, W) bool; where lossy compression blurs it, not nearly 0. A mask of
    its picture before that was shrunk gives the nearest pixels."""
    pixels = load_image(mask, upright=False)
    height, width = pixels.shape[:2]
    if abs(height * shape[1] / width - shape[0]) >= 1:
        raise ValueError(
            f"{mask}: a mask of {width} x {height} pixels, its picture has {shape[1]} x {shape[0]}"
        )
    rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip(shape, (height, width)))
    pixels = pixels[np.ix_(rows.astype(int), columns.astype(int))]
    lossy = mask.suffix.lower() in (".jpg", ".jpeg", ".webp")
    return (_rgba(pixels)[..., :3] > (127 if lossy else 0)).any(-1)
