"""Fitting distances: how points are drawn, what is minimised and measured, and the app as its users
meet it."""

import dataclasses
import functools
import json
import sys

from jgrid import checkpoint, cli
from jgrid.field import (
    FIELDS,
    DecoderConfig,
    DenseGridConfig,
    Domain,
    FourierNetConfig,
    HashGridConfig,
    MulFAGridConfig,
    RadialGridConfig,
    SirenConfig,
)
from jgrid.image.files import load_image
from jgrid.surface import task as sdf
from jgrid.surface.isosurface import extract
from jgrid.surface.mesh import load_mesh, make_mesh
from jgrid.surface.task import (
    SURFACES,
    SDFConfig,
    SDFTask,
    pointwise_loss,
    slice_through,
    surface_of,
    values_of,
)
from jgrid.trainer import TrainConfig, Trainer

import fit_sdf
import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import DEVICE, drawn_on_the_cpu

BALL = trimesh.creation.icosphere(4)
DECODER = DecoderConfig(width=8, depth=1)
SMALL = [
    MulFAGridConfig(
        finest=8,
        coarsest=4,
        levels=2,
        channels=2,
        kernels=1,
        spread=0.1,
        constant=1.0,
        decoder=DECODER,
    ),
    HashGridConfig(
        finest=16,
        coarsest=4,
        levels=2,
        channels=2,
        table_size=2000,
        lr_features=2e-2,
        lr_network=1e-2,
        decoder=DECODER,
    ),
    DenseGridConfig(finest=8, coarsest=4, levels=2, channels=2, lr_network=2e-2, decoder=DECODER),
    RadialGridConfig(nodes=300, channels=2, lr_features=1e-1, decoder=DECODER),
    SirenConfig(width=16, depth=1, omega=5.0, lr=1e-2),
    FourierNetConfig(features=8, sigma=0.3, width=16, depth=1, lr=2e-2),
]
TRAIN = TrainConfig(steps=150, batch=2048, eval_every=75, warmup=1)
POOL = SDFConfig(pool=2**12)


class Distance:
    """A field that is the ball's distance times `slope`, plus `shift`."""

    def __init__(self, slope=1.0, shift=0.0):
        self.slope = slope
        self.shift = shift

    def __call__(self, x):
        return (self.slope * ((x - 0.5).sqr().sum(1).sqrt() - 0.45) + self.shift).unsqueeze(1)


@pytest.fixture
def ball():
    return make_mesh(BALL.vertices, BALL.faces)


@pytest.fixture
def few(monkeypatch):
    """Fewer points for the metrics and smaller pictures."""
    monkeypatch.setattr(sdf, "EVALUATED", 2**12)
    monkeypatch.setattr(sdf, "NEAR", 2**11)
    monkeypatch.setattr(sdf, "SLICE", 32)


def rows(variable):
    return {tuple(row) for row in variable.numpy().tolist()}


@pytest.mark.parametrize("noise, deviation", [("gaussian", 1.0), ("logistic", np.pi / np.sqrt(3))])
def test_the_pool_is_half_on_three_eighths_near_and_one_eighth_anywhere(ball, noise, deviation):
    pool = SDFTask(
        ball, SDFConfig(pool=8000, noise=noise, spread=0.02, wander=0, normal=1.0)
    ).sample(0, 8000)
    x, distance, normal = (pool[name].numpy() for name in ("x", "distance", "normal"))
    np.testing.assert_allclose(distance, ball.signed_distance(x), atol=1e-6)
    on = distance == 0
    assert on.sum() == 4000
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), on, atol=1e-6)
    assert ((normal * (x - 0.5)).sum(1)[on] > 0.4).all()
    # off the surface: 3/4 near it, where the radius varies as the noise does along one axis, and
    # 1/4 uniform in the cube
    off = np.abs(distance[~on])
    expected = 1000 * (4 * np.pi * 0.45**2 * 0.04)  # uniform points in a shell that is 0.04 thick
    assert (off < 0.02).sum() == pytest.approx(
        3000 * {"gaussian": 0.683, "logistic": 0.462}[noise] + expected, rel=0.06
    )
    near = off[off < 0.15]
    assert near.std() < 0.02 * deviation * 2
    assert x.min() >= 0 and x.max() <= 1


