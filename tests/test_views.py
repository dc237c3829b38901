"""Novel views: scenes on disk, the radiance field, the task, and the app as its users meet it."""

import dataclasses
import json
import re
import shutil
import signal
import sys

import jgrid.scene.viewer
from jgrid import checkpoint, cli, memory
from jgrid.field import (
    DenseGridConfig,
    SirenConfig,
    check_memory,
    field_to_dict,
)
from jgrid.field.presets import SCENE
from jgrid.image.files import load_image
from jgrid.interrupt import Interrupted
from jgrid.scene.camera import Box, Camera, circle_poses, look_at, sphere_poses, standing, upwards
from jgrid.scene.files import load_views
from jgrid.scene.hull import hull
from jgrid.scene.made import MeshScene, make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceConfig, spherical_harmonics
from jgrid.scene.surroundings import CENTRE, GROUND, RADIUS, surroundings
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.transforms import read_transforms
from jgrid.scene.viewer import Viewer, load_viewer, save_gif
from jgrid.scene.views import Views
from jgrid.trainer import CHECKPOINT, TrainConfig, Trainer

import fit_views
import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import DEVICE, SCENE_FIELD, alike
from PIL import Image

TRAIN = TrainConfig(steps=4, batch=2000, eval_every=2, warmup=1)
VIEWS = ViewsConfig(cells=16, samples=64, colour=RadianceConfig(width=8))
SIZE = 24


@pytest.fixture(scope="session")
def ball(tmp_path_factory):
    """A scene of an icosphere: 6 views to train on, 2 to test."""
    return make_scene(
        tmp_path_factory.mktemp("ball"),
        trimesh.creation.icosphere(subdivisions=2),
        size=SIZE,
        train=6,
        test=2,
        depths=True,
    )


def test_a_made_scene_reads_back(ball):
    train = load_views(ball, "train")
    test = load_views(ball, "test")
    assert (
        train.pixels.shape == (6, SIZE, SIZE, 4)
        and test.pixels.shape == (2, SIZE, SIZE, 4)
        and train.transparent
    )
    camera = train.camera
    assert np.isclose(camera.fx, SIZE / 2 / np.tan(0.35)) and (camera.fx, camera.cx, camera.cy) == (
        camera.fy,
        SIZE / 2,
        SIZE / 2,
    )
    np.testing.assert_allclose(np.linalg.norm(train.poses[:, :3, 3], axis=1), 3.2, rtol=1e-6)
    # the unit ball seen from 3.2 away fills a disc whose edge has the sine 1 / 3.2
    radius = camera.fx * np.tan(np.arcsin(1 / 3.2))
    for pixels in train.pixels:
        assert abs((pixels[..., 3] / 255).sum() / (np.pi * radius**2) - 1) < 0.03
        rows, columns = np.nonzero(pixels[..., 3] > 127)
        assert abs(rows.mean() - 11.5) < 0.3 and abs(columns.mean() - 11.5) < 0.3


def test_a_mesh_stands_upright_and_unmirrored(tmp_path):
    """Boxes at +x (red), +y (green), +z (blue); seen from -y, +x is right and +z up."""
    parts = []
    for axis in range(3):
        part = trimesh.creation.box(
            extents=[0.3] * 3, transform=trimesh.transformations.translation_matrix(np.eye(3)[axis])
        )
        part.visual.vertex_colors = np.append(np.eye(3)[axis] * 255, 255).astype(np.uint8)
        parts.append(part)
    scene = MeshScene(trimesh.util.concatenate(parts))
    pixels = scene.render(Camera(40, 40, 40.0, 40.0, 20.0, 20.0), look_at((0, -3, 0))).astype(float)
    place = {}
    for channel in (0, 2):
        others = [c for c in range(3) if c != channel]
        rows, columns = np.nonzero(
            (pixels[..., 3] > 200) & (pixels[..., channel] > 60 + pixels[..., others].max(2))
        )
        place[channel] = rows.mean(), columns.mean()
    assert place[0][1] > place[2][1] + 5 and place[2][0] < place[0][0] - 5


def test_highlights_move_with_the_viewer():
    """The same surface point from two sides: its colours differ by the gloss."""
    scene = MeshScene(trimesh.creation.icosphere(subdivisions=3))
    point = scene.LAMP / np.linalg.norm(scene.LAMP)
    face = np.argmax(scene.mesh.triangles_center @ point, keepdims=True)
    point = scene.mesh.triangles_center[face]
    towards = -point / np.linalg.norm(point)
    aside = -np.array([[0.9, -0.3, 0.3]])
    a = scene.shade(point, face, towards)
    b = scene.shade(point, face, aside)
    assert (a - b).max() > 0.2


