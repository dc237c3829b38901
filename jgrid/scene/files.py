"""Scenes on disk: photographs with their cameras, in NeRF-synthetic's and instant-ngp's format."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import checkpoint, memory, picture
from jgrid.image.files import load_image
from jgrid.scene.camera import Camera

import numpy as np

LARGEST_JSON = 2**26  # bytes
LONGEST = 1e9  # number of a camera
HELD_OUT = 8  # of a capture without splits every eighth picture is for testing
PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL")
DISTORTION = ("k1", "k2", "p1", "p2")
INTRINSICS = ("fl_x", "fl_y", "cx", "cy", *DISTORTION, "camera_angle_x", "camera_angle_y")


@dataclass(frozen=True)
class Views:
    """Pictures (N, H, W, 4) uint8, straight alpha, from one camera at poses (N, 4, 4),
    camera-to-world."""

    pixels: np.ndarray
    poses: np.ndarray
    camera: Camera

    @property
    def transparent(self) -> bool:
        """Whether a pixel is not opaque."""
        return bool((self.pixels[..., 3] < 255).any())

    def on(self, n: int, background: Union[float, np.ndarray]) -> np.ndarray:
        """Picture n laid over a background: (H, W, 3) float32 in [0, 1]."""
        rgba = self.pixels[n].astype(np.float32) / 255
        return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * np.float32(background)


def load_views(folder: Union[str, os.PathLike], split: str, outside: bool = False) -> Views:
    """The split "train" or "test" of a scene: transforms_SPLIT.json, or a capture's
    transforms.json, every eighth frame for testing.

    outside: the file may name pictures that are not in the folder, by "..", links or whole paths.
    Raises ValueError, naming the file and what is wrong with it.
    """
    path = Path(folder) / f"transforms_{split}.json"
    whole = Path(folder) / "transforms.json"
    if not path.is_file() and whole.is_file():
        path = whole
    frames, poses, read = read_transforms(path)
    if path == whole:
        chosen = [n for n in range(len(frames)) if (n % HELD_OUT == 0) == (split == "test")]
        if not chosen:
            raise ValueError(
                f"{path}: {len(frames)} frames are too few to hold some out for testing"
            )
        frames = [frames[n] for n in chosen]
        poses = poses[chosen]
    pixels = _read_pictures(path, frames, outside)
    height, width = pixels.shape[1:3]
    return Views(pixels, poses, _camera(read, width, height, path))


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


def read_transforms(
    path: Union[str, os.PathLike],
) -> tuple[list[dict[str, Any]], np.ndarray, dict[str, Any]]:
    """(frames, poses (N, 4, 4), everything in it) of a transforms file; ValueError where it is not
    one."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(
            f"{path}: larger than {LARGEST_JSON // 2**20} MiB, which no scene's cameras need"
        )
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: not JSON ({type(error).__name__}: {error})") from None
    frames = read.get("frames") if isinstance(read, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f'{path}: wanted an object with a list "frames"')
    matrices = [
        frame.get("transform_matrix") if isinstance(frame, dict) else None for frame in frames
    ]
    poses = [_pose(matrix, f"{path}: frame {n}") for n, matrix in enumerate(matrices)]
    return frames, np.stack(poses), read


def _read_pictures(path: Path, frames: list[dict[str, Any]], outside: bool) -> np.ndarray:
    """The pictures of the frames, all of one size: (N, H, W, 4) uint8."""
    pixels: list[np.ndarray] = []
    for frame in frames:
        file = _picture_path(path, frame, outside)
        rgba = _rgba(load_image(file))
        if not pixels:
            memory.require(
                2 * len(frames) * rgba.nbytes,
                f"{path}: {len(frames)} pictures of {rgba.shape[1]} x {rgba.shape[0]} pixels",
                "their number or size",
            )
        elif rgba.shape != pixels[0].shape:
            raise ValueError(
                f"{file}: {rgba.shape[1]} x {rgba.shape[0]} pixels, the pictures before it "
                f"{pixels[0].shape[1]} x {pixels[0].shape[0]}"
            )
        pixels.append(rgba)
    return np.stack(pixels)


