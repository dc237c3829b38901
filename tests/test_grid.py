"""One contract, kept by every grid: values, gradients, borders, and the fused op beside the plain
one."""

import functools
from dataclasses import dataclass

from jgrid.grid import Grid, ProductGrid
from jgrid.index import FourierIndex, GridIndex, PointIndex, r_sequence
from jgrid.kernel import (
    InterpolationKernel,
    MulFAGainKernel,
    MulFAKernel,
    MulFALiteralKernel,
    RadialKernel,
)

import jittor as jt
import numpy as np
import pytest
import reference

CHANNELS = 2
NEIGHBOURS = 3
POINTS = 6


@dataclass(frozen=True)
class Case:
    """A grid to test. No octaves: an interpolation kernel; octaves: a MulFA kernel, `kernels` to a
    channel, or, with a depth, the gain of a filter network of so many multiplicative layers. Warps:
    octaves of a FourierGrid, whose bands are the levels. Scattered: so many scattered nodes, of
    which NEIGHBOURS answer; radial: their kernels."""

    name: str
    cells: tuple
    table_size: int = None
    profile: str = "linear"
    octaves: int = 0
    kernels: int = 1
    depth: int = 0
    warps: int = 0
    scattered: int = 0
    radial: bool = False

    @property
    def dim(self):
        return len(self.cells[0])

    @property
    def n_out(self):
        """Outputs of a level."""
        return CHANNELS * self.kernels


CASES = [
    Case("dense-1d", ((7,),)),
    Case("dense-2d-levels-smooth", ((3, 3), (5, 5), (8, 8)), profile="smooth"),
    Case("dense-3d-anisotropic", ((2, 4, 3),)),
    Case("hash-2d-collisions", ((4, 4), (9, 9), (16, 16)), table_size=37),
    Case("hash-3d-anisotropic-nearest", ((3, 2, 4), (7, 9, 5)), table_size=53, profile="nearest"),
    Case("gain-1d-two-octaves", ((4,), (7,)), octaves=2, depth=1),
    Case("gain-2d-anisotropic-deep", ((3, 4), (6, 5)), octaves=2, depth=2),
    Case(
        "gain-2d-hash-smooth", ((4, 4), (9, 9)), table_size=41, profile="smooth", octaves=1, depth=1
    ),
    Case("gain-3d-deep", ((2, 3, 2),), octaves=1, depth=2),
    Case("mulfa-1d", ((4,), (7,)), octaves=1),
    Case(
        "mulfa-2d-hash-two-octaves-smooth",
        ((4, 3), (9, 8)),
        table_size=41,
        profile="smooth",
        octaves=2,
        kernels=3,
    ),
    Case("mulfa-3d-nearest", ((2, 3, 2),), octaves=1, profile="nearest"),
    Case("fourier-1d", ((5,),) * 5, warps=2),
    Case("fourier-2d-smooth", ((4, 3),) * 3, warps=1, profile="smooth"),
    Case("fourier-3d", ((2, 3, 2),) * 3, warps=1),
    Case("radial-1d-two-octaves", ((1,),), scattered=9, radial=True, octaves=2),
    Case("radial-2d", ((1, 1),), scattered=20, radial=True),
    Case("radial-3d", ((1, 1, 1),), scattered=20, radial=True),
    Case("scattered-2d-mulfa", ((1, 1),), scattered=20, octaves=1),
]
INTERPOLATING = [case for case in CASES if not case.octaves and not case.warps]
GAINS = [case for case in CASES if case.depth]
SECOND_ORDER = [
    case
    for case in CASES
    if case.name
    in (
        "dense-2d-levels-smooth",
        "hash-2d-collisions",
        "gain-2d-anisotropic-deep",
        "mulfa-2d-hash-two-octaves-smooth",
    )
]

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_ways = pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])


