"""U(x): exact slots, node positions, level sizes, refusals."""

from jgrid.grid import Grid
from jgrid.index import (
    FourierIndex,
    GridIndex,
    PointIndex,
    geometric_levels,
    lattice_steps,
    r_sequence,
)
from jgrid.kernel import InterpolationKernel

import jittor as jt
import numpy as np
import pytest
import reference

# cells, table size: prime, even and power-of-two tables; coordinates whose products with the primes
# exceed 32 bits
HASHED = [
    (((100000, 99991, 65537), (17, 5, 9)), 1000003),
    (((100000, 70000, 3), (1000, 1000, 1000)), 99990),
    (((90000, 100000, 100000), (64, 64, 64)), 2**16),
    (((100000, 99991), (17, 5), (300, 400)), 99990),
    (((90000, 100000), (64, 64)), 2**12),
]


def points(cells, n):
    """Points well inside the cells of the largest level, so that both twins must pick the same
    ones; both ends included."""
    random = np.random.default_rng(0)
    largest = np.max(cells, axis=0)
    cell = np.stack([random.integers(0, c, n) for c in largest], axis=1)
    cell[0] = 0
    cell[1] = largest - 1
    x = ((cell + random.uniform(0.3, 0.45, cell.shape)) / largest).astype(np.float32)
    x[2] = 1.0
    return x


@pytest.mark.parametrize("fold", ["hash", "lattice"])
@pytest.mark.parametrize("cells, table_size", HASHED)
def test_folded_slots_equal_the_reference_exactly(cells, table_size, fold):
    x = points(cells, 40)
    dim = len(cells[0])
    index = GridIndex(dim, np.array(cells), table_size, fold)
    steps = index.steps if fold == "lattice" else None
    node, offset = (v.numpy() for v in index(jt.array(x)))
    assert node.dtype == np.int32
    found = [set(map(int, row)) for row in node.reshape(len(x) * len(cells), 2**dim)]
    wanted = [
        {row for row, _ in level}
        for point in x
        for level in reference.active_nodes(point, cells, table_size, steps=steps)
    ]
    assert found == wanted
    by_row = [
        {row: u for row, u in level}
        for point in x
        for level in reference.active_nodes(point, cells, table_size, steps=steps)
    ]
    for rows, offsets, reference_offsets in zip(
        node.reshape(-1, 2**dim), offset.reshape(-1, 2**dim, dim), by_row
    ):
        for row, u in zip(rows, offsets):
            if len(reference_offsets) == 2**dim:  # without collisions a row has one offset
                np.testing.assert_allclose(u, reference_offsets[row], atol=1e-6)
    assert node.min() >= 0 and node.max() < index.n_nodes


def shortest(size, steps):
    """The length of the shortest vector between two corners that share a slot, by trying all."""
    reach = int(2 * size ** (1 / len(steps))) + 1
    axes = [np.arange(-reach, reach + 1)] * len(steps)
    corners = np.stack([a.ravel() for a in np.meshgrid(*axes)], axis=1)
    same = (corners @ np.array(steps)) % size == 0
    return np.sqrt(np.sort((corners[same] ** 2).sum(1))[1])  # the first is the corner itself


@pytest.mark.parametrize("size, dim", [(50, 2), (1733, 2), (4096, 2), (30, 3), (1000, 3)])
def test_corners_that_share_a_slot_of_a_lattice_lie_far_apart(size, dim):
    """Nearly as far as the densest packing allows, the lengths of whose shortest vectors are known:
    size^(1/D) times (4/3)^(1/4) in the plane and 2^(1/6) in space."""
    steps = lattice_steps(size, (1000,) * dim)
    densest = size ** (1 / dim) * {2: (4 / 3) ** 0.25, 3: 2 ** (1 / 6)}[dim]
    assert 0.87 * densest < shortest(size, steps) <= densest * (1 + 1e-9)


def test_a_lattice_stays_within_32_bits_and_a_table():
    index = GridIndex(3, [[2**20, 2**20, 2**20], [3, 3, 3]], 2**22, "lattice")
    assert index.folded.tolist() == [True, False]
    assert (index.steps[0] * (index.cells[0] + 1)).sum() < 2**32
    assert index.steps[1].tolist() == [1, 4, 16]
    node = index(jt.array(np.random.default_rng(0).uniform(size=(500, 3)).astype(np.float32)))[0]
    first, second = np.split(node.numpy(), 2, axis=1)
    assert 0 <= first.min() and first.max() < 2**22 <= second.min()
    assert second.max() < index.n_nodes


