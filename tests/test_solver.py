"""The solver against least squares in numpy, the exact solve against the iterations, and what a run
leaves behind."""

import functools
import json
from dataclasses import replace

from jgrid import checkpoint
from jgrid.design import Design
from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    Domain,
    FourierGridConfig,
    MulFAGridConfig,
    SirenConfig,
)
from jgrid.grid import Grid
from jgrid.image.task import ImageTask, pixel_centres
from jgrid.index import FourierIndex, GridIndex, PointIndex, r_sequence
from jgrid.kernel import (
    InterpolationKernel,
    MulFAGainKernel,
    MulFAKernel,
    MulFALiteralKernel,
    RadialKernel,
)
from jgrid.ops.channels import add_scaled, dot
from jgrid.solver import (
    LeastSquares,
    SolveConfig,
    conjugate_gradients,
    level_weights,
    project,
    raster_axes,
    separable,
    solve,
    warm_start,
)

import jittor as jt
import numpy as np
import pytest
from conftest import DEVICE, drawn_on_the_cpu

CHANNELS = 2
POINTS = 70
NO_DECODER = DecoderConfig(depth=0)
PIXELS = np.random.default_rng(11).uniform(size=(12, 16, 3)).astype(np.float32)


def gain(index):
    kernel = MulFAGainKernel(index.positions(), CHANNELS, width=5, frequency=3.0)
    kernel.last.weight.assign(
        np.random.default_rng(1).normal(size=(CHANNELS, 5)).astype(np.float32) * 0.3
    )
    return kernel


def interpolation(index):
    return InterpolationKernel()


# name: index, kernel, whether the levels stay apart
GRIDS = {
    "dense-1d": (lambda: GridIndex(1, [9]), interpolation, False),
    "dense-2d-levels-smooth": (
        lambda: GridIndex(2, [[2, 3], [4, 5]]),
        lambda index: InterpolationKernel("smooth"),
        False,
    ),
    "dense-3d": (lambda: GridIndex(3, [[1, 2, 2]]), interpolation, False),
    "hash-2d-collisions": (lambda: GridIndex(2, [3, 6, 12], table_size=11), interpolation, False),
    "hash-3d-collisions": (lambda: GridIndex(3, [2, 5], table_size=13), interpolation, False),
    "gain-1d": (lambda: GridIndex(1, [3, 6]), gain, False),
    "gain-2d-hash": (lambda: GridIndex(2, [3, 6], table_size=20), gain, False),
    "mulfa-2d-concat": (
        lambda: GridIndex(2, [2, 4]),
        lambda index: MulFAKernel(2, 2, CHANNELS, kernels=2),
        True,
    ),
    "fourier-2d": (
        lambda: FourierIndex(2, (3, 3), 1),
        lambda index: InterpolationKernel(parts=3),
        False,
    ),
    "radial-2d": (
        lambda: PointIndex(r_sequence(20, 2), 4),
        lambda index: RadialKernel(20, 2, CHANNELS),
        False,
    ),
    "radial-3d-octaves": (
        lambda: PointIndex(r_sequence(20, 3), 4),
        lambda index: RadialKernel(20, 3, CHANNELS, octaves=1),
        True,
    ),
    "literal-2d": (
        lambda: GridIndex(2, [2, 4]),
        lambda index: MulFALiteralKernel(index.positions(), 2, 1, width=5, depth=1),
        False,
    ),
}
# how near features come, beside the largest: rounding decides in which iteration a solve stops, and
# CUDA rounds otherwise
NEAR = 1e-4 if DEVICE == "cpu" else 2e-4
every_grid = pytest.mark.parametrize("name", GRIDS)
both_ways = pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])


def problem(name, fused=True):
    """The grid, and points and values that it cannot meet."""
    jt.set_global_seed(2)
    np.random.seed(2)
    index, kernel, concat = GRIDS[name]
    index = index()
    grid = drawn_on_the_cpu(
        lambda: Grid(index, kernel(index), CHANNELS, concat=concat, fused=fused)
    )
    random = np.random.default_rng(3)
    return (
        grid,
        random.uniform(size=(POINTS, index.dim)).astype(np.float32),
        random.normal(size=(POINTS, grid.n_out)).astype(np.float32),
    )


