"""What people do with captures: a made scene as transforms.json, and one thing done to it."""

import contextlib
import functools
import io
import json
import os
import signal
import tempfile
import unittest.mock
from pathlib import Path

import jgrid
from jgrid import cli
from jgrid.scene.camera import Camera
from jgrid.trainer import Trainer

import fit_views
import numpy as np
import trimesh
from habits import Habit, Wrong
from PIL import Image
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

SIZE = 40  # pixels along a side
HELD_OUT = 8  # every eighth frame is for testing
EXIF_TURN = 0x0112  # the tag of the orientation
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's axes of a camera to OpenCV's, and back
APP = ["--cells", "32", "--samples", "64", "--device", "cpu"]
FIT = ["--train.steps", "100", "--train.batch", "8192"]
FIELD = ["grid:dense", "--field.finest", "32", "--field.levels", "2"]


# --- the capture


@functools.lru_cache(None)
def photographed():
    """(pixels (28, 40, 40, 4), poses (28, 4, 4), focal length, points (N, 3) of the surface)."""
    parts = [
        trimesh.creation.box((1.0, 0.5, 0.3)),
        trimesh.creation.icosphere(2, 0.35).apply_translation([0.3, 0.1, 0.4]),
        trimesh.creation.cone(0.2, 0.6).apply_translation([-0.35, 0.0, 0.1]),
    ]
    mesh = trimesh.util.concatenate(parts)
    mesh.apply_translation(-mesh.bounds.mean(0))
    mesh.apply_scale(1 / np.linalg.norm(mesh.vertices, axis=1).max())
    with tempfile.TemporaryDirectory() as folder:
        jgrid.make_scene(Path(folder), mesh, size=SIZE, train=24, test=4)
        pixels = []
        poses = []
        for split in ("train", "test"):
            read = json.loads((Path(folder) / f"transforms_{split}.json").read_text())
            for frame in read["frames"]:
                with Image.open(Path(folder) / f"{frame['file_path']}.png") as opened:
                    pixels.append(np.array(opened.convert("RGBA")))
                poses.append(frame["transform_matrix"])
    points = trimesh.sample.sample_surface(mesh, 1500, seed=0)[0]
    focal = SIZE / 2 / np.tan(read["camera_angle_x"] / 2)
    return np.array(pixels), np.array(poses), focal, points


class Capture:
    """A capture to be changed: pixels, one (H, W, 4) a frame; frames, the entries of
    transforms.json, poses as arrays; meta, the rest of it; files beside it; points of the object's
    surface, in the world of the poses."""

    def __init__(self, ending="png"):
        pixels, poses, focal, self.points = photographed()
        self.pixels = list(pixels.copy())
        self.points = self.points.copy()
        names = [f"images/{n:04}.{ending}" for n in range(len(pixels))]
        self.frames = [
            {"file_path": name, "transform_matrix": pose.copy()} for name, pose in zip(names, poses)
        ]
        self.names = names  # of the pictures' files
        self.meta = {"fl_x": focal, "fl_y": focal, "cx": SIZE / 2, "cy": SIZE / 2,
                     "w": SIZE, "h": SIZE}  # fmt: skip
        self.files = {}
        self.options = {}  # of Image.save, by picture
        self.missing = set()
        self.write_json = lambda read: json.dumps(read).encode()
        self.split = None  # names of the pictures to test on, where the habit says which

    def opaque(self):
        """Pictures without alpha, on white."""
        return self.pixels[0].shape[2] == 3 or ".jp" in self.names[0]

    def each(self, change):
        """Change all frames' entries: change(frame, its number)."""
        for n, frame in enumerate(self.frames):
            change(frame, n)

    def pose(self, change):
        """pose -> pose, of all frames."""
        self.each(lambda f, n: f.update(transform_matrix=change(f["transform_matrix"])))

    def move(self, scale=1.0, shift=(0, 0, 0)):
        """The whole world, cameras and object."""
        self.points = self.points * scale + shift

        def moved(pose):
            pose = pose.copy()
            pose[:3, 3] = pose[:3, 3] * scale + shift
            return pose

        self.pose(moved)

    def everywhere(self, **entries):
        """The same entries in every frame."""
        self.each(lambda f, n: f.update(entries))

    def save(self, folder):
        for n, (pixels, name) in enumerate(zip(self.pixels, self.names)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in self.missing:
                continue
            if self.opaque() and pixels.shape[2] == 4:
                alpha = pixels[..., 3:] / 255
                pixels = np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
            options = {"quality": 95, "subsampling": 0} if path.suffix.lower()[1:3] == "jp" else {}
            Image.fromarray(pixels).save(path, **options, **self.options.get(n, {}))
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        frames = [
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in frame.items()}
            for frame in self.frames
        ]
        (folder / "transforms.json").write_bytes(self.write_json({**self.meta, "frames": frames}))
        return folder


# --- what is asked


def rays(views, n):
    """(origin (3,), directions (H, W, 3)) of view n."""
    origin, direction = views.cameras[n].rays(views.poses[n])
    return origin[0], direction.reshape(*views.pixels[n].shape[:2], 3)


def shown(pixels):
    """The pixels that show the object."""
    if (pixels[..., 3] < 255).any():
        return pixels[..., 3] > 12
    return (pixels[..., :3] < 235).any(-1)