def test_batches_repeat_and_use_the_pool_up(ball):
    task = SDFTask(ball, SDFConfig(pool=64, wander=0), seed=3)
    batches = [task.sample(step, 16) for step in range(8)]
    assert set(batches[0]) == {"x", "distance"} and batches[0]["x"].is_stop_grad()
    first, second = (set().union(*(rows(b["x"]) for b in batches[i : i + 4])) for i in (0, 4))
    assert len(first) == len(second) == 64 and len(first & second) == 32  # those off the surface
    eight_on = set().union(*(rows(task.sample(step, 16)["x"]) for step in range(32, 36)))
    assert eight_on == first
    np.testing.assert_array_equal(task.sample(2, 16)["x"].numpy(), batches[2]["x"].numpy())
    other = SDFTask(ball, SDFConfig(pool=64, wander=0), seed=4).sample(2, 16)
    assert not rows(other["x"]) & rows(batches[2]["x"])
    assert task.sample(0, 1000)["x"].shape == [64, 3]


def test_points_on_the_surface_change_from_epoch_to_epoch(ball):
    """Each epoch's lie on it, with their own normals."""
    task = SDFTask(ball, SDFConfig(pool=400, wander=0, normal=1.0))
    seen = set()
    for step in range(SURFACES):
        batch = {name: v.numpy() for name, v in task.sample(step, 400).items()}
        on = batch["distance"] == 0
        assert on.sum() == 200 and np.abs(ball.signed_distance(batch["x"][on])).max() < 1e-6
        assert ((batch["normal"] * (batch["x"] - 0.5)).sum(1)[on] > 0.4).all()
        seen |= {tuple(x) for x in batch["x"][on].tolist()}
    assert len(seen) == 200 * SURFACES


def test_points_anywhere_wander_as_far_as_their_distance_is_known(ball):
    still, wandering = (SDFTask(ball, SDFConfig(pool=4000, wander=w)) for w in (0.0, 0.5))
    batches = [
        {name: v.numpy() for name, v in task.sample(step, 4000).items()}
        for task in (still, wandering)
        for step in (0, 0, 1)
    ]
    places = [b["x"][np.lexsort(b["x"].T)] for b in batches]
    np.testing.assert_array_equal(places[3], places[4])  # the same at the same step
    moved = [(b["slack"] > 0).sum() for b in batches[3:]]
    assert moved == [500, 500, 500] and "slack" not in batches[0]
    for batch in batches[4:]:
        away = np.abs(ball.signed_distance(batch["x"]) - batch["distance"])
        assert (away <= batch["slack"] + 1e-5).all() and away.max() > 0.02
        assert (batch["slack"] <= 0.5 * np.abs(batch["distance"]) + 1e-6).all()


def test_fresh_points_differ_from_step_to_step(ball):
    task = SDFTask(ball, SDFConfig(pool=0))
    first = task.sample(0, 40)
    second = task.sample(1, 40)
    again = task.sample(0, 40)
    assert not rows(first["x"]) & rows(second["x"]) and rows(first["x"]) == rows(again["x"])
    np.testing.assert_allclose(
        second["distance"].numpy(), ball.signed_distance(second["x"].numpy()), atol=1e-6
    )


def test_losses_are_what_they_say():
    f = np.float32([0.3, -0.2, 0.05, -0.01])
    d = np.float32([0.2, -0.3, 0.0, 0.01])
    expected = {
        "l1": np.abs(f - d),
        "relative": (f - d) ** 2 / (d**2 + 0.01),
        "mape": np.abs(f - d) / (np.abs(d) + 0.01),
        "clamp": np.abs(np.clip(f, -0.1, 0.1) - np.clip(d, -0.1, 0.1)),
    }
    for kind, values in expected.items():
        assert pointwise_loss(kind, jt.array(f), jt.array(d), 0.1).item() == pytest.approx(
            values.mean(), rel=1e-5
        ), kind
    assert pointwise_loss(
        "l1", jt.array(f), jt.array(d), slack=jt.array(np.float32([0.2, 0.04, 0, 0]))
    ).item() == pytest.approx((0.06 + 0.05 + 0.02) / 4, rel=1e-5)


