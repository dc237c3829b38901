"""Captures as people bring them: each meaning of a transforms.json is honoured, refused by its
name, or warned of."""

import json
import subprocess
import sys
import warnings

from jgrid import cli
from jgrid.image.files import load_image
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.scene.camera import Box, Camera, look_at, sphere_poses
from jgrid.scene.files import load_views
from jgrid.scene.made import load_scene_mesh
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.transforms import read_transforms
from jgrid.scene.views import Views

import fit_views
import numpy as np
import pytest
import trimesh
from conftest import REPOSITORY
from PIL import Image

WIDTH = 12
HEIGHT = 8
FOCAL = 15.0
N = 9
POSES = sphere_poses(N, 3.0)
CONFIG = ViewsConfig(cells=4, samples=16)
INTRINSICS = {"fl_x": FOCAL, "fl_y": FOCAL, "w": WIDTH, "h": HEIGHT}


def pixels(n):
    """Picture n: its number is its red, and a corner tells which way up it is."""
    rgb = np.full((HEIGHT, WIDTH, 3), 20 * n, np.uint8)
    rgb[0, 0, 2] = 255
    return rgb


def capture(
    folder, frame=lambda n: {}, ending="png", names="images/{:04}", options=None, **entries
):
    """A capture of N pictures; frame(n): more entries of frame n; names: in the file, where they
    differ from those on disk; entries: of the whole, in place of INTRINSICS where None is given."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for n in range(N):
        Image.fromarray(pixels(n)).save(folder / f"images/{n:04}.{ending}", **(options or {}))
        own = {"file_path": names.format(n), "transform_matrix": POSES[n].tolist()}
        frames.append({**own, **frame(n)})
    whole = {**INTRINSICS, **entries, "frames": frames}
    whole = {name: value for name, value in whole.items() if value is not None}
    (folder / "transforms.json").write_text(json.dumps(whole))
    return folder


def both(folder):
    """Both splits, and the warnings, each once."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        views = [load_views(folder, split) for split in ("train", "test")]
    return *views, list(dict.fromkeys(str(warning.message) for warning in heard))


def numbers(views):
    """Which pictures these are."""
    return [int(n) for n in views.pixels[:, 4, 4, 0] // 20]


def the_one(heard, *words):
    assert len(heard) == 1 and all(word in heard[0] for word in words), heard


# --- names


NAMES = {
    "as they are": ("png", "images/{:04}.png"),
    "without endings": ("png", "./images/{:04}"),
    "without endings, JPEG": ("jpg", "./images/{:04}"),
    "backslashes": ("png", ".\\images\\{:04}.png"),
    "capitals on disk": ("PNG", "images/{:04}.png"),
    "capitals in the file": ("png", "Images/{:04}.PNG"),
    "escaped": ("png", "%69mages/{:04}.png"),
    "a detour": ("png", "images/../images/{:04}.png"),
}


@pytest.mark.parametrize("ending, names", NAMES.values(), ids=NAMES)
def test_names_lead_to_their_pictures(tmp_path, ending, names):
    train, test, heard = both(capture(tmp_path / "a", ending=ending, names=names))
    assert not heard and len(train.poses) == 7 and len(test.poses) == 2
    if ending != "jpg":
        assert numbers(train) == [1, 2, 3, 4, 5, 6, 7] and numbers(test) == [0, 8]


@pytest.mark.parametrize("there", ["/home/them/fox/", "C:\\data\\fox\\", "data/fox/"])
def test_folders_of_another_machine_are_left_out_with_a_word(tmp_path, there):
    folder = capture(tmp_path / "a", names=there + "images/{:04}.png")
    train, _, heard = both(folder)
    assert numbers(train) == [1, 2, 3, 4, 5, 6, 7]
    the_one(heard, "images/0000.png", "no file is where it says")


def test_only_where_no_picture_is_where_the_file_says(tmp_path):
    """else another picture of this name, say a thumbnail, would be taken for one that is lost."""
    folder = capture(tmp_path / "a", names="images/{:04}.png")
    (folder / "images" / "0003.png").rename(folder / "0003.png")
    train, _, heard = both(folder)
    assert numbers(train) == [1, 2, 4, 5, 6, 7]
    the_one(heard, "1 of 9", "'images/0003.png'")


def test_letters_may_be_composed_otherwise(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"file_path": f"images/b\u00fc{n}.png"})
    for n in range(N):
        (folder / f"images/{n:04}.png").rename(folder / f"images/bu\u0308{n}.png")
    assert numbers(both(folder)[0]) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_of_the_file(tmp_path, encoding):
    path = capture(tmp_path / "a") / "transforms.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert len(read_transforms(path)[1]) == N


