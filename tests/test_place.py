"""Where a scene is, by its cameras: the box chosen, and poses that are not what they seem."""

import dataclasses
import json
import shutil

from jgrid.scene.camera import Box, Camera, circle_poses, look_at, sphere_poses
from jgrid.scene.files import load_views
from jgrid.scene.made import make_scene
from jgrid.scene.place import aim, check_poses, choose, met, misread, without_astray
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.viewer import load_viewer
from jgrid.scene.views import Views

import fit_views
import numpy as np
import pytest
import trimesh
from conftest import DEVICE, SCENE_FIELD
from scipy.spatial.transform import Rotation

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
SIZE = 16
# of NeRF-synthetic, and of made scenes: distance, and half the angle of view
USUAL = {"NeRF-synthetic": (4.031, 0.3456), "made": (3.2, 0.35)}


def views(poses, angle=0.35, alpha=0, colour=255, stated=None):
    pixels = np.full((len(poses), SIZE, SIZE, 4), colour, np.uint8)
    pixels[..., 3] = 255
    pixels[:, :4, :, 3] = alpha
    pixels[:, 5:11, 5:11, :3] = 90
    focal = SIZE / 2 / np.tan(angle)
    camera = Camera(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2)
    names = tuple(f"images/{n:04}.png" for n in range(len(poses)))
    return Views(pixels, poses, [camera] * len(poses), names=names, stated=stated)


def moved(poses, scale=1.0, shift=(0.0, 0.0, 0.0)):
    poses = poses.copy()
    poses[:, :3, 3] = poses[:, :3, 3] * scale + shift
    return poses


def outwards(n=20, radius=1.0):
    """Cameras around a point that look away from it, as in a room, none quite."""
    rng = np.random.default_rng(0)
    poses = circle_poses(n, radius, 0.0) @ FLIP
    poses[:, :3, 3] += rng.uniform(-1.5, 1.5, (n, 3))
    return poses


@pytest.mark.parametrize("distance, angle", USUAL.values(), ids=USUAL)
@pytest.mark.parametrize("alpha", [0, 255])
def test_usual_scenes_keep_their_box(distance, angle, alpha):
    choice = choose(views(sphere_poses(24, distance), angle, alpha))
    assert choice.box == Box(1.5, (0.0, 0.0, 0.0), False)


@pytest.mark.parametrize(
    "scale, shift",
    [
        (1, (5, 0, 0)),
        (1, (4, -7, 2)),
        (1e-3, (0, 0, 0)),
        (1e3, (0, 0, 0)),
        (0.3, (0, 0, 0)),
        (10, (400, 300, 20)),
        (1, (4.5e5, 5.4e6, 280)),
    ],
)
def test_elsewhere_the_box_is_around_what_the_cameras_look_at(scale, shift):
    box = choose(views(moved(sphere_poses(24, 3.2), scale, shift))).box
    seen = 3.2 * np.tan(0.35) * scale
    assert seen < box.half < 1.5 * seen and not box.contracted
    np.testing.assert_allclose(box.centre, shift, atol=0.02 * seen)
    assert float(f"{box.half:.3g}") == box.half  # short enough to be given again


def test_what_is_given_stands():
    far = views(moved(sphere_poses(24, 3.2), 1, (5, 0, 0)))
    assert choose(far, 2.0, (1.0, 2.0, 3.0)).box == Box(2.0, (1.0, 2.0, 3.0))
    assert choose(far, 2.0, contract=True).box == Box(2.0, contracted=True)
    # the size is of what is seen, around the centre that is given
    assert choose(far, centre=(4.0, 0.0, 0.0)).box == Box(choose(far).box.half, (4.0, 0.0, 0.0))


def test_scenes_without_end_are_contracted():
    poses = sphere_poses(24, 3.2)
    noise = views(poses, alpha=255)
    noise.pixels[..., :3] = np.random.default_rng(0).integers(0, 256, noise.pixels[..., :3].shape)
    assert choose(noise).box.contracted
    assert not choose(views(poses, alpha=255)).box.contracted  # a plain backdrop
    assert choose(views(poses, alpha=255, colour=128)).box.contracted
    black = choose(views(poses, alpha=255, colour=0))
    assert black.box.contracted
    assert "edges are all black, `background` black keeps it uncontracted" in black.reason
    for other in (noise, views(poses, alpha=255), views(poses, alpha=255, colour=128)):
        assert "edges" not in choose(other).reason
    assert not choose(views(poses, alpha=255, colour=0), background=0.0).box.contracted
    assert not choose(views(poses, alpha=0, colour=128)).box.contracted  # cut out
    assert not choose(noise, 1.5).box.contracted  # a box that is given is all there is
    room = choose(dataclasses.replace(noise, poses=outwards(24))).box
    assert room.contracted
    assert (np.abs(outwards(24)[:, :3, 3] - room.centre) < room.half).all()