def test_slope_terms_have_their_closed_form(ball):
    """A field of slope 2 along the radius: |slope - 1| = 1; its gradient lies 1 from the normal."""
    task = SDFTask(ball, SDFConfig(pool=2**10, eikonal=0.25, normal=0.5))
    batch = task.sample(0, 2**10)
    losses = task.loss(Distance(2.0), batch)
    assert set(losses) == {"l1", "eikonal", "normal"}
    assert losses["eikonal"].item() == pytest.approx(0.25, rel=1e-3)
    assert losses["normal"].item() == pytest.approx(0.5, rel=0.01)  # facets stand a little askew
    assert task.loss(Distance(), batch)["normal"].item() < 0.05


def test_slope_terms_train_the_grid(ball):
    """Through second-order gradients: with these alone weighted, the slopes on the surface come
    near the normals."""
    task = SDFTask(ball, SDFConfig(pool=2**11, eikonal=0.1, normal=1.0))
    model = DenseGridConfig(finest=8, coarsest=4, levels=2, channels=2, decoder=DECODER).build(task)
    optimizer = jt.optim.Adam(model.parameters(), lr=1e-2)
    values = []
    for step in range(40):
        losses = task.loss(model, task.sample(step, 2**11))
        values.append(losses["normal"].item())
        optimizer.step(losses["normal"])
    assert values[-1] < 0.4 * values[0]


def test_metrics_of_known_fields(ball, few):
    task = SDFTask(ball, POOL)
    exact = task.evaluate(Distance())
    assert exact["iou"] > 0.98 and exact["iou_near"] > 0.95 and exact["sdf_error"] < 4e-3
    grown = task.evaluate(Distance(shift=-0.02))
    assert grown["iou"] == pytest.approx((0.45 / 0.47) ** 3, abs=0.03) and grown[
        "sdf_error"
    ] == pytest.approx(0.02, abs=4e-3)
    surface = extract(values_of(Distance(shift=-0.02)), 48)
    measured = task.measure(surface)
    assert (
        measured["chamfer"] == pytest.approx(0.02, abs=3e-3)
        and measured["f_score"] < 0.1
        and measured["normal_error_deg"] < 6
    )
    assert task.measure((np.zeros((0, 3)), np.zeros((0, 3), int))) == {
        "chamfer": None,
        "f_score": None,
        "normal_error_deg": None,
    }


def test_evaluation_is_the_same_for_every_seed(ball, few):
    assert SDFTask(ball, POOL, seed=1).evaluate(Distance()) == SDFTask(ball, POOL, seed=2).evaluate(
        Distance()
    )


def test_surfaces_are_closed_where_the_field_leaves_the_cube():
    # a ball that the cube's sides cut
    made = trimesh.Trimesh(*surface_of(Distance(shift=-0.3), 16), process=False)
    assert made.is_watertight and made.bounds == pytest.approx(
        np.array([[0.01] * 3, [0.99] * 3]), abs=1e-3
    )
    plain = extract(values_of(Distance()), 16)
    np.testing.assert_allclose(surface_of(Distance(), 16)[0], plain[0], atol=1e-6)


def test_slices_look_along_the_axis_after_up(few):
    for up in range(3):
        values = slice_through(lambda p: p @ np.float32([1, 10, 100]), up)
        weights = np.array([1, 10, 100])
        half = 0.5 / 32
        assert values[0, 0] == pytest.approx(
            half * weights[up] + half * weights[(up + 2) % 3] + 0.5 * weights[(up + 1) % 3]
        )
        assert values[-1, 0] - values[0, 0] == pytest.approx((1 - 2 * half) * weights[up], rel=1e-4)


# The app

RUN = [
    "comparison.png",
    "config.json",
    "error_map.ply",
    "iou.png",
    "mesh.ply",
    "metrics.jsonl",
    "model.safetensors",
    "prediction.png",
    "result.json",
    "slice.png",
]