def test_missing_pictures_are_named_as_the_file_does_and_left_out(tmp_path):
    folder = capture(tmp_path / "a")
    for n in (1, 5, 8):
        (folder / f"images/{n:04}.png").unlink()
    train, test, heard = both(folder)
    assert numbers(train) == [2, 3, 4, 6, 7] and numbers(test) == [0]
    np.testing.assert_allclose(train.poses, POSES[[2, 3, 4, 6, 7]])
    the_one(heard, "3 of 9 pictures are missing", "'images/0001', 'images/0005', 'images/0008'")
    for n in (3, 4):
        (folder / f"images/{n:04}.png").unlink()
    with pytest.raises(ValueError, match=r"5 of 9 pictures are missing: 'images/0001'"):
        load_views(folder, "train")


def test_none_left_to_test_with(tmp_path):
    folder = capture(tmp_path / "a")
    for n in (0, 8):
        (folder / f"images/{n:04}.png").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no picture to test with"):
        load_views(folder, "test")


def test_a_picture_counts_once(tmp_path):
    """Else one to test with could be one to train on."""
    twice = {"file_path": "images/0008.png", "transform_matrix": POSES[8].tolist()}
    train, test, heard = both(capture(tmp_path / "a", lambda n: twice if n == 3 else {}))
    assert numbers(train) == [1, 2, 8, 4, 5, 6, 7] and numbers(test) == [0]
    the_one(heard, "1 frames name a picture again")
    folder = capture(tmp_path / "b", lambda n: {"file_path": "images/0002"} if n == 5 else {})
    with pytest.raises(ValueError, match="frames 2 and 5 are one picture with two poses"):
        load_views(folder, "train")


def test_the_scene_may_be_the_file(tmp_path, monkeypatch):
    folder = capture(tmp_path / "fox")
    assert numbers(load_views(folder / "transforms.json", "test")) == [0, 8]
    (folder / "transforms.json").rename(folder / "mine.json")
    assert numbers(load_views(folder / "mine.json", "test")) == [0, 8]
    for split in ("train", "test"):
        read = json.loads((folder / "mine.json").read_text())
        read["frames"] = read["frames"][4:] if split == "train" else read["frames"][:4]
        (folder / f"transforms_{split}.json").write_text(json.dumps(read))
    assert numbers(load_views(folder / "transforms_train.json", "test")) == [0, 1, 2, 3]
    monkeypatch.chdir(folder)
    for scene, name in ((".", "fox"), ("transforms.json", "fox"), ("mine.json", "mine")):
        assert fit_views.subject(cli.parse(fit_views.Config, ["--scene", scene])) == name


def test_a_capture_beside_files_of_splits_is_not_one_of_them(tmp_path):
    """Else pictures to train on would be scored."""
    folder = capture(tmp_path / "a")
    (folder / "transforms_train.json").write_bytes((folder / "transforms.json").read_bytes())
    assert len(load_views(folder, "train").poses) == N
    with pytest.raises(ValueError, match="transforms_test.json: no such file"):
        load_views(folder, "test")


# --- splits


def named(*which):
    return [f"./images/{n:04}" for n in which]