@pytest.mark.parametrize(
    "size, cells, steps",
    [
        (12913, (519, 346), (1, 3672)),
        (12913, (424, 424), (1, 3672)),
        (2**15, (192, 192, 192), (1, 15339, 27498)),
        (2**22, (2**20, 2**20), (1, 2046)),
    ],
)
def test_lattices_stay_what_they_are(size, cells, steps):
    """Saved models do not hold them: with others they would be read wrongly."""
    assert lattice_steps(size, cells) == steps


@pytest.mark.parametrize("cells, apart", [((1, 10**5), 500), ((10**5, 1), 500), ((3, 10**4), 250)])
def test_a_narrow_level_uses_its_whole_table(cells, apart):
    """Across it nothing is shared, and along it what shares a slot lies as far apart as it can."""
    size = 1000
    index = GridIndex(2, [cells], size, "lattice")
    across, along = np.argsort(cells)
    corner = np.zeros((2, size), np.int64)
    corner[along] = np.arange(size)
    slots = []
    for corner[across] in range(min(cells) + 1):
        slots.append((corner * index.steps[0][:, None]).sum(0) % size)
    near = np.array(slots)[:, : apart - 10]
    assert len(np.unique(near)) == near.size


@pytest.mark.parametrize("size", [23424, 23225, 22003, 2**14, 2**15, 30000])
@pytest.mark.parametrize("cells", [(330, 220), (600, 400)])
def test_a_hash_of_the_plane_fills_tables_of_any_size(size, cells):
    """As evenly as throwing the corners at random. By the remainder, 0.36 of 23,424 slots stayed
    empty, and the standard deviation of their loads was 3.6 times what chance gives."""
    index = GridIndex(len(cells), [cells], size, "hash")
    axes = np.meshgrid(*[np.arange(c + 1) for c in cells], indexing="ij")
    corner = np.stack([a.ravel() for a in axes], axis=1).astype(np.int32)
    corner = np.repeat(corner[:, None, None], 2 ** len(cells), axis=2)
    slot = index._slot(jt.array(corner)).numpy()[..., 0].ravel()
    load = np.bincount(slot, minlength=size)
    mean = len(corner) / size
    assert len(load) == size
    assert load.std() < 1.1 * mean**0.5
    assert (load == 0).mean() < 1.1 * np.exp(-mean) + 0.001


def test_no_other_way_to_fold():
    with pytest.raises(ValueError, match="lattice or hash, not by 'crease'"):
        GridIndex(2, [8], 20, "crease")


@pytest.mark.parametrize("cells, table_size", HASHED)
def test_fused_op_uses_the_same_slots_exactly(cells, table_size):
    """The features that have a gradient are those of the reference's slots, no others."""
    x = points(cells, 40)
    grid = Grid(
        GridIndex(len(cells[0]), np.array(cells), table_size),
        InterpolationKernel("smooth"),
        1,
        fused=True,
    )
    touched = np.flatnonzero(jt.grad(grid(jt.array(x)).sum(), grid.w).numpy()[:, 0])
    wanted = {
        row
        for point in x
        for level in reference.active_nodes(point, cells, table_size)
        for row, offset in level
        if reference.window("smooth", offset) > 1e-6
    }
    assert set(touched.tolist()) >= wanted
    possible = {
        row
        for point in x
        for level in reference.active_nodes(point, cells, table_size)
        for row, _ in level
    }
    assert set(touched.tolist()) <= possible


def test_dense_slots_are_row_major_with_axis_0_fastest():
    index = GridIndex(2, np.array([[3, 5]]), None)
    node = index(jt.array(np.array([[0.1, 0.1], [0.9, 0.9]], np.float32)))[0].numpy()
    assert sorted(node[0]) == [0, 1, 4, 5]
    assert sorted(node[1]) == [2 + 4 * 4, 3 + 4 * 4, 2 + 4 * 5, 3 + 4 * 5]


