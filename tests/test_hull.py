"""What silhouettes say: the hull, pictures that contradict the others, and cells won back."""

import dataclasses
import warnings

from jgrid.scene.camera import Box, Camera, sphere_poses
from jgrid.scene.files import load_views
from jgrid.scene.hull import hull
from jgrid.scene.made import make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceConfig
from jgrid.scene.render import contract
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.views import Views
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import SCENE_FIELD

CELLS = 24
BOX = Box(1.5)


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ball")
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return load_views(make_scene(folder, mesh, size=40, train=24, test=1), "train")


def spoiled(views, change):
    pixels = views.pixels.copy()
    change(pixels)
    return dataclasses.replace(views, pixels=pixels)


def found(views, box=BOX):
    return hull(views, Occupancy(CELLS, 0.01).centres(), np.sqrt(3) / 2 / CELLS, box)


def inside():
    """Cells within the unit ball."""
    return np.linalg.norm(Occupancy(CELLS, 0.01).centres() - 0.5, axis=1) * 3 < 1.0


def blank(*which):
    def change(pixels):
        pixels[list(which)] = 0

    return change


def half(pixels):
    pixels[5, :, 20:] = 0


def top_of_two(pixels):
    pixels[5:7, :16] = 0


def upside_down(pixels):
    pixels[5, ..., 3] = 255 - pixels[5, ..., 3]


SPOILED = {
    "one blank": (blank(5), (5,)),
    "two blank": (blank(5, 12), (5, 12)),
    "half of a mask": (half, (5,)),
    "two tops": (top_of_two, (5, 6)),
    "a mask the wrong way round": (upside_down, (5,)),
}


@pytest.mark.parametrize("change, culprits", SPOILED.values(), ids=SPOILED)
def test_pictures_that_contradict_the_others_carve_nothing_and_are_named(ball, change, culprits):
    result = found(spoiled(ball, change))
    assert result.keep[inside()].all()
    assert result.contradict and result.culprits == culprits
    assert result.keep.sum() < 1.5 * found(ball).keep.sum()  # the others still carve


def test_silhouettes_that_agree_contradict_nothing(ball):
    result = found(ball)
    assert result.keep[inside()].all() and not result.contradict and result.culprits == ()


def test_what_one_picture_alone_shows_as_empty_is_not_carved(ball):
    def holes(pixels):
        pixels[9, 16:23, 16:23] = 0

    assert found(spoiled(ball, holes)).keep[inside()].all()


@pytest.mark.parametrize("half", [0.3, 0.7])
def test_a_box_that_cuts_the_scene_is_no_contradiction(ball, half):
    result = found(ball, Box(half))
    assert result.cut and not result.contradict
    spoilt = found(spoiled(ball, blank(5)), Box(half))
    assert spoilt.contradict and spoilt.culprits == (5,) and not spoilt.cut
    assert not found(ball).cut
    with pytest.warns(UserWarning, match="more than the box .* a larger `box` would hold it"):
        ViewsTask(ball, ball, Box(half), ViewsConfig(cells=CELLS, samples=64))


def ellipsoids(axes, *centres, distance, width=40, height=40, tangent=0.36):
    """Pictures of ellipsoids, cut out, from 40 cameras at a distance."""
    focal = height / 2 / tangent
    camera = Camera(width, height, focal, focal, width / 2, height / 2)
    poses = sphere_poses(40, distance)
    pixels = np.zeros((40, height, width, 4), np.uint8)
    for n, pose in enumerate(poses):
        origin, direction = camera.rays(pose, np.arange(width * height))
        ray = direction / axes
        for centre in centres:
            start = (origin - np.asarray(centre)) / axes
            along = -(start * ray).sum(1) / (ray**2).sum(1)
            near = np.linalg.norm(start + along[:, None] * ray, axis=1) < 1
            pixels[n].reshape(-1, 4)[near & (along > 0)] = 255
    return Views(pixels, poses, [camera] * len(poses))


def test_a_box_that_cuts_off_the_ends_says_so():
    views = ellipsoids((2.2, 0.8, 0.6), (0, 0, 0), distance=5, width=160, height=90)
    result = found(views)
    assert result.cut and not result.contradict


