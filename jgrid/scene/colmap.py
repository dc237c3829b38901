"""COLMAP's models, binary and text, read by pycolmap."""

import signal
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from jgrid.scene.camera import Camera
from jgrid.scene.capture import Capture, held_out, picture_folders, scaled
from jgrid.scene.locate import locate

import numpy as np

PLACES = ("sparse/0", "sparse", ".")  # of a model, in a folder
FILES = ("cameras.bin", "cameras.txt")  # one of which a model has
# of each binary file the bytes of an entry and of one of its items, and whether it has a name:
# id, place, colour, error, and where it is seen; id, pose, camera, name, and what it sees
BINARY = {"points3D.bin": (43, 8, False), "images.bin": (64, 24, True)}
FLIP = np.array([1.0, -1.0, -1.0])  # OpenCV's axes of a camera (right, down, ahead) to OpenGL's
# of each camera model: where its numbers stand in fx, fy, cx, cy and the distortion
MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
}
OPENCV = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE = ("k1", "k2", "k3", "k4")


def find_model(scene: Path) -> Optional[Path]:
    """The folder of a scene's model: sparse/0, sparse, or the scene's own; None: it has none."""
    for place in PLACES:
        if any((scene / place / name).is_file() for name in FILES):
            return scene / place
    return None


def read_colmap(model: Path, split: str, outside: bool) -> Capture:
    """What a COLMAP model says of the pictures in images, or images_N, beside it, in the order of
    their names; the world is COLMAP's.

    ValueError where it is damaged, has a camera that is not understood, or pycolmap is missing."""
    read = _reconstruction(model)
    images = sorted(read.images.values(), key=lambda image: image.name)
    if not images:
        raise ValueError(f"{model}: no picture is registered in this model")
    cameras = {n: camera_of(camera, model) for n, camera in read.cameras.items()}
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images):
        turn, shift = np.split(image.cam_from_world().matrix(), [3], axis=1)
        pose[:3, :3] = turn.T * FLIP
        pose[:3, 3] = -(turn.T @ shift)[:, 0]
    if not np.isfinite(poses).all():
        raise ValueError(f"{model}: a pose is not finite")
    names = [image.name for image in images]
    own = [cameras[image.camera_id] for image in images]
    points = np.array([point.xyz for point in read.points3D.values()]).reshape(-1, 3)
    root, files = _pictures(model, names, outside)
    masks = [root / "masks" / f"{name}.png" for name in names]
    models = {read.cameras[image.camera_id].model.name for image in images}
    return Capture(
        model,
        "COLMAP model",
        names,
        files,
        poses,
        lambda n, width, height: scaled(own[n], width, height, model),
        held_out(len(names), split, model),
        [(camera.width, camera.height) for camera in own],
        [[mask] if mask.is_file() else [] for mask in masks],
        ", ".join(sorted(models)),
        points=points[np.isfinite(points).all(1)],
    )


def camera_of(camera: Any, path: Path) -> Camera:
    """A camera of pycolmap's as one of ours; ValueError where its model is not understood."""
    model = camera.model.name
    if model not in MODELS:
        raise ValueError(
            f"{path}: a camera of the model {model}; understood are {', '.join(MODELS)}: undistort"
            " the pictures first (COLMAP: image_undistorter)"
        )
    values = dict(zip(MODELS[model].split(), map(float, camera.params)))
    focal = values.get("f", 0.0)
    fisheye = model.endswith("FISHEYE")
    distortion = tuple(values.get(name, 0.0) for name in (FISHEYE if fisheye else OPENCV))
    try:
        return Camera(
            camera.width,
            camera.height,
            values.get("fx", focal),
            values.get("fy", focal),
            values["cx"],
            values["cy"],
            distortion if any(distortion[4:]) else distortion[:4],
            fisheye,
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: camera {camera.camera_id}: {error}") from None


def _pictures(
    model: Path, names: Sequence[str], outside: bool
) -> tuple[Path, list[Optional[Path]]]:
    """The folder that a model belongs to, and its pictures: in the first of images and images_N, of
    it or a folder around the model, that has most of them."""
    tried = []
    for root in (model, model.parent, model.parent.parent):
        for folder in picture_folders(root):
            tried.append(folder.name)
            files = locate(root / model.name, [f"{folder.name}/{name}" for name in names], outside)
            if 2 * sum(file is not None for file in files) >= len(names):
                return root, files
    where = f"in {', '.join(tried)}" if tried else "and no folder images or images_N is beside it"
    raise ValueError(f"{model}: the pictures are not there: {names[0]!r:.200}, ... {where}")


def _check_counts(path: Path, entry: int, item: int, named: bool) -> None:
    """ValueError where a binary file's own counts lead beyond its end, where pycolmap would read on
    without one: so many entries of `entry` bytes, then a name if they are named, and so many items
    of `item` bytes each."""
    data = path.read_bytes()
    at = 8
    try:
        for _ in range(struct.unpack_from("<Q", data)[0]):
            at += entry
            at = data.index(0, at) + 1 if named else at
            at += 8 + item * struct.unpack_from("<Q", data, at)[0]
    except (struct.error, ValueError):
        at = len(data) + 1
    if at > len(data):
        raise ValueError(f"{path}: no COLMAP model (cut off, or its counts are damaged)")


def _reconstruction(model: Path) -> Any:
    """pycolmap's reading of a model."""
    for name, sizes in BINARY.items():
        if (model / name).is_file():
            _check_counts(model / name, *sizes)
    try:
        return _pycolmap().Reconstruction(str(model))
    except ImportError:
        raise ValueError(
            f"{model}: a COLMAP model is read by pycolmap, which is not installed:"
            " pip install 'jgrid[capture]'"
        ) from None
    except Exception as error:  # of a damaged file: what C++ raises
        said = str(error).strip().splitlines()
        raise ValueError(f"{model}: no COLMAP model ({said[-1] if said else error!r})") from None


def _pycolmap() -> ModuleType:
    """The package, imported without its handler of SIGTERM, which would take the place of ours and
    print the stacks of all processes that end."""
    handler = signal.getsignal(signal.SIGTERM)
    import pycolmap

    if handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    return pycolmap
