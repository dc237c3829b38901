"""What a scene learns besides colours: depths."""

import dataclasses
import json
import shutil

from jgrid.scene import losses
from jgrid.scene.camera import Box
from jgrid.scene.files import load_views
from jgrid.scene.made import make_scene
from jgrid.scene.radiance import RadianceConfig
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import SCENE_FIELD
from PIL import Image

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


def task_of(scene, **changes):
    views = ViewsConfig(cells=24, samples=64, colour=RadianceConfig(width=16), **changes)
    train = load_views(scene, "train", depths=views.depth > 0)
    return ViewsTask(train, load_views(scene, "test"), Box(1.5), views)


def fitted(task, steps, seed=0):
    jt.set_global_seed(seed)
    model = task.build(dataclasses.replace(SCENE_FIELD, finest=32, table_size=2**14, levels=3))
    train = TrainConfig(steps=steps, batch=6000, eval_every=steps, warmup=5)
    trainer = Trainer(task, model, train, progress=False)
    return trainer.fit(), trainer


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
    "none known": (saved(np.zeros((4, 4))), {}, "`depth` needs depth maps"),
    "none": (lambda folder, n: None, {}, "`depth` needs depth maps"),
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
    decibels = [fitted(task_of(few, depth=weight), 400)[0]["psnr"] for weight in (0.0, 1.0)]
    assert decibels[1] > decibels[0] + 1, decibels