def test_the_box_that_the_file_states_counts_where_cameras_see_it():
    poses = sphere_poses(24, 3.2)
    fits = Box(2.0, (0.1, 0.0, 0.0))
    assert choose(views(poses, stated=fits)).box == fits
    assert choose(views(poses, stated=Box(1.0, (9.0, 0.0, 0.0)))).box == Box(1.5)
    wide = moved(poses, 2.5)
    box = choose(views(wide, alpha=255, stated=Box(12.1))).box
    assert box.contracted and box.half < 6
    assert not choose(views(wide, stated=Box(12.1))).box.contracted  # cut out: nothing is there


def test_aabb_scale_is_instant_ngps(tmp_path):
    """Its unit cube is world * 0.33 + 0.5; the scene is in the cube of side aabb_scale around its
    middle."""
    folder = make_scene(tmp_path / "s", trimesh.creation.icosphere(2), size=8, train=3, test=1)
    path = folder / "transforms_train.json"
    read = json.loads(path.read_text())
    assert load_views(folder, "train").stated is None
    for entries, expected in (
        ({"aabb_scale": 4}, Box(2 / 0.33)),
        ({"aabb_scale": 1, "scale": 0.5, "offset": [0.5, 0.25, 1.0]}, Box(1.0, (0.0, 0.5, -1.0))),
        ({"aabb_scale": "large"}, None),
    ):
        path.write_text(json.dumps({**read, **entries}))
        assert load_views(folder, "train").stated == expected


READINGS = {
    "OpenCV's axes": lambda poses: poses @ FLIP,
    "they are world-to-camera where": np.linalg.inv,
    "world-to-camera with OpenCV's axes": lambda poses: np.linalg.inv(poses @ FLIP),
}


@pytest.mark.parametrize("words, change", READINGS.items(), ids=READINGS)
@pytest.mark.parametrize("shift", [(0, 0, 0), (5, -2, 1)])
def test_poses_of_another_convention_are_refused_by_its_name(words, change, shift):
    poses = change(moved(sphere_poses(24, 3.2), 1, shift))
    with pytest.raises(ValueError, match=words):
        choose(views(poses))
    with pytest.raises(ValueError, match="`box`"):
        choose(views(poses, alpha=255))


def test_right_poses_are_not_suspected():
    rng = np.random.default_rng(0)
    forward = np.stack(
        [look_at([x, y, 0.0], [x / 9, y / 9, -50]) for x, y in rng.normal(size=(9, 2))]
    )
    shaky = np.stack([look_at(p, rng.normal(size=3)) for p in sphere_poses(40, 4.0)[:, :3, 3]])
    for poses in (sphere_poses(24, 3.2), circle_poses(9, 2.0), forward, shaky, outwards()):
        assert misread(poses) is None
        check_poses(poses)


