"""Theory against practice: the closed forms against autodiff, the predictions against real gradient
descent."""

import dataclasses
import functools
import subprocess
import sys

import jgrid
from jgrid import picture
from jgrid.design import NumpyDesign, SparseDesign, design_matrix
from jgrid.field import DecoderConfig, Field
from jgrid.grid import Grid
from jgrid.index import GridIndex, PointIndex, r_sequence
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFALiteralKernel, RadialKernel
from jgrid.network import MLP
from jgrid.theory.diagnosis import build as build_field
from jgrid.theory.dynamics import (
    AdamForecast,
    Forecast,
    gradient_descent,
    learned_part,
    predicted_outputs,
)
from jgrid.theory.kernels import drift, empirical_ntk, gtk
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import pytest
import skimage.data
from test_grid import CASES, CHANNELS, Case, build, interior

RATES = {"features": 1e-2, "kernel": 1e-2, "network": 1e-2}
# slots so few that most points meet one with two or more of their corners
COLLIDING = [
    Case("hash-2d-one-point-twice", ((8, 8),) * 4, table_size=8),
    Case("gain-2d-one-point-twice", ((8, 8),), table_size=3, octaves=1, depth=1),
]
every_case = pytest.mark.parametrize("case", CASES + COLLIDING, ids=lambda case: case.name)
# one number per channel without concat
LINEAR = [case for case in CASES + COLLIDING if case.depth or not case.octaves]


def points(n, dim=2, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, dim)).astype(np.float32)


def close(found, wanted, relative):
    assert np.shape(found) == np.shape(wanted)
    assert np.abs(found - wanted).max() <= relative * np.abs(wanted).max()


@every_case
def test_closed_form_equals_autodiff(case):
    """For all outputs of a point: levels and heads side by side."""
    grid = build(case, fused=False, concat=bool(case.octaves and not case.depth))
    x = interior(case, 4)
    found = gtk(grid, x)
    n = grid.n_out // CHANNELS
    wanted = empirical_ntk(Field(grid, None, RATES), x)["features"].reshape(
        4 * n, CHANNELS, 4 * n, CHANNELS
    )
    for c in range(CHANNELS):
        close(found[c] if found.ndim == 3 else found, wanted[:, c, :, c], 1e-6)
        assert not wanted[:, c, :, 1 - c].any()  # a channel's features move no other channel
    assert (found.ndim == 3) == bool(case.octaves)


def test_points_meet_a_slot_twice():
    """Else the summing of collisions would not be tested."""
    for case in COLLIDING:
        node = build(case, fused=False).index(jt.array(interior(case, 4)))[0].numpy()
        assert any(len(set(row)) < len(row) for row in node)


def test_between_two_sets_of_points():
    grid = build(CASES[3], fused=False, concat=False)
    x1 = interior(CASES[3], 3)
    x2 = points(5)
    whole = gtk(grid, np.concatenate([x1, x2]))
    close(gtk(grid, x1, x2), whole[:3, 3:], 1e-12)


def test_the_papers_kernel_and_chunks(monkeypatch):
    index = GridIndex(2, [3, 5])
    grid = Grid(index, MulFALiteralKernel(index.positions(), 2, octaves=2, width=4, depth=2), 1)
    x = points(7)
    found = gtk(grid, x)
    close(found, empirical_ntk(Field(grid, None, RATES), x)["features"], 1e-6)
    monkeypatch.setattr("jgrid.design.CHUNK", 3)
    close(gtk(grid, x), found, 1e-6)


@pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
def test_products_without_the_matrix(case):
    grid = build(case, fused=True, concat=False)
    x = interior(case, 20)
    random = np.random.default_rng(1)
    w = random.normal(size=tuple(grid.w.shape))
    r = random.normal(size=(20, CHANNELS))
    before = grid.w.numpy()
    stored = SparseDesign(grid, x)
    free = NumpyDesign(grid, x)
    close(free.apply(w), stored.apply(w), 3e-6)
    close(free.adjoint(r), stored.adjoint(r), 3e-6)
    close(free.gram(w), stored.gram(w), 5e-6)
    np.testing.assert_array_equal(grid.w.numpy(), before)  # the grid itself is left alone
    assert np.isclose((stored.apply(w) * r).sum(), (w * stored.adjoint(r)).sum())