SPLITS = {
    "both": ({"train_filenames": named(0, 1, 2), "test_filenames": named(3, 4)}, [0, 1, 2], [3, 4]),
    "val for test": ({"train_filenames": named(0, 2), "val_filenames": named(1)}, [0, 2], [1]),
    "test before val": (
        {"train_filenames": named(0), "val_filenames": named(1), "test_filenames": named(2)},
        [0],
        [2],
    ),
    "test alone": ({"test_filenames": named(1)}, [0, 2, 3, 4, 5, 6, 7, 8], [1]),
    "train alone": ({"train_filenames": named(*range(7))}, [0, 1, 2, 3, 4, 5, 6], [7, 8]),
}


@pytest.mark.parametrize("entries, to_train, to_test", SPLITS.values(), ids=SPLITS)
def test_the_files_own_split_is_kept(tmp_path, entries, to_train, to_test):
    train, test, heard = both(capture(tmp_path / "a", **entries))
    assert numbers(train) == to_train and numbers(test) == to_test and not heard


def test_a_split_that_overlaps_is_warned_of_and_a_wrong_one_refused(tmp_path):
    folder = capture(tmp_path / "a", train_filenames=named(0, 1, 2), test_filenames=named(2, 3))
    the_one(both(folder)[2], "1 frames are both in train_filenames")
    wrong = capture(tmp_path / "b", train_filenames=["images/77.png"])
    with pytest.raises(ValueError, match="train_filenames names what no frame does: 'images/77"):
        load_views(wrong, "train")


# --- the camera


REFUSED = {
    "fisheye": True,
    "latlong": True,
    "equirectangular": True,
    "is_equirectangular": True,
    "is_orthographic": True,
    "k4": 0.1,
    "k5": 0.1,
    "distortion_params": [0.3, 0, 0, 0, 0, 0],
    "ftheta_p1": 0.1,
    "rolling_shutter": [0, 0, 0.3, 0],
    "camera_model": "THIN_PRISM_FISHEYE",
    "white_transparent": True,
    "from_na": True,
    "transform_matrix_end": np.eye(4).tolist(),
    "camera_convention": "opencv",
    "coordinate_system": "left-handed",
    "w2c": True,
}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("key", REFUSED)
def test_another_camera_is_refused_by_its_name(tmp_path, key, each):
    """globally and in frames."""
    entries = {key: REFUSED[key]}
    own = (lambda n: entries) if each else (lambda n: {})
    folder = capture(tmp_path / "a", own, **({} if each else entries))
    with pytest.raises(ValueError, match=f"transforms.json: (frame 0: )?{key} is"):
        load_views(folder, "train")


def test_a_lens_of_one_frame_is_enough(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"latlong": n == 4})
    with pytest.raises(ValueError, match="frame 4: latlong is True"):
        load_views(folder, "train")


def test_what_says_nothing_or_changes_nothing_is_quiet(tmp_path):
    whole = {
        **{key: False for key in ("is_fisheye", "latlong", "white_transparent", "w2c")},
        "k3": 0.0,
        "distortion_params": [0, 0.0],
        "camera_convention": "OpenGL",
        "camera_model": "OPENCV",
        "aabb_scale": 4,
        "scale": 0.5,
        "offset": [0, 0, 1],
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": "a.ply",
        "author": "me",
    }
    each = {"sharpness": 31.7, "colmap_im_id": 3, "depth_file_path": "d.png", "rotation": 0.03}
    train, _, heard = both(capture(tmp_path / "a", lambda n: each, **whole))
    assert not heard
    assert train.camera == Camera(WIDTH, HEIGHT, FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)


def test_unknown_entries_that_sound_like_cameras_or_masks_are_named(tmp_path):
    each = {"time": 0.5, "segmentation_mask": "a.png"}
    whole = {"lens_model": "odd", "coordinate_system": "EPSG:25832", "author": "me"}
    heard = both(capture(tmp_path / "a", lambda n: each, **whole))[2]
    the_one(heard, "'lens_model', 'coordinate_system', 'time', 'segmentation_mask' may say")