def test_surroundings_are_where_they_should_be():
    """A ball is seen to the tangent of its outline and not beyond; the ground is one place from
    wherever it is seen."""
    eye = np.array([0.0, 0.0, 1.0])
    towards = CENTRE[0] - eye
    far = np.linalg.norm(towards)
    side = np.cross(towards / far, [0, 0, 1.0])
    edge = np.arcsin(RADIUS[0] / far)
    near, beyond, behind = (
        np.cos(a) * towards / far + np.sin(a) * side / np.linalg.norm(side)
        for a in (0.98 * edge, 1.02 * edge, np.pi)
    )
    seen = surroundings(np.tile(eye, (4, 1)), np.stack([towards / far, near, beyond, -behind]))
    assert np.abs(seen[0] - seen[3]).max() < 1e-9 and np.abs(seen[1] - seen[2]).max() > 0.05
    place = np.array([1.3, -0.7, GROUND])
    eyes = np.array([[0, 0, 1.0], [2, 1, 3.0]])
    direction = (place - eyes) / np.linalg.norm(place - eyes, axis=1, keepdims=True)
    one, other = surroundings(eyes, direction)
    assert np.abs(one - other).max() < 0.05  # they differ by the haze in front


@pytest.mark.parametrize(
    "contracted, alpha, enclosed", [(True, 255, True), (True, 99, False), (False, 255, False)]
)
def test_opaque_pictures_of_all_of_space_show_something_everywhere(
    tmp_path, contracted, alpha, enclosed
):
    pixels = np.full((6, 8, 8, 4), 200, np.uint8)
    pixels[..., 3] = alpha
    views = Views(pixels, sphere_poses(6, 3.0), [Camera(8, 8, 12.0, 12.0, 4.0, 4.0)] * 6)
    task = ViewsTask(views, views, Box(1.5, contracted=contracted), VIEWS)
    model = task.build(SCENE_FIELD)
    task.loss(model, task.sample(0, 500))
    seen = task.viewer.picture(model, views.poses[0])
    background = {"white": "black", "black": "white"}[task.viewer.background]
    viewer = Viewer(task.occupancy, views.camera, task.box, background, 3.0)
    alike = np.abs(viewer.picture(model, views.poses[0])[0] - seen[0]).max() < 1e-6
    assert alike == enclosed == task.colour.enclosed
    configs = {"field": field_to_dict(SCENE_FIELD), "colour": dataclasses.asdict(task.colour)}
    task.viewer.save(tmp_path / "model.safetensors", model, configs)
    viewer, again = load_viewer(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(viewer.picture(again, views.poses[0])[0], seen[0])


def test_transparent_pictures_are_not_enclosed(ball):
    views = dataclasses.replace(VIEWS, colour=RadianceConfig(width=8, enclosed=True))
    with pytest.raises(ValueError, match="`enclosed` needs opaque pictures"):
        ViewsTask(load_views(ball, "train"), load_views(ball, "test"), Box(1.5), views)


def test_contraction_sees_what_a_box_cannot(tmp_path):
    scene = make_scene(
        tmp_path / "open",
        trimesh.creation.icosphere(subdivisions=2),
        size=32,
        train=16,
        test=3,
        surroundings=True,
    )
    decibels = []
    for contracted in (True, False):
        task = ViewsTask(
            load_views(scene, "train"),
            load_views(scene, "test"),
            Box(1.0, contracted=contracted),
            ViewsConfig(cells=16, samples=64),
        )
        model = RadianceConfig(width=16).build(dataclasses.replace(SCENE_FIELD, finest=24))
        trainer = Trainer(
            task,
            model,
            TrainConfig(steps=400, batch=8000, eval_every=400, warmup=5),
            progress=False,
        )
        decibels.append(trainer.fit()["psnr"])
    assert decibels[0] > decibels[1] + 2


def rewritten(folder, split="train", **changes):
    """Change entries of a transforms file; None removes one."""
    path = folder / f"transforms_{split}.json"
    read = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in read.items() if value is not None}))


def first_frame(folder, **entries):
    """The training frames, the first with these entries of its own."""
    first, *others = json.loads((folder / "transforms_train.json").read_text())["frames"]
    return [{**first, **entries}, *others]


def copied(ball, tmp_path):
    return shutil.copytree(ball, tmp_path / "scene")


def test_intrinsics_of_a_capture(ball, tmp_path):
    """instant-ngp's file: one list of frames, every eighth for testing, distortion, endings written
    out."""
    folder = copied(ball, tmp_path)
    read = json.loads((folder / "transforms_train.json").read_text())
    frames = [{**frame, "file_path": frame["file_path"] + ".png"} for frame in read["frames"]]
    for frame in frames[:]:
        again = frame["file_path"].replace("r_", "again_")
        shutil.copy(folder / frame["file_path"], folder / again)
        frames.append({**frame, "file_path": again})
    for split in ("train", "test"):
        (folder / f"transforms_{split}.json").unlink()
    values = {
        "fl_x": 30.0,
        "fl_y": 31.0,
        "cx": 11.0,
        "cy": 13.0,
        "k1": 0.1,
        "k2": 0.02,
        "p1": 0.001,
        "p2": 0.002,
        "w": SIZE,
        "h": SIZE,
    }
    (folder / "transforms.json").write_text(json.dumps({**values, "frames": frames}))
    train = load_views(folder, "train")
    test = load_views(folder, "test")
    assert len(train.poses) == 10 and len(test.poses) == 2
    assert train.camera == Camera(SIZE, SIZE, 30.0, 31.0, 11.0, 13.0, (0.1, 0.02, 0.001, 0.002))