def test_shares_of_the_full_kernel():
    """Their sum is the kernel of all parameters; a frozen part has no share."""
    index = GridIndex(2, [3, 5])
    kernel = MulFAGainKernel(index.positions(), 2, width=4)
    kernel.last.weight = jt.array(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    model = Field(Grid(index, kernel, 2, scale=1.0), MLP(2, 2, 8, 1), RATES)
    x = points(3)
    shares = empirical_ntk(model, x)
    assert list(shares) == ["features", "kernel", "network"] and all(
        np.trace(s) > 0 for s in shares.values()
    )
    # against finite differences: how an output moves when all parameters move along another
    # output's gradient
    params = [p for group in model.parameter_groups() for p in group["params"]]
    value = model(jt.array(x))
    gradients = [g.numpy() for g in jt.grad(value[2, 1], params)]
    ends = []
    for sign in (1, -1):
        for p, g in zip(params, gradients):
            p.update(p + sign * (1e-3 if sign > 0 else 2e-3) * jt.array(g))
        ends.append(model(jt.array(x)).numpy().ravel().astype(np.float64))
    assert np.allclose(
        (ends[0] - ends[1]) / 2e-3,
        sum(shares.values())[:, 5],
        rtol=0,
        atol=2e-2 * np.abs(sum(shares.values())[:, 5]).max(),
    )


def regression_case(name):
    """A small grid that is linear in w, 60 points to train on and 40 held out, colours, and
    features that are not zero."""
    index = GridIndex(2, [5, 9, 14], table_size=60)
    kernels = {
        "hash": lambda: InterpolationKernel(),
        "gain": lambda: MulFAGainKernel(index.positions(), 2, width=5),
        "literal": lambda: MulFALiteralKernel(index.positions(), 3, octaves=2, width=5, depth=2),
    }
    if name == "radial":
        index = PointIndex(r_sequence(80, 2))
        kernels = {"radial": lambda: RadialKernel(80, 2, 2)}
    kernel = kernels[name]()
    if name == "gain":
        kernel.last.weight = jt.array(
            np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
        )
    grid = Grid(index, kernel, 2, scale=0.3)
    x = points(100)
    y = np.stack(
        [np.sin(7 * x[:, 0] + 3 * x[:, 1]), np.random.default_rng(3).uniform(size=100)], axis=1
    )
    return Field(grid, None, RATES), x, y


@pytest.mark.parametrize("name", ["hash", "gain", "literal", "radial"])
def test_gradient_descent_goes_as_predicted(name):
    """200 real steps, from features that are not zero: trained and held-out outputs to 1e-5."""
    model, x, y = regression_case(name)
    grid = model.grid
    steps = [0, 1, 7, 50, 200]
    start = model(jt.array(x)).numpy().astype(np.float64)
    kernels = np.broadcast_to(gtk(grid, x), (2, 100, 100))
    lr = 1 / max(np.linalg.eigvalsh(k[:60, :60])[-1] for k in kernels)
    wanted = np.concatenate(
        [
            predicted_outputs(
                k[:60, :60],
                y[:60, c : c + 1],
                lr,
                steps,
                start[:60, c : c + 1],
                k[:, :60],
                start[:, c : c + 1],
            )
            for c, k in enumerate(kernels)
        ],
        axis=2,
    )
    forecast = Forecast(
        SparseDesign(grid, x[:60]),
        y[:60],
        grid.w.numpy().astype(np.float64),
        steps,
        tolerance=1e-9,
    )
    assert np.isclose(forecast.lr, lr, rtol=1e-9)
    for i, _ in enumerate(gradient_descent(model, x[:60], y[:60], lr, steps, [grid.w])):
        found = model(jt.array(x)).numpy()
        close(found[:60], wanted[i, :60], 1e-5)
        close(found[60:], wanted[i, 60:], 1e-5)
        close(SparseDesign(grid, x).apply(forecast.weights[i]), wanted[i], 1e-6)
        assert np.allclose(
            forecast.residual[i], np.linalg.norm(found[:60] - y[:60], axis=0), rtol=1e-4
        )
    assert np.abs(wanted[-1] - wanted[0]).max() > 0.3


@functools.cache
def two_thousand():
    case = Case("hash-2d", ((8, 8), (17, 17), (30, 30)), table_size=400)
    grid = build(case, fused=True, concat=False)
    x = points(2000)
    y = np.stack(
        [np.sin(9 * x[:, 0] * x[:, 1]), np.random.default_rng(4).uniform(size=2000)], axis=1
    )
    return grid, x, y, gtk(grid, x)


@pytest.mark.parametrize("flow", [False, True])
def test_lanczos_equals_dense(flow):
    grid, x, y, kernel = two_thousand()
    stored = SparseDesign(grid, x)
    steps = [1, 30, 1000]
    w0 = grid.w.numpy().astype(np.float64)
    forecast = Forecast(stored, y, w0, steps, flow=flow, tolerance=1e-9)
    wanted = predicted_outputs(kernel, y, forecast.lr, steps, stored.apply(w0), flow=flow)
    close(np.stack([stored.apply(w) for w in forecast.weights]), wanted, 1e-6)
    close(forecast.residual, np.linalg.norm(y - wanted, axis=1), 1e-6)
    assert np.isclose(forecast.lambda_max, np.linalg.eigvalsh(kernel)[-1], rtol=1e-9)
    assert forecast.n_products < 200


def test_the_fused_op_predicts_as_well():
    """In float32, and stopped early: to the tolerance it promises."""
    grid, x, y, kernel = two_thousand()
    free = NumpyDesign(grid, x)
    steps = [30, 1000]
    w0 = grid.w.numpy().astype(np.float64)
    forecast = Forecast(free, y, w0, steps)
    wanted = predicted_outputs(kernel, y, forecast.lr, steps, free.apply(w0))
    found = np.stack([free.apply(w) for w in forecast.weights])
    assert (
        np.linalg.norm(found - wanted, axis=1) < 5e-3 * np.linalg.norm(y - wanted, axis=1)
    ).all()
    assert forecast.n_products < 100


def test_a_krylov_space_that_ends():
    """Fewer features than products, a channel of zeros, a start at the solution: nothing divides by
    zero."""
    grid = Grid(GridIndex(1, [3]), InterpolationKernel(), 3, scale=0.0)
    x = np.linspace(0, 1, 9, dtype=np.float32)[:, None]
    y = np.stack([np.sin(x[:, 0]), np.zeros(9), np.ones(9)], axis=1)
    forecast = Forecast(SparseDesign(grid, x), y, np.zeros((4, 3)), [10, 500])
    wanted = predicted_outputs(gtk(grid, x), y, forecast.lr, [10, 500])
    close(np.stack([SparseDesign(grid, x).apply(w) for w in forecast.weights]), wanted, 1e-8)
    done = Forecast(SparseDesign(grid, x), np.zeros((9, 3)), np.zeros((4, 3)), [5], lr=0.1)
    assert not done.weights.any()


def test_what_is_learned_of_a_mode():
    """Against the loop; also beyond 1 / lambda, at zero, and for flow the exponential."""
    values = np.array([0.0, 1e-9, 0.1, 0.5, 1.0, 1.9])
    lr = 1.0
    for steps in (1, 2, 25):
        left = np.ones(6)
        learned = np.zeros(6)
        for _ in range(steps):
            learned += lr * left
            left *= 1 - lr * values
        np.testing.assert_allclose(learned_part(values, lr, [steps])[0], learned, rtol=1e-10)
    np.testing.assert_allclose(
        learned_part(values, 0.5, [6], flow=True)[0, 2:], (1 - np.exp(-3 * values[2:])) / values[2:]
    )
    np.testing.assert_allclose(learned_part(values, 0.5, [6], flow=True)[0, :2], 3, rtol=1e-6)


def test_kernel_stays_where_the_model_is_linear_and_only_there():
    """Theorem 2: no drift for a frozen kernel; with the kernel's own parameters or a decoder there
    is one, and it is not small."""
    for frozen, n, decoder in ((True, 60, None), (False, 60, None), (False, 12, MLP(2, 2, 8, 1))):
        model, x, y = regression_case("gain")
        model.network = decoder
        start = (
            gtk(model.grid, x[:60]) if not decoder else sum(empirical_ntk(model, x[:n]).values())
        )
        lr = 0.02 if decoder else 1 / np.linalg.eigvalsh(start).max()
        list(
            gradient_descent(
                model, x[:60], y[:60], 0.3 * lr, [50], [model.grid.w] if frozen else None
            )
        )
        now = gtk(model.grid, x[:60]) if not decoder else sum(empirical_ntk(model, x[:n]).values())
        assert drift(start, now) < 1e-6 if frozen else drift(start, now) > 1e-3


PIXELS = 0.5 + 0.4 * np.sin(np.arange(16 * 20 * 3).reshape(16, 20, 3) / 37.0)


def test_five_lines_predict_a_picture(tmp_path):
    """As the face says it, and as training shows it."""
    picture.save(tmp_path / "photo.png", PIXELS)
    task = jgrid.ImageTask(jgrid.load_image(tmp_path / "photo.png"), held_out=0.25)
    field = jgrid.HashGridConfig(finest=12, coarsest=4, levels=2, decoder=DecoderConfig(depth=0))
    prediction = jgrid.theory.predict(task, field, steps=50)
    assert prediction.steps[0] == 1 and prediction.steps[-1] == 50
    assert prediction.psnr[-1] > prediction.psnr[0] and prediction.lr > 0
    trained = jgrid.theory.train(task, field, prediction.lr, prediction.steps)
    np.testing.assert_allclose(prediction.psnr, trained.psnr, atol=0.01)
    np.testing.assert_allclose(prediction.psnr_held_out, trained.psnr_held_out, atol=0.01)
    assert prediction.seconds > 0 and trained.seconds > 0


def test_predictions_of_points_and_chosen_steps():
    """A pair of arrays is the task's own points, but for the aspect, square here; seeds count."""
    pixels = PIXELS[:, :16]
    task = jgrid.ImageTask(pixels)
    x, y = task.samples()
    config = jgrid.theory.LINEAR["grid:dense"]
    config = dataclasses.replace(config, finest=8, coarsest=4, levels=2)
    found = jgrid.theory.predict((x, y), config, steps=[3, 30])
    assert found.steps == [3, 30] and found.psnr_held_out == []
    np.testing.assert_array_equal(
        found.psnr, jgrid.theory.predict(task, config, steps=[3, 30]).psnr
    )
    other = jgrid.theory.predict((x, y), config, steps=[3, 30], seed=2)
    assert not np.array_equal(other.field.grid.w.numpy(), found.field.grid.w.numpy())


def adams_flow(grid, x, y, rates, beta):
    """AdamForecast's outputs by a loop: many small Euler steps of w_j' = phi_j . r / |phi_j| in the
    time that advances by rate / sqrt(running mean of R)."""
    (phi,) = design_matrix(grid, x)
    phi = phi.toarray()
    length = np.linalg.norm(phi, axis=0)
    kernel = phi @ (phi / np.where(length > 0, length, 1)).T
    residual = y - phi @ grid.w.numpy()
    mean = 0
    outputs = []
    for k, rate in enumerate(rates):
        mean = beta * mean + (1 - beta) * (residual**2).mean(0)
        passed = rate / np.sqrt(mean / (1 - beta ** (k + 1)))
        for _ in range(200):
            residual = residual - passed / 200 * (kernel @ residual)
        outputs.append(y - residual)
    return np.stack(outputs)


def test_adams_flow_equals_a_loop():
    grid, x, y, _ = two_thousand()
    x = x[:300]
    y = y[:300]
    rates = 2e-3 * np.linspace(1, 0.1, 40)
    found = AdamForecast(
        SparseDesign(grid, x),
        y,
        grid.w.numpy().astype(np.float64),
        rates,
        [1, 10, 40],
        beta=0.8,
        tolerance=1e-6,
    )
    wanted = adams_flow(grid, x, y, rates, 0.8)[[0, 9, 39]]
    close(np.stack([SparseDesign(grid, x).apply(w) for w in found.weights]), wanted, 1e-2)
    assert (found.times[0] != found.times[0, 0]).any()  # a time for each channel
    # a part of the points in a batch: slower
    half = AdamForecast(
        SparseDesign(grid, x), y, grid.w.numpy().astype(np.float64), rates, [40], fraction=0.5
    )
    assert (half.times[-1] < found.times[-1]).all()


def test_a_channel_of_adam_does_not_depend_on_the_others():
    """Though one has nothing to learn, and one is learned exactly."""
    grid = Grid(GridIndex(1, [12]), InterpolationKernel(), 3, scale=0.0)
    x = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    y = np.concatenate([np.sin(20 * x), 0 * x, x], axis=1).astype(np.float64)
    design = SparseDesign(grid, x)
    found = AdamForecast(design, y, np.zeros((13, 3)), [0.02] * 60, [60]).weights[0]
    alone = AdamForecast(design, y[:, :1], np.zeros((13, 1)), [0.02] * 60, [60]).weights[0]
    close(found[:, :1], alone, 1e-3)
    assert not found[:, 1].any() and np.abs(design.apply(found)[:, 2] - x[:, 0]).max() < 1e-3
    assert not AdamForecast(design, 0 * y, np.zeros((13, 3)), [0.02], [1]).weights.any()
    for step in (0, 61):
        with pytest.raises(ValueError, match="from 1 to 60"):
            AdamForecast(design, y, np.zeros((13, 3)), [0.02] * 60, [step])


def test_a_feature_that_no_point_sees_stays():
    grid = Grid(GridIndex(1, [8]), InterpolationKernel(), 1, scale=0.5)
    x = np.linspace(0, 0.4, 9, dtype=np.float32)[:, None]
    w0 = grid.w.numpy().astype(np.float64)
    for design in (SparseDesign(grid, x), NumpyDesign(grid, x)):
        found = AdamForecast(design, np.sin(9 * x), w0, [0.1] * 20, [20]).weights[0]
        assert (found[5:] == w0[5:]).all() and (found[:5] != w0[:5]).all()


def test_adam_is_foretold():
    """The library's trainer, at held-out pixels too: to half a decibel, where the kernel of
    gradient descent misses by 1.5 and 2.7."""
    task = jgrid.ImageTask(skimage.data.astronaut()[60:124, 190:254] / 255, held_out=0.25)
    config = dataclasses.replace(jgrid.theory.LINEAR["grid:dense"], finest=40, coarsest=6, levels=3)
    training = TrainConfig(steps=200, seed=0)
    found = jgrid.theory.predict_adam(task, config, training)
    field = build_field(task, config, 0)
    real = Trainer(task, field, training, progress=False).fit()
    assert found.steps[-1] == 200 and found.lr == config.lr_features
    assert abs(found.psnr_held_out[-1] - real["psnr_held_out"]) < 0.5
    assert abs(found.psnr[-1] - real["psnr_train"]) < 0.5
    descent = jgrid.theory.predict(task, config, steps=[200])
    assert abs(descent.psnr[-1] - real["psnr_train"]) > 1
    assert abs(descent.psnr_held_out[-1] - real["psnr_held_out"]) > 2


def test_what_cannot_be_predicted_is_refused():
    task = jgrid.ImageTask(PIXELS)
    linear = jgrid.theory.LINEAR["grid:dense"]
    for config in (jgrid.DenseGridConfig(finest=4, levels=1), jgrid.SirenConfig(width=8)):
        with pytest.raises(ValueError, match="`decoder.depth` 0"):
            jgrid.theory.predict(task, config)
    for steps in (0, [0, 5], []):
        with pytest.raises(ValueError, match="`steps` must be"):
            jgrid.theory.predict(task, linear, steps)
    for unknown in ({"minutes": 1.0}, {"clip": 1.0}, {"ema": 0.9}):
        with pytest.raises(ValueError, match="must be 0 for Adam"):
            jgrid.theory.predict_adam(task, linear, TrainConfig(**unknown))
    with pytest.raises(ValueError, match="`subject` must be points"):
        jgrid.theory.predict((np.zeros((5, 2)), np.zeros((4, 3))), linear)


def test_the_face_is_whole_and_comes_when_it_is_asked_for():
    assert all(hasattr(jgrid.theory, name) for name in jgrid.theory.__all__)
    code = "import sys, jgrid; assert 'jgrid.theory' not in sys.modules; jgrid.theory.gtk"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_case_counts():
    """A new field of a case must reach the grids here."""
    assert {f.name for f in dataclasses.fields(Case)} == {
        "name",
        "cells",
        "table_size",
        "profile",
        "octaves",
        "kernels",
        "depth",
        "warps",
        "scattered",
        "radial",
    }