def test_intrinsics_that_are_alike_are_one_cameras(tmp_path):
    own = {"fl_x": FOCAL, "cx": 5.5, "k1": 0.01, "w": WIDTH, "camera_model": "OPENCV"}
    nothing = dict.fromkeys(INTRINSICS)
    train, _, heard = both(capture(tmp_path / "a", lambda n: own, **nothing))
    wanted = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, 5.5, HEIGHT / 2, (0.01, 0.0, 0.0, 0.0))
    assert set(train.cameras) == {wanted} and not heard
    nearly = capture(tmp_path / "b", lambda n: {"fl_x": FOCAL * (1 + 1e-9 * n)}, **nothing)
    assert len(set(both(nearly)[0].cameras)) == 1


def test_each_frame_may_have_a_camera_of_its_own(tmp_path):
    """Else the file's entries are its own."""
    own = {"camera_model": "OPENCV_FISHEYE", "fl_x": 9.0, "k4": 1e-3}
    folder = capture(tmp_path / "a", lambda n: own if n == 3 else {"k1": 0.01 * n}, k3=1e-4)
    train, test, heard = both(folder)
    assert not heard
    for n, camera in zip((1, 2, 3, 4, 5, 6, 7, 0, 8), (*train.cameras, *test.cameras)):
        k = (0.0, 0.0, 1e-4, 1e-3) if n == 3 else (0.01 * n, 0, 0, 0, 1e-4, 0, 0, 0)
        focal = 9.0 if n == 3 else FOCAL
        wanted = Camera(WIDTH, HEIGHT, focal, FOCAL, WIDTH / 2, HEIGHT / 2, k, n == 3)
        assert camera == wanted