@pytest.mark.parametrize("jitter", [0.15, 0.3])
def test_a_walk_ahead_is_not_suspected(jitter):
    rng = np.random.default_rng(0)
    poses = np.repeat(np.eye(4)[None], 40, axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(jitter * rng.normal(size=(40, 3))).as_matrix()
    poses[:, 2, 3] = -np.linspace(0, 5, 40)
    assert misread(poses) is None


@pytest.mark.parametrize("angle", [2.0, 6.0])
def test_part_of_an_orbit_that_is_inverted_is_named(angle):
    turns = np.linspace(0, angle, 30)
    orbit = np.stack([look_at([3 * np.cos(a), 3 * np.sin(a), 1.0]) for a in turns])
    assert misread(orbit) is None
    assert "world-to-camera" in misread(np.linalg.inv(orbit))


def test_cameras_in_one_place_are_refused():
    poses = np.repeat(sphere_poses(1, 3.0), 9, axis=0)
    with pytest.raises(ValueError, match="in one place"):
        choose(views(poses))


def test_what_cameras_look_at_is_found_among_some_that_do_not():
    poses = moved(sphere_poses(24, 3.2), 1, (5, 0, 0))
    poses[3] = np.eye(4)
    poses[8, :3, :3] = look_at([0, 0, 1], [3, 1, 9])[:3, :3]
    np.testing.assert_allclose(aim(poses).point, [5, 0, 0], atol=0.05)


@pytest.mark.parametrize(
    "change", [lambda pose: np.diag([300.0, 300, 300, 1]) @ pose, np.zeros_like]
)
def test_a_camera_that_is_astray_is_left_out_and_named(change):
    poses = sphere_poses(24, 3.2)
    place = change(poses[3])[:3, 3]
    poses[3, :3, 3] = place
    with pytest.warns(UserWarning, match="'images/0003.png': the camera"):
        train, test = without_astray(views(poses), views(sphere_poses(4, 3.2)))
    assert len(train.poses) == len(train.pixels) == len(train.names) == 23
    assert len(test.poses) == 4 and "images/0003.png" not in train.names
    same, _ = without_astray(test, test)
    assert same is test


def test_rays_that_meet_nothing_stop_before_training():
    away = views(moved(sphere_poses(24, 3.2), 1, (50, 0, 0)))
    assert met(views(sphere_poses(24, 3.2)), Box(1.5)) > 0.9
    assert met(away, Box(1.5)) < 0.001
    small = ViewsConfig(cells=8, samples=32)
    with pytest.raises(
        ValueError, match=r"0\.0% of .* meet the box .*\(50, 0, 0\): give .*`centre`"
    ):
        ViewsTask(away, away, Box(1.5), small)
    beside = views(moved(sphere_poses(24, 3.2), 1, (5, 0, 0)))
    with pytest.raises(ValueError, match=r"6\.\d% of .* look at \(5, 0, 0\)"):
        ViewsTask(beside, beside, Box(1.5), small)
    flipped = views(sphere_poses(24, 3.2) @ FLIP)
    with pytest.raises(ValueError, match="meet the box .* OpenCV's axes"):
        ViewsTask(flipped, flipped, Box(1.0), small)


def test_large_coordinates_keep_their_digits():
    """Rays in the unit cube are those of the same scene at the origin."""
    shift = np.array([4.5e5, 5.4e6, 280.0])
    poses = sphere_poses(5, 3.2)
    camera = views(poses).camera
    origin, direction = camera.rays(poses[2])
    far, same = camera.rays(moved(poses, 1, shift)[2])
    np.testing.assert_array_equal(direction, same)
    unit = Box(1.5, tuple(shift.tolist())).to_unit(far)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, Box(1.5).to_unit(origin), atol=1e-6)


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ball")
    return make_scene(folder, trimesh.creation.icosphere(2), size=24, train=10, test=2)


def fitted(folder, out, **flags):
    from test_views import TRAIN, VIEWS

    fit_views.main(
        fit_views.Config(
            scene=folder,
            out=out,
            device=DEVICE,
            views=VIEWS,
            train=TRAIN,
            field=SCENE_FIELD,
            **flags,
        )
    )
    return load_viewer(out / "model.safetensors")[0].box


def test_the_app_says_which_box_it_chose(ball, tmp_path, capsys):
    assert fitted(ball, tmp_path / "usual") == Box(1.5)
    said = capsys.readouterr()
    assert "box: half its side 1.5, centre (0, 0, 0), the usual one" in said.out
    assert "--box, --centre" in said.out and said.err.count("warning") == 0
    folder = shutil.copytree(ball, tmp_path / "far")
    for split in ("train", "test"):
        path = folder / f"transforms_{split}.json"
        read = json.loads(path.read_text())
        for frame in read["frames"]:
            for row, by in zip(frame["transform_matrix"], (5.0, -2.0, 1.0)):
                row[3] += by
        path.write_text(json.dumps(read))
    assert fitted(folder, tmp_path / "chosen") == Box(1.46, (5.0, -2.0, 1.0))
    assert "centre (5, -2, 1), what the cameras look at" in capsys.readouterr().out
    given = Box(1.2, (5.0, -2.0, 1.0))
    assert fitted(folder, tmp_path / "given", box=given.half, centre=given.centre) == given