def _picture_path(path: Path, frame: dict[str, Any], outside: bool) -> Path:
    """The picture that a frame of a transforms file names; NeRF-synthetic leaves out the ending
    .png."""
    name = frame.get("file_path")
    if not isinstance(name, str):
        raise ValueError(f"{path}: a frame has no file_path")
    file = path.parent / name
    file = file if file.is_file() else Path(f"{file}.png")
    inside = Path(os.path.realpath(path.parent)) in Path(os.path.realpath(file)).parents
    if not inside and not outside:
        raise ValueError(
            f"{path}: names {name!r:.200}, which is not in its folder; `outside` allows that"
        )
    return file


def _rgba(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 1 to 4) in [0, 1] -> (H, W, 4) uint8."""
    channels = pixels.shape[2]
    alpha = pixels[..., -1:] if channels in (2, 4) else np.ones_like(pixels[..., :1])
    colour = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.round(np.concatenate([colour, alpha], axis=2) * 255).astype(np.uint8)


def _pose(matrix: Any, name: str) -> np.ndarray:
    """A transform_matrix as a pose (4, 4)."""
    try:
        pose = np.array(matrix, float)
    except (TypeError, ValueError, OverflowError):
        pose = np.zeros(0)
    if pose.shape not in ((4, 4), (3, 4)):
        raise ValueError(f"{name}: transform_matrix is not 4 x 4 numbers")
    if not (np.abs(pose) < LONGEST).all():
        raise ValueError(
            f"{name}: transform_matrix has values that are not finite or beyond {LONGEST:g}"
        )
    turn = pose[:3, :3]
    if np.abs(turn.T @ turn - np.eye(3)).max() > 1e-2 or np.linalg.det(turn) < 0:
        raise ValueError(
            f"{name}: transform_matrix is no rotation and shift (its axes are not orthonormal and"
            " right-handed)"
        )
    return np.concatenate([pose[:3], [[0, 0, 0, 1]]])


def _camera(read: dict[str, Any], width: int, height: int, path: Path) -> Camera:
    """The camera of a transforms file, for pictures of this size."""
    fisheye = read.get("is_fisheye") or read.get("camera_model", "OPENCV") not in PINHOLES
    if fisheye or any(read.get(name) for name in ("k3", "k4")):
        raise ValueError(
            f"{path}: only cameras with a pinhole and the distortions k1, k2, p1 and p2 are"
            f" understood, of the models {', '.join(PINHOLES)}"
        )
    for name, size in (("w", width), ("h", height)):
        if name in read and read[name] != size:
            raise ValueError(f"{path}: {name} is {read[name]!r:.40}, the pictures have {size}")
    values = _intrinsics(read, path)
    fx = _focal_length(values, "x", width, path)
    fy = _focal_length(values, "y", height, path)
    if fx is None:
        raise ValueError(f"{path}: neither fl_x nor camera_angle_x says how wide the camera sees")
    k1, k2, p1, p2 = (values.get(name, 0.0) for name in DISTORTION)
    return Camera(
        width,
        height,
        fx,
        fx if fy is None else fy,
        values.get("cx", width / 2),
        values.get("cy", height / 2),
        (k1, k2, p1, p2),
    )


def _intrinsics(read: dict[str, Any], path: Path) -> dict[str, float]:
    """The numbers of a camera that a transforms file has."""
    values = {}
    for name in INTRINSICS:
        if any(name in frame and frame[name] != read.get(name) for frame in read["frames"]):
            raise ValueError(
                f"{path}: {name} is not the same for all frames, as one camera's must be"
            )
        if name in read:
            value = read[name]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not abs(value) < LONGEST:
                raise ValueError(f"{path}: {name} is not a finite number below {LONGEST:g}")
            values[name] = float(value)
    return values


def _focal_length(values: dict[str, float], axis: str, size: int, path: Path) -> Optional[float]:
    """In pixels, along an axis of a picture `size` wide; None where the file does not say."""
    length = values.get(f"fl_{axis}")
    angle = values.get(f"camera_angle_{axis}")
    if length is None and angle is not None:
        if not 0 < angle < np.pi:
            raise ValueError(f"{path}: camera_angle_{axis} must be between 0 and pi, got {angle}")
        length = size / 2 / np.tan(angle / 2)
    if length is not None and length <= 0:
        raise ValueError(f"{path}: the focal length must be positive, got {length}")
    return length