@pytest.mark.parametrize(
    "cells", [((7,), (3,)), ((3, 5), (4, 2)), ((2, 3, 4), (3, 3, 1))], ids=["1d", "2d", "3d"]
)
def test_a_node_has_all_the_weight_at_its_position(cells):
    dim = len(cells[0])
    index = GridIndex(dim, np.array(cells), None)
    places = index.positions()
    assert places.shape == (index.n_nodes, dim) and places.dtype == np.float32
    assert places.min() == 0 and places.max() == 1
    node, offset = (v.numpy() for v in index(jt.array(places)))
    weight = np.prod(1 - np.abs(offset), axis=2)
    own = (weight * (node == np.arange(index.n_nodes)[:, None])).sum(1)
    np.testing.assert_allclose(own, 1, atol=1e-5)
    level_of_slot = np.repeat(np.arange(len(cells)), 2**dim)
    assert (np.repeat(np.arange(index.n_levels), index.size)[node] == level_of_slot).all()


def test_hashed_positions_are_fixed_and_fill_the_square():
    """A hashed slot serves many places; its filters still want one that is spread evenly and always
    the same."""
    index = GridIndex(2, np.array([[2, 2], [200, 200]]), 1024)
    assert index.folded.tolist() == [False, True]
    places = index.positions()[9:]
    assert places.shape == (1024, 2) and places.min() >= 0 and places.max() <= 1
    assert len(np.unique(places, axis=0)) == 1024
    counts = np.histogram2d(places[:, 0], places[:, 1], bins=8, range=[[0, 1], [0, 1]])[0]
    assert counts.min() >= 12 and counts.max() <= 20  # 16 each if they were perfectly even
    np.testing.assert_array_equal(
        places, GridIndex(2, np.array([[2, 2], [200, 200]]), 1024).positions()[9:]
    )


def test_a_level_that_fits_the_table_is_dense():
    assert GridIndex(2, [9], 100).folded.tolist() == [False]
    assert GridIndex(2, [9], 99).folded.tolist() == [True]
    assert GridIndex(2, [9], 99).n_nodes == 99
    assert GridIndex(2, [9, 4], None).n_nodes == 100 + 25


def test_cells_along_one_axis_count_for_all():
    assert GridIndex(3, [2, 4], None).cells.tolist() == [[2, 2, 2], [4, 4, 4]]


def test_geometric_levels():
    assert geometric_levels(16, 128, 4) == [16, 32, 64, 128]
    assert geometric_levels(3, 100, 2) == [3, 100]
    assert geometric_levels(3, 100, 1) == [100]
    levels = geometric_levels(5, 77, 6)
    assert (
        levels[0] == 5
        and levels[-1] == 77
        and levels == sorted(levels)
        and all(isinstance(r, int) for r in levels)
    )


@pytest.mark.parametrize(
    "dim, cells", [(0, [[]]), (4, [3]), (2, [[3, 3, 3]]), (2, [0]), (3, [[4, -1, 4]]), (3, [2000])]
)
def test_bad_arguments_are_refused(dim, cells):
    """The last needs more nodes than 32-bit indices reach."""
    with pytest.raises(ValueError, match="grid"):
        GridIndex(dim, cells, None)


def test_nodes_that_are_assigned_later_are_the_ones_that_answer():
    """A saved model's nodes come after the constructor, and after a first call."""
    x = jt.array(np.random.default_rng(0).uniform(size=(30, 2)).astype(np.float32))
    moved = np.random.default_rng(1).uniform(size=(20, 2)).astype(np.float32)
    index = PointIndex(r_sequence(20, 2), 3)
    wanted = PointIndex(moved, 3)
    assert not np.array_equal(index(x)[0].numpy(), wanted(x)[0].numpy())
    index.nodes.assign(moved)
    for found, expected in zip(index(x), wanted(x)):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_no_octaves_is_a_dense_grid():
    x = jt.array(np.random.default_rng(0).uniform(size=(9, 2)).astype(np.float32))
    for found, expected in zip(FourierIndex(2, (3, 5), 0)(x), GridIndex(2, [(3, 5)])(x)):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda: FourierIndex(2, 3, -1),
        lambda: PointIndex(np.zeros((4, 2)), 4),
        lambda: PointIndex(np.zeros(4), 1),
        lambda: PointIndex(np.zeros((4, 2)), 0),
        lambda: PointIndex(np.full((4, 2), np.nan), 2),
    ],
)
def test_bad_nodes_are_refused(make):
    with pytest.raises(ValueError, match="index needs"):
        make()
