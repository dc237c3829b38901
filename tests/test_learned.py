"""What a scene learns besides colours, and from what: depths, masks, exposures, poses."""

import dataclasses
import json
import shutil

from jgrid.field import SirenConfig
from jgrid.ops import render as ops
from jgrid.scene import losses
from jgrid.scene.camera import Box, Camera, sphere_poses
from jgrid.scene.files import load_views
from jgrid.scene.made import knot, make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.perpicture import PerPicture
from jgrid.scene.radiance import RadianceConfig
from jgrid.scene.render import contract, render_rays
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.transforms import read_transforms
from jgrid.scene.views import Views
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import SCENE_FIELD
from PIL import Image
from scipy.spatial.transform import Rotation

SIZE = 40


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """A ball from 8 sides, with depth maps, and 4 to test."""
    return make_scene(
        tmp_path_factory.mktemp("few"),
        trimesh.creation.icosphere(subdivisions=3),
        size=SIZE,
        train=8,
        test=4,
        depths=True,
    )


def task_of(scene, train=None, half=1.5, **changes):
    small = {"cells": 24, "samples": 64, "colour": RadianceConfig(width=16)}
    views = ViewsConfig(**{**small, **changes})
    train = train or load_views(scene, "train", depths=views.depth > 0)
    return ViewsTask(train, load_views(scene, "test"), Box(half), views)


def fitted(task, steps, **field):
    """The result of a short training."""
    jt.set_global_seed(0)
    small = {"finest": 32, "table_size": 2**14, "levels": 3, **field}
    model = task.build(dataclasses.replace(SCENE_FIELD, **small))
    train = TrainConfig(steps=steps, batch=6000, eval_every=steps, warmup=5)
    return Trainer(task, model, train, progress=False).fit()


# --- depths


def test_depth_maps_of_a_made_scene_end_on_its_mesh(few):
    train = load_views(few, "train", depths=True)
    assert train.depths.shape == (8, SIZE, SIZE) and train.depths.dtype == np.float32
    view = np.repeat(np.arange(8), SIZE**2)
    pixel = np.tile(np.arange(SIZE**2), 8)
    origin, direction = train.rays(view, pixel)
    length = train.lengths(view, pixel, direction)
    met = (origin + length[:, None] * direction)[length > 0]
    np.testing.assert_allclose(np.linalg.norm(met, axis=1), 1.0, atol=0.01)
    alpha = train.pixels[..., 3].reshape(-1)
    assert (length[alpha == 255] > 0).all() and (length[alpha == 0] == 0).all()
    assert (
        load_views(few, "train").depths is None and train.chosen(np.array([3])).depths.shape[0] == 1
    )


def renamed(few, tmp_path, depths, **entries):
    """The scene, its depth map n being in the file depths(n), if any."""
    folder = shutil.copytree(few, tmp_path / "scene")
    path = folder / "transforms_train.json"
    read = {**json.loads(path.read_text()), **entries}
    for n, frame in enumerate(read["frames"]):
        del frame["depth_file_path"]
        name = depths(folder, n)
        frame.update({"depth_path": name} if name else {})
    path.write_text(json.dumps(read))
    return folder


def test_depth_maps_are_whole_numbers_or_floats(few, tmp_path):
    """Of any size: the nearest pixel. What is not finite, or has no file, is not known."""
    values = np.arange(100).reshape(10, 10) * 40

    def save(folder, n):
        if n == 0:
            Image.fromarray(values.astype(np.uint16)).save(folder / "a.png")
            return "a.png"
        if n == 1:
            np.save(folder / "b.npy", values.astype(np.int32)[..., None])
            return "./b.npy"
        if n == 2:
            np.save(folder / "c.npy", np.where(values > 2000, np.inf, values))
            return "c.npy"
        return None

    train = load_views(renamed(few, tmp_path, save, integer_depth_scale=0.25), "train", depths=True)
    large = np.kron(values, np.ones((4, 4)))
    np.testing.assert_array_equal(train.depths[0], large / 4)
    np.testing.assert_array_equal(train.depths[1], large / 4)
    np.testing.assert_array_equal(train.depths[2], np.where(large > 2000, 0, large))
    assert not train.depths[3:].any()
    plain = renamed(few, tmp_path / "plain", save)
    assert np.allclose(load_views(plain, "train", depths=True).depths[0], large / 1000)


