"""What a transforms.json says (NeRF-synthetic, instant-ngp, nerfstudio): poses, files, which
frames are held out. Meaning that is not understood is refused by its name, or warned of."""

import json
import os
import posixpath
import re
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from jgrid.scene.camera import Box, Camera, are_rotations
from jgrid.scene.capture import Capture, Depths, held_out
from jgrid.scene.intrinsics import (
    LENS,
    LONGEST,
    NUMBERS,
    camera_entries,
    frame_camera,
    model_name,
    not_understood,
    number,
    stated_size,
)
from jgrid.scene.locate import listed, locate

import numpy as np

LARGEST_JSON = 2**26  # bytes
NGP_SCALE = 0.33  # of the world, in instant-ngp, where a file does not say
DEPTH_UNIT = 1e-3  # of whole numbers, in units of the poses, where a file does not say

SPLIT_FILES = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
MASKS = ("mask_path", "mask_filename", "mask_file_path")  # of a frame: 0 where a pixel is left out
DEPTHS = ("depth_file_path", "depth_path")  # of a frame
SPLITS = ("train_filenames", "val_filenames", "test_filenames")
UNDERSTOOD = {*NUMBERS, *MASKS, *DEPTHS, *SPLITS, *LENS, "transform_matrix", "integer_depth_scale"}

# Entries with a meaning that would make the rays, the axes or the pictures wrong
LENSES = re.compile(
    r"fish_?eye|(is_)?(latlong|equirectangular|panorama|orthographic)|distortion_params"
    r"|rolling_shutter\w*|ftheta\w*"
)
OTHERS = {
    "white_transparent": "make white transparent in the pictures themselves",
    "black_transparent": "make black transparent in the pictures themselves",
    "from_na": "turn the poses to camera-to-world with OpenGL's axes",
    "transform_matrix_start": "give each frame one transform_matrix",
    "transform_matrix_end": "give each frame one transform_matrix",
}
CONVENTIONS = re.compile(r"\w*(convention|coordinate|axes|w2c|world_?to_?cam|pose_type)\w*")
OWN_CONVENTION = re.compile(r"opengl|nerf|blender|c2w|camera.?to.?world", re.IGNORECASE)
OTHER_CONVENTION = re.compile(r"opencv|colmap|w2c|world.?to.?cam|left.?hand", re.IGNORECASE)
# Entries of the tools that change nothing here: neither rays nor pixels
HARMLESS = {
    "aabb", "aabb_scale", "applied_scale", "applied_transform", "cam_id", "camera", "camera_id",
    "camera_idx", "camera_index", "camera_label", "camera_name", "colmap_im_id",
    "enable_depth_loading", "importance_sampling", "n_extra_learnable_dims", "n_frames", "offset",
    "orientation_override", "ply_file_path", "render_aabb", "rotation", "scale", "sharpness",
    "sharpness_discard_threshold", "up",
}  # fmt: skip
# What an unknown entry is called that may say more
SOUNDING = re.compile(
    r"mask|lens|distort|fish|shutter|fov|focal|intrinsic|extrinsic|cam|skew|pano|ortho|crop|pose"
    r"|c2w|w2c|matrix|convention|coordinate|axes|principal|transparent|flip|velocity|split"
    r"|filenames|^[kp]\d*$|^time$"
)

Frames = list[dict[str, Any]]


def find_transforms(scene: Path, split: str) -> Optional[Path]:
    """The transforms file of a scene, itself or a folder, and a split; None: it has none."""
    if scene.is_file() and scene.name not in SPLIT_FILES:
        return scene
    folder = scene.parent if scene.is_file() else scene
    whole = folder / "transforms.json"
    # a capture's file beside one of a split would hold pictures of both
    if any((folder / name).is_file() for name in SPLIT_FILES):
        return folder / f"transforms_{split}.json"
    return whole if whole.is_file() else None