def value(grid, x):
    return grid(jt.array(x)).numpy().astype(np.float64)


@functools.cache
def matrices(name):
    """Phi of each channel, (C, rows, M) in float64, from the plain grid's values for one feature at
    a time; rows are points and kernels."""
    grid, x, _ = problem(name, fused=False)
    m = grid.w.shape[0]
    columns = np.empty((CHANNELS, POINTS * grid.n_out // CHANNELS, m))
    for node in range(m):
        w = np.zeros((m, CHANNELS), np.float32)
        w[node] = 1.0
        grid.w.assign(w)
        columns[:, :, node] = value(grid, x).reshape(-1, CHANNELS).T
    return columns


def best(name, y, tikhonov=0.0):
    """numpy's features (M, C) and the values they give."""
    w = []
    fit = []
    for phi, target in zip(matrices(name), y.reshape(-1, CHANNELS).T.astype(np.float64)):
        m = phi.shape[1]
        wide = np.concatenate([phi, np.sqrt(tikhonov) * np.eye(m)])
        padded = np.concatenate([target, np.zeros(m)])
        # columns that depend on each other do so up to float32
        w.append(np.linalg.lstsq(wide, padded, rcond=1e-5)[0])
        fit.append(phi @ w[-1])
    return np.stack(w, axis=1), np.stack(fit, axis=1).reshape(y.shape)


@both_ways
@every_grid
def test_equals_lstsq(name, fused):
    """The values at the points: where columns depend on each other the features are not unique."""
    grid, x, y = problem(name, fused)
    _, loss = solve(grid, x, y, iterations=400, tolerance=1e-5)
    _, wanted = best(name, y)
    np.testing.assert_allclose(value(grid, x), wanted, atol=2e-3 * np.abs(wanted).max())
    np.testing.assert_allclose(loss, np.square(wanted - y).mean(), rtol=1e-4)


@both_ways
@every_grid
def test_tikhonov_equals_lstsq(name, fused):
    """With the penalty the features are unique."""
    grid, x, y = problem(name, fused)
    solve(grid, x, y, iterations=200, tolerance=1e-5, tikhonov=0.3)
    wanted, _ = best(name, y, 0.3)
    np.testing.assert_allclose(grid.w.numpy(), wanted, atol=NEAR * np.abs(wanted).max())
    assert np.abs(grid.w.numpy()).sum() < np.abs(best(name, y)[0]).sum()


@both_ways
@every_grid
def test_the_design_is_the_grids_matrix(name, fused):
    """Products with Phi and with its transpose, and the lengths of its columns."""
    grid, x, _ = problem(name, fused)
    phi = matrices(name)
    random = np.random.default_rng(4)
    w = random.normal(size=tuple(grid.w.shape)).astype(np.float32)
    r = random.normal(size=(POINTS * grid.n_out // CHANNELS, CHANNELS)).astype(np.float32)
    with jt.no_grad():
        design = Design(grid, jt.array(x))
        applied = design.apply(jt.array(w))
        adjoint = design.adjoint(jt.array(r)).numpy()
        squares = design.squares().broadcast(grid.w.shape).numpy()
    np.testing.assert_allclose(applied.numpy(), np.einsum("crm,mc->rc", phi, w), atol=2e-5)
    np.testing.assert_allclose(adjoint, np.einsum("crm,rc->mc", phi, r), atol=1e-4)
    lengths = np.square(phi).sum(1).T
    if "hash" in name:  # of corners that share a slot the squares are added, not the corners
        assert (squares <= lengths * (1 + 1e-5)).all() and (
            squares >= lengths / 2**grid.index.dim * (1 - 1e-5)
        ).all()
    else:
        np.testing.assert_allclose(squares, lengths, rtol=1e-4, atol=1e-5)


def test_channels_do_not_mix():
    """Each has its own step lengths, so a channel is solved the same in whatever company."""
    grid, x, y = problem("hash-2d-collisions")
    start = grid.w.numpy()
    solve(grid, x, y, iterations=4, tolerance=0)
    first = grid.w.numpy()[:, 0]
    grid.w.assign(start)
    solve(grid, x, np.stack([y[:, 0], 100 * x[:, 0]], axis=1), iterations=4, tolerance=0)
    np.testing.assert_allclose(grid.w.numpy()[:, 0], first, atol=1e-5)
    grid.w.assign(start * 0)
    # a channel that is solved already
    solve(grid, x, np.stack([y[:, 0], 0 * y[:, 0]], axis=1), iterations=400, tolerance=1e-5)
    np.testing.assert_array_equal(grid.w.numpy()[:, 1], 0)
    np.testing.assert_allclose(
        value(grid, x)[:, 0], best("hash-2d-collisions", y)[1][:, 0], atol=5e-3
    )


def test_starts_from_the_features_it_finds():
    grid, x, y = problem("dense-2d-levels-smooth")
    steps = [solve(grid, x, y, iterations=400, tolerance=1e-4)[0] for _ in range(2)]
    assert steps[1] <= 1 < steps[0]


def test_stops_where_the_residual_is_gone():
    """Values the grid can meet exactly."""
    grid, x, _ = problem("dense-1d")
    grid.w.assign(np.random.default_rng(5).normal(size=tuple(grid.w.shape)).astype(np.float32))
    y = value(grid, x).astype(np.float32)
    grid.w.assign(np.zeros(tuple(grid.w.shape), np.float32))
    iterations, loss = solve(grid, x, y, iterations=400, tolerance=1e-3)
    assert iterations < 60 and loss < 1e-11


def test_calls_back_after_every_iteration_with_the_features_in_place(capfd):
    grid, x, y = problem("hash-2d-collisions")
    seen = []

    def look(iteration, loss):
        seen.append(iteration)
        assert np.isclose(loss, np.square(value(grid, x) - y).mean(), rtol=1e-4)

    iterations, _ = solve(grid, x, y, iterations=7, tolerance=0, callback=look, progress=True)
    assert seen == list(range(1, 8)) and iterations == 7
    assert "7/7" in capfd.readouterr().err


def test_the_loss_falls_with_every_iteration():
    grid, x, y = problem("gain-2d-hash")
    losses = []
    solve(grid, x, y, iterations=15, tolerance=0, callback=lambda _, loss: losses.append(loss))
    assert (np.diff(losses) < 0).all()


def test_features_stay_parameters():
    for name in ("hash-2d-collisions", "radial-2d"):
        grid, x, y = problem(name)
        solve(grid, x, y, iterations=2)
        assert not grid.w.is_stop_grad() and "w" in grid.state_dict()
        assert np.abs(jt.grad(((grid(jt.array(x)) - 1.0) ** 2).sum(), grid.w).numpy()).max() > 0


@pytest.mark.parametrize("name", ["hash-2d-collisions", "gain-2d-hash", "radial-2d"])
def test_iterations_keep_nothing_alive(name):
    grid, x, y = problem(name)
    lived = []
    solve(
        grid,
        x,
        y,
        iterations=12,
        tolerance=0,
        callback=lambda *_: lived.append(jt.liveness_info()["lived_ops"]),
    )
    assert len(set(lived[2:])) == 1


@pytest.mark.parametrize(
    "x, y, word",
    [
        (np.zeros((5, 3)), np.zeros((5, CHANNELS)), "shape|points"),
        (np.zeros((5, 1)), np.zeros((4, CHANNELS)), "points"),
        (np.zeros((5, 1)), np.full((5, CHANNELS), np.nan), "finite"),
        (np.zeros((0, 1)), np.zeros((0, CHANNELS)), "points"),
    ],
    ids=["dim", "rows", "nan", "none"],
)
def test_wrong_data_is_refused(x, y, word):
    with pytest.raises(ValueError, match=word):
        solve(problem("dense-1d")[0], x, y)


# The exact solve

RASTERS = {1: ([7], [20]), 2: ([[6, 9]], [15, 25]), 3: ([[2, 3, 4]], [5, 7, 9])}


def raster(counts):
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n for n in counts[::-1]), indexing="ij")
    return np.stack([a.ravel() for a in axes[::-1]], axis=1).astype(np.float32)


def raster_problem(dim, profile="linear", parts=1):
    cells, counts = RASTERS[dim]
    grid = Grid(GridIndex(dim, cells), InterpolationKernel(profile, parts), CHANNELS)
    x = raster(counts)
    return grid, x, np.random.default_rng(6).normal(size=(len(x), CHANNELS)).astype(np.float32)


@pytest.mark.parametrize(
    "dim, profile, parts",
    [(1, "linear", 1), (2, "linear", 1), (2, "smooth", 2), (3, "nearest", 1), (3, "linear", 1)],
)
def test_separable_equals_the_iterations(dim, profile, parts):
    grid, x, y = raster_problem(dim, profile, parts)
    w = separable(grid, x, y)
    conjugate_gradients(grid, jt.array(x), jt.array(y), 300, 1e-6)
    np.testing.assert_allclose(grid.w.numpy(), w, atol=2e-4 * np.abs(w).max())
    seen = []
    steps, loss = solve(grid, x, y, callback=lambda *line: seen.append(line))
    np.testing.assert_allclose(grid.w.numpy(), w, atol=1e-6)  # solve takes it by itself
    assert (
        steps == 1
        and seen == [(1, loss)]
        and np.isclose(loss, np.square(value(grid, x) - y).mean(), rtol=1e-5)
    )


def test_separable_only_where_it_applies():
    grid, x, y = raster_problem(2)
    assert separable(grid, x, y) is not None
    # pixels held out
    assert separable(grid, x[:-1], y[:-1]) is None
    order = np.random.default_rng(7).permutation(len(x))
    # another order
    assert separable(grid, x[order], y[order]) is None
    moved = x.copy()
    moved[17, 0] += 0.001
    # one point aside
    assert separable(grid, moved, y) is None
    for index, kernel in (
        (GridIndex(2, [4, 6]), InterpolationKernel()),
        (GridIndex(2, [9], 40), InterpolationKernel()),
        (GridIndex(2, [4]), MulFAGainKernel(GridIndex(2, [4]).positions(), CHANNELS)),
    ):
        assert separable(Grid(index, kernel, CHANNELS), x, y) is None
    # more nodes than pixels: singular
    assert separable(Grid(GridIndex(2, [[40, 9]]), InterpolationKernel(), CHANNELS), x, y) is None
    grid.w.assign(np.zeros(tuple(grid.w.shape), np.float32))
    steps, _ = solve(grid, x, y, tikhonov=0.1, tolerance=1e-4)
    # the penalty is not separable
    assert steps > 1


def test_a_raster_is_recognised():
    axes = raster_axes(raster([4, 3, 5]))
    assert [len(a) for a in axes] == [4, 3, 5]
    assert raster_axes(raster([4, 1, 5])) is not None and [
        len(a) for a in raster_axes(raster([6]))
    ] == [6]
    assert raster_axes(np.random.default_rng(8).uniform(size=(12, 2))) is None
    np.testing.assert_array_equal(raster_axes(pixel_centres(3, 4))[0], pixel_centres(3, 4)[:4, 0])


# Ops and weights


def test_channel_ops_are_what_they_say():
    random = np.random.default_rng(9)
    for rows, c in ((1, 1), (5, 3), (4099, 3), (70000, 4), (40, 33)):
        a, b, scale = (
            random.normal(size=shape).astype(np.float32) for shape in ((rows, c), (rows, c), (c,))
        )
        np.testing.assert_allclose(
            dot(jt.array(a), jt.array(b)).numpy(),
            (a.astype(np.float64) * b).sum(0),
            rtol=1e-4,
            atol=1e-4,
        )
        np.testing.assert_allclose(
            add_scaled(jt.array(a), jt.array(scale), jt.array(b)).numpy(), a + scale * b, atol=1e-6
        )


def test_the_weights_grow_with_the_levels_and_save_iterations():
    grid = Grid(GridIndex(2, [4, 8, 16]), InterpolationKernel(), CHANNELS)
    weights = level_weights(grid).numpy()[:, 0]
    np.testing.assert_allclose([weights[i] for i in grid.index.first], [0.25, 0.5, 1.0])
    assert (
        level_weights(
            Grid(GridIndex(2, [4, 8]), InterpolationKernel(), CHANNELS, concat=True)
        ).numpy()
        == 1
    ).all()


# Variable projection


def test_projection_beats_the_frozen_kernel_and_keeps_the_features_optimal():
    """Values that a gain kernel far from its start has made; the features are the least squares fit
    of the last kernel."""
    jt.set_global_seed(0)
    index = GridIndex(1, [6])
    random = np.random.default_rng(10)
    x = random.uniform(size=(200, 1)).astype(np.float32)
    teacher = Grid(index, gain(index), CHANNELS, scale=1.0)
    y = value(teacher, x).astype(np.float32)
    student = Grid(
        index, MulFAGainKernel(index.positions(), CHANNELS, width=5, frequency=3.0), CHANNELS
    )
    _, frozen = solve(student, x, y, iterations=100, tolerance=1e-5)
    losses = []
    last = project(
        student,
        x,
        y,
        steps=40,
        lr=2e-2,
        iterations=8,
        callback=lambda step, loss: losses.append((step, loss)),
    )
    assert [step for step, _ in losses] == list(range(1, 41)) and losses[-1][1] == last
    assert last < 0.3 * frozen
    _, again = solve(student, x, y, iterations=100, tolerance=1e-5)
    assert again > 0.8 * last


def test_solvers_need_something_to_do():
    grid, x, y = problem("dense-1d")
    with pytest.raises(ValueError, match="`iterations` must be at least 1, got 0"):
        solve(grid, x, y, iterations=0)
    with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
        project(grid, x, y, steps=0)


def test_projection_needs_parameters():
    grid, x, y = problem("dense-1d")
    with pytest.raises(ValueError, match="parameters"):
        project(grid, x, y)


# Warm start


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    "config",
    [
        DenseGridConfig(finest=8, coarsest=4, levels=2, profile="smooth"),
        MulFAGridConfig(finest=6, coarsest=4, levels=2),
    ],
    ids=["dense", "mulfa"],
)
def test_a_warm_started_field_is_the_linear_fit(config, depth, gated):
    """To the last decoder layer, and it trains: what is unheard is heard after a step."""
    decoder = DecoderConfig(width=9, depth=depth, gated=gated)
    field = replace(config, decoder=decoder).build(Domain(2, 3))
    task = ImageTask(PIXELS)
    x, y = task.samples()
    linear = Grid(field.grid.index, InterpolationKernel(config.profile), 3)
    # few iterations: each makes more of roundings, which every device has its own of
    solve(linear, x, y, 6)
    loss = warm_start(field, x, y, 6)
    np.testing.assert_allclose(field(jt.array(x)).numpy(), value(linear, x), atol=1e-4)
    assert np.isclose(loss, np.square(field(jt.array(x)).numpy() - y).mean(), rtol=1e-3)
    parameters = [p for group in field.parameter_groups() for p in group["params"]]
    gradients = jt.grad(((field(jt.array(x)) - jt.array(y)) ** 2).mean(), parameters)
    assert all(np.abs(g.numpy()).max() > 0 for g in (gradients[0], gradients[-2]))


def test_a_warm_started_mean_of_grids_has_the_loss_it_says():
    field = FourierGridConfig(finest=6, octaves=1).build(Domain(2, 3))
    x, y = ImageTask(PIXELS).samples()
    loss = warm_start(field, x, y)
    assert np.isclose(loss, np.square(field(jt.array(x)).numpy() - y).mean(), rtol=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        DenseGridConfig(finest=4, levels=1, decoder=NO_DECODER),
        SirenConfig(width=9),
        DenseGridConfig(finest=4, levels=1, decoder=DecoderConfig(width=5)),
        DenseGridConfig(finest=4, levels=1, channels=2),
    ],
    ids=["no decoder", "no grid", "narrow", "few channels"],
)
def test_a_warm_start_needs_room(config):
    with pytest.raises(ValueError, match="warm start"):
        warm_start(config.build(Domain(2, 3)), *ImageTask(PIXELS).samples())


