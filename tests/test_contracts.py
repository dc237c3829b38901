"""What AbstractIndex and AbstractKernel promise, kept by every index and every kernel."""

from jgrid import AbstractIndex, AbstractKernel, Grid
from jgrid.field import Domain, Field, check_memory
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

CHANNELS = 2
INDICES = {
    "grid-1d": lambda: GridIndex(1, [7, 3]),
    "grid-2d": lambda: GridIndex(2, [[3, 5], [8, 6]]),
    "grid-2d-hashed": lambda: GridIndex(2, [[3, 5], [80, 60]], 50),
    "grid-3d-hashed": lambda: GridIndex(3, [4, 9], 101),
    "grid-2d-lattice": lambda: GridIndex(2, [[3, 5], [80, 60]], 50, "lattice"),
    "grid-3d-lattice": lambda: GridIndex(3, [2, 9], 101, "lattice"),
    "fourier": lambda: FourierIndex(2, [4, 3], 2),
    "fourier-dense": lambda: FourierIndex(3, 4, 0),
    "points": lambda: PointIndex(r_sequence(30, 2), 3),
    "points-3d": lambda: PointIndex(r_sequence(30, 3), 5),
}
KERNELS = {
    "interpolation": lambda index: InterpolationKernel("smooth", parts=2),
    "mulfa": lambda index: MulFAKernel(index.dim, index.n_levels, CHANNELS, kernels=3, octaves=2),
    "gain": lambda index: MulFAGainKernel(index.positions(), CHANNELS, octaves=2, depth=2),
    "literal": lambda index: MulFALiteralKernel(index.positions(), index.n_levels),
    "radial": lambda index: RadialKernel(index.n_nodes, index.dim, CHANNELS),
    "radial-octaves": lambda index: RadialKernel(index.n_nodes, index.dim, CHANNELS, octaves=1),
}
# radial windows are for the nodes of one level
PAIRS = [
    (i, k)
    for i in INDICES
    for k in KERNELS
    if INDICES[i]().n_levels == 1 or not k.startswith("radial")
]
every_index = pytest.mark.parametrize("index", [make() for make in INDICES.values()], ids=INDICES)
every_pair = pytest.mark.parametrize("index, kernel", PAIRS)


@pytest.fixture(autouse=True)
def seed():
    jt.set_global_seed(0)
    np.random.seed(0)


def points(index, n=9):
    return np.random.default_rng(1).uniform(0.02, 0.98, (n, index.dim)).astype(np.float32)


def in_numpy(index, x):
    return [v.numpy() for v in index(jt.array(x))]


@pytest.mark.parametrize(
    "contract, tested",
    [
        (AbstractIndex, [make() for make in INDICES.values()]),
        (AbstractKernel, [make(GridIndex(2, [3])) for make in KERNELS.values()]),
    ],
)
def test_all_of_the_library_stand_here_and_none_is_abstract(contract, tested):
    library = {c for c in contract.__subclasses__() if c.__module__.startswith("jgrid.")}
    assert {type(one) for one in tested} == library
    with pytest.raises(TypeError, match="abstract"):
        contract()


@every_index
def test_an_index_gives_nodes_and_offsets(index):
    x = points(index)
    node, offset = in_numpy(index, x)
    assert node.shape == (len(x), index.k) and node.dtype == np.int32
    assert offset.shape == (len(x), index.k, index.dim) and offset.dtype == np.float32
    # also after the apps' tests, which run before these in a process: see _two_to_the_32nd
    assert node.min() >= 0 and node.max() < index.n_nodes
    assert np.isfinite(offset).all()


@every_index
def test_an_index_clamps_and_treats_each_point_alone(index):
    x = points(index)
    node, offset = in_numpy(index, x)
    for some in (slice(3, 4), slice(None, None, -1)):
        for whole, part in zip((node, offset), in_numpy(index, x[some])):
            np.testing.assert_allclose(part, whole[some], atol=1e-6)
    far = x * 5 - 2
    for one, other in zip(in_numpy(index, far), in_numpy(index, np.clip(far, 0, 1))):
        np.testing.assert_allclose(one, other, atol=1e-6)