def saved(values):
    def save(folder, n):
        np.save(folder / "d.npy", values)
        return "d.npy"

    return save


WRONG = {
    "missing": (lambda folder, n: "nowhere.png", {}, "the depth map 'nowhere.png' is missing"),
    "colours": (lambda folder, n: "train/r_0.png", {}, "r_0.png: wanted depths of shape"),
    "text": (lambda folder, n: "transforms_train.json", {}, "json: not a depth map"),
    "negative": (saved(-np.ones((4, 4))), {}, "depths down to -1; they grow"),
    "another shape": (saved(np.ones((4, 5))), {}, "a depth map of 5 x 4 pixels, its picture has"),
    "no unit": (saved(np.ones((4, 4))), {"integer_depth_scale": -1}, "must be positive, got -1"),
    "a unit of words": (saved(np.ones((4, 4))), {"integer_depth_scale": "m"}, "is not a finite"),
    "millimetres": (saved(np.full((4, 4), 3000.0)), {}, "0.0% are in the box.*units of the poses"),
    "none known": (saved(np.zeros((4, 4))), {}, "`depth` needs maps that know some"),
    "none": (lambda folder, n: None, {}, "`depth` needs maps that know some"),
}


@pytest.mark.parametrize("depths, entries, words", WRONG.values(), ids=WRONG)
def test_wrong_depth_maps_are_refused_only_where_they_are_wanted(
    few, tmp_path, depths, entries, words
):
    folder = renamed(few, tmp_path, depths, **entries)
    with pytest.raises(ValueError, match=words):
        task_of(folder, depth=0.1)
    assert "depth" not in task_of(folder).sample(0, 100)


def test_the_depth_loss_counts_what_is_known_and_seen():
    length, opacity, known = (
        jt.array(np.float32(v))
        for v in ([0.4, 0.4, 0.1, 1.6], [0.8, 0.8, 0.4, 0.8], [0.3, 0.0, 0.9, 1.0])
    )
    loss = losses.depth(length, opacity, known, False).item()
    assert np.isclose(loss, (0.2**2 + 1.0**2) / 4)
    # of a contracted cube 2 is 1 - 1/8 and 1 is 1 - 1/4
    loss = losses.depth(length, opacity, known, True).item()
    assert np.isclose(loss, (0.2**2 + 0.125**2) / 4)
    rows = losses.depth(jt.array(np.float32([0.0])), jt.zeros(1), jt.ones(1), False)
    assert rows.item() == 0


def test_few_views_with_depth_beat_those_without(few):
    decibels = [fitted(task_of(few, depth=weight), 400)["psnr"] for weight in (0.0, 1.0)]
    assert decibels[1] > decibels[0] + 1, decibels


# --- what moves, masked


@pytest.fixture(scope="session")
def passed(tmp_path_factory):
    """A knot from 20 sides, and the same while a ball moves through it, which masks leave out."""
    shape = {"size": SIZE, "train": 20, "test": 4}
    folder = tmp_path_factory.mktemp("passed")
    return [
        make_scene(folder / str(moving), knot(), moving=moving, **shape) for moving in (False, True)
    ]


