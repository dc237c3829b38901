"""What a transforms.json says (NeRF-synthetic, instant-ngp, nerfstudio): poses, one camera, which
frames are held out, where the pictures are. Meaning that is not understood is refused by its name,
or warned of."""

import json
import os
import posixpath
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Optional, Union
from urllib.parse import unquote

from jgrid.scene.camera import Box, Camera

import numpy as np

LARGEST_JSON = 2**26  # bytes
LONGEST = 1e9  # number of a camera
LISTED = 20  # names in a message, at most
NGP_SCALE = 0.33  # of the world, in instant-ngp, where a file does not say
HELD_OUT = 8  # of a capture without splits every eighth picture is for testing
OFF_CENTRE = 0.2  # of the picture's side: so far a camera's axis seldom is from its middle
DISAGREE = 0.02  # between two statements of a focal length
SKEWED = 1e-2  # a rotation may be, each product of its axes
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr")

PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL", "PERSPECTIVE")
DISTORTION = ("k1", "k2", "p1", "p2")
ANGLES = ("camera_angle_x", "camera_angle_y", "x_fov", "y_fov")  # the latter two in degrees
NUMBERS = ("fl_x", "fl_y", "cx", "cy", "w", "h", *DISTORTION, *ANGLES)
MASKS = ("mask_path", "mask_filename", "mask_file_path")  # of a frame: 0 where a pixel is left out
SPLITS = ("train_filenames", "val_filenames", "test_filenames")
UNDERSTOOD = {*NUMBERS, *MASKS, *SPLITS, "camera_model", "transform_matrix"}

# Entries with a meaning that would make the rays, the axes or the pictures wrong
LENSES = re.compile(
    r"(is_)?(fish_?eye|latlong|equirectangular|panorama|orthographic)|k[3-6]|distortion_params"
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
    "depth_file_path", "depth_path", "enable_depth_loading", "importance_sampling",
    "integer_depth_scale", "n_extra_learnable_dims", "n_frames", "offset", "orientation_override",
    "ply_file_path", "render_aabb", "rotation", "scale", "sharpness",
    "sharpness_discard_threshold", "up",
}  # fmt: skip
# What an unknown entry is called that may say more
SOUNDING = re.compile(
    r"mask|lens|distort|fish|shutter|fov|focal|intrinsic|extrinsic|cam|skew|pano|ortho|crop|pose"
    r"|c2w|w2c|matrix|convention|coordinate|axes|principal|transparent|flip|velocity|split"
    r"|filenames|^[kp]\d*$|^time$"
)

Frames = list[dict[str, Any]]


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
    square = turn.T @ turn
    off = min(np.abs(square / by**2 - np.eye(3)).max() for by in (1, length))
    if off > SKEWED or np.linalg.det(turn) < 0:
        raise ValueError(
            f"{name}: transform_matrix is no rotation and shift (its axes are not orthonormal and"
            " right-handed)"
        )
    return np.concatenate([pose[:3], [[0, 0, 0, 1]]])


def _unscaled(poses: np.ndarray, path: Path) -> np.ndarray:
    """The poses, axes that are longer or shorter than 1 made so, with a warning."""
    turns = poses[:, :3, :3]
    scaled = np.abs(turns.transpose(0, 2, 1) @ turns - np.eye(3)).max((1, 2)) > SKEWED
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
                raise _not_understood(name, key, value)
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


def _not_understood(name: str, key: str, value: Any) -> ValueError:
    return ValueError(
        f"{name}: {key} is {value!r:.60}; only cameras with a pinhole and the distortions k1, k2,"
        f" p1 and p2 are understood, of the models {', '.join(PINHOLES)}; undistort the pictures"
        " first"
    )


def listed(names: Iterable[str]) -> str:
    """Names as the file writes them, in quotes, not too many."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"{name!r:.200}" for name in names[:LISTED]) + more


# --- the camera


def read_camera(read: dict[str, Any], width: int, height: int, path: Path) -> Camera:
    """The camera of a transforms file, for pictures of this size; ValueError where there are
    several, or none that is understood."""
    model = _common(read, "camera_model", path) or "OPENCV"
    if str(model).upper() not in PINHOLES:
        raise _not_understood(str(path), "camera_model", model)
    values = {}
    for name in NUMBERS:
        value = _common(read, name, path)
        if value is not None:
            values[name] = _number(value, name, path)
    scale_x, scale_y = _scales(values, width, height, path)
    fx = _focal_length(values, "x", width, scale_x, path)
    fy = _focal_length(values, "y", height, scale_y, path)
    focal = fx or fy
    if focal is None:
        raise ValueError(f"{path}: neither fl_x nor camera_angle_x says how wide the camera sees")
    k1, k2, p1, p2 = (values.get(name, 0.0) for name in DISTORTION)
    return Camera(
        width,
        height,
        focal,
        fy or focal,
        _centre(values, "cx", "w", width, scale_x, path),
        _centre(values, "cy", "h", height, scale_y, path),
        (k1, k2, p1, p2),
    )


def picture_size(read: dict[str, Any], path: Path) -> Optional[tuple[float, float]]:
    """(w, h) that a transforms file states, None where it does not."""
    width = _common(read, "w", path)
    height = _common(read, "h", path)
    if width is None or height is None:
        return None
    return _number(width, "w", path), _number(height, "h", path)


def _common(read: dict[str, Any], name: str, path: Path) -> Any:
    """An entry of the camera, which each frame may repeat; None where there is none."""
    values = [frame.get(name, read.get(name)) for frame in read["frames"]]
    first = read.get(name, values[0])
    for n, value in enumerate(values):
        if value is not first and not _alike(value, first):
            raise ValueError(
                f"{path}: {name} is not the same for all frames, as one camera's must be"
                f" ({first!r:.40}, of frame {n} {value!r:.40})"
            )
    return first


def _alike(a: Any, b: Any) -> bool:
    """Whether two entries are equal, numbers to the sixth digit."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    return a == b