def build(case, fused, concat=True, at_start=False):
    """The case's grid with features of size 1 and, unless at_start, a kernel far from its start."""
    jt.set_global_seed(1)
    np.random.seed(1)
    if case.scattered:
        index = PointIndex(r_sequence(case.scattered, case.dim), NEIGHBOURS)
    else:
        index = (
            FourierIndex(case.dim, case.cells[0], case.warps)
            if case.warps
            else GridIndex(case.dim, case.cells, case.table_size)
        )
    if case.radial:
        kernel = RadialKernel(case.scattered, case.dim, CHANNELS, case.octaves, sharpness=1.5)
    elif case.depth:
        kernel = MulFAGainKernel(
            index.positions(),
            CHANNELS,
            octaves=case.octaves,
            width=5,
            depth=case.depth,
            frequency=3.0,
            profile=case.profile,
        )
    elif case.octaves:
        kernel = MulFAKernel(
            case.dim, index.n_levels, CHANNELS, case.kernels, case.octaves, case.profile
        )
    else:
        kernel = InterpolationKernel(case.profile, len(case.cells) if case.warps else 1)
    grid = Grid(index, kernel, CHANNELS, concat=concat, fused=fused, scale=1.0)
    for value in [] if at_start else grid.kernel.state_dict().values():
        if not value.numpy().any():  # the last layer starts at zero, which would hide the others
            value.assign(
                np.random.default_rng(2).normal(size=tuple(value.shape)).astype(np.float32)
            )
    grid.w.assign(np.random.default_rng(3).uniform(-1, 1, tuple(grid.w.shape)).astype(np.float32))
    return grid


def interior(case, n=POINTS):
    """Points away from the faces of every level's cells, and from their middles where nearest
    interpolation jumps."""
    random = np.random.default_rng(4)
    columns = []
    # few points are far from the faces of all bands
    margin, period = (0.03, 1.0) if case.warps else (0.12, 0.5)
    for axis in range(case.dim):
        column = []
        while len(column) < n:
            t = random.uniform()
            places = [
                u * shape[axis] % period
                for shape in case.cells
                for u in reference.warped(t, case.warps)
            ]
            if all(margin < place < period - margin for place in places):
                column.append(t)
        columns.append(column)
    return np.array(columns).T.astype(np.float32)


def loops(case, grid, x, w=None, parameters=None):
    """The reference's value of each level and kernel, (N, L H C), in the precision of x."""
    w = grid.w.numpy().astype(np.float64) if w is None else w
    if parameters is None:
        parameters = {
            name: p.numpy().astype(np.float64) for name, p in grid.kernel.state_dict().items()
        }
    positions = None if case.warps else grid.index.positions().astype(np.float64)

    def active(point):
        if case.scattered:
            return reference.nearest_nodes(point, positions, NEIGHBOURS)
        return reference.active_nodes(point, case.cells, case.table_size, case.warps)

    return reference.grid_levels(
        x,
        w,
        active,
        len(case.cells),
        case.profile,
        case.octaves,
        parameters,
        positions,
        len(case.cells) if case.warps else 1,
    ).reshape(len(x), -1)


@functools.cache
def computed(case, fused):
    """Value and gradients of (g v).sum() at the interior points: computed once, looked at by
    several tests."""
    grid = build(case, fused)
    x = jt.array(interior(case))
    upstream = (
        np.random.default_rng(5)
        .normal(size=(POINTS, len(case.cells) * case.n_out))
        .astype(np.float32)
    )
    value = grid(x)
    wanted = {"w": grid.w, "x": x, **grid.kernel.state_dict()}
    gradients = jt.grad((value * jt.array(upstream)).sum(), list(wanted.values()))
    return (
        grid,
        upstream.astype(np.float64),
        value.numpy(),
        {name: g.numpy() for name, g in zip(wanted, gradients)},
    )


def assert_close(found, wanted, relative):
    """Equal up to `relative` of the largest value: single numbers near zero carry the rounding of
    the sums they came from."""
    assert np.shape(found) == np.shape(wanted)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        found, wanted, rtol=0, atol=relative * max(np.abs(wanted).max(), 1e-3)
    )


@every_case
@both_ways
def test_concat_gives_each_level_and_sum_their_total(case, fused):
    x = jt.array(interior(case))
    levels = build(case, fused)(x).numpy()
    total = build(case, fused, concat=False)(x).numpy()
    assert levels.shape == (POINTS, len(case.cells) * case.n_out)
    assert total.shape == (POINTS, case.n_out)
    assert_close(total, levels.reshape(POINTS, -1, case.n_out).sum(1), 1e-6)