def read_capture(path: Path, split: str, outside: bool, depths: bool = False) -> Capture:
    """What a transforms file says; ValueError where it is none, or not understood."""
    frames, poses, read = read_transforms(path)
    check_meaning(read, path)
    names = frame_names(frames, path)
    entries = [camera_entries(read, frame) for frame in frames]
    made: dict[tuple, Camera] = {}

    def camera(n: int, width: int, height: int) -> Camera:
        key = (width, height, *map(_rounded, entries[n].items()))
        if key not in made:
            made[key] = frame_camera(entries[n], width, height, path)
        return made[key]

    return Capture(
        path,
        "NeRF-synthetic scene" if path.name in SPLIT_FILES else path.name,
        names,
        locate(path, names, outside),
        poses,
        camera,
        split_frames(read, names, split, path.name not in SPLIT_FILES, path),
        [stated_size(entry, path) for entry in entries],
        [_named(frame, MASKS, "mask", path, outside) for frame in frames],
        ", ".join(dict.fromkeys(map(model_name, entries))),
        stated_box(read),
        depths=_depths(read, path, outside) if depths else None,
    )


def _rounded(entry: tuple[str, Any]) -> tuple[str, str]:
    """An entry of a camera, which frames repeat to the sixth digit."""
    name, value = entry
    return name, f"{value:.6g}" if isinstance(value, float) else repr(value)


def _named(
    frame: dict[str, Any], keys: Sequence[str], what: str, path: Path, outside: bool
) -> list[Path]:
    """The files that a frame names under some keys; `what` they are, for messages."""
    names = [str(frame[key]) for key in keys if frame.get(key)]
    found = [file for file in locate(path, names, outside) if file]
    if len(found) < len(names):
        raise ValueError(f"{path}: the {what} {names[0]!r:.200} is missing")
    return found


def _depths(read: dict[str, Any], path: Path, outside: bool) -> Optional[Depths]:
    """The depth map that each frame names, the first if several; None where none does."""
    named = [_named(frame, DEPTHS, "depth map", path, outside) for frame in read["frames"]]
    unit = number(read.get("integer_depth_scale") or DEPTH_UNIT, "integer_depth_scale", path)
    if unit <= 0:
        raise ValueError(f"{path}: integer_depth_scale must be positive, got {unit:g}")
    return Depths([files[0] if files else None for files in named], unit) if any(named) else None