@pytest.mark.parametrize("entries", [{"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}])
def test_a_fisheye_is_read(tmp_path, entries):
    train, _, heard = both(capture(tmp_path / "a", k1=0.1, k3=0.01, **entries))
    wanted = (0.1, 0.0, 0.01, 0.0)
    assert not heard and train.camera.fisheye and train.camera.distortion == wanted
    assert train.model == "OPENCV_FISHEYE"
    with pytest.raises(ValueError, match="p1 is 0.1; only cameras"):
        load_views(capture(tmp_path / "b", p1=0.1, **entries), "train")


def test_pictures_of_several_sizes_need_theirs_stated(tmp_path):
    def of_two_sizes(folder, stated):
        own = {"w": 2 * WIDTH, "h": 2 * HEIGHT, "fl_x": 2 * FOCAL, "fl_y": 2 * FOCAL}
        capture(folder, lambda n: own if n == 3 and stated else {}, w=None, h=None)
        large = np.kron(pixels(3), np.ones((2, 2, 1), np.uint8))
        Image.fromarray(large).save(folder / "images/0003.png")
        return folder

    train, test, heard = both(of_two_sizes(tmp_path / "a", True))
    assert [picture.shape[:2] for picture in train.pixels] == [
        (16, 24) if n == 2 else (8, 12) for n in range(7)
    ]
    assert train.cameras[2] == train.cameras[0].resized(24, 16) and not heard
    np.testing.assert_array_equal(train.pixels[2][::2, ::2, :3], pixels(3))
    with pytest.raises(ValueError, match="0003.png: 24 x 16 pixels, the pictures before it 12 x 8"):
        load_views(of_two_sizes(tmp_path / "b", False), "train")


ANGLE_X = 2 * np.arctan(WIDTH / 2 / FOCAL)
ANGLE_Y = 2 * np.arctan(HEIGHT / 2 / FOCAL)
FOCAL_LENGTHS = {
    "fl_y": {"fl_y": FOCAL},
    "camera_angle_x": {"camera_angle_x": ANGLE_X},
    "camera_angle_y": {"camera_angle_y": ANGLE_Y},
    "x_fov": {"x_fov": np.degrees(ANGLE_X)},
    "y_fov": {"y_fov": np.degrees(ANGLE_Y)},
    "all": {"fl_x": FOCAL, "camera_angle_x": ANGLE_X, "x_fov": np.degrees(ANGLE_X)},
}


@pytest.mark.parametrize("entries", FOCAL_LENGTHS.values(), ids=FOCAL_LENGTHS)
def test_a_focal_length_may_be_said_in_many_ways(tmp_path, entries):
    folder = capture(tmp_path / "a", **{**dict.fromkeys(INTRINSICS), **entries})
    train, _, heard = both(folder)
    np.testing.assert_allclose([train.camera.fx, train.camera.fy], FOCAL)
    assert not heard


def test_two_focal_lengths_that_disagree_are_warned_of(tmp_path):
    train, _, heard = both(capture(tmp_path / "a", camera_angle_x=1.2))
    assert train.camera.fx == FOCAL
    the_one(heard, "camera_angle_x means a focal length of 8.77", "fl_x one of 15, which is taken")


def test_the_size_of_other_pictures_scales_the_camera(tmp_path):
    """Pictures halved, the file's numbers of the whole ones, one row more than twice theirs."""
    entries = {"w": 24, "h": 17, "fl_x": 30.0, "fl_y": 34.0, "cx": 13.0, "cy": 8.5}
    train, _, heard = both(capture(tmp_path / "a", **entries))
    assert train.camera == Camera(WIDTH, HEIGHT, 15.0, 16.0, 6.5, 4.0)
    the_one(heard, "w and h are 24 x 17, the pictures 12 x 8")
    for n, (sizes, words) in enumerate(
        [({"h": 30}, "h is 30"), ({"w": 24, "h": None}, "w is 24"), ({"w": 8, "h": 12}, "w is 8")]
    ):
        with pytest.raises(ValueError, match=words):
            load_views(capture(tmp_path / str(n), **sizes), "train")


CENTRES = {
    "parts": ({"cx": 0.5, "cy": 0.5}, "cx is 0.5 of 12 pixels"),
    "from the middle": ({"cx": 0.0}, "cx is 0 of 12"),
    "of larger pictures": ({"cx": 12.0, "w": None, "h": None}, "cx is 12 of 12 pixels, far"),
}


@pytest.mark.parametrize("entries, words", CENTRES.values(), ids=CENTRES)
def test_a_centre_that_cannot_be_is_refused(tmp_path, entries, words):
    with pytest.raises(ValueError, match=words):
        load_views(capture(tmp_path / "a", **entries), "train")


def test_a_centre_far_from_the_middle_is_warned_of(tmp_path):
    train, _, heard = both(capture(tmp_path / "a", cx=3.0))
    assert train.camera.cx == 3
    the_one(heard, "cx is 3 of 12 pixels, far from the middle")


def test_axes_of_one_other_length_are_made_1(tmp_path):
    scaled = POSES.copy()
    scaled[:, :3, :3] *= 1.7
    folder = capture(tmp_path / "a", lambda n: {"transform_matrix": scaled[n].tolist()})
    train, test, heard = both(folder)
    np.testing.assert_allclose(test.poses, POSES[[0, 8]], atol=1e-12)
    the_one(heard, "axes of 9 of 9 poses are 1.7 long")


def test_a_transposed_pose_is_called_so(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"transform_matrix": POSES[n].T.tolist()})
    with pytest.raises(ValueError, match="frame 0: the last row .* is it transposed"):
        load_views(folder, "train")


# --- pictures as they are stored


def turned(orientation):
    tag = Image.Exif()
    tag[0x0112] = orientation
    return {"exif": tag}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_calibrated_pictures_are_read_as_stored(tmp_path, ending, orientation):
    """A camera's numbers are of the sensor; the EXIF tag is for displays."""
    options = turned(orientation) if ending == "png" else {"tiffinfo": {274: orientation}}
    train, _, heard = both(capture(tmp_path / "a", ending=ending, options=options))
    assert train.pixels.shape == (7, HEIGHT, WIDTH, 4) and not heard
    np.testing.assert_array_equal(train.pixels[0, ..., :3], pixels(1))
    file = tmp_path / "a" / "images" / f"0001.{ending}"
    assert load_image(file).shape[:2] == ((HEIGHT, WIDTH) if orientation == 3 else (WIDTH, HEIGHT))


def test_a_stated_size_says_that_they_were_turned_first(tmp_path):
    entries = {"w": HEIGHT, "h": WIDTH}
    train, _, heard = both(capture(tmp_path / "a", options=turned(6), **entries))
    np.testing.assert_array_equal(train.pixels[0, ..., :3], np.rot90(pixels(1), -1))
    assert "7 pictures are turned as their EXIF tags say" in heard[0]


def test_pictures_that_were_not_cut_out_are_counted(tmp_path):
    folder = capture(tmp_path / "a")
    for n in range(2, N):
        rgba = np.dstack([pixels(n), np.full((HEIGHT, WIDTH), 255, np.uint8)])
        rgba[:2, :, 3] = 0
        Image.fromarray(rgba).save(folder / f"images/{n:04}.png")
    with pytest.warns(UserWarning, match="1 of 7 pictures have no transparent pixel"):
        load_views(folder, "train")


# --- masks


def thing(n):
    """What moves in picture n: (H, W) bool."""
    moving = np.zeros((HEIGHT, WIDTH), bool)
    moving[2:5, n % 5 : n % 5 + 4] = True
    return moving


def masked(folder, kind):
    """A capture whose masks leave out what moves, in one of the ways of the tools."""
    own = {"nerfstudio": lambda n: {"mask_path": f"masks\\{n}.png"}}
    capture(folder, own.get(kind, lambda n: {}))
    (folder / "masks").mkdir()
    for n in range(N):
        name, shown = {
            "nerfstudio": (f"masks/{n}.png", ~thing(n)),
            "COLMAP": (f"masks/{n:04}.png.png", ~thing(n)),
            "instant-ngp": (f"images/dynamic_mask_{n:04}.png", thing(n)),
        }[kind]
        Image.fromarray(shown).save(folder / name)
    return folder


@pytest.mark.parametrize("kind", ["nerfstudio", "COLMAP", "instant-ngp"])
def test_masked_pixels_are_neither_learnt_nor_scored(tmp_path, kind):
    train, test, heard = both(masked(tmp_path / "a", kind))
    np.testing.assert_array_equal(train.counted, [~thing(n) for n in range(1, 8)])
    np.testing.assert_array_equal(test.counted, [~thing(n) for n in (0, 8)])
    the_one(heard, "masks leave out 12.5% of the pixels")
    for views, which in ((train, range(1, 8)), (test, (0, 8))):
        for picture, n in zip(views.pixels, which):
            picture[thing(n)] = [0, 255, 0, 255]
    task = ViewsTask(train, test, Box(1.5), CONFIG)
    green = [0, 1, 0]
    assert not (task.sample(0, 2**14)["colour"].numpy() == green).all(1).any()
    model = task.build(fit_views.SCENE["grid:dense"])
    before = task.evaluate(model)
    for picture, n in zip(test.pixels, (0, 8)):
        picture[thing(n)] = [0, 0, 255, 255]
    after = task.evaluate(model)
    assert after["psnr"] == before["psnr"] > 0 and after["ssim"] == before["ssim"]


def test_masks_of_some_pictures_are_counted(tmp_path):
    folder = masked(tmp_path / "a", "COLMAP")
    (folder / "masks" / "0003.png.png").unlink()
    train, _, heard = both(folder)
    assert train.counted[2].all() and not train.counted[1].all()
    assert "10.7% of the pixels, in 6 of 7 pictures" in heard[0]


def test_nothing_left_to_learn_is_refused():
    nothing = np.zeros((1, 4, 4), bool)
    camera = Camera(4, 4, 4.0, 4.0, 2.0, 2.0)
    views = Views(np.zeros((1, 4, 4, 4), np.uint8), np.eye(4)[None], [camera], nothing)
    with pytest.raises(ValueError, match="no pixel to train on"):
        ViewsTask(views, views, Box(1.5), ViewsConfig(cells=4, samples=16, carve=False))


def test_masked_pixels_do_not_carve():
    clear = np.zeros((1, 4, 4, 4), np.uint8)
    kept = np.ones((1, 4, 4), bool)
    kept[0, 1] = False
    views = Views(clear, np.eye(4)[None], [Camera(4, 4, 4.0, 4.0, 2.0, 2.0)], kept)
    np.testing.assert_array_equal(views.empty(0), kept[0])


def test_a_lossy_mask_is_0_where_it_is_nearly_0(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"mask_path": "mask.jpg"})
    blurred = np.where(thing(0), 9, 240).astype(np.uint8)
    Image.fromarray(blurred).save(folder / "mask.jpg", quality=95)
    np.testing.assert_array_equal(both(folder)[0].counted[0], ~thing(0))


def test_a_mask_may_be_of_the_picture_before_it_was_shrunk(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"mask_path": "mask.png"})
    Image.fromarray(np.kron(~thing(0), np.ones((3, 3), bool))).save(folder / "mask.png")
    np.testing.assert_array_equal(both(folder)[0].counted[0], ~thing(0))


