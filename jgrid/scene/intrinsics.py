"""The camera of a frame of a transforms.json: its model, focal lengths, centre and distortion."""

import warnings
from pathlib import Path
from typing import Any, Optional

from jgrid.scene.camera import Camera

import numpy as np

LONGEST = 1e9  # number of a camera
OFF_CENTRE = 0.2  # of the picture's side: so far a camera's axis seldom is from its middle
DISAGREE = 0.02  # between two statements of a focal length

PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL", "PERSPECTIVE")
FULL = "FULL_OPENCV"
FISHEYE = "OPENCV_FISHEYE"
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
# what a camera of a model has no number for
WITHOUT = {FISHEYE: ("p1", "p2", "k5", "k6"), FULL: (), "": ("k4", "k5", "k6")}
ANGLES = ("camera_angle_x", "camera_angle_y", "x_fov", "y_fov")  # the latter two in degrees
NUMBERS = ("fl_x", "fl_y", "cx", "cy", "w", "h", *DISTORTION, *ANGLES)
LENS = ("camera_model", "is_fisheye")


def frame_camera(entries: dict[str, Any], width: int, height: int, path: Path) -> Camera:
    """The camera of a frame, for a picture of this size, by `camera_entries`; ValueError where
    there is none, or none that is understood."""
    model = model_name(entries)
    if model not in (*PINHOLES, FULL, FISHEYE):
        raise not_understood(str(path), "camera_model", entries.get("camera_model"))
    values = {name: number(entries[name], name, path) for name in NUMBERS if name in entries}
    for name in WITHOUT.get(model, WITHOUT[""]):
        if values.get(name):
            raise not_understood(str(path), name, values[name])
    scale_x, scale_y = _scales(values, width, height, path)
    fx = _focal_length(values, "x", width, scale_x, path)
    fy = _focal_length(values, "y", height, scale_y, path)
    focal = fx or fy
    if focal is None:
        raise ValueError(f"{path}: neither fl_x nor camera_angle_x says how wide the camera sees")
    names = ("k1", "k2", "k3", "k4") if model == FISHEYE else DISTORTION
    distortion = tuple(values.get(name, 0.0) for name in names)
    return Camera(
        width,
        height,
        focal,
        fy or focal,
        _centre(values, "cx", "w", width, scale_x, path),
        _centre(values, "cy", "h", height, scale_y, path),
        distortion if any(distortion[4:]) else distortion[:4],
        model == FISHEYE,
    )


def camera_entries(read: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """What a transforms file says of a frame's camera: the frame's own entries, or the file's."""
    found = {name: frame.get(name, read.get(name)) for name in (*NUMBERS, *LENS)}
    return {name: value for name, value in found.items() if value is not None}


def model_name(entries: dict[str, Any]) -> str:
    """The camera's model, in capitals."""
    if entries.get("is_fisheye"):
        return FISHEYE
    bent = any(entries.get(name) for name in DISTORTION)
    return str(entries.get("camera_model") or ("OPENCV" if bent else "PINHOLE")).upper()


def stated_size(entries: dict[str, Any], path: Path) -> Optional[tuple[float, float]]:
    """(w, h) of a frame's picture, None where the file does not say."""
    if "w" not in entries or "h" not in entries:
        return None
    return number(entries["w"], "w", path), number(entries["h"], "h", path)


def number(value: Any, name: str, path: Path) -> float:
    """The value of an entry; ValueError where it is no finite number below LONGEST."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) < LONGEST:
        raise ValueError(f"{path}: {name} is not a finite number below {LONGEST:g}")
    return float(value)


def _scales(values: dict[str, float], width: int, height: int, path: Path) -> tuple[float, float]:
    """The pictures' width and height by those the file states: the camera's numbers are of
    these."""
    stated = [(name, values[name], size) for name, size in (("w", width), ("h", height))
              if name in values]  # fmt: skip
    other = [f"{name} is {value:g}, the pictures have {size}"
             for name, value, size in stated if value != size]  # fmt: skip
    if not other:
        return 1.0, 1.0
    w = values.get("w", 0.0)
    h = values.get("h", 0.0)
    # both shrunk or enlarged alike, but for the rounding to whole pixels
    if w <= 0 or h <= 0 or abs(h * width / w - height) >= 1:
        raise ValueError(f"{path}: {'; '.join(other)}")
    warnings.warn(
        f"{path}: its w and h are {w:g} x {h:g}, the pictures {width} x {height}; the camera's"
        " numbers are scaled to them",
        stacklevel=4,
    )
    return width / w, height / h


def _focal_length(
    values: dict[str, float], axis: str, size: int, scale: float, path: Path
) -> Optional[float]:
    """In pixels, along an axis of a picture `size` wide; None where the file does not say."""
    found = {}
    if f"fl_{axis}" in values:
        length = values[f"fl_{axis}"]
        if length <= 0:
            raise ValueError(f"{path}: the focal length must be positive, got {length}")
        found[f"fl_{axis}"] = length * scale
    for name, half in ((f"camera_angle_{axis}", np.pi), (f"{axis}_fov", 180.0)):
        if name in values:
            angle = values[name]
            if not 0 < angle < half:
                limit = "pi" if half == np.pi else "180"
                raise ValueError(f"{path}: {name} must be between 0 and {limit}, got {angle}")
            found[name] = size / 2 / np.tan(angle / half * np.pi / 2)
    if not found:
        return None
    taken, length = next(iter(found.items()))
    for name, other in found.items():
        if abs(other / length - 1) > DISAGREE:
            warnings.warn(
                f"{path}: {name} means a focal length of {other:.5g} pixels, {taken} one of"
                f" {length:.5g}, which is taken",
                stacklevel=4,
            )
    return float(length)


def _centre(
    values: dict[str, float], name: str, side: str, size: int, scale: float, path: Path
) -> float:
    """Where the camera's axis meets the picture, along an axis of `size` pixels."""
    if name not in values:
        return size / 2
    centre = values[name] * scale
    what = f"{path}: {name} is {values[name]:g} of {size / scale:g} pixels"
    if abs(values[name]) <= 1 and size > 4:
        raise ValueError(f"{what}; it must be the principal point in pixels, from the edge")
    if abs(centre / size - 0.5) > OFF_CENTRE:
        if side not in values:
            raise ValueError(
                f"{what}, far from the middle; if it is of pictures of another size, give their"
                " w and h in the file"
            )
        warnings.warn(f"{what}, far from the middle", stacklevel=4)
    return centre


def not_understood(name: str, key: str, value: Any) -> ValueError:
    """The error of an entry of `name`, a file or frame, that means another camera."""
    return ValueError(
        f"{name}: {key} is {value!r:.60}; only cameras of the models {', '.join(PINHOLES)} (k1, k2,"
        f" p1, p2, k3), {FULL} (k1 to k6, p1, p2) and {FISHEYE} (k1 to k4) are understood;"
        " undistort the pictures first"
    )