def test_pictures_are_those_the_file_names(ball, tmp_path):
    folder = copied(ball, tmp_path)
    read = json.loads((folder / "transforms_train.json").read_text())
    (folder / "train" / "r_99.png").write_bytes(b"not listed, not read")
    rewritten(folder, frames=read["frames"][::-1])
    np.testing.assert_array_equal(
        load_views(folder, "train").pixels, load_views(ball, "train").pixels[::-1]
    )


def test_views_lie_over_the_background():
    pixels = np.zeros((1, 1, 2, 4), np.uint8)
    pixels[0, 0, 0] = [255, 0, 0, 51]
    views = Views(pixels, np.eye(4)[None], [Camera(2, 1, 1.0, 1.0, 1.0, 0.5)])
    np.testing.assert_allclose(views.on(0, 1.0), [[[1, 0.8, 0.8], [1, 1, 1]]], atol=1e-6)
    np.testing.assert_allclose(views.on(0, 0.0), [[[0.2, 0, 0], [0, 0, 0]]], atol=1e-6)


def test_spherical_harmonics_are_orthonormal():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(200000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    y = spherical_harmonics(jt.array(d.astype(np.float32))).numpy().astype(float)
    np.testing.assert_allclose(4 * np.pi * y.T @ y / len(d), np.eye(16), atol=0.05)


def test_density_is_that_of_the_whole_and_sees_no_direction():
    model = RadianceConfig(features=3, width=8).build(SCENE_FIELD)
    rng = np.random.default_rng(0)
    x = jt.array(rng.uniform(size=(7, 3)).astype(np.float32))
    direction = jt.array(np.float32([[0, 0, 1], [0, 1, 0]]))
    for ray in (np.zeros(7), np.arange(7) % 2):
        density, colour = model(x, direction, jt.array(ray.astype(np.int32)))
        np.testing.assert_allclose(density.numpy(), model.density(x).numpy(), rtol=1e-6)
        assert (
            colour.shape == [7, 3]
            and (density.numpy() > 0).all()
            and 0 < colour.numpy().min() <= colour.numpy().max() < 1
        )
    assert {g["name"]: g["lr"] for g in model.parameter_groups()} == {
        "features": 3e-2,
        "network": 1e-2,
        "colour": 1e-2,
    }


def test_plain_and_fused_fields_agree():
    model = RadianceConfig(features=3, width=8).build(SCENE_FIELD)
    rng = np.random.default_rng(0)
    arguments = [
        jt.array(v)
        for v in (
            rng.uniform(size=(9, 3)).astype(np.float32),
            np.float32([[0, 0.6, 0.8]]),
            np.zeros(9, np.int32),
        )
    ]
    fused = [v.numpy() for v in model(*arguments)]
    model.use_plain_ops()
    for a, b in zip(fused, model(*arguments)):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4)


def test_the_hull_holds_the_ball_and_little_more(tmp_path):
    """Cameras that see the whole box from all around, and below it; but for what one alone shows as
    empty."""
    folder = make_scene(
        tmp_path / "wide",
        trimesh.creation.icosphere(subdivisions=3),
        size=64,
        train=24,
        test=1,
        angle=1.3,
    )
    views = load_views(folder, "train")
    box = Box(1.5)
    cells = 20
    centres = Occupancy(cells, 0.01).centres()
    keep = hull(views, centres, np.sqrt(3) / 2 / cells, box).keep
    distance = np.linalg.norm(centres - 0.5, axis=1) * 3
    assert keep[distance < 1.0].all() and not keep[distance > 1.6].any()


def test_a_few_steps_fit_the_ball(ball):
    views = ViewsConfig(cells=16, samples=64, colour=RadianceConfig(width=16))
    task = ViewsTask(load_views(ball, "train"), load_views(ball, "test"), Box(1.5), views)
    model = task.build(SCENE_FIELD)
    before = task.evaluate(model)["psnr"]
    trainer = Trainer(
        task, model, TrainConfig(steps=150, batch=4000, eval_every=150, warmup=5), progress=False
    )
    result = trainer.fit()
    assert result["psnr"] > before + 5
    # the rays' number follows the samples'
    assert (
        task.status()["samples/ray"] != "" and abs(np.mean(task.step_samples[20:]) / 4000 - 1) < 0.3
    )