WRONG_MASKS = {
    "missing": (None, "the mask 'mask.png' is missing"),
    "another size": (np.ones((HEIGHT, HEIGHT), bool), "mask of 8 x 8 pixels, its picture has 12"),
    "nothing left": (np.zeros((HEIGHT, WIDTH), bool), "masks leave out every pixel"),
}


@pytest.mark.parametrize("mask, words", WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_wrong_masks_are_refused(tmp_path, mask, words):
    folder = capture(tmp_path / "a", lambda n: {"mask_path": "mask.png"})
    if mask is not None:
        Image.fromarray(mask).save(folder / "mask.png")
    with pytest.raises(ValueError, match=words):
        load_views(folder, "train")


def test_masks_keep_to_the_folder(tmp_path):
    folder = capture(tmp_path / "a", lambda n: {"mask_path": "../mask.png"})
    Image.fromarray(~thing(0)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="`outside`"):
        load_views(folder, "train")
    with pytest.warns(UserWarning, match="masks leave out"):
        assert load_views(folder, "train", outside=True).counted is not None


def test_metrics_see_only_what_counts():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=(20, 24, 3)).astype(np.float32)
    other = np.clip(truth + rng.normal(0, 0.05, truth.shape), 0, 1).astype(np.float32)
    counted = np.ones(truth.shape[:2], bool)
    for metric in (psnr, ssim, ssim_gaussian):
        assert abs(metric(truth, other, counted) - metric(truth, other)) < 0.01
        counted[5:9, 3:14] = False
        spoilt = np.where(counted[..., None], other, 0.0).astype(np.float32)
        assert metric(truth, spoilt, counted) == metric(truth, other, counted)
        counted[:] = True