# The run


def small(**kwargs):
    return DenseGridConfig(finest=8, coarsest=4, levels=2, decoder=NO_DECODER, **kwargs)


def test_a_run_has_the_trainers_result_and_lines(tmp_path):
    task = ImageTask(PIXELS, held_out=0.25)
    model = small().build(Domain(2, 3, task.aspect))
    solver = LeastSquares(
        task,
        model,
        SolveConfig(iterations=7, eval_every=3, tolerance=0.0),
        tmp_path,
        progress=False,
    )
    result = solver.fit()
    assert result.keys() == {
        "psnr",
        "ssim",
        "ssim_gaussian",
        "psnr_train",
        "psnr_held_out",
        "loss",
        "steps",
        "parameters",
        "seconds_train",
        "seconds_total",
    }
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == solver.history and [line["step"] for line in lines] == [3, 6, 7]
    assert (
        result["steps"] == 7
        and result["parameters"] == model.grid.w.numel()
        and result["psnr"] == lines[-1]["psnr"]
    )
    x, y = task.samples()
    assert len(x) == 144 and np.isclose(
        result["loss"], np.square(value(model.grid, x) - y).mean(), rtol=1e-4
    )


def test_every_setting_counts(tmp_path):
    def fit(config, tolerance=0.0, **settings):
        jt.set_global_seed(0)
        task = ImageTask(PIXELS)
        model = config.build(Domain(2, 3, task.aspect))
        solver = LeastSquares(
            task,
            model,
            SolveConfig(**{"iterations": 3, "tolerance": tolerance, "eval_every": 1, **settings}),
            progress=False,
        )
        return solver.fit(), {name: v.numpy() for name, v in model.state_dict().items()}, solver

    base, weights, _ = fit(small())
    assert fit(small(), iterations=5)[0]["loss"] < base["loss"]
    assert fit(small(), iterations=200, tolerance=1e-2)[0]["steps"] < 100
    assert np.abs(fit(small(), tikhonov=5.0)[1]["grid.w"]).sum() < np.abs(weights["grid.w"]).sum()
    assert len(fit(small(), eval_every=2)[2].history) == 2
    mulfa = MulFAGridConfig(finest=6, coarsest=4, levels=2, decoder=NO_DECODER)
    frozen = fit(mulfa)
    learned = fit(mulfa, kernel_steps=4)
    assert learned[0]["steps"] == 4 and [line["step"] for line in learned[2].history] == [
        1,
        2,
        3,
        4,
    ]
    assert (frozen[1]["grid.kernel.last.weight"] == 0).all() and (
        learned[1]["grid.kernel.last.weight"] != 0
    ).any()


