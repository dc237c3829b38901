"""Captures of every format: COLMAP's models, LLFF's poses, lenses of all kinds, several cameras."""

import importlib.util
import shutil
import struct
import sys

from jgrid.scene.camera import Camera, Cameras, look_at, sphere_poses
from jgrid.scene.colmap import MODELS, camera_of
from jgrid.scene.files import load_views
from jgrid.scene.hull import hull
from jgrid.scene.made import MeshScene
from jgrid.scene.place import choose
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.views import Views, described, edges, values_at

import fit_views
import numpy as np
import pytest
import trimesh
from conftest import DEVICE, SCENE_FIELD
from PIL import Image

WIDTH = 64
HEIGHT = 48
N = 10
HERE = importlib.util.find_spec("pycolmap") is not None
pycolmap_only = pytest.mark.skipif(not HERE, reason="pycolmap is not installed: jgrid[capture]")
# an example of each of COLMAP's models that are understood
PARAMETERS = {
    "SIMPLE_PINHOLE": (500, 320, 240),
    "PINHOLE": (500, 510, 321, 239),
    "SIMPLE_RADIAL": (500, 320, 240, -0.15),
    "RADIAL": (500, 320, 240, -0.3, 0.1),
    "OPENCV": (500, 510, 320, 240, -0.3, 0.1, 0.002, -0.0015),
    "FULL_OPENCV": (500, 510, 320, 240, 0.2, -0.3, 0.001, 0.002, 0.1, 0.25, -0.2, 0.05),
    "SIMPLE_RADIAL_FISHEYE": (300, 320, 240, 0.02),
    "RADIAL_FISHEYE": (300, 320, 240, 0.05, -0.02),
    "OPENCV_FISHEYE": (300, 310, 320, 240, 0.02, -0.01, 0.003, -0.001),
}
LENSES = {
    "OpenCV": Camera(640, 480, 500.0, 510.0, 320.0, 240.0, (-0.3, 0.1, 0.002, -0.0015)),
    "folds": Camera(640, 480, 300.0, 300.0, 320.0, 240.0, (-0.2, 0.0, 0.0, 0.0)),
    "k3 folds": Camera(640, 480, 300.0, 300.0, 320.0, 240.0, (0.1, 0, 0, 0, -0.1, 0, 0, 0)),
    "pole": Camera(640, 480, 300.0, 300.0, 320.0, 240.0, (0, 0, 0, 0, 0, -0.7, 0, 0)),
    "rational": Camera(640, 480, 300.0, 300.0, 320.0, 240.0, (0.5, 0, 0, 0, 0, 0.6, 0.1, 0)),
    "fisheye": Camera(640, 480, 200.0, 210.0, 320.0, 240.0, (0.02, -0.01, 0.003, -0.001), True),
    "fisheye, all around": Camera(640, 480, 130.0, 130.0, 320.0, 240.0, (0.0,) * 4, True),
    "fisheye folds": Camera(640, 480, 200.0, 200.0, 320.0, 240.0, (-0.1, 0, 0, 0), True),
}


# --- lenses


@pycolmap_only
@pytest.mark.parametrize("model", MODELS)
def test_each_model_projects_as_colmap_does(model):
    import pycolmap

    theirs = pycolmap.Camera(model=model, width=640, height=480, params=PARAMETERS[model])
    camera = camera_of(theirs, "a")
    points = np.random.default_rng(0).normal(size=(20000, 3))
    points[:, 2] = np.abs(points[:, 2]) + 0.05
    wanted = theirs.img_from_cam(points)
    inside = ((wanted >= 0) & (wanted < [640, 480])).all(1)
    found = camera.project(points * [1, -1, -1])
    seen = inside & np.isfinite(found).all(1)
    assert seen.sum() > 1000 and np.abs(found - wanted)[seen].max() < 1e-3
    # what is left out is beyond the fold, whose image would be another point's
    angle = np.hypot(points[:, 0], points[:, 1]) / points[:, 2]
    beyond = np.arctan(angle) if camera.fisheye else angle
    assert (beyond[inside & ~seen] > 0.99 * camera.lens.reach).all()