# --- lenses


def pixels_of(camera):
    row, column = np.indices((camera.height, camera.width)).reshape(2, -1) + 0.5
    return column, row


@pytest.mark.parametrize(
    "distortion, all_reached",
    [
        ((-0.34, 0.14, 0.0, 0.0), True),  # an action camera
        ((0.5, 0.0, 0.0, 0.0), True),
        ((-0.3, 0.1, 0.02, -0.015), True),
        ((-0.2, 0.0, 0.0, 0.0), False),  # folds back within the picture
        ((-0.1, -0.05, 0.01, 0.0), False),
    ],
)
def test_each_pixel_comes_back_or_is_left_out(distortion, all_reached):
    """1920 x 1440 pixels, a focal length of 805, at a twentieth of the size: up to 56 degrees."""
    camera = Camera(96, 72, 40.25, 40.25, 48.0, 36.0, distortion)
    u, v = pixels_of(camera)
    direction = camera.directions(u, v)
    reached = np.isfinite(direction).all(1)
    np.testing.assert_array_equal(camera.reached().ravel(), reached)
    assert reached.all() == all_reached and reached[96 * 36 + 48]
    again = camera.project(direction[reached])
    np.testing.assert_allclose(again, np.stack([u, v], 1)[reached], atol=1e-3)
    # what is left out is beyond the edge of what the lens maps, which lies between the two
    away = np.hypot(u - 48, v - 36)
    if not all_reached:
        assert away[~reached].min() > 0.9 * away[reached].max()


