"""U(x): which nodes of a grid answer for a point."""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Optional, Union

from jgrid import memory

import jittor as jt
import numpy as np
from jittor import nn
from scipy.spatial import cKDTree
from typing_extensions import Literal, get_args

Fold = Literal["lattice", "hash"]  # how a level of more nodes than its table shares it

# Instant-NGP's primes (Mueller et al. 2022, eq. 4); the first is 1, so that neighbours along axis 0
# stay neighbours
HASH_PRIMES = (1, 2654435761, 805459861)


class AbstractIndex(ABC):
    """U: the nodes that answer for a point, and how far from them it lies.

    What a grid, a kernel and the theory ask of it:

    dim: D; n_nodes: M, the rows of the features; n_levels: L, the parts into which the nodes of a
    point fall, one after the other and equally many, that share no node (1 unless said); k: K, the
    nodes of a point at all levels together.

    fusible: it is GridIndex, for which `ops.gather` has a fused form; False for any other.
    """

    dim: int
    n_nodes: int
    n_levels: int = 1
    k: int
    fusible: bool = False

    @abstractmethod
    def __call__(self, x: jt.Var) -> tuple[jt.Var, jt.Var]:
        """x (N, D) in [0, 1], clamped -> node (N, K) int32 and offset (N, K, D), x less the node's
        position, in cells: about 1 between neighbours. The offset is differentiable in x."""

    @abstractmethod
    def positions(self) -> np.ndarray:
        """Where each node lies, (M, D) float32 in [0, 1]."""


def geometric_levels(coarsest: int, finest: int, levels: int) -> list[int]:
    """Cells along an axis for each level, growing by a constant factor:

    round(coarsest (finest / coarsest)^(l / (L - 1))), l < L."""
    if levels == 1:
        return [int(finest)]
    growth = np.arange(levels) / (levels - 1)
    return [int(r) for r in np.round(coarsest * (finest / coarsest) ** growth)]


def r_sequence(n: int, dim: int) -> np.ndarray:
    """The R-sequence (Roberts 2018), which fills the cube evenly: point i is (1/2 + i g^-d) mod 1
    on axis d; (n, dim) in [0, 1)."""
    g = {1: 1.618033988749895, 2: 1.324717957244746, 3: 1.2207440846057596}[dim]
    step = g ** -np.arange(1.0, dim + 1)
    return (0.5 + np.arange(n)[:, None] * step) % 1


# of the ways to fold a level, so many are looked at; the best lattice there is is hardly better
LATTICES = {2: 4096, 3: 512}


# the shortest vector of the densest lattice of determinant 1 to the power of the dimension
# (Hermite's constants)
DENSEST = {1: 1.0, 2: 2 / 3**0.5, 3: 2**0.5}


def _longest_shortest(size: int, cells: Sequence[int]) -> int:
    """What no shortest vector of a lattice of determinant `size` exceeds; vectors that do not fit
    into a grid of so many cells do not count."""
    free = sorted(cells)
    slots = float(size)
    while True:
        reach = math.ceil((slots * DENSEST[len(free)]) ** (1 / len(free)))
        if len(free) == 1 or free[0] >= reach:
            return reach
        slots /= free.pop(0) + 1  # a narrow axis holds its part of the slots