def pixels_of(camera):
    row, column = np.indices((camera.height, camera.width)).reshape(2, -1) + 0.5
    return column, row


@pytest.mark.parametrize("camera", LENSES.values(), ids=LENSES)
def test_directions_lead_back_to_their_pixels(camera):
    u, v = pixels_of(camera)
    direction = camera.directions(u, v)
    reached = np.isfinite(direction).all(1)
    np.testing.assert_allclose(np.linalg.norm(direction[reached], axis=1), 1)
    again = camera.project(direction[reached])
    np.testing.assert_allclose(again, np.stack([u, v], 1)[reached], atol=1e-3)
    # no direction that the lens maps into the picture is missing
    away = np.hypot((u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy)
    reach = camera.lens.reach
    edge = camera.lens._radial(np.array(reach))[0] if np.isfinite(reach) else np.inf
    np.testing.assert_array_equal(reached, away < edge)
    assert camera.reaches_all == reached.all()
    np.testing.assert_array_equal(camera.reached().ravel(), reached)


def test_some_lenses_fold_and_others_do_not():
    assert {name for name, camera in LENSES.items() if not camera.reaches_all} == {
        "folds",
        "k3 folds",
        "rational",
        "fisheye",
        "fisheye folds",
    }
    square = LENSES["k3 folds"].lens.reach ** 2  # where the slope is 0
    assert np.isclose(1 + 3 * 0.1 * square - 7 * 0.1 * square**3, 0)
    assert np.isclose(LENSES["pole"].lens.reach, np.sqrt(1 / 0.7))
    assert LENSES["fisheye, all around"].lens.reach == np.pi


def test_a_fisheye_sees_behind_itself():
    camera = LENSES["fisheye, all around"]
    angle = np.radians([30.0, 100.0, 140.0])
    points = np.stack([np.sin(angle), 0 * angle, -np.cos(angle)], axis=1)
    np.testing.assert_allclose(camera.project(points)[:, 0], 320 + 130 * angle)
    np.testing.assert_allclose(camera.directions(320 + 130 * angle, 240 + 0 * angle), points)


@pytest.mark.parametrize("camera", LENSES.values(), ids=LENSES)
def test_magnification_is_what_a_short_length_takes(camera):
    """of an undistorted lens."""
    plain = Camera(640, 480, camera.fx, camera.fx, 320.0, 240.0, fisheye=camera.fisheye)
    rng = np.random.default_rng(0)
    points = plain.directions(*(rng.uniform(0, s, 500) for s in (640, 480))) * rng.uniform(
        1, 5, (500, 1)
    )
    step = 1e-5 * np.cross(points, rng.normal(size=(500, 3)))
    across = np.linalg.norm(plain.project(points + step) - plain.project(points), axis=1)
    ratio = across / np.linalg.norm(step, axis=1) / plain.magnification(points)
    slack = 1.001 if camera.fisheye else 1 / np.cos(np.arctan(np.hypot(320, 240) / camera.fx))
    assert 0.05 < ratio.min() and ratio.max() < slack


def test_a_distortion_has_as_many_numbers_as_opencvs():
    for numbers, fisheye in (((0.1,), False), ((0.0,) * 8, True)):
        with pytest.raises(ValueError, match="`distortion` has"):
            Camera(4, 4, 4.0, 4.0, 2.0, 2.0, numbers, fisheye)


# --- several cameras


def test_rays_of_several_cameras_are_each_ones():
    cameras = [*LENSES.values(), Camera(640, 480, 500.0, 500.0, 300.0, 200.0)]
    cameras = [*cameras, cameras[0], cameras[1].resized(320, 240)]
    poses = sphere_poses(len(cameras), 3.0)
    rng = np.random.default_rng(0)
    which = rng.integers(0, len(cameras), 3000)
    pixel = rng.integers(0, 320 * 240, 3000)
    origin, direction = Cameras(cameras).rays(which, poses[which], pixel)
    for n, camera in enumerate(cameras):
        these = which == n
        wanted = camera.rays(poses[n], pixel[these])
        np.testing.assert_array_equal(origin[these], wanted[0])
        np.testing.assert_allclose(direction[these], wanted[1], atol=1e-6)


def test_pixels_are_found_in_pictures_of_several_sizes():
    shapes = [(3, 4), (2, 5), (3, 4)]
    pictures = tuple(np.full((*shape, 4), n, np.uint8) for n, shape in enumerate(shapes))
    for picture in pictures:
        picture[..., 0] = np.arange(picture[..., 0].size).reshape(picture.shape[:2])
    cameras = [Camera(w, h, 1.0, 1.0, 1.0, 1.0) for h, w in shapes]
    views = Views(pictures, np.zeros((3, 4, 4)), cameras, names=("a", "b", "c"))
    view, pixel = views.which(np.arange(views.n_pixels))
    assert views.n_pixels == 34 and np.bincount(view).tolist() == [12, 10, 12]
    values = values_at(pictures, view, pixel)
    np.testing.assert_array_equal(values[:, 0], pixel)
    np.testing.assert_array_equal(values[:, 3], view)
    alike = views.chosen(np.array([0, 2]))
    np.testing.assert_array_equal(
        values_at(np.stack(alike.pixels), view[:24] // 6 % 2, pixel[:24])[:, 0], pixel[:24]
    )
    assert alike.names == ("a", "c") and views.without(np.array([1])).names == ("a", "c")
    assert views.camera == cameras[0] and views.size == "4 x 3 to 5 x 2"
    assert len(edges(pictures[1])) == 14


# --- a scene in every format


def cameras_of(mixed):
    """Of N pictures: one for all, or of two sizes and three lenses."""
    plain = Camera(WIDTH, HEIGHT, 70.0, 70.0, WIDTH / 2, HEIGHT / 2)
    if not mixed:
        return [plain] * N
    bent = Camera(WIDTH, HEIGHT, 70.0, 72.0, 31.0, 25.0, (-0.1, 0.02, 1e-3, -1e-3))
    fisheye = Camera(60, 50, 65.0, 65.0, 30.0, 25.0, (0.02, 0.0, 0.0, 0.0), True)
    return [(plain, bent, fisheye)[n % 3] for n in range(N)]


@pytest.fixture(scope="module")
def photographs():
    """{mixed: (cameras, poses, pictures)} of an off-centre box on a wide world."""
    mesh = trimesh.creation.box((1.0, 0.6, 0.4))
    poses = sphere_poses(N, 3.0)
    found = {}
    for mixed in (False, True):
        scene = MeshScene(mesh)
        cameras = cameras_of(mixed)
        found[mixed] = cameras, poses, [scene.render(c, p) for c, p in zip(cameras, poses)]
    return found


def surface():
    """Points of that box's surface, and some that are far astray."""
    mesh = MeshScene(trimesh.creation.box((1.0, 0.6, 0.4))).mesh
    points = trimesh.sample.sample_surface(mesh, 300, seed=0)[0]
    return np.concatenate([points, np.random.default_rng(0).normal(0, 50, (6, 3))])


def save_pictures(folder, photographs, mixed, shrink=1):
    folder.mkdir(parents=True)
    for n, pixels in enumerate(photographs[mixed][2]):
        picture = Image.fromarray(pixels)
        picture = picture.resize((picture.width // shrink, picture.height // shrink))
        picture.save(folder / f"{n:02}.png")


def save_model(folder, photographs, mixed, text=False, names="{:02}.png"):
    """A COLMAP model of the scene, its pictures in the wrong order."""
    import pycolmap

    model = pycolmap.Reconstruction()
    cameras, poses, _ = photographs[mixed]
    numbers = {}
    for n in reversed(range(N)):
        c = cameras[n]
        if c not in numbers:
            numbers[c] = len(numbers) + 1
            kind = "OPENCV_FISHEYE" if c.fisheye else "OPENCV" if c.bent else "PINHOLE"
            k = c.distortion if c.bent else ()
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(
                    model=kind, width=c.width, height=c.height, camera_id=numbers[c],
                    params=[c.fx, c.fy, c.cx, c.cy, *k],
                )
            )  # fmt: skip
        to_camera = np.linalg.inv(poses[n] @ np.diag([1.0, -1.0, -1.0, 1.0]))[:3]
        image = pycolmap.Image(
            name=names.format(n), camera_id=numbers[c], image_id=N - n, points2D=[]
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(to_camera))
    for point in surface():
        model.add_point3D(point, pycolmap.Track())
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_text if text else model.write_binary)(str(folder))


def save_llff(folder, photographs):
    cameras, poses, _ = photographs[False]
    rows = []
    for camera, pose in zip(cameras, poses):
        right, up, back, place = pose[:3].T
        numbers = [camera.height, camera.width, camera.fx]
        matrix = np.stack([-up, right, back, place, numbers], axis=1)
        rows.append([*matrix.ravel(), 2.0, 4.0])
    np.save(folder / "poses_bounds.npy", rows)


def check_split(folder, photographs, mixed):
    """Every eighth is for testing, and all is as it was."""
    cameras, poses, pictures = photographs[mixed]
    for split in ("train", "test"):
        views = load_views(folder, split)
        numbers = [n for n in range(N) if (n % 8 == 0) == (split == "test")]
        np.testing.assert_allclose(views.poses, poses[numbers], atol=1e-9)
        assert list(views.names) == [f"{n:02}.png" for n in numbers]
        for n, camera, pixels in zip(numbers, views.cameras, views.pixels):
            assert camera == cameras[n]
            np.testing.assert_array_equal(pixels, pictures[n])


@pycolmap_only
@pytest.mark.parametrize("place", ["sparse/0", "sparse", "."])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_colmap_model_is_read(tmp_path, photographs, place, text, mixed):
    save_pictures(tmp_path / "images", photographs, mixed)
    save_model(tmp_path / place, photographs, mixed, text)
    check_split(tmp_path, photographs, mixed)
    views = load_views(tmp_path / place, "train")  # the model's folder itself
    assert len(views.poses) == N - 2 and len(views.points) == 306
    said = described(views, load_views(tmp_path, "test"))
    wanted = "3 cameras (OPENCV, OPENCV_FISHEYE, PINHOLE) of 60 x 50 to 64 x 48" if mixed else (
        "1 camera (PINHOLE) of 64 x 48"
    )  # fmt: skip
    assert said == f"COLMAP model, 10 pictures by {wanted}; 2 to test with"


@pycolmap_only
def test_smaller_pictures_scale_the_camera(tmp_path, photographs):
    save_pictures(tmp_path / "images_4", photographs, False, 4)
    save_pictures(tmp_path / "images_2", photographs, False, 2)
    save_model(tmp_path / "sparse", photographs, False)
    views = load_views(tmp_path, "train")
    assert views.camera == Camera(32, 24, 35.0, 35.0, 16.0, 12.0)
    (tmp_path / "images").mkdir()  # an empty one is none
    assert load_views(tmp_path, "train").camera == views.camera
    shutil.rmtree(tmp_path / "images_2")
    shutil.rmtree(tmp_path / "images")
    assert load_views(tmp_path, "train").camera == Camera(16, 12, 17.5, 17.5, 8.0, 6.0)
    Image.new("RGB", (16, 16)).save(tmp_path / "images_4" / "03.png")
    with pytest.raises(ValueError, match="the camera's pictures are 64 x 48, those found 16 x 16"):
        load_views(tmp_path, "train")


@pycolmap_only
def test_colmaps_masks_are_named_as_its_pictures(tmp_path, photographs):
    save_pictures(tmp_path / "images", photographs, True)
    save_model(tmp_path / "sparse" / "0", photographs, True)
    (tmp_path / "masks").mkdir()
    keep = np.ones((50, 60), np.uint8)
    keep[:10] = 0
    Image.fromarray(255 * keep).save(tmp_path / "masks" / "02.png.png")
    with pytest.warns(UserWarning, match="masks leave out 2.5% of the pixels, in 1 of 8 pictures"):
        views = load_views(tmp_path, "train")
    np.testing.assert_array_equal(views.counted[1], keep.astype(bool))
    assert all(kept.all() for n, kept in enumerate(views.counted) if n != 1)


@pycolmap_only
def test_a_wrong_model_is_one_line(tmp_path, photographs):
    import pycolmap

    save_model(tmp_path / "sparse", photographs, False)
    with pytest.raises(ValueError, match="the pictures are not there: '00.png', ... and no folder"):
        load_views(tmp_path, "train")
    save_pictures(tmp_path / "images", photographs, False)
    whole = (tmp_path / "sparse" / "images.bin").read_bytes()
    (tmp_path / "sparse" / "images.bin").write_bytes(whole[:100])
    with pytest.raises(ValueError, match="images.bin: no COLMAP model") as error:
        load_views(tmp_path, "train")
    assert "\n" not in str(error.value)
    (tmp_path / "sparse" / "images.bin").write_bytes(whole)
    points = tmp_path / "sparse" / "points3D.bin"
    whole = points.read_bytes()
    # how many points there are, and in how many pictures the first is seen
    for at in (0, 8 + 43):
        points.write_bytes(whole[:at] + struct.pack("<Q", 2**40) + whole[at + 8 :])
        with pytest.raises(ValueError, match="points3D.bin: no COLMAP model"):
            load_views(tmp_path, "train")
    points.write_bytes(whole)
    (tmp_path / "sparse" / "cameras.bin").write_bytes(b"cut")
    with pytest.raises(ValueError, match="sparse: no COLMAP model"):
        load_views(tmp_path, "train")
    blind = pycolmap.Camera(model="PINHOLE", width=4, height=4, params=[-4, 4, 2, 2], camera_id=7)
    with pytest.raises(ValueError, match="a: camera 7: `fx` must be positive"):
        camera_of(blind, "a")
    fov = pycolmap.Camera(model="FOV", width=4, height=4, params=[4, 4, 2, 2, 0.1])
    with pytest.raises(ValueError, match="of the model FOV; understood are SIMPLE_PINHOLE"):
        camera_of(fov, "a")
    save_pictures(tmp_path / "outside", photographs, False)
    save_model(tmp_path / "in/sparse", photographs, False, names="../../outside/{:02}.png")
    (tmp_path / "in" / "images").mkdir()
    with pytest.raises(ValueError, match="which is not in its folder; `outside` allows that"):
        load_views(tmp_path / "in", "train")
    assert len(load_views(tmp_path / "in", "train", outside=True).poses) == N - 2


def test_without_pycolmap_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    (tmp_path / "cameras.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install 'jgrid\[capture\]'"):
        load_views(tmp_path, "train")


@pytest.mark.parametrize("shrink", [1, 2])
def test_llffs_poses_are_read(tmp_path, photographs, shrink):
    save_llff(tmp_path, photographs)
    save_pictures(tmp_path / f"images_{shrink}", photographs, False, shrink)
    if shrink == 1:
        check_split(tmp_path, photographs, False)
    views = load_views(tmp_path, "train")
    assert views.camera == cameras_of(False)[0].resized(WIDTH // shrink, HEIGHT // shrink)
    assert described(views, views).startswith("LLFF capture, 16 pictures by 1 camera (SIMPLE_PIN")
    local = views.points[:45] - photographs[False][1][0][:3, 3]
    depth = -local @ photographs[False][1][0][:3, 2]
    assert np.isclose(depth.min(), 2) and np.isclose(depth.max(), 4)


WRONG = {
    "shape": (lambda rows: rows[:, :15], r"an array \(10, 15\), wanted \(N, 17\)"),
    "number": (lambda rows: rows[:9], "9 poses, and no folder images"),
    "OpenCV": (lambda rows: np.where(np.arange(17) % 5 == 0, -rows, rows), "row 0: its axes"),
    "nan": (lambda rows: np.where(np.arange(17) == 3, np.nan, rows), "row 0 has values that"),
    "bounds": (lambda rows: np.where(np.arange(17) == 15, 9.0, rows), "row 0: no bounds"),
    "focal": (lambda rows: np.where(np.arange(17) == 14, 0.0, rows), "row 0: no camera"),
}


@pytest.mark.parametrize("change, words", WRONG.values(), ids=WRONG)
def test_wrong_poses_are_one_line(tmp_path, photographs, change, words):
    save_llff(tmp_path, photographs)
    save_pictures(tmp_path / "images", photographs, False)
    np.save(tmp_path / "poses_bounds.npy", change(np.load(tmp_path / "poses_bounds.npy")))
    with pytest.raises(ValueError, match=f"poses_bounds.npy: {words}"):
        load_views(tmp_path, "train")
    (tmp_path / "poses_bounds.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match="poses_bounds.npy: not an array"):
        load_views(tmp_path, "train")


def test_a_folder_without_a_scene_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no scene: neither transforms_train.json, .* is there"):
        load_views(tmp_path, "train")


# --- the box


def test_points_say_how_large_the_scene_is(photographs):
    cameras, poses, pictures = photographs[False]
    opaque = np.stack(pictures)
    opaque[..., 3] = 255
    opaque[:, ::2, ::2, :3] = 90  # no backdrop
    views = Views(opaque, poses, cameras, points=surface())
    choice = choose(views)
    assert "points around what the cameras look at" in choice.reason
    assert 0.9 < choice.box.half < 1.3 and np.abs(choice.box.centre).max() < 0.15
    without = choose(Views(opaque, poses, cameras))
    assert without.box.half > choice.box.half
    away = np.tile(look_at((0, 0, 0), (0, 1, 0)), (N, 1, 1))  # side by side
    away[:, :3, 3] = np.arange(N)[:, None] * [0.1, 0, 0]
    ahead = surface() * [4, 1, 1] + [0, 8, 0]
    choice = choose(Views(opaque, away, cameras, points=ahead))
    assert "cameras look at no one point" in choice.reason and choice.box.contracted
    assert abs(choice.box.centre[1] - 8) < 0.3 and 3 < choice.box.half < 6


# --- all of it, fitted


@pycolmap_only
def test_several_cameras_carve_and_fit(tmp_path, photographs, capsys):
    """From the files to the renderings; the hull of pictures of several sizes and lenses holds the
    box."""
    save_pictures(tmp_path / "a" / "images", photographs, True)
    save_model(tmp_path / "a" / "sparse" / "0", photographs, True)
    train, test = (load_views(tmp_path / "a", split) for split in ("train", "test"))
    box = choose(train).box
    task = ViewsTask(train, test, box, ViewsConfig(cells=24, samples=64))
    kept = task.occupancy.occupied
    inside = box.to_unit(surface()[:300] * 0.9)
    cell = (inside * 24).astype(int)
    held = np.asarray(kept).reshape(24, 24, 24)
    assert held[tuple(cell.T)].all() or held.transpose(2, 1, 0)[tuple(cell.T)].all()
    assert 0.005 < held.mean() < 0.3
    assert hull(train, task.occupancy.centres(), 0.05, box).keep.any()
    flags = ["--scene", str(tmp_path / "a"), "--out", str(tmp_path / "out"), "--cells", "16"]
    flags += ["--samples", "64", "--train.steps", "3", "--train.eval-every", "3"]
    config = fit_views.cli.parse(fit_views.Config, [*flags, "--device", DEVICE])
    fit_views.main(fit_views.replace(config, field=SCENE_FIELD))
    assert "COLMAP model, 10 pictures by 3 cameras" in capsys.readouterr().out
    for n, camera in enumerate(test.cameras):
        with Image.open(tmp_path / "out" / "test" / f"{n:03}.png") as shown:
            assert shown.size == (camera.width, camera.height)
