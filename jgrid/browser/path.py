"""Paths of a camera: keyframes, what lies between them, and nerfstudio's file of them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from jgrid import checkpoint

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline


class Keyframe(NamedTuple):
    """A camera on a path: its pose (4, 4), camera-to-world with OpenGL axes, its vertical angle in
    radians, its width by its height."""

    pose: np.ndarray
    angle: float
    aspect: float


def between(keyframes: Sequence[Keyframe], frames: int) -> list[Keyframe]:
    """So many cameras evenly from the first keyframe to the last: places on a natural cubic spline
    through all of them, turns on one of rotations, angles and aspects on lines; ValueError for
    fewer than two keyframes or frames."""
    if len(keyframes) < 2 or frames < 2:
        raise ValueError(
            f"a path needs two keyframes and two frames, got {len(keyframes)} and {frames}"
        )
    at = np.arange(len(keyframes))
    when = np.linspace(0, at[-1], frames)
    poses = np.stack([keyframe.pose for keyframe in keyframes])
    places = CubicSpline(at, poses[:, :3, 3], bc_type="natural")(when)
    turns = RotationSpline(at, Rotation.from_matrix(poses[:, :3, :3]))(when).as_matrix()
    angles = np.interp(when, at, [keyframe.angle for keyframe in keyframes])
    aspects = np.interp(when, at, [keyframe.aspect for keyframe in keyframes])
    made = []
    for place, turn, angle, aspect in zip(places, turns, angles, aspects):
        pose = np.eye(4)
        pose[:3, :3] = turn
        pose[:3, 3] = place
        made.append(Keyframe(pose, float(angle), float(aspect)))
    return made


def save_path(
    path: Union[str, os.PathLike], keyframes: Sequence[Keyframe], frames: int, fps: float
) -> Path:
    """Write keyframes and the `frames` cameras between them as nerfstudio does: matrices row by
    row, 16 numbers, angles in degrees; returns the path. ValueError as of `between`."""
    cameras = between(keyframes, frames)
    height = 720
    width = round(height * keyframes[0].aspect)
    checkpoint.write_json(
        path,
        {
            "camera_type": "perspective",
            "render_height": height,
            "render_width": width,
            "fps": fps,
            "seconds": frames / fps,
            "is_cycle": False,
            "smoothness_value": 0.0,
            "default_fov": float(np.degrees(keyframes[0].angle)),
            "keyframes": [{"matrix": _numbers(k), **_rest(k)} for k in keyframes],
            "camera_path": [{"camera_to_world": _numbers(k), **_rest(k)} for k in cameras],
        },
    )
    return Path(path)


def load_path(path: Union[str, os.PathLike]) -> list[Keyframe]:
    """The keyframes of a file of `save_path`, or of nerfstudio; ValueError, naming what is wrong,
    where there are none."""
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_keyframe(entry) for entry in saved["keyframes"]]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a camera's path ({error})") from None


def _keyframe(entry: dict[str, Any]) -> Keyframe:
    pose = np.array(entry["matrix"], float).reshape(4, 4)
    angle = float(np.radians(entry["fov"]))
    aspect = float(entry["aspect"])
    turn = pose[:3, :3]
    rigid = np.isfinite(pose).all() and np.allclose(turn @ turn.T, np.eye(3), atol=1e-3)
    if not (rigid and 0 < angle < np.pi and 0 < aspect < np.inf):
        raise ValueError(f"a keyframe has no pose, fov or aspect of a camera: {entry!r:.200}")
    return Keyframe(pose, angle, aspect)


def _numbers(keyframe: Keyframe) -> list[float]:
    return [float(v) for v in keyframe.pose.ravel()]


def _rest(keyframe: Keyframe) -> dict[str, Any]:
    return {"fov": float(np.degrees(keyframe.angle)), "aspect": keyframe.aspect}