def files(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def ball_file(tmp_path):
    moved = BALL.copy().apply_scale(20).apply_translation([100, 0, -7])  # in the user's units
    moved.export(tmp_path / "ball.ply")
    return tmp_path / "ball.ply"


def config(path, out, field, **changes):
    return fit_sdf.Config(
        **{
            "mesh": path,
            "out": out,
            "device": DEVICE,
            "resolution": 32,
            "sdf": POOL,
            "train": TRAIN,
            "field": field,
            **changes,
        }
    )


def started(task, build, field):
    """What the task builds, started alike on every device."""
    return drawn_on_the_cpu(build, task, field)


@pytest.mark.parametrize("field", SMALL, ids=lambda field: type(field).__name__)
def test_a_run_leaves_everything_behind(ball_file, tmp_path, field, few, monkeypatch, capsys):
    monkeypatch.setattr(sdf.preview, "__defaults__", (48, 1, None, None))
    monkeypatch.setattr(SDFTask, "build", functools.partialmethod(started, SDFTask.build))
    out = tmp_path / "out"
    paths = fit_sdf.main(config(ball_file, out, field))
    assert files(out) == RUN
    result = json.loads((out / "result.json").read_text())
    keys = {
        "iou",
        "iou_near",
        "chamfer",
        "f_score",
        "normal_error_deg",
        "sdf_error",
        "parameters",
        "seconds_train",
        "seconds_data",
        "seconds_total",
        "loss",
        "steps",
        "device",
        "mesh",
    }
    assert keys <= result.keys() and result["mesh"]["genus"] == 0
    assert result["seconds_total"] >= result["seconds_train"] + result["seconds_data"]
    made = trimesh.load_mesh(out / "mesh.ply")
    assert result["iou"] > 0.65  # negative everywhere would have pi / 6
    np.testing.assert_allclose(made.bounds, [[80, -20, -27], [120, 20, 13]], atol=4)
    assert len(trimesh.load_mesh(out / "error_map.ply").visual.vertex_colors) == len(made.vertices)
    assert set(paths) == {out / name for name in RUN if name.endswith((".png", ".ply"))}
    printed = capsys.readouterr().out
    assert f"{result['iou']:.4f}" in printed and all(str(path) in printed for path in paths)

    again = tmp_path / "again"
    fit_sdf.main(
        fit_sdf.Config(from_=out / "model.safetensors", out=again, device=DEVICE, resolution=32)
    )
    assert files(again) == ["mesh.ply", "prediction.png", "slice.png"]
    np.testing.assert_allclose(
        trimesh.load_mesh(again / "mesh.ply").vertices, made.vertices, atol=1e-3
    )


def test_more_cells_more_faces_and_the_pictures_way_up(ball_file, tmp_path, few, monkeypatch):
    monkeypatch.setattr(sdf.preview, "__defaults__", (48, 1, None, None))
    fit_sdf.main(config(ball_file, tmp_path / "out", SMALL[0], up="z"))
    for name, resolution, up in (("a", 16, "z"), ("b", 48, "x")):
        model = tmp_path / "out" / "model.safetensors"
        fit_sdf.main(
            fit_sdf.Config(
                from_=model, out=tmp_path / name, device=DEVICE, resolution=resolution, up=up
            )
        )
    coarse, fine = (len(load_mesh(tmp_path / name / "mesh.ply").faces) for name in "ab")
    assert fine > 6 * coarse
    assert not np.array_equal(
        load_image(tmp_path / "a" / "slice.png"), load_image(tmp_path / "b" / "slice.png")
    )


def test_plain_ops_train_alike(ball_file, tmp_path, few, monkeypatch):
    monkeypatch.setattr(sdf.preview, "__defaults__", (48, 1, None, None))
    for ops in ("fused", "plain"):
        fit_sdf.main(
            config(
                ball_file,
                tmp_path / ops,
                SMALL[2],
                ops=ops,
                train=dataclasses.replace(TRAIN, steps=5),
            )
        )
    weights = [
        checkpoint.read(tmp_path / ops / "model.safetensors")[0]["grid.w"]
        for ops in ("fused", "plain")
    ]
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-3)


def test_the_app_has_no_other_flags():
    """The tests here make each of them count; a new one needs a test."""
    flags = {
        "mesh",
        "out",
        "resume",
        "device",
        "log",
        "resolution",
        "up",
        "from_",
        "ops",
        "sdf",
        "train",
        "field",
    }
    assert {f.name for f in dataclasses.fields(fit_sdf.Config)} == flags
    assert {f.name for f in dataclasses.fields(SDFConfig)} == {
        "pool",
        "noise",
        "spread",
        "loss",
        "clamp",
        "eikonal",
        "normal",
        "wander",
    }


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if name.startswith("grid:")] + ["net:siren", "net:fourier"]
)
def test_the_apps_own_defaults_stay_below_900000_parameters(name, monkeypatch):
    field = cli.parse(fit_sdf.Config, [name]).field
    if name in ("grid:mulfa", "grid:hash", "grid:dense", "net:siren", "net:fourier"):
        assert sum(int(np.prod(p.shape)) for p in field.build(Domain(3, 1)).parameters()) < 900_000