@functools.cache
def lattice_steps(size: int, cells: tuple[int, ...]) -> tuple[int, ...]:
    """The steps (1, a, ...) that fold a grid of `cells` along the axes into a table of `size`
    slots, slot = <steps, corner> mod size, so that corners which share a slot lie as far apart as
    they can: those with the longest shortest vector between such corners.

    The steps that are looked at are fixed, and keep <steps, corner> below 2^32. Models do not save
    them: whoever changes what comes out makes saved models wrong."""
    dim = len(cells)
    if dim == 1:
        return (1,)
    top = max(1, min(size, (2**32 - 1) // (sum(cells) + dim)) - 1)
    steps = np.unique((1 + r_sequence(LATTICES[dim], dim - 1) * top).astype(np.int64), axis=0)
    reach = _longest_shortest(size, cells)
    reaches = [min(reach, c) for c in cells[1:]]
    axes = np.meshgrid(*[np.arange(-r, r + 1) for r in reaches[1:]], np.arange(reaches[0] + 1))
    others = np.stack([a.ravel() for a in axes[::-1]], axis=1)
    others = others[(others != 0).any(1)]  # along axis 0 alone the nearest is `size` away
    squares = (others**2).sum(1)
    shortest = []
    for a in steps:
        along = (others @ a) % size
        along = np.minimum(along, size - along)
        within = along <= cells[0]
        shortest.append(np.min(along[within] ** 2 + squares[within], initial=float(size) ** 2))
    return (1, *(int(a) for a in steps[np.argmax(shortest)]))


def check_points(x: jt.Var, dim: int) -> None:
    """ValueError where x is not (N, dim): fused ops read what lies there, whatever its shape."""
    if len(x.shape) != 2 or x.shape[1] != dim:
        raise ValueError(f"points must be of shape (N, {dim}), got {tuple(x.shape)}")


def _clamped(x: jt.Var) -> jt.Var:
    """x within [0, 1], with slope 1 there, the border included, and 0 outside."""
    below_one = jt.ternary(x > 1.0, jt.ones_like(x), x)
    return jt.ternary(x < 0.0, jt.zeros_like(x), below_one)


class GridIndex(AbstractIndex):
    """The corners of the cell that encloses x, at every level; levels with more nodes than a table
    holds are folded into it.

    U(x) = { first_l + slot_l(floor(x R_l) + b) : l < L, b in {0,1}^D }, with slot_l row-major (axis
    0 fastest) where the (R+1)^D nodes of level l fit into `table_size`, else folded into it:

        lattice:  slot(c) = <steps, c> mod table_size
        hash:     slot(c) = (xor_d c_d prime_d mod 2^32) mod table_size

    By a lattice nodes that share a slot lie as far apart as they can, and neighbours share with
    neighbours: a level repeats itself, like a tiling, and levels of other cells repeat elsewhere.
    By a hash (Mueller et al. 2022, eq. 4) they lie anywhere, side by side too. Theirs is made for
    tables of a power of two. In the plane other sizes could stay empty by a third (600 cells,
    23,424 slots), so for them rows of nodes along axis 0 stay whole and start where the prime says,
    which makes a lattice too, though not the best one:

        slot(c) = floor(table_size frac((c_0 spread + c_1 prime_1) / 2^32))
        spread  = floor(2^32 / table_size) + 1

    cells: (L, D) or (L,) cells along each axis; table_size: most nodes a level may own, None for no
    limit. Attributes, one for each level: cells; size, its nodes; folded, whether it is; first, its
    first node; steps (L, D), of a corner's slot, 0 where it is a hash; spread, 0 where there is
    none."""

    fusible = True

    def __init__(
        self,
        dim: int,
        cells: Union[Sequence[int], np.ndarray],
        table_size: Optional[int] = None,
        fold: Fold = "hash",
    ):
        cells = np.asarray(cells, np.int64)
        if cells.ndim == 1:
            cells = np.repeat(cells[:, None], dim, axis=1)
        if dim not in (1, 2, 3) or cells.shape[1] != dim or cells.min() < 1:
            raise ValueError(
                f"a grid index needs dim 1, 2 or 3 and cells >= 1 of shape (L, dim), got dim {dim},"
                f" {cells.tolist()}"
            )
        if table_size is not None and table_size < 2:
            raise ValueError(f"a grid's table needs a size of at least 2, got {table_size}")
        if fold not in get_args(Fold):
            raise ValueError(f"a level is folded by {' or '.join(get_args(Fold))}, not by {fold!r}")
        # of which 64 bits might not hold the true number
        dense = np.minimum(np.prod(cells + 1.0, axis=1), 2.0**53).astype(np.int64)
        size = dense if table_size is None else np.minimum(dense, table_size)
        if size.sum() >= 2**31:
            raise ValueError(
                f"a grid of {size.sum():,} nodes or more does not fit into 32-bit indices; lower"
                " `finest` or `table_size`"
            )
        self.dim = dim
        self.cells = cells
        self.size = size
        self.folded = dense > size
        self.first = np.concatenate([[0], np.cumsum(size)[:-1]])
        self.n_levels = len(cells)
        self.n_nodes = int(size.sum())
        self.k = self.n_levels * 2**dim
        self.steps = self._steps(fold)
        odd = (dim == 2) & (self.steps[:, 0] == 0) & (size & (size - 1) > 0)
        self.spread = np.where(odd, 2**32 // size + 1, 0)
        corners = np.array(list(itertools.product((0, 1), repeat=dim)), np.int64)
        self._corners = corners[:, ::-1].copy()  # axis 0 fastest

    def __call__(self, x: jt.Var) -> tuple[jt.Var, jt.Var]:
        """x (N, D) in [0, 1], clamped -> node (N, L 2^D) int32 and offset (N, L 2^D, D) = x - node
        position, in cells."""
        check_points(x, self.dim)
        return self.at(x.unsqueeze(1))

    def at(self, x: jt.Var) -> tuple[jt.Var, jt.Var]:
        """The same for points of their own at each level: x (N, L, D), or (N, 1, D) for one at
        all."""
        n = x.shape[0]
        scaled = _clamped(x) * jt.array(self.cells.astype(np.float32))  # (N, L, D)
        # the last cell is closed: x = 1 belongs to it
        last = jt.array((self.cells - 1).astype(np.int32))
        cell = jt.minimum(jt.floor(scaled.detach()).int32(), last)
        # (N, L, 2^D, D)
        corner = cell.unsqueeze(2) + jt.array(self._corners.astype(np.int32))
        offset = scaled.unsqueeze(2) - corner.float32()
        # at x = 1 the far corner, though it is met, lies ahead: kernels take their slope from the
        # sign of u
        ahead = jt.array(self._corners.astype(np.float32)) * (offset.detach() == 0.0).float32()
        offset = offset - 1e-30 * ahead
        return self._slot(corner).reshape(n, self.k), offset.reshape(n, self.k, self.dim)

    def _steps(self, fold: Fold) -> np.ndarray:
        """How far along the table a step along each axis goes, (L, D); 0 where it is hashed."""
        below = np.concatenate([np.ones_like(self.cells[:, :1]), self.cells[:, :-1] + 1], axis=1)
        steps = np.cumprod(below, axis=1)
        steps[self.folded] = 0  # which could overflow
        for level in np.flatnonzero(self.folded) if fold == "lattice" else ():
            cells = tuple(int(c) for c in self.cells[level])
            steps[level] = lattice_steps(int(self.size[level]), cells)
        return steps

    def _slot(self, corner: jt.Var) -> jt.Var:
        """Integer corners (N, L, 2^D, D) -> rows of the table (N, L, 2^D)."""
        if self.folded.any():
            # a 0-d or scalar int64 would be narrowed to 32 bits by Jittor, an array is not
            slot = (corner.int64() * jt.array64(self.steps).unsqueeze(1)).sum(-1)
            slot = (slot % jt.array64(self.size).unsqueeze(-1)).int32()
        else:
            slot = (corner * jt.array(self.steps.astype(np.int32)).unsqueeze(1)).sum(-1)
        hashed = self.steps[:, 0] == 0
        if hashed.any():
            chosen = jt.array(hashed).unsqueeze(-1).broadcast(slot.shape)
            slot = jt.ternary(chosen, self._hash(corner), slot)
        return slot + jt.array(self.first.astype(np.int32)).unsqueeze(-1)

    def _hash(self, corner: jt.Var) -> jt.Var:
        """Integer corners (N, L, 2^D, D) -> slots of their levels' tables (N, L, 2^D)."""
        size = jt.array64(self.size).unsqueeze(-1)
        primes = jt.array64(np.array(HASH_PRIMES[: self.dim]))
        wide = (corner.int64() * primes) % _two_to_the_32nd(self.dim)
        hashed = wide[..., 0]
        for axis in range(1, self.dim):
            hashed = hashed ^ wide[..., axis]
        slot = hashed % size
        if self.spread.any():
            along = wide[..., 0] * jt.array64(self.spread).unsqueeze(-1)
            whole = _two_to_the_32nd(2**self.dim)
            share = ((along + wide[..., 1]) % whole) * size // whole
            chosen = jt.array(self.spread > 0).unsqueeze(-1).broadcast(slot.shape)
            slot = jt.ternary(chosen, share, slot)
        return slot.int32()

    def positions(self) -> np.ndarray:
        """Where each node lies, (M, D) float32 in [0, 1]; a folded slot serves many places and gets
        a fixed one of the R-sequence."""
        memory.require(
            32 * self.dim * self.n_nodes,
            f"a grid of {self.n_nodes:,} nodes",
            "`finest` or `table_size`",
        )
        parts = []
        for cells, size, folded in zip(self.cells, self.size, self.folded):
            if folded:
                parts.append(r_sequence(size, self.dim))
            else:
                axes = np.meshgrid(*(np.arange(c + 1) / c for c in cells[::-1]), indexing="ij")
                parts.append(np.stack([a.ravel() for a in axes[::-1]], axis=-1))
        return np.concatenate(parts).astype(np.float32)


def _two_to_the_32nd(n: int) -> jt.Var:
    """2^32, n times. Jittor makes an array of one number a constant of its kernels, and in a
    process that had run an app before, such a mask of 32 bits was seen to do nothing."""
    return jt.array64(np.full(n, 2**32))


class FourierIndex(AbstractIndex):
    """The corners of the cells of x under Fourier warps, each band in nodes of its own
    (FourierGrid, MulFAGrid's predecessor).

    U(x) = corners of the cells of u_b(x) in grid b, u = [x, (1 + sin(2^k pi x)) / 2, (1 + cos(2^k
    pi x)) / 2], k < octaves. The bands are the levels here, L = 1 + 2 octaves; offsets are u_b(x) -
    node position, in cells.

    cells: (D,) or one number, along each axis of every band; octaves: 0 is a dense grid.
    """

    def __init__(self, dim: int, cells: Union[int, Sequence[int], np.ndarray], octaves: int):
        if octaves < 0:
            raise ValueError(f"a Fourier index needs octaves >= 0, got {octaves}")
        self.dim = dim
        self.octaves = octaves
        self.n_levels = 1 + 2 * octaves
        self.bands = GridIndex(dim, np.broadcast_to(cells, (self.n_levels, dim)))
        self.n_nodes = self.bands.n_nodes
        self.k = self.bands.k

    def __call__(self, x: jt.Var) -> tuple[jt.Var, jt.Var]:
        """x (N, D) in [0, 1], clamped -> node (N, L 2^D) int32 and offset (N, L 2^D, D)."""
        check_points(x, self.dim)
        return self.bands.at(self.warp(_clamped(x)))

    def warp(self, x: jt.Var) -> jt.Var:
        """x (N, D) in [0, 1] -> u (N, L, D) in [0, 1]."""
        bands = [x]
        for octave in range(self.octaves):
            angle = x * float(np.pi * 2**octave)
            bands += [(wave(angle) + 1.0) * 0.5 for wave in (jt.sin, jt.cos)]
        return jt.stack(bands, dim=1)

    def positions(self) -> np.ndarray:
        """Where each node lies under the warp of its band, u_b, (M, D) float32 in [0, 1]; several x
        have that u_b."""
        return self.bands.positions()


class PointIndex(AbstractIndex, nn.Module):
    """The k nearest nodes of a point set: U(x) = the k smallest |x - p_i|, nearest first; one
    level.

    Offsets are in spacings: (x - p_i) / h_i, with h_i the distance from node i to its k-th nearest
    other node.

    nodes: p (M, D) in [0, 1], M > k; training does not move them, but they are saved with the
    model."""

    def __init__(self, nodes: np.ndarray, k: int = 4):
        super().__init__()
        nodes = np.asarray(nodes, np.float32)
        if nodes.ndim != 2 or not np.isfinite(nodes).all() or not 1 <= k < len(nodes):
            raise ValueError(
                f"a point index needs finite nodes (M, D) and 1 <= k < M, got shape {nodes.shape}"
                f" and k {k}"
            )
        self.n_nodes, self.dim = nodes.shape
        self.k = k
        self.nodes = jt.array(nodes).stop_grad()
        self._tree: Optional[cKDTree] = None
        self._spacing: Optional[jt.Var] = None

    def __call__(self, x: jt.Var) -> tuple[jt.Var, jt.Var]:
        """x (N, D) in [0, 1], clamped -> node (N, k) int32 and offset (N, k, D)."""
        check_points(x, self.dim)
        x = _clamped(x)
        tree, spacing = self._nearest()
        nearest = tree.query(x.numpy(), np.arange(1, self.k + 1), workers=-1)[1]
        node = jt.array(nearest.astype(np.int32))
        return node, (x.unsqueeze(1) - self.nodes[node]) / spacing[node].unsqueeze(-1)

    def _nearest(self) -> tuple[cKDTree, jt.Var]:
        """The nodes in a tree, and the spacing h (M,)."""
        nodes = self.nodes.numpy()
        # a saved model's nodes come after the constructor
        if self._tree is None or not np.array_equal(self._tree.data, nodes):
            self._tree = cKDTree(nodes)
            # the nearest of all is the node itself
            distance = self._tree.query(nodes, [self.k + 1])[0][:, 0]
            self._spacing = jt.array(np.maximum(distance, 1e-6).astype(np.float32)).stop_grad()
        return self._tree, self._spacing

    def positions(self) -> np.ndarray:
        """Where each node lies, (M, D) float32 in [0, 1]."""
        return self.nodes.numpy()
