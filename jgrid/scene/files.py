"""Scenes on disk: photographs with their cameras, in the formats of captures."""

import os
import warnings
from pathlib import Path
from typing import Any, Union

from jgrid import checkpoint, picture
from jgrid.scene.camera import Camera
from jgrid.scene.capture import Capture, present
from jgrid.scene.colmap import find_model, read_colmap
from jgrid.scene.llff import POSES, read_llff
from jgrid.scene.pictures import read_depths, read_masks, read_pictures
from jgrid.scene.transforms import find_transforms, read_capture
from jgrid.scene.views import Pictures, Views

import numpy as np


def load_views(
    scene: Union[str, os.PathLike],
    split: str,
    outside: bool = False,
    depths: bool = False,
    shrink: int = 1,
    progress: bool = False,
) -> Views:
    """The split "train" or "test" of a scene, a folder or its transforms file.

    A folder is what it holds first of: transforms_SPLIT.json (NeRF-synthetic); transforms.json
    (instant-ngp, nerfstudio), with the split that it names itself, or every eighth frame for
    testing; a COLMAP model, in sparse/0, sparse or itself; poses_bounds.npy (LLFF); of the latter
    two every eighth picture by name is for testing.

    Missing pictures are left out; a warning names them, and all else that is mended or assumed.
    outside: the files may name pictures that are not in the folder, by "..", links or whole paths.
    depths: also read the depth maps that frames of a transforms file name. shrink: average so many
    pixels of the pictures, by as many, into one. progress: whether a bar shows how far it is.
    Pictures for which there is no memory are kept on the disk meanwhile (`pictures.room`).
    Raises ValueError, naming the file and what is wrong with it.
    """
    capture = _read(Path(scene), split, outside, depths)
    path = capture.path
    chosen = present(capture)
    if not chosen:
        raise ValueError(f"{path}: no picture to {split} with is there")
    files = [file for n in chosen if (file := capture.files[n])]
    stated = [capture.sizes[n] for n in chosen]
    pixels, sizes = read_pictures(path, files, stated, shrink, progress)
    cameras = [capture.camera(n, *size).shrunk(shrink) for n, size in zip(chosen, sizes)]
    _check_lenses(path, cameras)
    _check_opaque(path, pixels)
    return Views(
        pixels,
        capture.poses[chosen],
        cameras,
        read_masks(path, files, [capture.masks[n] for n in chosen], sizes, shrink),
        tuple(capture.names[n] for n in chosen),
        capture.stated,
        capture.points,
        capture.kind,
        capture.model,
        read_depths(path, capture.depths, chosen, sizes, shrink) if capture.depths else None,
    )


def save_views(folder: Union[str, os.PathLike], split: str, views: Views) -> None:
    """Write a split in NeRF-synthetic's format, which has one camera, without distortion; masks and
    depth maps, where there are any, as nerfstudio names them."""
    folder = Path(folder)
    camera = views.camera
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for n, (pixels, pose) in enumerate(zip(views.pixels, views.poses)):
        picture.save(folder / split / f"r_{n}.png", pixels / 255)
        frame: dict[str, Any] = {"file_path": f"./{split}/r_{n}"}
        if views.kept is not None:
            frame["mask_path"] = f"./{split}/r_{n}_mask.png"
            picture.save(folder / frame["mask_path"], views.kept[n][..., None].astype(float))
        if views.depths is not None:
            frame["depth_file_path"] = f"./{split}/r_{n}_depth.npy"
            with checkpoint.atomic_path(folder / frame["depth_file_path"]) as temporary:
                np.save(temporary, views.depths[n])
        frames.append({**frame, "transform_matrix": pose.tolist()})
    angle = 2 * np.arctan(camera.width / 2 / camera.fx)
    checkpoint.write_json(
        folder / f"transforms_{split}.json", {"camera_angle_x": angle, "frames": frames}
    )


def _read(scene: Path, split: str, outside: bool, depths: bool) -> Capture:
    """What the files of a scene say, of the first kind that is there."""
    transforms = find_transforms(scene, split)
    model = None if transforms else find_model(scene)
    if model:
        return read_colmap(model, split, outside)
    if not transforms and (scene / POSES).is_file():
        return read_llff(scene, split)
    if not transforms:
        raise ValueError(
            f"{scene}: no scene: neither transforms_train.json, transforms.json, a COLMAP model"
            f" (sparse/0/cameras.bin) nor {POSES} is there"
        )
    return read_capture(transforms, split, outside, depths)


def _check_lenses(path: Path, cameras: list[Camera]) -> None:
    """A warning where lenses do not reach parts of the pictures; ValueError where that is most of
    one."""
    shares = [1.0 if c.reaches_all else float(c.reached().mean()) for c in dict.fromkeys(cameras)]
    worst = min(shares)
    if worst < 1:
        whose = f" of one of {len(shares)} cameras" if len(shares) > 1 else ""
        numbers = "k1, k2, k3, k4" if cameras[0].fisheye else "k1, k2, p1, p2"
        what = f"{path}: the lens ({numbers}){whose} reaches no more than {worst:.1%} of the"
        if worst < 0.5:
            raise ValueError(f"{what} picture; its numbers are of another camera or size")
        warnings.warn(f"{what} pixels; the others are left out", stacklevel=3)


def _check_opaque(path: Path, pixels: Pictures) -> None:
    """A warning where few pictures are opaque, and likely were not cut out."""
    opaque = sum(bool((shown[..., 3] == 255).all()) for shown in pixels)
    if 0 < opaque < len(pixels) / 2:
        warnings.warn(
            f"{path}: {opaque} of {len(pixels)} pictures have no transparent pixel, the others"
            " have; were these not cut out?",
            stacklevel=3,
        )
