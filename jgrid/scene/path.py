"""Ways of a camera: read from files, filmed."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from jgrid import checkpoint, memory
from jgrid.config import config_from_dict
from jgrid.image.task import PIXEL_BYTES
from jgrid.scene.camera import Camera, are_rotations
from jgrid.scene.intrinsics import LONGEST
from jgrid.scene.transforms import LARGEST_JSON, read_transforms
from jgrid.scene.viewer import Viewer

import numpy as np
from tqdm import tqdm

MOST_FRAMES = 10**5
FPS = 24.0
PICTURE_BYTES = 16  # of a pixel of many pictures, with what a GIF makes of them


class CameraPath(NamedTuple):
    """Poses (N, 4, 4), camera-to-world, and the camera at each; fps: pictures in a second, None
    where the file does not say."""

    poses: np.ndarray
    cameras: list[Camera]
    fps: Optional[float] = None


def read_path(path: Union[str, os.PathLike], camera: Camera) -> CameraPath:
    """The way of a transforms file, whose poses `camera` takes, or of nerfstudio's camera_path:
    entries with camera_to_world, 16 numbers row by row, and fov, the vertical angle in degrees;
    render_width and render_height, where there are any, else aspect and the camera's height; fps,
    or seconds.

    ValueError, naming the file and what is wrong with it.
    """
    path = Path(path)
    read = read_json(path)
    if "camera_path" not in read:
        poses = read_transforms(path)[1]
        return CameraPath(poses, [camera] * len(poses))
    frames = read["camera_path"]
    if not isinstance(frames, list) or not 0 < len(frames) <= MOST_FRAMES:
        raise ValueError(f'{path}: "camera_path" is no list of 1 to {MOST_FRAMES:,} frames')
    kind = read.get("camera_type", "perspective")
    if kind != "perspective":
        raise ValueError(f"{path}: camera_type is {kind!r:.40}; only perspective is understood")
    poses = np.stack(
        [pose_of(frame, "camera_to_world", f"{path}: frame {n}") for n, frame in enumerate(frames)]
    )
    cameras = [_camera(frame, read, camera, f"{path}: frame {n}") for n, frame in enumerate(frames)]
    if len({(one.width, one.height) for one in cameras}) > 1:
        raise ValueError(f"{path}: frames have several sizes; give render_width and render_height")
    memory.require(
        PIXEL_BYTES * cameras[0].width * cameras[0].height,
        f"{path}: a picture of {cameras[0].width} x {cameras[0].height} pixels",
        "its size",
    )
    return CameraPath(poses, cameras, _fps(read, len(frames), path))


def turntable(viewer: Viewer, frames: int) -> CameraPath:
    """Once around a scene, in so many pictures."""
    poses, camera = viewer.around(frames)
    return CameraPath(poses, [camera] * frames)


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; an empty one where it is none."""
    try:
        read = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST_JSON else None
    except (OSError, ValueError, RecursionError, MemoryError):
        return {}
    return read if isinstance(read, dict) else {}


def pose_of(entry: Any, key: str, name: str) -> np.ndarray:
    """The pose (4, 4) under a key of an entry, 16 numbers row by row; ValueError where there is
    none."""
    try:
        pose = np.array(entry[key], float).reshape(4, 4)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError(f"{name}: {key} is not 16 numbers") from None
    if not np.abs(pose).max() < LONGEST or not are_rotations(pose[:3, :3]):
        raise ValueError(f"{name}: {key} is no pose: a rotation and a place, row by row")
    return pose


def _camera(frame: dict[str, Any], read: dict[str, Any], camera: Camera, name: str) -> Camera:
    height = number_of(read, "render_height", name, camera.height)
    aspect = number_of(frame, "aspect", name, camera.width / camera.height)
    width = number_of(read, "render_width", name, height * aspect)
    focal = float(height / 2 / np.tan(angle_of(frame, name) / 2))
    values = {"width": round(width), "height": round(height), "fx": focal, "fy": focal,
              "cx": round(width) / 2, "cy": round(height) / 2}  # fmt: skip
    try:
        return config_from_dict(Camera, values, name)
    except ValueError as error:  # about entries of the file, not arguments
        raise ValueError(f"{name}: {str(error).replace('`', '')}") from None


def angle_of(entry: dict[str, Any], name: str) -> float:
    """The vertical angle of an entry, its fov, in radians; ValueError where there is none."""
    degrees = number_of(entry, "fov", name, None)
    if degrees >= 180:
        raise ValueError(f"{name}: fov must be between 0 and 180 degrees, got {degrees:g}")
    return float(np.radians(degrees))


def _fps(read: dict[str, Any], frames: int, path: Path) -> Optional[float]:
    if read.get("fps") is not None:
        fps = number_of(read, "fps", str(path), None)
    elif read.get("seconds") is not None:
        fps = frames / max(number_of(read, "seconds", str(path), None), 1e-9)
    else:
        return None
    if not 0 < fps <= 1000:
        raise ValueError(f"{path}: {fps:g} pictures a second (fps, seconds) are out of reach")
    return fps


def number_of(values: dict[str, Any], key: str, name: str, default: Optional[float]) -> float:
    """A positive number under a key; ValueError where there is none, and no default."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < LONGEST:
        raise ValueError(f"{name}: {key} is not a positive number")
    return float(value)


def pictures(
    viewer: Viewer, model: Any, way: CameraPath, progress: bool = False
) -> Iterable[np.ndarray]:
    """What is seen on a way: (H, W, 3) in [0, 1], one after the other."""
    frames = zip(way.poses, way.cameras)
    for pose, camera in tqdm(
        frames, "frames", len(way.poses), disable=not progress, leave=False, delay=2
    ):
        yield viewer.picture(model, pose, camera)[0]


def all_pictures(
    viewer: Viewer, model: Any, way: CameraPath, progress: bool = False
) -> list[np.ndarray]:
    """The same, all at once; NotEnough before they take more memory than there is."""
    camera = way.cameras[0]
    memory.require(
        PICTURE_BYTES * camera.width * camera.height * len(way.poses),
        f"{len(way.poses)} pictures of {camera.width} x {camera.height} pixels",
        "their number or size",
    )
    return list(pictures(viewer, model, way, progress))


def import_ffmpeg() -> Any:
    """imageio_ffmpeg; a ValueError that says what to install where it is missing."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ValueError("MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg") from None
    return imageio_ffmpeg


def save_mp4(path: Union[str, os.PathLike], frames: Iterable[np.ndarray], fps: float = FPS) -> Path:
    """Write pictures (H, W, 3) in [0, 1], all of one size, as a film (H.264); returns the path. A
    row or column is repeated where their number is odd, which such films cannot have."""
    ffmpeg = import_ffmpeg()
    with checkpoint.atomic_path(path) as temporary:
        writer = None
        try:
            for pixels in frames:
                levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
                height, width = levels.shape[:2]
                levels = np.pad(levels, [(0, height % 2), (0, width % 2), (0, 0)], "edge")
                if writer is None:
                    writer = ffmpeg.write_frames(
                        str(temporary), levels.shape[1::-1], fps=fps, quality=8, macro_block_size=2
                    )
                    writer.send(None)
                writer.send(np.ascontiguousarray(levels))
        finally:
            if writer is not None:
                writer.close()
    return Path(path)