@pytest.mark.parametrize(
    "settings",
    [
        {"iterations": 0},
        {"tolerance": 1.0},
        {"tolerance": -0.1},
        {"tikhonov": -1.0},
        {"kernel_steps": -1},
        {"eval_every": 0},
        {"tikhonov": float("inf")},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        SolveConfig(**settings)


def test_fields_that_are_not_linear_are_refused():
    task = ImageTask(PIXELS)
    with pytest.raises(ValueError, match="`decoder.depth` 0"):
        LeastSquares(task, DenseGridConfig(finest=8, levels=1).build(Domain(2, 3)), SolveConfig())
    with pytest.raises(ValueError, match="`kernel_steps`"):
        LeastSquares(task, small().build(Domain(2, 3)), SolveConfig(kernel_steps=3))


def test_a_solved_model_can_be_saved_and_loaded(tmp_path):
    task = ImageTask(PIXELS)
    model, other = (small().build(Domain(2, 3, task.aspect)) for _ in range(2))
    LeastSquares(task, model, SolveConfig(iterations=5), progress=False).fit()
    checkpoint.save(
        tmp_path / "m.safetensors", {k: v.numpy() for k, v in model.state_dict().items()}, {}
    )
    checkpoint.assign(other, checkpoint.read(tmp_path / "m.safetensors")[0])
    np.testing.assert_array_equal(other.grid.w.numpy(), model.grid.w.numpy())