def agree(views, points):
    """Wrong, where the object's points, seen from the views' cameras, are not where the views'
    pictures show them."""
    for n in range(len(views.poses)):
        origin, direction = rays(views, n)
        seen = shown(views.pixels[n])
        if not 0 < seen.mean() < 0.98:  # a picture that shows nothing, or was not cut out
            continue
        h, w = seen.shape
        pitch = 1.5 * np.linalg.norm(direction[h // 2, w // 2] - direction[h // 2, w // 2 - 1])
        toward = points - origin
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        away, at = cKDTree(direction.reshape(-1, 3)).query(toward)
        rows, columns = np.divmod(at, w)
        on = (away < pitch) & binary_dilation(seen, iterations=1)[rows, columns]
        if on.mean() < 0.97:
            raise Wrong(f"view {n}: {1 - on.mean():.0%} of the object lies beside its picture")
        found = np.array([rows.min(), rows.max(), columns.min(), columns.max()])
        r, c = np.nonzero(seen)
        off = np.abs(found - [r.min(), r.max(), c.min(), c.max()]).max()
        if off > 2:
            raise Wrong(f"view {n}: the object's outline is off by {off} of {w} pixels")


def counts(views, expected, split):
    if expected is not None and len(views.poses) != expected:
        raise Wrong(f"{len(views.poses)} views to {split} with, not {expected}")


def loads(change, train=24, test=4, ending="png", also=None):
    """Load both splits: their numbers, and whether cameras and pictures agree."""

    def ask(folder):
        capture = Capture(ending)
        change(capture)
        capture.save(folder)
        views = {split: jgrid.load_views(folder, split) for split in ("train", "test")}
        for split, expected in (("train", train), ("test", test)):
            counts(views[split], expected, split)
            agree(views[split], capture.points)
        return also(capture, views) if also else ""

    return ask


class Stopped(Exception):
    """The app came to training."""


def start_app(folder, more=()):
    """The task that fit_views would train on."""

    def stop(trainer):
        raise Stopped(trainer.task)

    with unittest.mock.patch.object(Trainer, "fit", stop):
        try:
            fit_views.main(
                cli.parse(fit_views.Config, ["--scene", str(folder), *APP, *more, *FIELD])
            )
        except Stopped as stopped:
            return stopped.args[0]
    raise Wrong("the app did not come to training")


def starts(change, ending="png", train=None, also=None):
    """Let fit_views come to training: cameras and pictures agree, the box holds the object and is
    not much larger, what is occupied covers the object."""

    def ask(folder):
        capture = Capture(ending)
        change(capture)
        task = start_app(capture.save(folder))
        counts(task.train, train, "train")
        agree(task.train, capture.points)
        unit = task.box.to_unit(capture.points)
        inside = ((unit > 0) & (unit < 1)).all(1)
        if inside.mean() < 0.97:
            raise Wrong(f"{inside.mean():.0%} of the object is in the box, {task.box}")
        extent = np.ptp(unit, axis=0).max()
        if extent < 0.08:
            raise Wrong(f"the object fills {extent:.1%} of the box's side, {task.box}")
        cell = (unit[inside] * task.occupancy.cells).astype(int)
        kept = task.occupancy.occupied[cell @ [1, task.occupancy.cells, task.occupancy.cells**2]]
        if kept.mean() < 0.95:
            raise Wrong(f"only {kept.mean():.0%} of the object's surface is left by the carving")
        return also(capture, task) if also else f"{task.box}, {kept.mean():.0%} kept"

    return ask


def fitted(folder):
    out = folder / "out"
    fit_views.main(
        cli.parse(fit_views.Config, ["--scene", str(folder), "--out", str(out), *APP, *FIT, *FIELD])
    )
    return json.loads((out / "result.json").read_text())["psnr"]


@functools.lru_cache(None)
def clean(ending):
    """The PSNR without any habit."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return fitted(Capture(ending).save(Path(folder)))


def fits(change, ending="png"):
    """Train a hundred steps: the PSNR is that of the clean capture, to 1 dB."""

    def ask(folder):
        capture = Capture(ending)
        change(capture)
        reached = fitted(capture.save(folder))
        if reached < clean(ending) - 1:
            raise Wrong(f"{reached:.1f} dB, without it {clean(ending):.1f} dB")
        return f"{reached:.1f} dB"

    return ask


# --- the habits


def silhouettes():
    # long because it is a list
    kind = "silhouette carving"

    def habit(
        name, change, seen="", words=("mask", "silhouette", "alpha", "transparent"), **options
    ):
        return Habit(kind, name, starts(change, **options), words, seen=seen)

    def blank(*which):
        def change(capture):
            for n in which:
                capture.pixels[n][:] = 0

        return change

    def erase(rows, columns, *which):
        def change(capture):
            for n in which:
                capture.pixels[n][rows, columns] = 0

        return change

    def shifted(capture):
        capture.pixels[5] = np.roll(capture.pixels[5], 12, axis=1)

    def inverted_one(capture):
        capture.pixels[5][..., 3] = 255 - capture.pixels[5][..., 3]

    def inverted(capture):
        for pixels in capture.pixels:
            pixels[..., 3] = 255 - pixels[..., 3]

    def swapped(capture):
        capture.pixels[5], capture.pixels[17] = capture.pixels[17], capture.pixels[5]

    def soft(capture):
        for pixels in capture.pixels:
            pixels[..., 3] = np.maximum(pixels[..., 3], 2)

    def holes(capture):
        rng = np.random.default_rng(0)
        for n in range(0, 28, 3):
            r, c = rng.integers(12, 22, 2)
            capture.pixels[n][r : r + 7, c : c + 7] = 0

    def whole(capture):
        for n in (3, 9):
            capture.pixels[n][..., 3] = 255

    def half_there(capture):
        for pixels in capture.pixels:
            pixels[..., 3] //= 2

    def straight(capture):
        """Alpha of a matting network that lost what is dark."""
        for n in (2, 10, 18):
            dark = capture.pixels[n][..., :3].max(-1) < 110
            capture.pixels[n][dark] = 0

    def agree_less(change):
        """Where pictures contradict the cameras, only the carving is asked for."""

        def ask(folder):
            capture = Capture()
            points = capture.points
            change(capture)
            task = start_app(capture.save(folder))
            cells = task.occupancy.cells
            cell = (task.box.to_unit(points) * cells).astype(int)
            kept = task.occupancy.occupied[cell @ [1, cells, cells**2]].mean()
            if kept < 0.95:
                raise Wrong(f"only {kept:.0%} of the object's surface is left by the carving")
            return f"{kept:.0%} kept"

        return ask

    words = ("mask", "silhouette", "alpha", "transparent", "contradict")
    half = slice(None), slice(20, None)
    lost = [
        ("one of 28 pictures is all transparent", blank(5), "~ NeuS: a frame whose mask is empty"),
        ("two of 28 pictures are all transparent", blank(5, 12), ""),
        ("half of a mask is lost in one picture", erase(*half, 5), "~ rembg: half a person"),
        ("the top of a mask is lost in two pictures",
         erase(slice(0, 16), slice(None), 5, 6), "~ instant-nsr-pl: cropped masks"),
        ("a mask is shifted by twelve pixels", shifted, "GaussianObject: the hull has 0 points"),
        ("a mask is the wrong way round in one picture", inverted_one, "~ NeuS2: inverted masks"),
        ("two pictures have changed places", swapped, "taichi-nerfs: wrong pose for a picture"),
        ("holes in every third mask", holes, "~ rembg: holes where things shine"),
        ("what is dark is lost in three masks", straight, "~ nerfstudio: masks of SAM"),
    ]  # fmt: skip
    return [
        *(Habit(kind, name, agree_less(change), words, seen=seen) for name, change, seen in lost),
        Habit(kind, "masks the wrong way round", agree_less(inverted), words,
              seen="instant-ngp: non-zero means masked away, elsewhere it means kept"),
        habit("alpha that is never 0", soft, "~ rembg: a veil of alpha 1 to 3"),
        habit("two pictures that were not cut out", whole),
        habit("alpha at most one half", half_there),
        Habit(kind, "training: one picture all transparent", fits(blank(5)), words, slow=True),
        Habit(kind, "training: half of a mask lost", fits(erase(*half, 5)), words, slow=True),
    ]  # fmt: skip


def geometry():
    # long because it is a list
    kind = "scene geometry and cameras"
    convention = ("OpenCV", "OpenGL", "axes", "look away", "convention", "away from")

    def habit(name, change, words=(), seen="", ending="jpg", **options):
        return Habit(kind, name, starts(change, ending=ending, **options), words, seen=seen)

    def opencv(capture):
        capture.pose(lambda pose: pose @ FLIP)

    def to_camera(capture):
        capture.pose(np.linalg.inv)

    def to_camera_opencv(capture):
        capture.pose(lambda pose: np.linalg.inv(pose @ FLIP))

    def transposed(capture):
        capture.pose(lambda pose: pose.T.copy())

    def mirrored(capture):
        capture.pose(lambda pose: np.diag([1.0, 1, -1, 1]) @ pose)

    def swapped_rows(capture):
        """As COLMAP's world is turned by instant-ngp's script: only the world turns."""
        turn = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]], float)
        capture.pose(lambda pose: turn @ pose)
        capture.points = capture.points @ turn[:3, :3].T

    def no_parallax(quarters):
        """One view again and again, the camera rolled: nothing says how far anything is."""

        def ask(folder):
            capture = Capture("jpg")
            pixels = capture.pixels[0]
            pose = capture.frames[0]["transform_matrix"]
            roll = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
            for n in range(28):
                turns = n % quarters
                capture.pixels[n] = np.rot90(pixels, -turns)
                turn = np.linalg.matrix_power(roll, turns)
                capture.frames[n]["transform_matrix"] = pose @ turn
            task = start_app(capture.save(folder))
            agree(task.train, capture.points)
            raise Wrong("the app trains, but no two cameras see from different places")

        return ask

    def outlier(capture):
        capture.frames[3]["transform_matrix"][:3, 3] *= 300

    def nan(capture):
        capture.frames[3]["transform_matrix"][:] = np.nan

    def identity(capture):
        capture.frames[3]["transform_matrix"][:] = np.eye(4)

    def degrees(capture):
        capture.meta = {
            "camera_angle_x": np.degrees(2 * np.arctan(SIZE / 2 / capture.meta["fl_x"]))
        }

    def moved(scale, *shift):
        return lambda capture: capture.move(scale, np.array(shift or (0.0, 0, 0)))

    def wide(capture):
        capture.move(2.5)
        capture.meta["aabb_scale"] = 8

    def rows(capture):
        capture.pose(lambda pose: pose[:3])

    def half_circle(capture):
        """Only the cameras on one side."""
        keep = [n for n, f in enumerate(capture.frames) if f["transform_matrix"][0, 3] > 0]
        capture.pixels = [capture.pixels[n] for n in keep]
        capture.names = [capture.names[n] for n in keep]
        capture.frames = [capture.frames[n] for n in keep]
        capture.move(1, np.array([-3.0, 0, 0]))  # the origin among the cameras

    shift = (4.0, -7.0, 2.0)
    return [
        habit("5 units off the origin", moved(1, 5, 0, 0),
              seen="BlenderNeRF: cameras far from the unit cube"),
        habit("5 units off the origin, with alpha", moved(1, 5, 0, 0), ending="png"),
        habit("off the origin along three axes", moved(1, *shift),
              seen="instant-ngp: the origin at a corner of a boat"),
        habit("a thousand times too small (millimetres as metres)", moved(1e-3),
              seen="torch-ngp: scale and bound of one's own data"),
        habit("a thousand times too small, with alpha", moved(1e-3), ending="png"),
        habit("a thousand times too large (in millimetres)", moved(1e3),
              seen="nerfstudio: auto-scale-poses turned off"),
        habit("a third as large (nerfstudio's scaling)", moved(0.3),
              seen="nerfstudio: poses scaled into a unit cube"),
        habit("ten times as large and far off", moved(10, 400, 300, 20),
              seen="~ Metashape to instant-ngp: local coordinates"),
        habit("in metres of UTM", moved(1, 4.5e5, 5.4e6, 280.0),
              seen="~ WebODM: georeferenced cameras"),
        habit("the cameras on one side, the origin among them", half_circle,
              seen="torch-ngp: LLFF scenes need bound and offset"),
        habit("axes of OpenCV", opencv, convention, "nerfstudio: poses of a charuco board"),
        habit("axes of OpenCV, with alpha", opencv, convention, "ConvNeRF: all black",
              ending="png"),
        habit("world to camera", to_camera, (*convention, "world-to-camera", "camera-to-world"),
              "nerf_pl: pose or w2c"),
        habit("world to camera, axes of OpenCV", to_camera_opencv,
              (*convention, "world-to-camera", "camera-to-world"), "~ COLMAP: images.txt"),
        habit("matrices by columns", transposed,
              ("transpose", "last row", "columns", "orthonormal"), "~ Unity: transposed"),
        habit("a left-handed world", mirrored, ("right-handed", "mirror"),
              "~ Unity and Unreal: left-handed poses"),
        habit("the world turned", swapped_rows, (), "nerfstudio: colmap_to_json swaps rows"),
        Habit(kind, "all cameras in one place", no_parallax(4), ("place", "parallax"),
              seen="~ nerfstudio: a panorama from a tripod"),
        Habit(kind, "every frame has the same pose", no_parallax(1), ("place", "pose", "same"),
              seen="~ instant-ngp: ARKit export without tracking"),
        habit("one camera 300 times as far", outlier, ("frame 3", "far", "0003"),
              "~ COLMAP: one badly registered picture"),
        habit("a frame of NaN", nan, ("frame 3", "not finite"), "~ instant-ngp: NaN in transforms"),
        habit("a frame left at the identity", identity, ("frame 3", "0003", "away"),
              "~ Record3D: the first pose is the identity"),
        habit("camera_angle_x in degrees", degrees, ("camera_angle_x",),
              "~ svox2: angle in degrees"),
        habit("a large scene with aabb_scale", wide, (), "instant-ngp: aabb_scale of fox"),
        habit("matrices of three rows", rows, (), "~ nerfstudio: 3 x 4 poses"),
        Habit(kind, "training: 5 units off the origin", fits(moved(1, 5, 0, 0), "jpg"), slow=True),
        Habit(kind, "training: a thousand times too small", fits(moved(1e-3), "jpg"), slow=True),
        Habit(kind, "training: axes of OpenCV", fits(opencv, "jpg"), convention, slow=True),
    ]  # fmt: skip


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def red_patch(capture):
    """Paint a red thing that moves into all pictures, and return its masks (1: the thing)."""
    masks = []
    for n, pixels in enumerate(capture.pixels):
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[5 + n % 20 : 15 + n % 20, 2:14] = 1
        pixels[mask == 1] = (255, 0, 0, 255)
        masks.append(mask)
    return masks


def sees_no_red(capture):
    """Wrong, where a step's rays learn the colour of what the masks hide."""

    def ask(folder):
        made = Capture()
        capture(made)
        task = start_app(made.save(folder))
        batch = task.sample(0, 2**14)
        red = np.abs(batch["colour"].numpy() - [1, 0, 0]).max(1) < 0.01
        weight = batch["weight"].numpy().reshape(-1) if "weight" in batch else np.ones(len(red))
        share = (red * weight).mean()
        if share > 0.002:
            raise Wrong(f"{share:.1%} of the rays learn what is masked away")
        return "masks are honoured"

    return ask


def meaning():
    # long because it is a list
    kind = "meaning in transforms.json"

    def habit(name, change, words=(), seen="", **options):
        return Habit(kind, name, loads(change, **options), words, seen=seen)

    def update(**entries):
        return lambda capture: capture.meta.update(entries)

    def each(**entries):
        return lambda capture: capture.everywhere(**entries)

    def lens(name, change, words, seen="", warned=False):
        """The file says that its camera is no plain pinhole: rays of one are wrong."""

        def ask(folder):
            capture = Capture()
            focal = capture.meta["fl_x"]
            change(capture)
            views = jgrid.load_views(capture.save(folder), "train")
            _, direction = rays(views, 1)
            local = direction @ views.poses[1][:3, :3]
            plain = (np.arange(SIZE) + 0.5 - SIZE / 2) / focal
            if np.abs(local[0, :, 0] / -local[0, :, 2] - plain).max() < 1e-4:
                raise Wrong("read as a plain pinhole")
            return "another lens than a pinhole"

        return Habit(kind, name, ask, words, warned=warned, seen=seen)

    def mask_paths(key):
        def change(capture):
            for n, mask in enumerate(red_patch(capture)):
                capture.files[f"masks/{n:04}.png"] = png(255 * (1 - mask))
                capture.frames[n][key] = f"masks/{n:04}.png"

        return change

    def dynamic_masks(capture):
        for n, mask in enumerate(red_patch(capture)):
            capture.files[f"images/dynamic_mask_{n:04}.png"] = png(255 * mask)

    def masks_beside(capture):
        for n, mask in enumerate(red_patch(capture)):
            capture.files[f"masks/{n:04}.png.png"] = png(255 * (1 - mask))

    def only_fl_y(capture):
        del capture.meta["fl_x"]

    def per_frame_same(capture):
        capture.everywhere(**capture.meta, k1=0.0, k2=0.0, p1=0.0, p2=0.0)
        capture.meta = {"camera_model": "OPENCV"}

    def per_frame_rounded(capture):
        meta = dict(capture.meta)
        capture.each(lambda f, n: f.update(meta, fl_x=meta["fl_x"] * (1 + 1e-9 * n)))
        capture.meta = {}

    def angles(**change):
        def to(capture):
            angle = 2 * np.arctan(SIZE / 2 / capture.meta["fl_x"])
            capture.meta = {name: angle * factor for name, factor in change.items()}

        return to

    def without(**entries):
        def change(capture):
            capture.meta = entries

        return change

    def matrix(capture):
        f = capture.meta["fl_x"]
        capture.meta = {"w": SIZE, "h": SIZE,
                        "intrinsic_matrix": [[f, 0, 20], [0, f, 20], [0, 0, 1]]}  # fmt: skip

    def full_size(keep_size):
        def change(capture):
            for name in capture.meta:
                capture.meta[name] *= 2
            if not keep_size:
                del capture.meta["w"], capture.meta["h"]

        return change

    def normalised_centre(capture):
        capture.meta.update(cx=0.5, cy=0.5)

    def split_names(capture):
        names = [frame["file_path"] for frame in capture.frames]
        capture.meta.update(train_filenames=names[:22], test_filenames=names[22:],
                            val_filenames=names[22:])  # fmt: skip
        capture.split = names[22:]

    def split_is_right(capture, views):
        held = {frame["file_path"]: frame for frame in capture.frames}
        for view, name in zip(views["test"].poses, capture.split):
            if np.abs(view - held[name]["transform_matrix"]).max() > 1e-6:
                raise Wrong("other frames are held out than the file says")
        return "the file's own split"

    def depth(capture):
        for n in range(28):
            capture.frames[n]["depth_file_path"] = f"depth/{n:04}.png"

    def names_only(folder):
        capture = Capture()
        capture.meta = {"x_fov": np.degrees(2 * np.arctan(SIZE / 2 / capture.meta["fl_x"]))}
        capture.save(folder)
        views = jgrid.load_views(folder, "train")
        agree(views, capture.points)
        return "x_fov is honoured"

    def seen_through(camera, say):
        """The pictures as another camera of frame n sees them: camera(n, focal length); say(frame,
        n, focal length): in the file."""

        def change(capture):
            focal = capture.meta.pop("fl_x")
            for n, frame in enumerate(capture.frames):
                row, column = np.indices((SIZE, SIZE)) + 0.5
                x, y, z = np.moveaxis(camera(n, focal).directions(column, row), -1, 0)
                u, v = (np.floor(focal * side / -z + SIZE / 2).astype(int) for side in (x, -y))
                inside = (u >= 0) & (u < SIZE) & (v >= 0) & (v < SIZE)
                pixels = capture.pixels[n][v.clip(0, SIZE - 1), u.clip(0, SIZE - 1)]
                capture.pixels[n] = np.where(inside[..., None], pixels, 0).astype(np.uint8)
                say(frame, n, focal)

        return change

    def bent(fisheye, *k, **entries):
        """All pictures through one lens, which each frame names."""
        return seen_through(
            lambda n, focal: Camera(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2, k, fisheye),
            lambda frame, n, focal: frame.update(fl_x=focal, **entries),
        )

    zoomed = seen_through(
        lambda n, focal: Camera(SIZE, SIZE, focal * (1 - 0.01 * n), focal, SIZE / 2, SIZE / 2),
        lambda frame, n, focal: frame.update(fl_x=focal * (1 - 0.01 * n)),
    )
    odd = ("fisheye", "pinhole", "camera_model", "is_fisheye")
    masks = ("mask",)
    trackers = "nerfstudio: colmap_im_id and applied_transform"
    return [
        Habit(kind, "mask_path of each frame", sees_no_red(mask_paths("mask_path")), masks,
              seen="nerfstudio: masks were read but not applied"),
        Habit(kind, "mask_filename of each frame", sees_no_red(mask_paths("mask_filename")), masks,
              seen="nerfstudio: mask_filename"),
        Habit(kind, "dynamic_mask_* beside the pictures", sees_no_red(dynamic_masks), masks,
              seen="instant-ngp: dynamic masks"),
        Habit(kind, "masks/PICTURE.png beside images/ (COLMAP)", sees_no_red(masks_beside), masks,
              seen="nerfstudio: masks of COLMAP's GUI"),
        habit("train_filenames and test_filenames", split_names, (), "~ nerfstudio: own splits",
              train=22, test=6, also=split_is_right),
        habit("a fisheye, is_fisheye in each frame",
              bent(True, 1.0, 0.5, 0.0, 0.0, is_fisheye=True, k1=1.0, k2=0.5), (),
              "instant-ngp: is_fisheye made no difference"),
        habit("a fisheye, OPENCV_FISHEYE in each frame",
              bent(True, 1.0, 0.5, 3.0, 0.0, camera_model="OPENCV_FISHEYE", k1=1.0, k2=0.5, k3=3.0),
              (), "nerfstudio: fisheye data with nerfacto"),
        lens("k3 and k4 in each frame", each(k3=0.4, k4=-0.2), ("k3", "k4")),
        habit("k3 of OpenCV's", bent(False, 1.0, 0, 0, 0, 9.0, 0, 0, 0, k1=1.0, k3=9.0)),
        lens("distortion_params", update(distortion_params=[0.3, 0, 0, 0, 0, 0]),
              ("distortion_params",), "~ nerfstudio: distortion_params"),
        lens("a fisheye of another model", update(camera_model="THIN_PRISM_FISHEYE"), odd),
        lens("a fisheye with p1", update(camera_model="OPENCV_FISHEYE", p1=0.01), ("p1",)),
        habit("FULL_OPENCV, with k1 to k6",
              bent(False, 2.0, 0, 0, 0, 0, 0, 2.0, 0, camera_model="FULL_OPENCV", k1=2.0, k5=2.0),
              (), "~ COLMAP: FULL_OPENCV"),
        lens("k5 and k6 without a model", update(k5=0.3, k6=0.1), ("k5", "k6")),
        lens("a panorama: is_equirectangular", update(is_equirectangular=True, latlong=True),
              ("equirectangular", "latlong"), "~ nerfstudio: equirectangular"),
        lens("a panorama: latlong", update(latlong=True), ("latlong",), "~ instant-ngp: lat-long"),
        lens("EQUIRECTANGULAR as the model", update(camera_model="EQUIRECTANGULAR"), ("model",)),
        lens("an orthographic camera", update(is_orthographic=True, camera_model="ORTHOPHOTO"),
              ("model", "ortho"), "~ nerfstudio: orthophotos"),
        lens("an F-theta lens", update(ftheta_p0=0.0, ftheta_p1=0.001, ftheta_p2=0.0),
              ("ftheta",), "~ instant-ngp: F-Theta"),
        lens("a rolling shutter", update(rolling_shutter=[0, 0, 0.3, 0]), ("rolling_shutter",),
              "~ instant-ngp: rolling_shutter", warned=True),
        habit("the same intrinsics in each frame", per_frame_same, (),
              "nerfstudio: per-frame intrinsics"),
        habit("intrinsics that differ in the ninth digit", per_frame_rounded),
        habit("fl_x of each frame its own", zoomed, (), "nerfstudio: several cameras in one file"),
        habit("only fl_y", only_fl_y, (), "~ nerfstudio: fl_y alone"),
        habit("only camera_angle_x", angles(camera_angle_x=1)),
        habit("only camera_angle_y", angles(camera_angle_y=1)),
        Habit(kind, "x_fov in degrees", names_only, ("x_fov",), seen="~ instant-ngp: x_fov"),
        habit("no focal length at all", without(w=SIZE, h=SIZE), ("fl_x", "focal")),
        habit("a matrix of intrinsics", matrix, ("fl_x", "focal", "intrinsic_matrix"),
              "~ DTU to transforms.json"),
        habit("pictures halved, intrinsics of the full size", full_size(True), ("w is",),
              "~ nerfstudio: images_2 with the intrinsics of images"),
        habit("pictures halved, and no w and h", full_size(False), ("cx", "principal"),
              "gtsfm and VGGT-Long: intrinsics of another resolution"),
        habit("cx and cy as parts of the picture", normalised_centre, ("cx", "principal"),
              "svox2: cx and cy set incorrectly"),
        habit("cx and cy half a pixel off (OpenCV's centres)", update(cx=19.5, cy=19.5), (),
              "COLMAP: intrinsics of OpenCV and Kalibr"),
        habit("sharpness, colmap_im_id, applied_transform",
              lambda c: (c.everywhere(sharpness=31.7, colmap_im_id=3),
                         c.meta.update(applied_transform=np.eye(4)[:3].tolist(), aabb_scale=1,
                                       ply_file_path="sparse_pc.ply")), (), trackers),
        habit("depth_file_path", depth, (), "~ nerfstudio: depth maps"),
        habit("scale and offset", update(scale=0.5, offset=[0.5, 0.5, 0.5]), (),
              "NeuS2: what scale and offset mean"),
        lens("unknown keys that sound like a camera", update(lens_model="fisheye", skew_angle=0.2),
             ("lens_model",), warned=True),
    ]  # fmt: skip


def files():
    # long because it is a list
    """How files are named and written."""
    kind = "smaller ones: paths and JSON"

    def habit(name, change, words=(), seen="", ending="png", **options):
        return Habit(kind, name, loads(change, ending=ending, **options), words, seen=seen)

    def paths(rename):
        return lambda capture: capture.each(lambda f, n: f.update(file_path=rename(f["file_path"])))

    def written(write):
        return lambda capture: setattr(capture, "write_json", write)

    def upper(capture):
        capture.names = [name.replace(".png", ".PNG") for name in capture.names]

    def short(ending):
        def change(capture):
            capture.each(lambda f, n: f.update(file_path=f["file_path"].rsplit(".", 1)[0]))
            capture.names = [name.rsplit(".", 1)[0] + ending for name in capture.names]

        return change

    def spaces(capture):
        capture.names = [f"my images/a b {n}.png" for n in range(28)]
        capture.each(lambda f, n: f.update(file_path=capture.names[n]))

    def percent(capture):
        spaces(capture)
        capture.each(lambda f, n: f.update(file_path=f["file_path"].replace(" ", "%20")))

    def dotted(capture):
        capture.names = [f"images/frame.{n:04}.png" for n in range(28)]
        capture.each(lambda f, n: f.update(file_path=capture.names[n][:-4]))

    def composed(capture):
        """Names that a Mac wrote, decomposed, and JSON with composed letters."""
        capture.names = [f"images/bu\u0308ro{n}.png" for n in range(28)]
        capture.each(lambda f, n: f.update(file_path=f"images/b\u00fcro{n}.png"))

    def scaled(factor):
        def change(capture):
            capture.each(lambda f, n: f["transform_matrix"].__setitem__(
                (slice(3), slice(3)), f["transform_matrix"][:3, :3] * factor))  # fmt: skip

        return change

    def sheared(capture):
        capture.each(lambda f, n: f["transform_matrix"].__setitem__(
            (slice(3), 0), f["transform_matrix"][:3, 0] * 1.5))  # fmt: skip

    def bom(read):
        return b"\xef\xbb\xbf" + json.dumps(read).encode()

    there = "/home/somebody/data/"
    numbers = lambda read: json.dumps(read).replace(": 40,", ": 40.0,").encode()  # noqa: E731
    return [
        habit("backslashes", paths(lambda p: p.replace("/", "\\")), (),
              "nerfstudio and instant-ngp: paths of Windows"),
        habit(".\\ and backslashes", paths(lambda p: ".\\" + p.replace("/", "\\")), (),
              "instant-DexNerf: ./..\\nerf_dataset"),
        habit("mixed slashes", paths(lambda p: "./images\\" + p.split("/")[1])),
        habit("endings in capitals on disk", upper, (), "instant-ngp: DJI_0001.JPG"),
        habit("no endings, pictures of JPEG", short(".jpg"), (),
              "DSC: looks for .png where the pictures are .jpg", ending="jpg"),
        habit("no endings, pictures of PNG", short(".png"), (), "instant-ngp: nerf_synthetic"),
        habit("no endings, .jpeg", short(".jpeg"), (), ending="jpg"),
        habit("spaces in names", spaces, (), "instant-ngp: spaces on Windows"),
        habit("%20 in names", percent),
        habit("dots in names, no endings", dotted, (), "text2room: names without endings"),
        habit("letters composed otherwise (macOS)", composed),
        habit("whole paths of another machine", paths(lambda p: there + p), (there,),
              "brush: C:\\Users in file_path"),
        habit("whole paths of Windows", paths(lambda p: "C:\\Users\\x\\" + p.replace("/", "\\")),
              ("0001.png:", "0001.png'", "0001.png,"), "brush: C:\\Users in file_path"),
        habit("a byte order mark", written(bom), (), "~ nerfstudio: JSON of PowerShell"),
        habit("UTF-16", written(lambda read: json.dumps(read).encode("utf-16")),
              ("UTF-16", "encod"), "~ PowerShell: > writes UTF-16"),
        habit("NaN among the numbers", written(lambda read: json.dumps({**read, "k1": np.nan})
              .encode()), ("k1",)),
        habit("comments in the JSON", written(lambda read: b"// made by hand\n"
              + json.dumps(read).encode()), ("not JSON",)),
        habit("w and h as 40.0", written(numbers), (), "~ COLMAP: widths as floats"),
        habit("rotations scaled evenly by 1.7", scaled(1.7), (),
              "~ Blender: a camera whose parent is scaled"),
        habit("rotations scaled evenly by 0.99", scaled(0.985)),
        habit("rotations stretched along one axis", sheared, ("orthonormal", "stretch", "scale"),
              "~ Blender: a camera with a scale of its own"),
    ]  # fmt: skip


def conventions():
    kind = "display conventions"

    def habit(name, change, seen="", ending="jpg", words=(), **options):
        return Habit(kind, name, loads(change, ending=ending, **options), words, seen=seen)

    def exif(turn, which=range(28), wide=False, xmp=False):
        def change(capture):
            if wide:
                sides = ((0, 0), (6, 6), (0, 0))
                capture.pixels = [np.pad(pixels, sides) for pixels in capture.pixels]
                capture.meta.update(cx=26, w=52)
            tag = Image.Exif()
            tag[EXIF_TURN] = turn
            capture.options = {n: {"exif": tag} for n in which}

        return change

    def tiff(capture):
        capture.names = [name.replace("jpg", "tif") for name in capture.names]
        capture.each(lambda f, n: f.update(file_path=capture.names[n]))
        capture.options = {n: {"tiffinfo": {274: 3}} for n in range(28)}

    def wide_only_angle(capture):
        exif(6, wide=True)(capture)
        capture.meta = {"camera_angle_x": 2 * np.arctan(26 / capture.meta["fl_x"])}

    return [
        habit("EXIF says 180 degrees", exif(3), "COLMAP: EXIF rotation is ignored on purpose"),
        habit("EXIF says 90 degrees", exif(6), "openMVS: EXIF rotation and COLMAP's intrinsics"),
        habit("EXIF says 270 degrees", exif(8)),
        habit("EXIF says mirrored", exif(2)),
        habit("EXIF says 90 degrees, pictures wider than high", exif(6, wide=True),
              "COLMAP: portrait pictures get other intrinsics"),
        habit("EXIF says 90 degrees, only camera_angle_x", wide_only_angle),
        habit("EXIF of a third of the pictures", exif(6, range(0, 28, 3)),
              "COLMAP: upright and sideways pictures of one camera"),
        habit("EXIF of a third, pictures wider than high", exif(8, range(0, 28, 3), wide=True),
              "COLMAP: images are getting rotated"),
        habit("EXIF in PNG", exif(3), ending="png"),
        habit("the orientation of TIFF", tiff),
        Habit(kind, "training: EXIF says 180 degrees", fits(exif(3), "jpg"), slow=True),
    ]  # fmt: skip


def missing():
    kind = "missing pictures"

    def lost(*which):
        return lambda capture: capture.missing.update(capture.names[n] for n in which)

    def habit(name, change, words=(), seen="", **options):
        return Habit(kind, name, loads(change, **options), words, seen=seen)

    def broken(content):
        def change(capture):
            capture.missing.add(capture.names[5])
            capture.files[capture.names[5]] = content(capture)

        return change

    def cut(capture):
        whole = png(capture.pixels[5])
        return whole[: len(whole) // 2]

    def elsewhere(capture):
        capture.each(lambda f, n: f.update(file_path=f"pictures/{n:04}.png"))

    def says_so(capture, views):
        return "skipped"

    named = ("images/0005.png:", "images/0005.png")
    return [
        habit("one is missing", lost(5), train=23, also=says_so,
              seen="LichtFeld-Studio: one lost picture refused the whole data set"),
        habit("one to test on is missing", lost(8), test=3),
        habit("a quarter is missing", lost(*range(1, 28, 4)), train=17,
              seen="taichi-nerfs and instant-ngp: fox names 67 pictures, 50 are there"),
        habit("two thirds are missing", lost(*(n for n in range(28) if n % 3)), ("of 28", "19"),
              seen="~ torch-ngp: images were not copied", train=None, test=None),
        habit("all are in another folder", elsewhere,
              ("pictures/0001.png:", "pictures/0001.png,", "of 28"),
              seen="instant-ngp: image not found", train=None, test=None),
        habit("one is empty", broken(lambda capture: b""), named,
              seen="~ nerfstudio: cannot identify image file", train=23),
        habit("one is cut short", broken(cut), named, train=23,
              seen="~ Pillow: image file is truncated"),
        habit("one is a page of HTML", broken(lambda capture: b"<!doctype html>"), named, train=23),
    ]  # fmt: skip


def lenses():
    # long because it is a list
    kind = "iterations that do not converge"
    width = 96
    height = 72
    focal = 805 * width / 1920

    def distort(point, k1, k2, p1, p2):
        x = point[..., 0]
        y = point[..., 1]
        square = x * x + y * y
        radial = 1 + square * (k1 + k2 * square)
        return np.stack([x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                         y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y], -1)  # fmt: skip

    def views(folder, lens):
        capture = Capture()
        capture.pixels = [np.full((height, width, 3), 90, np.uint8)] * 28
        capture.meta = {"fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2,
                        **dict(zip(("k1", "k2", "p1", "p2"), lens))}  # fmt: skip
        return jgrid.load_views(capture.save(folder), "train")

    def pixels(*lens):
        """Every pixel's ray, distorted again, comes back to its pixel, or is not finite."""

        def ask(folder):
            found = views(folder, lens)
            _, direction = rays(found, 0)
            local = direction @ found.poses[0][:3, :3]
            finite = np.isfinite(local).all(-1)
            with np.errstate(invalid="ignore"):
                point = np.stack([local[..., 0], -local[..., 1]], -1) / -local[..., 2:]
            again = distort(point, *lens) * focal + [width / 2, height / 2]
            u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
            off = np.linalg.norm(again - np.stack([u, v], -1), axis=-1)[finite]
            if (off > 0.05).any():
                raise Wrong(f"{(off > 0.05).mean():.0%} of pixels off, by up to {off.max():.1f}")
            return f"off by {off.max():.2g} at most, {1 - finite.mean():.0%} left out"

        return ask

    def outside(degrees, *lens):
        """A direction beyond the lens's view is not seen in the picture."""

        def ask(folder):
            camera = views(folder, lens).camera
            angle = np.radians(degrees)
            around = np.linspace(0, 2 * np.pi, 64)
            points = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around),
                               np.full(64, -np.cos(angle))], -1)  # fmt: skip
            place = camera.project(points)
            with np.errstate(invalid="ignore"):
                inside = ((place >= 0) & (place < [width, height])).all(1)
            if inside.any():
                raise Wrong(f"{inside.mean():.0%} of directions at {degrees} degrees land in it")
            return "outside"

        return ask

    words = ("lens", "distort", "k1", "invert")
    action = (-0.34, 0.14, 0.0, 0.0)
    return [
        Habit(kind, "an action camera: k1 -0.34, k2 0.14", pixels(*action), words,
              seen="kornia: the fixed point diverges silently beyond a radius"),
        Habit(kind, "a wide lens: k1 -0.28, k2 0.07", pixels(-0.28, 0.07, 0, 0), words,
              seen="OpenCV: undistortPoints returns imprecise results"),
        Habit(kind, "a pincushion: k1 0.5", pixels(0.5, 0.0, 0, 0), words,
              seen="kornia: k1 = 0.5 three focal lengths off the axis"),
        Habit(kind, "k1 -0.2 alone, which folds back", pixels(-0.2, 0.0, 0, 0), words,
              seen="COLMAP: undistortion fails to converge"),
        Habit(kind, "k1 -0.4 alone, folded within the picture", pixels(-0.4, 0.0, 0, 0), words,
              seen="ETH3D: points that cannot be reached"),
        Habit(kind, "a lens off its axis: p1, p2", pixels(-0.3, 0.1, 0.02, -0.015), words,
              seen="~ OpenCV: undistortPoints with tangential terms"),
        Habit(kind, "a telephoto's k1, small", pixels(-0.05, 0.0, 0, 0), words),
        Habit(kind, "directions at 62 degrees of k1 -0.2", outside(62, -0.2, 0, 0, 0), words,
              seen="~ OpenCV: projectPoints folds far points into the picture"),
        Habit(kind, "directions at 75 degrees of k1 -0.1", outside(75, -0.1, 0, 0, 0), words,
              seen="~ Kalibr: points behind the field of view"),
        Habit(kind, "directions at 70 degrees of an action camera",
              outside(70, -0.3, 0.02, 0, 0), words),
    ]  # fmt: skip