@every_case
@both_ways
def test_equals_the_numpy_loop(case, fused):
    grid, _, value, _ = computed(case, fused)
    assert_close(value, loops(case, grid, interior(case)), 1e-5)


@every_case
@both_ways
def test_linear_in_the_features(case, fused):
    grid = build(case, fused)
    x = jt.array(interior(case))
    first, second = (
        np.random.default_rng(s).normal(size=tuple(grid.w.shape)).astype(np.float32) for s in (6, 7)
    )

    def value(w):
        grid.w.assign(w)
        return grid(x).numpy()

    assert_close(value(2.5 * first - 0.5 * second), 2.5 * value(first) - 0.5 * value(second), 1e-5)


@every_case
@both_ways
def test_rows_are_independent(case, fused):
    grid, _, value, _ = computed(case, fused)
    order = np.array([3, 0, 5, 1, 4, 2, 2])  # one point twice
    assert_close(grid(jt.array(interior(case)[order])).numpy(), value[order], 1e-6)
    assert_close(grid(jt.array(interior(case)[4:5])).numpy(), value[4:5], 1e-6)


@every_case
@both_ways
def test_clamped_at_and_beyond_the_border(case, fused):
    grid = computed(case, fused)[0]
    x = interior(case)
    x[0] = 0.0
    x[1] = 1.0
    x[2] = -0.5
    x[3, 0] = 1.75
    x[4, -1] = -1e-3
    x[5] = 30.0
    value = grid(jt.array(x)).numpy()
    assert_close(value, grid(jt.array(np.clip(x, 0, 1))).numpy(), 1e-6)
    assert_close(value, loops(case, grid, x), 1e-5)


@every_case
@both_ways
def test_gradient_for_features_and_kernel(case, fused):
    """Against central differences of the numpy loop, in float64, along random directions of each
    parameter."""
    grid, upstream, _, gradients = computed(case, fused)
    x = interior(case).astype(np.float64)
    state = {name: p.numpy().astype(np.float64) for name, p in grid.kernel.state_dict().items()}
    for name in ["w", *state]:
        start = grid.w.numpy().astype(np.float64) if name == "w" else state[name]
        for draw in range(2):
            direction = np.random.default_rng(draw).normal(size=start.shape)
            step = 1e-6
            ends = []
            for sign in (1, -1):
                moved = start + sign * step * direction
                ends.append(
                    (
                        upstream
                        * (
                            loops(case, grid, x, w=moved, parameters=state or None)
                            if name == "w"
                            else loops(case, grid, x, parameters={**state, name: moved})
                        )
                    ).sum()
                )
            slope = (ends[0] - ends[1]) / (2 * step)
            scale = np.linalg.norm(gradients[name])
            assert scale > 0, name
            assert abs((gradients[name] * direction).sum() - slope) < 1e-4 * scale, name


@every_case
@both_ways
def test_gradient_for_x(case, fused):
    grid, upstream, _, gradients = computed(case, fused)
    x = interior(case).astype(np.float64)
    step = 1e-6
    slopes = [
        ((loops(case, grid, x + step * axis) - loops(case, grid, x - step * axis)) * upstream).sum(
            1
        )
        / (2 * step)
        for axis in np.eye(case.dim)
    ]
    assert_close(gradients["x"], np.stack(slopes, axis=1), 1e-4)