def test_no_direction_beyond_the_fold_lands_in_the_picture():
    camera = Camera(96, 72, 120.0, 120.0, 48.0, 36.0, (-0.2, 0.0, 0.0, 0.0))
    assert np.isclose(camera.lens.reach, np.sqrt(1 / 0.6))
    angle = np.radians([0, 10, 51, 53, 62, 80])
    points = np.stack([np.sin(angle), 0 * angle, -np.cos(angle)], axis=1)
    seen = np.isfinite(camera.project(points)).all(1)
    assert seen.tolist() == [True, True, True, False, False, False]


def test_pixels_beyond_the_lens_are_counted_and_neither_learnt_nor_shown(tmp_path):
    entries = {"fl_x": 7.0, "fl_y": 7.0, "k1": -0.25}
    train, test, heard = both(capture(tmp_path / "a", **entries))
    reached = train.camera.reached()
    assert 0.5 < reached.mean() < 1
    the_one(heard, f"reaches no more than {reached.mean():.1%} of the pixels")
    np.testing.assert_array_equal(train.counted, np.broadcast_to(reached, (7, HEIGHT, WIDTH)))
    task = ViewsTask(train, test, Box(1.5), CONFIG)
    assert np.isfinite(task.sample(0, 2**12)["direction"].numpy()).all()
    colour, depth, opacity = task.viewer.picture(
        task.build(fit_views.SCENE["grid:dense"]), look_at((0, -3, 0))
    )
    assert np.isfinite(colour).all() and (colour[~reached] == 1).all()
    assert (opacity[~reached] == 0).all() and (opacity[reached] > 0).any()
    assert np.isinf(depth[~reached]).all()


def test_a_lens_that_reaches_less_than_half_is_refused(tmp_path):
    folder = capture(tmp_path / "a", fl_x=4.0, fl_y=4.0, k1=-0.4)
    with pytest.raises(ValueError, match="k1, k2, p1, p2.* of the picture"):
        load_views(folder, "train")


# --- the command


@pytest.mark.parametrize("size", [1e-9, 1e-7, 1.0])
def test_a_mesh_in_tiny_units_keeps_its_faces(tmp_path, size):
    ball = trimesh.creation.icosphere(subdivisions=2)
    lines = [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in ball.vertices * size]
    lines += [f"f {a} {b} {c}" for a, b, c in ball.faces + 1]
    (tmp_path / "ball.obj").write_text("\n".join(lines))
    mesh = load_scene_mesh(tmp_path / "ball.obj")
    assert len(mesh.faces) == len(ball.faces) and len(mesh.vertices) == len(ball.vertices)


def test_a_warning_is_one_line_and_said_once():
    script = (
        "import warnings; from jgrid import cli; cli.show_warnings()\n"
        "for n in range(2): warnings.warn('masks\\nleave out'); warnings.simplefilter('always')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stderr == "warning: masks leave out\n"