def commands():
    """How the app is called."""
    kind = "smaller ones: command lines"

    def file_of(folder):
        Capture().save(folder)
        task = start_app(folder / "transforms.json")
        counts(task.train, 24, "train")
        return "the file's folder"

    def here(folder):
        Capture().save(folder)
        start_app(".")
        made = [path.name for path in (folder / "out").iterdir()]
        if any("--" in name or "views-." in name for name in made):
            raise Wrong(f"the results go to out/{made[0]}")
        return f"out/{made[0]}"

    def made_of(size, where=0.0):
        def ask(folder):
            ball = trimesh.creation.icosphere(2, 1.0)
            ball.vertices = ball.vertices * size + where
            lines = ["v {:.17g} {:.17g} {:.17g}".format(*v) for v in ball.vertices]
            lines += ["f {} {} {}".format(*(f + 1)) for f in ball.faces]
            (folder / "ball.obj").write_text("\n".join(lines))
            more = ["--make-scene", str(folder / "ball.obj")]
            with unittest.mock.patch.object(Trainer, "fit", _stop):
                try:
                    fit_views.main(cli.parse(fit_views.Config, [*more, *APP, *FIELD]))
                except Stopped as stopped:
                    task = stopped.args[0]
            covered = np.mean([shown(pixels).mean() for pixels in task.train.pixels])
            expected = np.pi / 4 * (np.tan(np.arcsin(1 / 3.2)) / np.tan(0.35)) ** 2
            if abs(covered - expected) > 0.05:
                raise Wrong(f"the ball covers {covered:.0%} of the pictures, not {expected:.0%}")
            return f"{covered:.0%} covered"

        return ask

    return [
        Habit(kind, "--scene FILE.json", file_of, seen="~ instant-ngp: --scene transforms.json"),
        Habit(kind, "--scene .", here),
        Habit(kind, "--make-scene in units of 1e-7", made_of(1e-7),
              seen="~ trimesh: merging vertices of small meshes"),
        Habit(kind, "--make-scene in units of 1e-9", made_of(1e-9)),
        Habit(kind, "--make-scene in metres of UTM", made_of(3.0, 4.6e6), slow=True,
              seen="Open3D: objects in UTM"),
        Habit(kind, "--make-scene of 1e6", made_of(1e6), slow=True),
    ]  # fmt: skip