def test_large_pictures_are_glanced_at_during_training(ball, monkeypatch):
    train, test = (load_views(ball, split) for split in ("train", "test"))
    task = ViewsTask(train, test, Box(1.5), VIEWS)
    model = task.build(SCENE_FIELD)
    whole = task.evaluate(model)
    assert task.glanced == [0, 1] and task.glance(model) == whole
    monkeypatch.setattr("jgrid.scene.evaluation.GLANCE", SIZE**2)
    some = task.glance(model)
    assert task.glanced == [1] and some.pop("views") == 1
    assert some.keys() == whole.keys() and some != whole
    one = test.chosen(np.array([1]))
    assert some == ViewsTask(train, one, Box(1.5), VIEWS).evaluate(model)
    monkeypatch.setattr("jgrid.scene.evaluation.GLANCE", 1)
    assert task.glanced == [1] and task.evaluate(model) == whole


def test_an_evaluation_shows_how_far_it_is(ball, monkeypatch, capfd):
    monkeypatch.setattr("jgrid.scene.evaluation.SECONDS", 0.0)
    for progress in (False, True):
        train, test = (load_views(ball, split) for split in ("train", "test"))
        task = ViewsTask(train, test, Box(1.5), VIEWS, progress=progress)
        task.evaluate(task.build(SCENE_FIELD))
        assert ("evaluating" in capfd.readouterr().err) == progress


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


RUN = sorted(
    [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "psnr.png",
        "result.json",
        "turntable.gif",
        "comparison/000.png",
        "comparison/001.png",
        "test/000.png",
        "test/001.png",
    ]
)


def run(ball, out, **flags):
    settings = {"scene": ball, "views": VIEWS, "train": TRAIN, "field": SCENE_FIELD, **flags}
    return fit_views.main(fit_views.Config(out=out, device=DEVICE, **settings))


