"""LLFF's poses_bounds.npy: poses, a focal length and the bounds of the depth for each picture."""

from pathlib import Path

from jgrid.scene.camera import Camera, are_rotations
from jgrid.scene.capture import Capture, held_out, picture_folders, pictures_in, scaled

import numpy as np

POSES = "poses_bounds.npy"
DEPTHS = 5  # between the bounds, at which points of the scene are assumed
ACROSS = 3  # such points along each side of a picture


def read_llff(folder: Path, split: str) -> Capture:
    """What poses_bounds.npy says of the pictures in images, or images_N, sorted by name: (N, 17),
    of each a matrix (3, 5), whose columns are the axes down, right and back, the place, and
    (height, width, focal length), then the nearest and the farthest depth.

    ValueError where it is none, or of another number of pictures than the folder has."""
    path = folder / POSES
    values = _read(path)
    places = [place for place in picture_folders(folder) if len(pictures_in(place)) == len(values)]
    if not places:
        raise ValueError(
            f"{path}: {len(values)} poses, and no folder images or images_N of as many pictures"
        )
    matrices = values[:, :15].reshape(-1, 3, 5)
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3] = matrices[:, :, [1, 0, 2, 3]] * [1, -1, 1, 1]
    cameras = [
        Camera(round(w), round(h), focal, focal, w / 2, h / 2)
        for h, w, focal in matrices[:, :, 4].tolist()
    ]
    names = pictures_in(places[0])
    return Capture(
        path,
        "LLFF capture",
        names,
        [places[0] / name for name in names],
        poses,
        lambda n, width, height: scaled(cameras[n], width, height, path),
        held_out(len(names), split, path),
        [(camera.width, camera.height) for camera in cameras],
        [[] for _ in names],
        "SIMPLE_PINHOLE",
        points=_within(poses, cameras, values[:, 15:]),
    )


def _read(path: Path) -> np.ndarray:
    """The values (N, 17), checked."""
    try:
        values = np.load(path, allow_pickle=False)
        values = np.asarray(values, float)
    except Exception as error:  # numpy raises whatever a damaged file makes it raise
        raise ValueError(f"{path}: not an array ({type(error).__name__}: {error})") from None
    if values.ndim != 2 or values.shape[1] != 17 or not len(values):
        raise ValueError(f"{path}: an array {values.shape}, wanted (N, 17)")
    matrices = values[:, :15].reshape(-1, 3, 5)
    turns = matrices[:, :, [1, 0, 2]] * [1, -1, 1]
    for n, (height, width, focal) in enumerate(matrices[:, :, 4]):
        what = f"{path}: row {n}"
        if not np.isfinite(values[n]).all():
            raise ValueError(f"{what} has values that are not finite")
        if not are_rotations(turns[n]):
            raise ValueError(f"{what}: its axes (down, right, back) are no rotation")
        if min(height, width) < 1 or focal <= 0 or max(height, width) > 2**16:
            raise ValueError(f"{what}: no camera ({height:g} x {width:g}, focal length {focal:g})")
        if not 0 < values[n, 15] < values[n, 16]:
            raise ValueError(f"{what}: no bounds of a depth ({values[n, 15]:g}, {values[n, 16]:g})")
    return values


def _within(poses: np.ndarray, cameras: list[Camera], bounds: np.ndarray) -> np.ndarray:
    """Points (P, 3) of the world that each picture shows between its bounds, evenly in 1 / depth,
    as parallax is."""
    side = (np.arange(ACROSS) + 0.5) / ACROSS
    points = []
    for pose, camera, (near, far) in zip(poses, cameras, bounds):
        u, v = np.meshgrid(side * camera.width, side * camera.height)
        direction = camera.directions(u.ravel(), v.ravel())
        direction /= -direction[:, 2:]
        depth = 1 / np.linspace(1 / near, 1 / far, DEPTHS)
        local = (depth[:, None, None] * direction).reshape(-1, 3)
        points.append(local @ pose[:3, :3].T + pose[:3, 3])
    return np.concatenate(points)