# warped faces are not the bands'
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.warps], ids=lambda case: case.name
)
@both_ways
def test_slopes_at_the_border_are_those_of_the_inside(case, fused):
    grid, upstream, _, _ = computed(case, fused)
    x = np.resize(interior(case), (2 * case.dim, case.dim)).astype(np.float64)
    step = 1e-6
    upstream = np.resize(upstream, (len(x), upstream.shape[1]))
    inward = np.zeros_like(x)
    for n in range(len(x)):
        x[n, n // 2] = n % 2
        inward[n, n // 2] = 1 - 2 * (n % 2)
    here, near, far = (
        (loops(case, grid, x + k * step * inward) * upstream).sum(1) for k in range(3)
    )
    # of second order: smooth profiles are flat at nodes
    wanted = (4 * near - far - 3 * here) / (2 * step)
    at = jt.array(x.astype(np.float32))
    found = (
        jt.grad((grid(at) * jt.array(upstream.astype(np.float32))).sum(), at).numpy() * inward
    ).sum(1)
    assert_close(found, wanted, 1e-4)


@every_case
def test_fused_equals_plain(case):
    _, _, fused, fused_gradients = computed(case, True)
    _, _, plain, plain_gradients = computed(case, False)
    assert_close(fused, plain, 1e-5)
    for name, gradient in plain_gradients.items():
        assert_close(fused_gradients[name], gradient, 1e-4)


@functools.cache
def energy_gradient(case, fused):
    """The gradient of sum |d(g v)/dx|^2 for the features and the kernel: what an eikonal loss asks
    for."""
    grid = build(case, fused)
    upstream = computed(case, fused)[1].astype(np.float32)
    x = jt.array(interior(case))
    slope = jt.grad((grid(x) * jt.array(upstream)).sum(), x)
    wanted = {"w": grid.w, **grid.kernel.state_dict()}
    return {
        name: g.numpy()
        for name, g in zip(wanted, jt.grad((slope * slope).sum(), list(wanted.values())))
    }


@pytest.mark.parametrize("case", SECOND_ORDER, ids=lambda case: case.name)
def test_second_order_fused_equals_plain(case):
    plain = energy_gradient(case, False)
    for name, gradient in energy_gradient(case, True).items():
        assert np.abs(plain[name]).max() > 0, name
        assert_close(gradient, plain[name], 1e-4)


@both_ways
@pytest.mark.parametrize("case", SECOND_ORDER, ids=lambda case: case.name)
def test_second_order_against_differences(case, fused):
    """The energy is quadratic in w, so its central difference is exact for a step of any size."""
    grid, upstream, _, _ = computed(case, fused)
    x = interior(case).astype(np.float64)
    step = 1e-6
    w = grid.w.numpy().astype(np.float64)

    def energy(w):
        slopes = [
            (
                (loops(case, grid, x + step * axis, w) - loops(case, grid, x - step * axis, w))
                * upstream
            ).sum(1)
            / (2 * step)
            for axis in np.eye(case.dim)
        ]
        return np.square(slopes).sum()

    gradient = energy_gradient(case, fused)["w"]
    direction = np.random.default_rng(8).normal(size=w.shape)
    slope = (energy(w + direction) - energy(w - direction)) / 2
    assert abs((gradient * direction).sum() - slope) < 1e-4 * np.linalg.norm(
        gradient
    ) * np.linalg.norm(direction)


@both_ways
@pytest.mark.parametrize("case", [CASES[3], CASES[6], CASES[10]], ids=lambda case: case.name)
def test_scatter_is_the_adjoint_of_gather(case, fused):
    """<gather w, v> = <w, scatter v>, and the gradient of the scatter for v is the gather again."""
    # points that share nodes
    grid = build(case, fused)
    x = jt.array(np.repeat(interior(case), 20, axis=0))
    random = np.random.default_rng(9)
    upstream = jt.array(
        random.normal(size=(20 * POINTS, len(case.cells) * case.n_out)).astype(np.float32)
    )
    other = random.normal(size=tuple(grid.w.shape)).astype(np.float32)
    value = grid(x)
    scattered = jt.grad((value * upstream).sum(), grid.w)
    again = jt.grad((scattered * jt.array(other)).sum(), upstream).numpy()
    w = grid.w.numpy().astype(np.float64)
    scattered = scattered.numpy()
    assert np.isclose(
        (w * scattered).sum(),
        (value.numpy().astype(np.float64) * upstream.numpy()).sum(),
        rtol=1e-5,
    )
    grid.w.assign(other)
    assert_close(again, grid(x).numpy(), 1e-5)


@both_ways
@pytest.mark.parametrize("case", INTERPOLATING, ids=lambda case: case.name)
def test_interpolation_is_a_partition_of_unity(case, fused):
    grid = build(case, fused)
    grid.w.assign(np.ones(tuple(grid.w.shape), np.float32))
    x = np.random.default_rng(10).uniform(size=(POINTS, case.dim)).astype(np.float32)
    # 0.5 lies on faces and middles of cells
    x[0] = 0.0
    x[1] = 1.0
    x[2] = 0.5
    assert_close(grid(jt.array(x)).numpy(), np.ones((POINTS, len(case.cells) * CHANNELS)), 2e-6)


@both_ways
@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=lambda case: case.name)
def test_linear_interpolation_is_exact_on_linear_functions(case, fused):
    grid = build(case, fused)
    slope = np.random.default_rng(11).normal(size=(case.dim, CHANNELS))
    shift = np.array([0.3, -2.0])
    grid.w.assign((grid.index.positions() @ slope + shift).astype(np.float32))
    x = np.random.default_rng(12).uniform(size=(POINTS, case.dim)).astype(np.float32)
    assert_close(grid(jt.array(x)).numpy(), x @ slope + shift, 2e-6)


@both_ways
@pytest.mark.parametrize("case", GAINS, ids=lambda case: case.name)
def test_a_gain_starts_as_interpolation(case, fused):
    plain = build(Case("start", case.cells, case.table_size, case.profile), fused)
    x = jt.array(interior(case))
    assert_close(build(case, fused, at_start=True)(x).numpy(), plain(x).numpy(), 1e-7)


@both_ways
def test_a_mulfa_kernel_can_interpolate(fused):
    """With one function of the basis, the constant, its sums are those of plain interpolation."""
    case = CASES[9]
    grid = build(case, fused)
    plain = build(Case("plain", case.cells, case.table_size, case.profile), fused)
    grid.kernel.mix.assign(
        np.eye(1, 3, dtype=np.float32).reshape(1, 1, 3, 1).repeat(2, 0).repeat(CHANNELS, 3)
    )
    x = jt.array(interior(case))
    assert_close(grid(x).numpy(), plain(x).numpy(), 1e-6)


def test_more_channels_than_the_fused_op_keeps():
    """Wide grids take the plain way by themselves; the answer must not change."""
    case = CASES[0]
    index = GridIndex(case.dim, np.array(case.cells), None)
    grid = Grid(index, InterpolationKernel("linear"), 33, concat=True, fused=True, scale=1.0)
    assert_close(grid(jt.array(interior(case))).numpy(), loops(case, grid, interior(case)), 1e-5)


def test_the_bands_of_a_fourier_grid_share_the_weight():
    """Their sum is a mean: features of one give one."""
    case = CASES[13]
    grid = build(case, True, concat=False)
    grid.w.assign(np.ones(tuple(grid.w.shape), np.float32))
    assert_close(grid(jt.array(interior(case))).numpy(), np.ones((POINTS, CHANNELS)), 2e-6)


def test_a_product_of_grids_is_the_product_of_their_values():
    """Planes times lines in 3-D, and the gradient for x through both factors."""
    grids = [
        Grid(
            GridIndex(len(axes), [[3, 4][: len(axes)]]), InterpolationKernel(), CHANNELS, scale=1.0
        )
        for axes in ((0, 2), (1,), (2,))
    ]
    product = ProductGrid([[((0, 2), grids[0]), ((1,), grids[1])], [((2,), grids[2])]])
    assert product.n_out == 2 * CHANNELS and len(product.parameters()) == 3
    start = np.random.default_rng(13).uniform(0.05, 0.95, (POINTS, 3)).astype(np.float32)

    def wanted(x):
        values = []
        for grid, axes in zip(grids, ((0, 2), (1,), (2,))):
            active = functools.partial(
                reference.active_nodes, cells=grid.index.cells, table_size=None
            )
            values.append(
                reference.grid_levels(
                    x[:, axes], grid.w.numpy().astype(np.float64), active, 1, "linear"
                )[:, 0, 0]
            )
        return np.concatenate([values[0] * values[1], values[2]], axis=1)

    x = jt.array(start)
    value = product(x)
    assert_close(value.numpy(), wanted(start), 1e-5)
    slope = jt.grad(value.sum(), x).numpy()
    start = start.astype(np.float64)
    step = 1e-6
    differences = [
        (wanted(start + step * axis) - wanted(start - step * axis)).sum(1) / (2 * step)
        for axis in np.eye(3)
    ]
    assert_close(slope, np.stack(differences, axis=1), 1e-4)


@pytest.mark.parametrize("dim", [1, 2])
def test_literal_kernel_is_the_papers(dim):
    """Equations 6 to 8 as loops; half of the denominators here are smaller than the floor."""
    cells = [(3,) * dim, (5,) * dim]
    octaves = 2
    index = GridIndex(dim, cells)
    kernel = MulFALiteralKernel(
        index.positions(), 2, octaves=octaves, width=4, depth=2, frequency=3.0
    )
    grid = Grid(index, kernel, CHANNELS, concat=True, scale=1.0)
    parameters = {name: p.numpy().astype(np.float64) for name, p in kernel.state_dict().items()}
    x = np.random.default_rng(5).uniform(size=(8, dim)).astype(np.float32)
    w = grid.w.numpy()
    positions = index.positions()

    sums = []
    totals = []
    for point in x:
        for nodes in reference.active_nodes(point, cells, None):
            raw = [
                reference.mulfa_gain(parameters, octaves, point, positions[row])[0]
                for row, _ in nodes
            ]
            sums.append(sum(r * w[row] for r, (row, _) in zip(raw, nodes)))
            totals.append(sum(raw))
    kernel.floor = float(np.median(np.abs(totals)))
    guarded = np.where(np.less(totals, 0), -1, 1) * np.maximum(np.abs(totals), kernel.floor)
    np.testing.assert_allclose(
        grid(jt.array(x)).numpy(),
        (np.array(sums) / guarded[:, None]).reshape(8, -1),
        rtol=2e-4,
        atol=2e-5,
    )


def test_total_variation_of_factors_is_taken_at_their_own_axes():
    def factor(axes, seed):
        grid = Grid(GridIndex(len(axes), [6]), InterpolationKernel("linear"), 2, scale=1.0)
        grid.w.assign(
            np.random.default_rng(seed).normal(size=tuple(grid.w.shape)).astype(np.float32)
        )
        return axes, grid

    modes = [[factor((1, 2), 0), factor((0,), 1)]]
    x = np.random.default_rng(2).uniform(size=(20, 3)).astype(np.float32)
    wanted = sum(grid.total_variation(jt.array(x[:, list(axes)])).item() for axes, grid in modes[0])
    assert ProductGrid(modes).total_variation(jt.array(x)).item() == pytest.approx(wanted, rel=1e-6)


def test_total_variation_of_linear_features_is_their_slope():
    """w = A (i, j, k) has differences A_d along axis d, whatever the cell; the levels' slopes are 1
    and 2 times A."""
    index = GridIndex(3, [3, 8])
    grid = Grid(index, InterpolationKernel("linear"), 2)
    slope = np.array([[1.0, 0.5], [0.25, -2.0], [3.0, 0.0]])
    level = np.repeat([0, 1], index.size)
    grid.w.update(
        jt.array(
            (
                index.positions() * np.array([3, 8])[level, None] @ slope * (1 + level[:, None])
            ).astype(np.float32)
        )
    )
    grid.w.start_grad()
    x = jt.array(np.random.default_rng(0).uniform(size=(60, 3)).astype(np.float32))
    found = grid.total_variation(x)
    np.testing.assert_allclose(found.item(), np.mean((slope**2).sum(0)) * (1 + 4) / 2, rtol=1e-4)
    touched = np.abs(jt.grad(found, grid.w).numpy()).max(1) > 0
    assert (
        0 < touched.mean() < 1
        and not touched[np.setdiff1d(np.arange(index.n_nodes), index(x)[0].numpy())].any()
    )


def test_levels_fade_in_one_by_one():
    grid = Grid(GridIndex(3, [2, 3, 5]), InterpolationKernel("linear"), 2, concat=True)
    x = jt.array(np.random.default_rng(0).uniform(size=(7, 3)).astype(np.float32))
    whole = grid(x).numpy()
    for progress, share in (
        (0.0, [1, 0, 0]),
        (0.25, [1, 0.5, 0]),
        (0.5, [1, 1, 0]),
        (0.75, [1, 1, 0.5]),
        (1.0, [1, 1, 1]),
    ):
        grid.fade_in(progress)
        np.testing.assert_allclose(
            grid(x).numpy(), whole * np.repeat(share, 2), rtol=1e-5, atol=1e-9
        )
    with pytest.raises(ValueError, match="decoder"):
        Grid(GridIndex(3, [2, 3]), InterpolationKernel("linear"), 2).fade_in(0.5)