@pytest.fixture(scope="module")
def finished(ball, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    return out, run(ball, out)


def test_a_run_leaves_everything_behind(finished):
    out, paths = finished
    assert files(out) == RUN and {
        out / name for name in RUN if name.endswith(("png", "gif"))
    } == set(paths)
    result = json.loads((out / "result.json").read_text())
    assert {
        "psnr",
        "ssim",
        "loss",
        "parameters",
        "steps",
        "seconds_train",
        "seconds_total",
        "samples_per_second",
    } <= result.keys()
    assert result["steps"] == 4 and result["samples_per_second"] > 0
    config = json.loads((out / "config.json").read_text())
    assert (
        config["field"] == field_to_dict(SCENE_FIELD) and config["views"]["background"] == "white"
    )
    assert load_image(out / "test" / "001.png").shape == (SIZE, SIZE, 3)
    assert load_image(out / "comparison" / "000.png").shape[1] > 4 * SIZE
    with Image.open(out / "turntable.gif") as gif:
        assert gif.size == (SIZE, SIZE) and gif.n_frames == 36


def test_a_box_of_another_size_than_the_scene_is_warned_of(ball, tmp_path, capsys):
    views = load_views(ball, "train")
    small, usual, large = (fit_views.filled(views, Box(half)) for half in (0.05, 1.5, 100.0))
    assert small < fit_views.FILLS < usual < fit_views.OVERFILLS < large
    run(ball, tmp_path / "small", box=0.05, views=dataclasses.replace(VIEWS, carve=False))
    assert "warning: to the cameras the box is" in capsys.readouterr().err


def test_a_saved_model_renders_the_same_pictures(finished, ball, tmp_path):
    out, _ = finished
    again = fit_views.main(
        fit_views.Config(
            from_=out / "model.safetensors",
            path=ball / "transforms_test.json",
            out=tmp_path / "again",
        )
    )
    assert (
        files(tmp_path / "again") == ["path.gif", "path/000.png", "path/001.png"]
        and len(again) == 3
    )
    for name in ("000.png", "001.png"):
        np.testing.assert_array_equal(
            load_image(tmp_path / "again" / "path" / name), load_image(out / "test" / name)
        )
    fit_views.main(fit_views.Config(from_=out / "model.safetensors", out=tmp_path / "table"))
    assert (tmp_path / "table" / "turntable.gif").read_bytes() == (
        out / "turntable.gif"
    ).read_bytes()


@pytest.mark.parametrize("learned", [{}, {"depth": 0.1, "exposure": 1e-2, "refine_poses": 1e-3}])
def test_an_interrupted_run_goes_on_to_the_bit(ball, tmp_path, monkeypatch, learned):
    """The occupied cells and the number of rays are of the steps before: more than one update of
    both, before and after. So is what is learned of each picture."""
    train = TrainConfig(steps=40, batch=2000, eval_every=20, warmup=1)
    views = dataclasses.replace(VIEWS, **learned)
    run(ball, tmp_path / "whole", train=train, views=views)
    sample = ViewsTask.sample

    def interrupted(self, step, n):
        if step == 22:
            signal.raise_signal(signal.SIGTERM)
        return sample(self, step, n)

    monkeypatch.setattr(ViewsTask, "sample", interrupted)
    with pytest.raises(Interrupted):
        run(ball, tmp_path / "parts", train=train, views=views)
    monkeypatch.setattr(ViewsTask, "sample", sample)
    assert checkpoint.read(tmp_path / "parts" / CHECKPOINT)[1]["step"] == 23
    run(ball, tmp_path / "parts", train=train, views=views, resume=True)
    (whole, _), (parts, _) = (
        checkpoint.read(tmp_path / name / "model.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys() and all(alike(whole[name], parts[name]) for name in whole)
    assert files(tmp_path / "whole") == files(tmp_path / "parts")
    if learned:
        refined = [read_transforms(tmp_path / n / "poses.json")[1] for n in ("whole", "parts")]
        given = load_views(ball, "train").poses
        assert alike(*refined) and 1e-4 < np.abs(refined[0] - given).max() < 0.1
        exposures = [
            [
                [frame["gain"], frame["offset"]]
                for frame in json.loads((tmp_path / n / "exposures.json").read_text())["frames"]
            ]
            for n in ("whole", "parts")
        ]
        assert alike(*exposures) and np.abs(np.array(exposures[0])[:, 1]).max() > 1e-4


CHANGED_VIEWS = {
    "background": "black",
    "cells": 8,
    "samples": 32,
    "carve": False,
    "entropy": 0.5,
    "colour": RadianceConfig(width=16),
    "sparsity": 0.1,
    "distortion": 0.1,
    "tv": 1e3,
    "depth": 0.1,
    "refine_poses": 1e-2,
    "exposure": 1e-2,
    "coarse_to_fine": 0.5,
}
CHANGED = {
    "box": {"box": 1.2},
    "centre": {"centre": (0.1, 0.0, 0.0)},
    "ops": {"ops": "plain"},
    "contract": {"contract": True},
    **{
        name: {"views": dataclasses.replace(VIEWS, **{name: value})}
        for name, value in CHANGED_VIEWS.items()
    },
}


def test_every_flag_counts(finished, ball, tmp_path):
    """Each changes the weights (or, `ops` and `background`, other things) of a run that is
    otherwise the same."""
    flags = {f.name for f in dataclasses.fields(fit_views.Config)}
    others = {
        "scene",
        "make_scene",
        "surroundings",
        "moving",
        "outside",
        "shrink",
        "out",
        "resume",
        "device",
        "log",
        "paper",
        "from_",
        "path",
        "train",
        "view",
        "view_port",
        "field",
    }
    assert flags == {"box", "centre", "ops", "contract", "views", *others}
    assert set(CHANGED_VIEWS) == {f.name for f in dataclasses.fields(ViewsConfig)}
    base = checkpoint.read(finished[0] / "model.safetensors")
    for name, changed in CHANGED.items():
        run(ball, tmp_path / name, **changed)
        tensors, saved = checkpoint.read(tmp_path / name / "model.safetensors")
        same = (
            all(np.array_equal(v, tensors.get(k)) for k, v in base[0].items()) and saved == base[1]
        )
        assert not same, name


def test_the_paper_size_is_one_flag():
    config = fit_views.paper_size(fit_views.Config(paper=True))
    assert config.train.steps == 30000 and config.field.finest >= 256
    assert config.views.samples == 1024
    dense = fit_views.paper_size(fit_views.Config(paper=True, field=DenseGridConfig(finest=300)))
    assert dense.field.finest == 300
    assert check_memory(dense.views.colour.build(dense.field), 2**10, 0) > 24 * 4 * 301**3


def test_without_a_scene_the_app_makes_one(tmp_path, monkeypatch):
    def small(folder, mesh, **asked):
        return make_scene(folder, mesh, size=16, train=3, test=1, **asked)

    monkeypatch.setattr(fit_views, "make_scene", small)
    out = tmp_path / "knot"
    run(None, out)
    assert {
        "scene/transforms_train.json",
        "scene/train/r_2.png",
        "test/000.png",
        "result.json",
    } <= set(files(out))
    trimesh.creation.box().export(tmp_path / "box.ply")
    views = dataclasses.replace(VIEWS, depth=0.1)
    asked = {
        "make_scene": tmp_path / "box.ply",
        "surroundings": True,
        "moving": True,
        "contract": True,
    }
    run(None, tmp_path / "made", views=views, **asked)
    made = load_views(tmp_path / "made" / "scene", "train", depths=True)
    assert (
        made.pixels.shape == (3, 16, 16, 4)
        and not made.transparent
        and made.depths.any()
        and not made.kept.all()
        and load_views(out / "scene", "train").transparent
    )
    viewer, _ = load_viewer(tmp_path / "made" / "model.safetensors")
    assert viewer.box == Box(1.5, contracted=True) and viewer.occupancy.contracted


def test_poses_look_at_the_middle():
    for poses in (sphere_poses(9, 2.5), circle_poses(5, 2.5)):
        np.testing.assert_allclose(poses[:, :3, 3], 2.5 * poses[:, :3, 2], atol=1e-9)
        np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1)
        assert (poses[:, 2, 1] > 0).all()  # upright


def test_what_was_rendered_to_evaluate_is_not_rendered_again(ball, tmp_path, monkeypatch):
    rendered = []
    usual = Viewer.picture

    def picture(self, model, pose, camera=None):
        rendered.append(pose)
        return usual(self, model, pose, camera)

    monkeypatch.setattr(Viewer, "picture", picture)
    monkeypatch.setattr(Viewer, "turntable", lambda self, model, path: path)
    train = load_views(ball, "train")
    task = ViewsTask(train, load_views(ball, "test"), Box(1.5), VIEWS)
    model = task.build(SCENE_FIELD)
    task.evaluate(model)
    task.export(model, tmp_path)
    assert len(rendered) == 2
    parameter = model.parameters()[0]
    parameter.update(parameter + 0.1)
    task.export(model, tmp_path)
    assert len(rendered) == 4


def test_a_turntable_of_large_pictures_has_smaller_frames(finished, tmp_path, monkeypatch):
    viewer, model = load_viewer(finished[0] / "model.safetensors")
    monkeypatch.setattr(jgrid.scene.viewer, "FRAME_PIXELS", 100)
    with Image.open(viewer.turntable(model, tmp_path / "t.gif", frames=2)) as gif:
        assert gif.size == (10, 10)
    camera = Camera(40, 20, 30.0, 30.0, 21.0, 9.0, (0.1, 0.0, 0.0, 0.0))
    small = camera.smaller(200)
    assert (small.width, small.height) == (20, 10) and camera.smaller(800) is camera
    direction = camera.directions(np.array([8.0]), np.array([3.0]))
    np.testing.assert_allclose(small.directions(np.array([4.0]), np.array([1.5])), direction)


def test_a_scene_stands_on_what_is_down_to_its_cameras(finished, tmp_path):
    down = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # COLMAP's worlds mostly have y there
    tilted = sphere_poses(30, 3.0)
    tilted[:, :3] = down @ tilted[:, :3]
    np.testing.assert_allclose(upwards(tilted), down[:, 2], atol=0.05)
    assert upwards(sphere_poses(30, 3.0)) == (0, 0, 1) == upwards(look_at([3, 0, 1])[None])
    nothing_in_common = np.stack([look_at([0, 1, 5], up=up) for up in ([1, 0, 0], [-1, 0, 0])])
    assert upwards(nothing_in_common) == (0, 0, 1)
    viewer, model = load_viewer(finished[0] / "model.safetensors")
    viewer.up = tuple(down[:, 2])
    saved = checkpoint.read(finished[0] / "model.safetensors")[1]
    del saved["view"]
    viewer.save(tmp_path / "a.safetensors", model, saved)
    again, _ = load_viewer(tmp_path / "a.safetensors")
    poses, _ = again.around(5)
    np.testing.assert_allclose(poses[:, :3, 1] @ down[:, 2], np.sqrt(0.75), atol=1e-6)
    place = poses[:, :3, 3] - np.asarray(again.box.centre)
    np.testing.assert_allclose(place @ down[:, 2], again.distance / 2, atol=1e-6)
    for up in ([0.6, 0.8, 0], [1, 0, 0], [0, 0, -1]):
        turn = standing(up)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(turn @ up, [0, 0, 1], atol=1e-12)
        assert np.linalg.det(turn) > 0


def test_a_gif_keeps_its_frames(tmp_path):
    path = save_gif(tmp_path / "a.gif", [np.full((4, 5, 3), v) for v in (0.0, 0.5, 1.0)])
    with Image.open(path) as gif:
        assert gif.size == (5, 4) and gif.n_frames == 3


def spoil_pose(value):
    def spoil(folder):
        read = json.loads((folder / "transforms_train.json").read_text())
        read["frames"][1]["transform_matrix"] = value
        rewritten(folder, frames=read["frames"])

    return spoil


def resize(folder):
    Image.new("RGBA", (SIZE, SIZE + 1)).save(folder / "train" / "r_3.png")


# What may be wrong with a scene, and a word the line must contain
SPOILED = {
    "no folder": (lambda f: f.rename(f.with_name("gone")), "no such file"),
    "no split": (
        lambda f: (f / "transforms_test.json").unlink(),
        "transforms_test.json: no such file",
    ),
    "few pictures": (
        lambda f: [(f / "train" / f"r_{n}.png").unlink() for n in range(2, 6)],
        r"4 of 6 pictures are missing: .\./train/r_2",
    ),
    "another size": (resize, "r_3.png: 24 x 25 pixels"),
    "not a picture": (
        lambda f: (f / "train" / "r_3.png").write_text("no"),
        "r_3.png: not a picture",
    ),
    "not JSON": (
        lambda f: (f / "transforms_train.json").write_text("{"),
        "transforms_train.json: not JSON",
    ),
    "JSON bomb": (
        lambda f: (f / "transforms_train.json").write_text("[" * 10**6),
        "transforms_train.json: not JSON",
    ),
    "no frames": (lambda f: rewritten(f, frames=[]), "frames"),
    "frames of numbers": (lambda f: rewritten(f, frames=[1]), "frame 0"),
    "no file_path": (
        lambda f: rewritten(f, frames=[{"transform_matrix": np.eye(4).tolist()}]),
        "file_path",
    ),
    "pose of words": (spoil_pose([["a"]]), "frame 1: transform_matrix"),
    "pose of NaN": (spoil_pose([[float("nan")] * 4] * 4), "frame 1.*not finite"),
    "stretched pose": (spoil_pose(np.diag([2.0, 1, 1, 1]).tolist()), "orthonormal"),
    "mirrored pose": (spoil_pose(np.diag([-1.0, 1, 1, 1]).tolist()), "right-handed"),
    "no focal length": (lambda f: rewritten(f, camera_angle_x=None), "fl_x nor camera_angle_x"),
    "fish-eye": (lambda f: rewritten(f, fisheye=True), "fisheye is True; only"),
    "another camera": (lambda f: rewritten(f, camera_model="EQUIRECTANGULAR"), "only cameras of"),
    "more distortion": (lambda f: rewritten(f, k4=0.1), "k4 is 0.1; only cameras of"),
    "a camera without focal length": (
        lambda f: rewritten(f, frames=first_frame(f, fl_x=-31.0)),
        "focal length must be positive",
    ),
    "zero focal length": (lambda f: rewritten(f, fl_x=0.0), "focal length must be positive"),
    "flat angle": (lambda f: rewritten(f, camera_angle_x=0), "camera_angle_x must be between"),
    "angle of NaN": (
        lambda f: rewritten(f, camera_angle_x=float("nan")),
        "camera_angle_x is not a finite",
    ),
    "width of another picture": (lambda f: rewritten(f, w=800), "w is 800"),
}


def ends_with_one_line(arguments, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit_views.py", "--out", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_views.Config, fit_views.main)
    lines = capfd.readouterr().err.strip().splitlines()
    assert (
        ended.value.code == 2
        and len(lines) == 1
        and lines[0].startswith("error: ")
        and re.search(words, lines[0])
    ), lines
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil, words", SPOILED.values(), ids=SPOILED)
def test_a_wrong_scene_is_one_line_and_exit_code_2(
    ball, tmp_path, monkeypatch, capfd, spoil, words
):
    folder = copied(ball, tmp_path)
    spoil(folder)
    ends_with_one_line(
        ["--scene", str(folder), "--train.steps", "1"], words, tmp_path, monkeypatch, capfd
    )


WRONG = {
    "box": (["--box", "0"], "--box"),
    "cells": (["--cells", "0"], "--cells"),
    "samples": (["--samples", "1"], "--samples"),
    "entropy": (["--entropy", "-1"], "--entropy"),
    "sparsity": (["--sparsity", "-1"], "--sparsity"),
    "distortion": (["--distortion", "nan"], "--distortion"),
    "tv": (["--tv", "inf"], "--tv"),
    "depth": (["--depth", "-1"], "--depth must be at least 0"),
    "refine poses": (["--refine-poses", "-1"], "--refine-poses"),
    "exposure": (["--exposure", "nan"], "--exposure"),
    "coarse to fine": (["--coarse-to-fine", "1"], "--coarse-to-fine"),
    "surroundings of a scene": (["--scene", "{ball}", "--surroundings"], "--surroundings"),
    "a moving ball in a scene": (["--scene", "{ball}", "--moving"], "--moving is for"),
    "depth of the colour network": (["--colour.depth", "0"], "--colour.depth must be at least 1"),
    "depth of a network": (["net:siren", "--field.depth", "0"], "--field.depth must be at least"),
    "depth of a decoder": (
        ["grid:hash", "--field.decoder.depth", "-1"],
        "--field.decoder.depth must be at least",
    ),
    "tv of a network": (["--scene", "{ball}", "--tv", "1", "net:siren"], "--tv needs"),
    "levels of a network": (
        ["--scene", "{ball}", "--coarse-to-fine", "0.5", "net:siren"],
        "--coarse-to-fine needs",
    ),
    "levels of planes": (
        ["--scene", "{ball}", "--coarse-to-fine", "0.5", "grid:vm"],
        "--coarse-to-fine needs",
    ),
    "far cameras": (["--scene", "{ball}", "--contract", "--box", "0.01"], "camera is 3.* times"),
    "colour": (["--scene", "{ball}", "--colour.width", "0"], "--colour.width"),
    "minutes": (["--train.minutes", "-1"], "minutes"),
    "missing mesh": (["--make-scene", "{tmp}/nowhere.obj"], "nowhere.obj: no such file"),
    "no mesh": (["--make-scene", "{tmp}/text.obj"], "text.obj: no"),
    "two scenes": (["--scene", "{ball}", "--make-scene", "{tmp}/text.obj"], "exclude"),
    "model and scene": (["--from", "{tmp}/text.obj", "--scene", "{ball}"], "takes no --scene"),
    "path and no model": (["--path", "{ball}/transforms_test.json"], "--path"),
    "missing model": (["--from", "{tmp}/nowhere.safetensors"], "no such file"),
    "model of another app": (["--from", "{tmp}/other.safetensors"], "not a model of fit_views"),
    "too large": (["--scene", "{ball}", "--train.batch", "1000000000"], "GiB"),
}


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_line_and_exit_code_2(
    ball, tmp_path, monkeypatch, capfd, arguments, words
):
    (tmp_path / "text.obj").write_text("this is no mesh")
    checkpoint.save(
        tmp_path / "other.safetensors",
        {"a": np.zeros(2, np.float32)},
        {"field": {"kind": "grid:dense"}},
    )
    ends_with_one_line(
        [a.format(ball=ball, tmp=tmp_path) for a in arguments], words, tmp_path, monkeypatch, capfd
    )


def test_an_empty_hull_is_refused(ball):
    train = load_views(ball, "train")
    train.pixels[..., 3] = 0
    with pytest.raises(ValueError, match="`box`"):
        ViewsTask(train, train, Box(1.5), ViewsConfig(cells=8, samples=32))


def test_a_pose_may_have_three_rows(ball, tmp_path):
    folder = copied(ball, tmp_path)
    read = json.loads((folder / "transforms_train.json").read_text())
    rewritten(
        folder,
        frames=[{**f, "transform_matrix": f["transform_matrix"][:3]} for f in read["frames"]],
    )
    np.testing.assert_allclose(
        read_transforms(folder / "transforms_train.json")[1], load_views(ball, "train").poses
    )


def test_real_scenes_read(data_folder):
    train = load_views(data_folder / "scenes" / "chair", "train")
    test = load_views(data_folder / "scenes" / "chair", "test")
    assert train.pixels.shape == (100, 200, 200, 4) and len(test.poses) == 25 and train.transparent


def test_the_app_has_its_own_defaults_for_fields():
    assert cli.parse(fit_views.Config, []).field == SCENE["grid:mulfa"]
    assert cli.parse(fit_views.Config, ["grid:dense"]).field == SCENE["grid:dense"]
    assert (
        cli.parse(fit_views.Config, ["grid:dense", "--field.finest", "9"]).field.coarsest
        == SCENE["grid:dense"].coarsest
    )


@pytest.mark.parametrize(
    "entry, value",
    [
        ("background", "grey"),
        ("distance", -1.0),
        ("cells", 8),
        ("step", 1.0),
        ("camera", {"width": 24}),
        ("box", {"half": 1.5, "centre": [0.0, 0.0], "contracted": False}),
        ("box", {"half": float("nan"), "centre": [0.0, 0.0, 0.0], "contracted": False}),
    ],
)
def test_a_file_of_a_wrong_view_is_refused(finished, tmp_path, entry, value):
    tensors, saved = checkpoint.read(finished[0] / "model.safetensors")
    saved["view"][entry] = value
    checkpoint.save(tmp_path / "wrong.safetensors", tensors, saved)
    with pytest.raises(ValueError, match="wrong.safetensors: not a model of fit_views"):
        load_viewer(tmp_path / "wrong.safetensors")


def test_cells_that_do_not_fit_into_memory_are_refused(ball, monkeypatch):
    train = load_views(ball, "train")
    monkeypatch.setattr(memory, "available", lambda: 2**18)
    with pytest.raises(memory.NotEnough, match="lower `cells`"):
        ViewsTask(train, train, Box(1.5), ViewsConfig(cells=16, samples=32))
    ViewsTask(train, train, Box(1.5), ViewsConfig(cells=4, samples=32))


def test_a_task_builds_its_radiance_field(ball):
    train = load_views(ball, "train")
    task = ViewsTask(train, train, Box(1.5), VIEWS)
    assert list(task.build(SCENE_FIELD).colour.layers[0].weight.shape) == [8, 15 + 16]
    tight = ViewsTask(train, train, Box(1.5), dataclasses.replace(VIEWS, tv=1.0))
    with pytest.raises(ValueError, match="`tv` needs a field of grids"):
        tight.build(SirenConfig(width=8, depth=1))


def test_a_test_picture_without_a_pixel_that_counts_is_left_out(ball):
    train = load_views(ball, "train")
    test = load_views(ball, "test")
    kept = np.ones(test.pixels.shape[:3], bool)
    kept[0] = False
    with pytest.warns(UserWarning, match="no pixel of .*r_0"):
        task = ViewsTask(train, dataclasses.replace(test, kept=kept), Box(1.5), VIEWS)
    assert len(task.test.poses) == 1 and np.isfinite(task.evaluate(task.build(SCENE_FIELD))["psnr"])
    with pytest.raises(ValueError, match="no pixel to test with"):
        ViewsTask(train, dataclasses.replace(test, kept=kept & False), Box(1.5), VIEWS)