def _stop(trainer):
    raise Stopped(trainer.task)


def evaluation():
    kind = "an evaluation that cannot be stopped"

    def signalled(number, after):
        """A signal during the evaluation: no more than the picture at hand is rendered."""

        def ask(folder):
            Capture().save(folder)
            usual = Camera.rays
            rendered = []

            def rays_of(camera, pose, pixel=None):
                if pixel is None:
                    rendered.append(pose)
                    if len(rendered) == after:
                        os.kill(os.getpid(), number)
                return usual(camera, pose, pixel)

            handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
            cli.handle_signals()
            try:
                with unittest.mock.patch.object(Camera, "rays", rays_of):
                    fitted(folder)
            except KeyboardInterrupt:
                pass
            finally:
                for n, handler in handlers.items():
                    signal.signal(n, handler)
            if len(rendered) > after + 1:
                raise Wrong(f"{len(rendered) - after} pictures more are rendered after the signal")
            return "ended after the picture at hand"

        return ask

    return [
        Habit(kind, "SIGTERM at the first picture", signalled(signal.SIGTERM, 1), slow=True,
              seen="~ nerfstudio: evaluation of all images takes hours"),
        Habit(kind, "SIGINT at the second picture", signalled(signal.SIGINT, 2), slow=True),
    ]  # fmt: skip


HABITS = [
    *silhouettes(),
    *geometry(),
    *meaning(),
    *files(),
    *conventions(),
    *missing(),
    *lenses(),
    *commands(),
    *evaluation(),
]