def read_transforms(path: Union[str, os.PathLike]) -> tuple[Frames, np.ndarray, dict[str, Any]]:
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
        # bytes: UTF-8 with or without a mark, UTF-16, UTF-32
        read = json.loads(path.read_bytes())
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: not JSON ({type(error).__name__}: {error})") from None
    frames = read.get("frames") if isinstance(read, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError(f'{path}: wanted an object with a list "frames"')
    matrices = [
        frame.get("transform_matrix") if isinstance(frame, dict) else None for frame in frames
    ]
    poses = np.stack([_pose(m, f"{path}: frame {n}") for n, m in enumerate(matrices)])
    return frames, _unscaled(poses, path), read


def _pose(matrix: Any, name: str) -> np.ndarray:
    """A transform_matrix as a pose (4, 4), whose axes may still be scaled alike."""
    if matrix is None:
        raise ValueError(f"{name} has no transform_matrix")
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
    if len(pose) == 4 and np.abs(pose[3, :3]).max() > 1e-6:
        raise ValueError(
            f"{name}: the last row of transform_matrix is {pose[3].tolist()}, not 0, 0, 0, 1; is"
            " it transposed?"
        )
    turn = pose[:3, :3]
    length = max(np.cbrt(np.linalg.det(turn)), 1e-30)  # 0 and mirrored ones do not pass
    if not are_rotations(np.stack([turn, turn / length])).any():
        raise ValueError(
            f"{name}: transform_matrix is no rotation and shift (its axes are not orthonormal and"
            " right-handed)"
        )
    return np.concatenate([pose[:3], [[0, 0, 0, 1]]])


def _unscaled(poses: np.ndarray, path: Path) -> np.ndarray:
    """The poses, axes that are longer or shorter than 1 made so, with a warning."""
    turns = poses[:, :3, :3]
    scaled = ~are_rotations(turns)
    if scaled.any():
        length = np.cbrt(np.linalg.det(turns[scaled]))
        turns[scaled] /= length[:, None, None]
        warnings.warn(
            f"{path}: the axes of {scaled.sum()} of {len(poses)} poses are {np.median(length):.3g}"
            " long; their lengths are made 1, their places are left",
            stacklevel=3,
        )
    return poses


def stated_box(read: dict[str, Any]) -> Optional[Box]:
    """The box that instant-ngp's aabb_scale means, with its scale and offset of the world: there
    the scene is in the cube of side aabb_scale around (1/2, 1/2, 1/2)."""
    try:
        side = float(read["aabb_scale"])
        scale = float(read.get("scale", NGP_SCALE))
        offset = np.broadcast_to(np.asarray(read.get("offset", 0.5), float), 3)
        x, y, z = ((0.5 - offset) / scale).tolist()
        return Box(side / 2 / scale, (x, y, z))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # none, or nothing that can be one


def check_meaning(read: dict[str, Any], path: Path) -> None:
    """ValueError where a transforms file, or one of its frames, means another camera than is
    understood; a warning with the names of the entries that may mean one."""
    unknown: dict[str, None] = {}
    for n, entries in enumerate([read, *read["frames"]]):
        name = f"{path}: frame {n - 1}" if n else f"{path}"
        for key, value in entries.items():
            if _says_nothing(value):
                continue
            if LENSES.fullmatch(key):
                raise not_understood(name, key, value)
            if key in OTHERS:
                raise ValueError(f"{name}: {key} is not understood; {OTHERS[key]}")
            if CONVENTIONS.fullmatch(key):
                said = key if value is True else str(value)
                if OTHER_CONVENTION.search(said):
                    raise ValueError(
                        f"{name}: {key} is {value!r:.40}; poses must be camera-to-world, with"
                        " OpenGL's axes (right, up, back)"
                    )
                if OWN_CONVENTION.search(said):
                    continue
            if key not in UNDERSTOOD and key not in HARMLESS and SOUNDING.search(key):
                unknown[key] = None
    if unknown:
        warnings.warn(
            f"{path}: {listed(unknown)} may say something about cameras or masks that is not"
            " understood, and is left aside",
            stacklevel=3,
        )


def _says_nothing(value: Any) -> bool:
    """Whether an entry is false, zero or empty."""
    return all(map(_says_nothing, value)) if isinstance(value, list) else not value


def frame_names(frames: Frames, path: Path) -> list[str]:
    """The file_path of each frame."""
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: a frame has no file_path")
    return [str(name) for name in names]


def split_frames(
    read: dict[str, Any], names: list[str], split: str, whole: bool, path: Path
) -> Sequence[int]:
    """The frames of the split "train" or "test": those that the file's own lists name; else, of a
    whole capture, all but every eighth, or every eighth; else all."""
    lists = {name: _listed_frames(read, name, names, path) for name in SPLITS if read.get(name)}
    if not lists:
        return held_out(len(names), split, path) if whole else range(len(names))
    train = lists.get("train_filenames")
    test = lists.get("test_filenames") or lists.get("val_filenames")
    if train and test and set(train) & set(test):
        warnings.warn(
            f"{path}: {len(set(train) & set(test))} frames are both in train_filenames and among"
            " those to test with",
            stacklevel=3,
        )
    own, others = (train, test) if split == "train" else (test, train)
    chosen = own or [n for n in range(len(names)) if n not in set(others or ())]
    if not chosen:
        raise ValueError(f"{path}: {' and '.join(lists)} leave no frame to {split} with")
    return chosen


def _listed_frames(read: dict[str, Any], key: str, names: list[str], path: Path) -> list[int]:
    known = {_plain(name): n for n, name in enumerate(names)}
    wanted = read[key]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"{path}: {key} is not a list of names")
    unknown = [name for name in wanted if _plain(name) not in known]
    if unknown:
        raise ValueError(f"{path}: {key} names what no frame does: {listed(unknown)}")
    return sorted({known[_plain(name)] for name in wanted})


def _plain(name: str) -> str:
    """A file's name with slashes, without "./", its letters composed."""
    return posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))