def test_the_ball_that_moves_is_where_the_masks_are(passed):
    still, moving = (load_views(scene, "train") for scene in passed)
    assert still.kept is None and moving.kept.shape == (20, SIZE, SIZE)
    np.testing.assert_array_equal(still.pixels[moving.kept], moving.pixels[moving.kept])
    changed = (still.pixels != moving.pixels).any(3)
    assert changed[~moving.kept].mean() > 0.99  # whatever is behind has another colour
    whole = moving.pixels[~moving.kept]
    assert np.median(whole[:, 0] / np.maximum(whole[:, 1], 1)) > 4  # it is red
    shares = 1 - moving.kept.mean((1, 2))
    assert (shares > 0.005).sum() >= 15 and shares.max() < 0.15, shares
    assert not np.array_equal(moving.kept[0], moving.kept[1])
    tests = [load_views(scene, "test") for scene in passed]
    np.testing.assert_array_equal(tests[0].pixels, tests[1].pixels)
    assert tests[1].kept is None


def test_what_moves_is_no_part_of_the_scene_where_masks_leave_it_out(passed):
    still, moving = (load_views(scene, "train") for scene in passed)
    unmasked = dataclasses.replace(moving, kept=None)
    clean, masked, spoiled = (
        fitted(task_of(passed[0], train), 400)["psnr"] for train in (still, moving, unmasked)
    )
    assert masked > clean - 0.5 and spoiled < clean - 1, (clean, masked, spoiled)


# --- exposures


def learned(n, exposure=0.0, poses=0.0):
    """PerPicture with these rates, and random values where there is one."""
    found = PerPicture(n, exposure, poses)
    rng = np.random.default_rng(0)
    for group in found.parameter_groups():
        for parameter in group["params"]:
            values = rng.normal(size=parameter.shape) * 0.1
            parameter.update(jt.array(values.astype(np.float32)))
    return found


def test_what_is_learned_of_pictures_begins_without_effect():
    fresh = PerPicture(3, 1e-3, 1e-3)
    rng = np.random.default_rng(0)
    view = jt.array(np.int32([2, 0, 1, 1]))
    origin, direction, colour = (
        jt.array(rng.uniform(size=(4, 3)).astype(np.float32)) for _ in range(3)
    )
    assert np.array_equal(fresh.exposed(colour, jt.ones((4, 1)), view), colour)
    for moved, given in zip(fresh.moved(origin, direction, view), (origin, direction)):
        np.testing.assert_allclose(moved.numpy(), given.numpy(), atol=1e-7)
    gradient = jt.grad((fresh.moved(origin, direction, view)[1] * colour).sum(), fresh.poses)
    assert np.isfinite(gradient.numpy()).all() and gradient.numpy()[:, 0].any()
    assert [group["name"] for group in fresh.parameter_groups()] == ["exposure", "poses"]
    assert not PerPicture(3, 0.0, 0.0).parameter_groups()


def test_exposures_are_gains_and_offsets_about_those_of_all_pictures():
    found = learned(3, exposure=1e-3)
    view = np.int32([0, 1, 2])
    own = found.exposure.numpy() - found.exposure.numpy().mean(0)
    colour = np.float32([[0.2, 0.4, 0.6], [0.1, 0.1, 0.1], [0.0, 0.5, 1.0]])
    opacity = np.float32([[1.0], [0.5], [0.0]])
    seen = found.exposed(jt.array(colour), jt.array(opacity), jt.array(view)).numpy()
    np.testing.assert_allclose(seen, colour * (1 + own[:, 0]) + opacity * own[:, 1], atol=1e-6)
    every = found.exposed(jt.full((3, 3), 0.5), jt.ones((3, 1)), jt.array(view)).numpy()
    np.testing.assert_allclose(every.mean(0), 0.5, atol=1e-6)


def test_what_is_behind_opaque_pictures_is_exposed_too():
    pixels = np.full((2, 4, 4, 4), 255, np.uint8)
    views = Views(pixels, sphere_poses(2, 3.0), [Camera(4, 4, 6.0, 6.0, 2.0, 2.0)] * 2)
    task = ViewsTask(views, views, Box(1.0), ViewsConfig(cells=4, samples=16, exposure=1e-3))
    task.learned = learned(2, exposure=1e-3)
    task.occupancy.restore(np.zeros(64, np.float32), 1)  # nothing is seen but what is behind
    task.step_samples = [0]
    batch = task.sample(0, 1000)
    own = (task.learned.exposure.numpy() - task.learned.exposure.numpy().mean(0))[batch["view"]]
    mse = task.loss(task.build(SCENE_FIELD), batch)["mse"].item()
    assert np.isclose(mse, (own.sum(1) ** 2).mean(), rtol=1e-4) and mse > 1e-4