WRONG = {
    "missing mesh": (["--mesh", "{tmp}/nowhere.obj"], "nowhere.obj: no such file"),
    "empty mesh": (["--mesh", "{tmp}/empty.obj"], "empty.obj: empty"),
    "not a mesh": (["--mesh", "{tmp}/text.obj"], "text.obj: no faces"),
    "single triangle": (["--mesh", "{tmp}/triangle.off"], "encloses nothing"),
    "resolution": (["--mesh", "{ball}", "--resolution", "4"], "resolution"),
    "pool": (["--mesh", "{ball}", "--sdf.pool", "-1"], "sdf.pool"),
    "spread": (["--mesh", "{ball}", "--sdf.spread", "0"], "sdf.spread"),
    "eikonal": (["--mesh", "{ball}", "--sdf.eikonal", "-1"], "sdf.eikonal"),
    "loss": (["--mesh", "{ball}", "--sdf.loss", "l3"], "l3"),
    "field": (["--mesh", "{ball}", "grid:hash", "--field.levels", "0"], "levels"),
    "up": (["--mesh", "{ball}", "--up", "w"], "w"),
    "model and mesh": (["--from", "{tmp}/other.safetensors", "--mesh", "{ball}"], "from"),
    "model of another app": (["--from", "{tmp}/other.safetensors"], "not a model of fit_sdf"),
    "out is a file": (["--mesh", "{ball}", "--out", "{tmp}/text.obj"], "text.obj"),
}


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_line_and_exit_code_2(
    ball_file, tmp_path, monkeypatch, capfd, arguments, words
):
    (tmp_path / "empty.obj").write_text("")
    (tmp_path / "text.obj").write_text("this is no mesh")
    (tmp_path / "triangle.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    checkpoint.save(
        tmp_path / "other.safetensors",
        {"a": np.zeros(2, np.float32)},
        {"field": {"kind": "grid:dense"}},
    )
    arguments = [a.format(ball=ball_file, tmp=tmp_path) for a in arguments]
    arguments = arguments if "--out" in arguments else ["--out", str(tmp_path / "out"), *arguments]
    monkeypatch.setattr(sys, "argv", ["fit_sdf.py", *arguments])
    before = files(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_sdf.Config, fit_sdf.main)
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0], lines
    assert files(tmp_path) == before  # no folder was made


def test_warnings_and_a_field_without_surface(tmp_path, few, monkeypatch, capsys):
    (tmp_path / "turned.off").write_text(
        trimesh.Trimesh(BALL.vertices, BALL.faces[:, ::-1], process=False).export(file_type="off")
    )
    # learns nothing: 0 nowhere but by chance
    field = dataclasses.replace(SMALL[0], lr_features=1e-12, lr_network=1e-12)
    monkeypatch.setattr(
        fit_sdf, "surface_of", lambda *_, **__: (np.zeros((0, 3)), np.zeros((0, 3), int))
    )
    with pytest.raises(SystemExit) as ended:
        fit_sdf.main(
            config(
                tmp_path / "turned.off",
                tmp_path / "out",
                field,
                train=dataclasses.replace(TRAIN, steps=2),
            )
        )
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert (
        "warning: faces pointed inwards: all turned" in printed.err
        and "no surface to mesh" in printed.err
    )
    assert json.loads((tmp_path / "out" / "result.json").read_text())["chamfer"] is None


def test_real_mesh_is_fitted(data_folder, few):
    """A minute's worth of quality is measured elsewhere; a few steps must already show the
    shape."""
    task = SDFTask(load_mesh(data_folder / "meshes" / "featuretype.stl"), SDFConfig(pool=2**14))
    field = HashGridConfig(
        finest=64, coarsest=8, levels=4, channels=2, table_size=2**13, decoder=DECODER
    ).build(task)
    # with rates that fall, or it depends on luck
    result = Trainer(task, field, TrainConfig(steps=100, batch=2**12), progress=False).fit()
    assert result["iou"] > 0.75