def _number(value: Any, name: str, path: Path) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) < LONGEST:
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


# --- which frames, which files


def frame_names(frames: Frames, path: Path) -> list[str]:
    """The file_path of each frame."""
    names = [frame.get("file_path") for frame in frames]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: a frame has no file_path")
    return [str(name) for name in names]


def split_frames(
    read: dict[str, Any], names: list[str], split: str, whole: bool, path: Path
) -> list[int]:
    """The frames of the split "train" or "test": those that the file's own lists name; else, of a
    whole capture, all but every eighth, or every eighth; else all."""
    lists = {name: _listed_frames(read, name, names, path) for name in SPLITS if read.get(name)}
    if not lists:
        every = range(len(names))
        chosen = [n for n in every if not whole or (n % HELD_OUT == 0) == (split != "train")]
        if not chosen:
            raise ValueError(
                f"{path}: {len(names)} frames are too few to hold some out for testing"
            )
        return chosen
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
    number = {_plain(name): n for n, name in enumerate(names)}
    wanted = read[key]
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"{path}: {key} is not a list of names")
    unknown = [name for name in wanted if _plain(name) not in number]
    if unknown:
        raise ValueError(f"{path}: {key} names what no frame does: {listed(unknown)}")
    return sorted({number[_plain(name)] for name in wanted})


def _plain(name: str) -> str:
    """A file's name with slashes, without "./", its letters composed."""
    return posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))


def locate(path: Path, names: Sequence[str], outside: bool) -> list[Optional[Path]]:
    """The files that a transforms file names, None for those that are missing.

    A name may lack its ending, have backslashes, %20, other capitals, letters composed otherwise;
    where no name leads anywhere, they may begin with folders of another machine.
    """
    find = _finder(path.parent)
    files = [find(name) for name in names]
    if not any(files):
        files = [_without_folders(find, name) for name in names]
        first = next((n for n, file in enumerate(files) if file), None)
        if first is not None:
            warnings.warn(
                f"{path}: no file is where it says; {names[first]!r:.200} is taken for"
                f" {os.path.relpath(str(files[first]), path.parent)}, and others alike",
                stacklevel=3,
            )
    for name, file in zip(names, files):
        if file is not None and not outside and not _is_inside(file, path.parent):
            raise ValueError(
                f"{path}: names {name!r:.200}, which is not in its folder; `outside` allows that"
            )
    return files


def _is_inside(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents


def _finder(folder: Path) -> Callable[[str], Optional[Path]]:
    """A function from a name to the file of a folder that it means; it lists each folder once."""
    listings: dict[str, dict[str, list[str]]] = {}

    def listing(place: str) -> dict[str, list[str]]:
        if place not in listings:
            entries: dict[str, list[str]] = {}
            for entry in os.listdir(place) if os.path.isdir(place) else []:
                entries.setdefault(_folded(entry), []).append(entry)
            listings[place] = entries
        return listings[place]

    def alike(name: str) -> Optional[Path]:
        place = str(folder)
        for part in PurePosixPath(name).parts:
            entries = [part] if part == ".." else listing(place).get(_folded(part), [])
            if len(entries) != 1:
                return None
            place = os.path.join(place, entries[0])
        return Path(place) if os.path.isfile(place) else None

    def find(name: str) -> Optional[Path]:
        slashes = name.replace("\\", "/")
        spellings = dict.fromkeys([name, slashes, unquote(slashes)])
        for spelling in spellings:
            for ending in ("", *ENDINGS):
                file = folder / (spelling + ending)
                if os.path.isfile(file):
                    return file
        for spelling in spellings:
            for ending in ("", *ENDINGS):
                found = None if spelling.startswith("/") else alike(spelling + ending)
                if found:
                    return found
        return None

    return find


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_folders(find: Callable[[str], Optional[Path]], name: str) -> Optional[Path]:
    """The file that a name means without its first folders, as few of them as possible."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for n in range(1, len(parts)):
        found = None if ".." in parts[n:] else find("/".join(parts[n:]))
        if found:
            return found
    return None