def test_darkened_pictures_are_understood(tmp_path):
    """Each picture with gains of its own, about 0.6: the test pictures are of this mean."""
    ball = trimesh.creation.icosphere(subdivisions=3)
    scene = make_scene(tmp_path, ball, size=SIZE, train=20, test=4)
    rng = np.random.default_rng(0)
    gain = rng.uniform(0.3, 1.0, size=(20, 1, 1, 1)) * rng.uniform(0.9, 1.1, size=(20, 1, 1, 3))
    train = load_views(scene, "train")
    dark = train.pixels.copy()
    dark[..., :3] = np.round(dark[..., :3] * gain * (0.6 / gain.mean(0)))
    decibels = []
    for rate in (0.0, 1e-2):
        task = task_of(scene, dataclasses.replace(train, pixels=dark), exposure=rate)
        task.test.pixels[..., :3] = np.round(task.test.pixels[..., :3] * 0.6)
        decibels.append(fitted(task, 400)["psnr"])
    assert decibels[1] > decibels[0] + 1, decibels


def test_what_was_learned_of_pictures_is_written(few, tmp_path):
    """By the pictures' names; what had no rate is not."""
    train = dataclasses.replace(load_views(few, "train"), names=tuple("hgfedcba"))
    found = learned(8, exposure=1e-3, poses=1e-3)
    assert [path.name for path in found.save(tmp_path, train, Box(1.3))] == [
        "poses.json",
        "exposures.json",
    ]
    frames, poses, _ = read_transforms(tmp_path / "poses.json")
    np.testing.assert_allclose(poses, found.refined(train.poses, Box(1.3)), atol=1e-12)
    exposures = json.loads((tmp_path / "exposures.json").read_text())["frames"]
    for frame in (frames, exposures):
        assert [entry["file_path"] for entry in frame] == list("hgfedcba")
    colour = np.float32([0.2, 0.4, 0.6])
    view = jt.array(np.arange(8, dtype=np.int32))
    seen = found.exposed(jt.array(np.tile(colour, (8, 1))), jt.ones((8, 1)), view).numpy()
    wanted = [np.array(entry["gain"]) * colour + entry["offset"] for entry in exposures]
    np.testing.assert_allclose(seen, wanted, atol=1e-6)
    (tmp_path / "one").mkdir()
    assert len(learned(8, exposure=1e-3).save(tmp_path / "one", train, Box(1.3))) == 1
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["exposures.json"]


# --- poses


def test_rays_are_those_of_the_refined_poses(few):
    train = load_views(few, "train")
    box = Box(1.3, (0.1, -0.2, 0.3))
    found = learned(8, poses=1e-3)
    view = np.arange(8)
    pixel = np.arange(8) * 31
    origin, direction = train.rays(view, pixel)
    moved = found.moved(jt.array(box.to_unit(origin)), jt.array(direction), jt.array(view))
    refined = dataclasses.replace(train, poses=found.refined(train.poses, box))
    origin, direction = refined.rays(view, pixel)
    np.testing.assert_allclose(moved[0].numpy(), box.to_unit(origin), atol=1e-5)
    np.testing.assert_allclose(moved[1].numpy(), direction, atol=1e-5)
    assert np.abs(refined.poses - train.poses).max() > 0.05
    np.testing.assert_allclose(
        refined.poses[:, :3, :3].transpose(0, 2, 1) @ refined.poses[:, :3, :3],
        np.tile(np.eye(3), (8, 1, 1)),
        atol=1e-9,
    )


