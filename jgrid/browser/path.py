"""Paths of a camera: keyframes, what lies between them, and nerfstudio's file of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from jgrid import checkpoint
from jgrid.scene.path import angle_of, number_of, pose_of, read_json

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
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    entries = read_json(path).get("keyframes")
    if not isinstance(entries, list):
        raise ValueError(f'{path}: wanted an object with a list "keyframes"')
    return [_keyframe(entry, f"{path}: keyframe {n}") for n, entry in enumerate(entries)]


def _keyframe(entry: Any, name: str) -> Keyframe:
    pose = pose_of(entry, "matrix", name)
    return Keyframe(pose, angle_of(entry, name), number_of(entry, "aspect", name, None))


def _numbers(keyframe: Keyframe) -> list[float]:
    return [float(v) for v in keyframe.pose.ravel()]


def _rest(keyframe: Keyframe) -> dict[str, Any]:
    return {"fov": float(np.degrees(keyframe.angle)), "aspect": keyframe.aspect}