def test_a_box_much_smaller_than_the_scene_makes_no_culprits():
    poles = [(x, y, 0) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    views = ellipsoids((0.15, 0.15, 1.0), *poles, distance=3.2, width=80, height=80)
    result = found(views, Box(0.3))
    assert result.cut and not result.contradict
    nobody = found(spoiled(views, blank(5)), Box(0.3))
    assert nobody.contradict and nobody.culprits == ()


def test_cameras_in_the_box_do_not_make_a_contradiction():
    views = ellipsoids((0.6, 0.6, 0.02), (0, 0, 0), distance=1.2, width=80, height=80, tangent=0.55)
    result = found(views)
    assert not result.contradict and result.culprits == () and result.keep.any()
    assert found(spoiled(views, blank(5))).culprits == (5,)


def test_masks_the_wrong_way_round_are_refused(ball):
    def all_of_them(pixels):
        pixels[..., 3] = 255 - pixels[..., 3]

    views = spoiled(ball, all_of_them)
    with pytest.raises(ValueError, match="wrong way round"):
        ViewsTask(views, views, BOX, ViewsConfig(cells=CELLS, samples=64))
    ViewsTask(views, views, BOX, ViewsConfig(cells=CELLS, samples=64, carve=False))


def test_a_warning_names_the_files_which_are_not_learnt(ball):
    views = spoiled(ball, blank(5))
    with pytest.warns(UserWarning, match=r"silhouettes of '\./train/r_5' contradict .* left out"):
        task = ViewsTask(views, ball, BOX, ViewsConfig(cells=CELLS, samples=64))
    assert len(task.train.poses) == 23 and "./train/r_5" not in task.train.names
    batch = task.sample(0, 500)["origin"].numpy()
    apart = np.abs(batch[:, None] - BOX.to_unit(task.train.poses[:, :3, 3])).max(2)
    assert apart.min(1).max() < 1e-6  # rays of the others alone
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViewsTask(ball, ball, BOX, ViewsConfig(cells=CELLS, samples=64))


def test_carved_cells_can_be_won_back():
    """What is dense in a carved cell is found where these are looked at; from then on it is
    followed, until it is empty."""
    cells = 4
    occupancy = Occupancy(cells, 0.1, fraction=1.0)
    keep = np.zeros(cells**3, bool)
    keep[: cells**3 // 2] = True
    occupancy.carve(keep)

    def dense(x):
        return jt.full((len(x),), 5.0)

    def empty(x):
        return jt.zeros((len(x),))

    occupancy.update(dense)
    assert not occupancy.occupied[~keep].any()
    for _ in range(4):
        occupancy.update(dense, carved=True)
    assert occupancy.occupied[~keep].mean() > 0.8
    for _ in range(250):
        occupancy.update(empty)
    assert not occupancy.occupied[~keep].any()


def test_training_looks_at_carved_cells_where_silhouettes_contradict(ball, monkeypatch):
    looked = []
    update = Occupancy.update

    def watched(self, density, everything=False, carved=False):
        looked.append(carved)
        update(self, density, everything, carved)

    monkeypatch.setattr(Occupancy, "update", watched)
    views = ViewsConfig(cells=16, samples=64, colour=RadianceConfig(width=8))
    for training, expected in ((ball, 0), (spoiled(ball, blank(5)), 4)):
        looked.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = ViewsTask(training, ball, BOX, views)
        train = TrainConfig(steps=256, batch=500, eval_every=256, warmup=1)
        Trainer(task, task.build(SCENE_FIELD), train, progress=False).fit()
        assert len(looked) == 16 and sum(looked) == expected
        assert not any(looked[:4]) and not any(looked[8:])


@pytest.mark.parametrize("contracted", (False, True))
def test_points_of_the_cube_and_of_the_world_belong_to_one_another(contracted):
    box = Box(1.5, (3.0, 2.0, 1.0), contracted=contracted)
    x = np.random.default_rng(0).random((500, 3))
    world = box.to_world(x)
    unit = box.to_unit(world)
    back = contract(jt.array(unit)).numpy() if contracted else unit
    np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.parametrize("pictures", (2, 5))
def test_of_what_is_enclosed_cells_that_few_cameras_see_are_empty(pictures):
    poses = sphere_poses(pictures, 3.0)
    camera = Camera(8, 8, 12.0, 12.0, 4.0, 4.0)
    pixels = np.full((pictures, 8, 8, 4), 200, np.uint8)
    pixels[..., 3] = 255
    views = Views(pixels, poses, [camera] * pictures)
    box = Box(1.5, contracted=True)
    config = ViewsConfig(cells=16, samples=64, colour=RadianceConfig(width=8))
    task = ViewsTask(views, views, box, config)
    points = box.to_world(task.occupancy.centres())
    seen = np.zeros(len(points), int)
    for pose in poses:
        right, up, back = ((points - pose[:3, 3]) @ pose[:3, :3]).T
        seen += (back < 0) & (np.maximum(abs(right), abs(up)) < -back * 4 / 12)
    faces = np.abs(task.occupancy.centres() - 0.5).max(1) > 0.5 - 1 / 16
    wanted = (seen >= min(3, pictures)) | faces
    assert 0 < wanted[~faces].mean() < 0.5
    np.testing.assert_array_equal(task.occupancy.occupied, wanted)
    model = task.build(SCENE_FIELD)
    task.loss(model, task.sample(0, 500))
    assert not (task.occupancy.occupied & ~wanted).any()
    whole = ViewsTask(views, views, box, dataclasses.replace(config, carve=False))
    assert whole.occupancy.occupied.all()