def test_contraction_is_the_ops():
    points = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32) * 2
    found = contract(jt.array(points)).numpy()
    np.testing.assert_allclose(found, ops.contract(points), atol=1e-6)


def test_gradients_reach_the_rays():
    """Against differences; rays begin inside the cube and none loses or gains a sample by them."""
    model = RadianceConfig(width=8).build(SirenConfig(width=16, depth=1))
    occupancy = Occupancy(4, 0.05)
    rng = np.random.default_rng(0)
    rays = np.concatenate([rng.uniform(0.508, 0.512, (5, 3)), np.eye(3)[[0, 1, 2, 0, 1]]], axis=1)
    share = jt.array(rng.normal(size=(5, 4)).astype(np.float32))

    def values(v):
        jitter = jt.full((5,), 0.5)
        seen, _ = render_rays(model, occupancy, v[:, :3], v[:, 3:], jitter, of_rays=True)
        return (seen * share).sum(1)

    given = jt.array(rays.astype(np.float32))
    gradient = jt.grad(values(given).sum(), given).numpy()
    h = 3e-4  # there are kinks in the colour network
    for column in range(6):
        step = jt.array(np.float32(h * np.eye(6)[column]))
        numeric = (values(given + step) - values(given - step)).numpy() / (2 * h)
        assert np.abs(gradient[:, column] - numeric).max() < 0.01 * np.abs(gradient).max(), column


def disturbed(views, degrees, share):
    """Each camera turned by an angle, and moved by a share of its distance, somewhere."""
    rng = np.random.default_rng(0)
    turn, way = rng.normal(size=(2, len(views.poses), 3))
    turn *= np.radians(degrees) / np.linalg.norm(turn, axis=1, keepdims=True)
    poses = views.poses.copy()
    poses[:, :3, :3] = Rotation.from_rotvec(turn).as_matrix() @ poses[:, :3, :3]
    away = np.linalg.norm(poses[:, :3, 3], axis=1, keepdims=True)
    poses[:, :3, 3] += share * away * way / np.linalg.norm(way, axis=1, keepdims=True)
    return dataclasses.replace(views, poses=poses)


def pose_errors(poses, truth):
    """Degrees, and shares of the distance, after the mean turn, scale and shift between both."""
    apart = Rotation.from_matrix(truth[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1))
    turn = apart.mean()
    places = turn.apply(poses[:, :3, 3])
    places -= places.mean(0)
    wanted = truth[:, :3, 3] - truth[:, :3, 3].mean(0)
    off = places * (places * wanted).sum() / (places**2).sum() - wanted
    angles = np.degrees((apart * turn.inv()).magnitude())
    return angles.mean(), np.linalg.norm(off, axis=1).mean() / np.linalg.norm(wanted, axis=1).mean()


def test_cameras_stand_still_at_first(few):
    task = task_of(few, refine_poses=1e-3)
    model = task.build(SCENE_FIELD)
    slopes = []
    for progress in (0.1, 0.3):
        task.prepare(model, progress)
        loss = task.loss(model, task.sample(0, 2000))["mse"]
        slopes.append(np.abs(jt.grad(loss, task.learned.poses).numpy()).max())
    assert slopes[0] == 0 < slopes[1]


def test_disturbed_poses_are_refined(tmp_path):
    """Short; docs/results/views.md has what longer trainings reach: a tenth."""
    scene = make_scene(tmp_path, knot(), size=96, train=20, test=1)
    truth = load_views(scene, "train").poses
    train = disturbed(load_views(scene, "train"), 2.0, 0.02)
    task = task_of(scene, train, 1.1, cells=32, samples=96, refine_poses=4e-3)
    fitted(task, 1100, finest=24, lr_features=1e-2)
    refined = task.learned.refined(train.poses, task.box)
    before = pose_errors(train.poses, truth)
    after = pose_errors(refined, truth)
    assert max(after[0] / before[0], after[1] / before[1]) < 0.4, (before, after)