@every_index
def test_the_levels_of_an_index_share_no_node(index):
    node = in_numpy(index, points(index, 200))[0]
    levels = [set(part.ravel()) for part in np.split(node, index.n_levels, axis=1)]
    assert sum(map(len, levels)) == len(set().union(*levels))


@every_index
def test_the_nodes_of_an_index_have_positions(index):
    positions = index.positions()
    assert positions.shape == (index.n_nodes, index.dim) and positions.dtype == np.float32
    assert positions.min() >= 0 and positions.max() <= 1


@every_index
def test_offsets_have_a_slope(index):
    x = jt.array(points(index))
    slope = jt.grad(index(x)[1].sum(), x).numpy()
    assert np.isfinite(slope).all() and (slope != 0).any()


@every_pair
def test_a_kernel_weighs_every_node(index, kernel):
    index = INDICES[index]()
    kernel = KERNELS[kernel](index)
    x = points(index)
    node, offset = index(jt.array(x))
    phi = kernel(jt.array(x), node, offset).numpy()
    assert phi.shape[:3] == (len(x), index.k, kernel.n_kernels)
    assert phi.shape[3] in (1, CHANNELS) and np.isfinite(phi).all()
    alone = kernel(jt.array(x[4:5]), node[4:5], offset[4:5]).numpy()
    np.testing.assert_allclose(alone, phi[4:5], rtol=1e-3, atol=1e-4)


@every_pair
def test_a_kernel_says_truly_whether_it_is_fusible(index, kernel):
    index = INDICES[index]()
    kernel = KERNELS[kernel](index)
    if not kernel.fusible:
        with pytest.raises(NotImplementedError, match=type(kernel).__name__):
            kernel.collapse(jt.ones((index.n_nodes, CHANNELS)))
        return
    functions = 1 + 2 * index.dim * kernel.octaves
    table, mix = kernel.collapse(jt.ones((index.n_nodes, CHANNELS)))
    if mix is None:
        assert table.shape in ([index.n_nodes, 1, CHANNELS], [index.n_nodes, functions, CHANNELS])
    else:
        assert table.shape == [index.n_nodes, 1, CHANNELS]
        assert mix.shape == [index.n_levels, kernel.n_kernels, functions, CHANNELS]
    fused = Grid(index, kernel, CHANNELS, concat=True, scale=1.0)
    plain = Grid(index, kernel, CHANNELS, concat=True, fused=False)
    assert (fused.fused is not None) == index.fusible and plain.fused is None
    plain.w = fused.w
    x = jt.array(points(index))
    np.testing.assert_allclose(fused(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)


@every_pair
def test_a_field_of_any_pair_is_budgeted_and_trained(index, kernel):
    index = INDICES[index]()
    kernel = KERNELS[kernel](index)
    grid = Grid(index, kernel, CHANNELS)
    field = Field(grid, None, {"features": 1e-2, "kernel": 1e-2})
    assert check_memory(field, 100) > 24 * index.n_nodes * CHANNELS
    groups = {group["name"]: group["params"] for group in field.parameter_groups()}
    assert ("kernel" in groups) == bool(kernel.parameters())
    assert field.values(points(index)).shape == (9, grid.n_out)


def test_only_what_reads_the_nodes_counts_them_in_the_budget():
    index = GridIndex(2, [5])
    filters = {name: make(index).n_filters for name, make in KERNELS.items()}
    assert filters["gain"] == 2 * 16 and filters["literal"] == 4 * 16
    assert {filters[name] for name in ("interpolation", "mulfa", "radial")} == {0}


def test_a_domain_is_what_a_task_is():
    domain = Domain(2, 3)
    assert (domain.aspect, domain.place, domain.start) == (None, None, 0.5)


@pytest.mark.parametrize("shape", [(2,), (5, 1), (5, 3), (5, 2, 1)])
@pytest.mark.parametrize("fused", [True, False])
def test_points_of_another_shape_are_refused(shape, fused):
    """A fused op would read what lies beside them."""
    index = GridIndex(2, [4, 8])
    grid = Grid(index, InterpolationKernel(), channels=2, fused=fused)
    for read in (grid, index):
        with pytest.raises(ValueError, match=r"points must be of shape \(N, 2\), got"):
            read(jt.zeros(shape))
