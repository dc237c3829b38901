"""Phi of a grid at N fixed points, as products with it. A grid is linear in its features w,

    g(x_n) = (Phi w)_n,   Phi[n, i] = phi(x_n, theta_i),

so all that solves for features, or predicts them, is made of such products. Each channel has its
own Phi where the kernel differs between channels. Features are (M, C) and values (N J, C): J
numbers per channel, more than one where the grid keeps levels or kernels apart; rows run point by
point, then level, then kernel.
"""

from abc import ABC, abstractmethod
from typing import Any

from jgrid.field import Field
from jgrid.grid import Grid
from jgrid.index import AbstractIndex
from jgrid.kernel import AbstractKernel
from jgrid.ops.gather import scatter, weighted_gather

import jittor as jt
import numpy as np
from scipy import sparse

CHUNK = 2**15  # points whose phi is computed at once, where it becomes a matrix


def linear_grid(field: Field) -> Grid:
    """The grid of a field that is linear in its features; ValueError for any other field."""
    if field.network is not None or not isinstance(field.grid, Grid):
        raise ValueError(
            "to be solved for or predicted, a field must be linear in its features: a mulfa,"
            " dense, hash, fourier or radial grid with `decoder.depth` 0, such as those of"
            " jgrid.theory.LINEAR"
        )
    return field.grid


class AbstractDesign(ABC):
    """Products with Phi, which is fixed; each class says what kind of array it takes and gives.

    precision: of the numbers that products are made of, numpy's float32 or float64."""

    precision: type

    @abstractmethod
    def apply(self, w: Any) -> Any:
        """Phi w: (M, C) -> (N J, C)."""

    @abstractmethod
    def adjoint(self, r: Any) -> Any:
        """Phi^T r: (N J, C) -> (M, C)."""

    def gram(self, w: Any) -> Any:
        """Phi^T Phi w: (M, C) -> (M, C)."""
        return self.adjoint(self.apply(w))

    @abstractmethod
    def squares(self) -> Any:
        """The squared lengths of Phi's columns, (M, C) or (M, 1) where all channels are alike.
        Corners of one cell that share a slot may count apart."""


class Design(AbstractDesign):
    """Phi that is never stored: products by the grid's fused op, where it has one. For Jittor
    variables in float32; the kernel as it is at the construction.

    grid: a Grid; x: (N, D) in [0, 1], a Jittor variable."""

    precision = np.float32

    def __init__(self, grid: Grid, x: jt.Var):
        self._x = x
        self._gather = grid.fused
        self._groups = grid.groups
        self._n_nodes = grid.w.shape[0]
        self._unit = None
        self._mix = None
        if self._gather:
            # collapsing multiplies features by what it makes of ones
            unit, self._mix = grid.kernel.collapse(jt.ones(grid.w.shape))
            self._unit = None if unit.shape[1] == 1 and (unit == 1.0).all().item() else unit
        if not self._gather or self._mix is not None:
            self._node, offset = grid.index(x)
            self._phi = grid.kernel(x, self._node, offset)

    def apply(self, w: jt.Var) -> jt.Var:
        if self._gather:
            values = self._gather.forward(self._x, self._table(w), self._mix)
        else:
            values = weighted_gather(self._phi, w, self._node, self._groups)
        return values.reshape(-1, w.shape[1])

    def adjoint(self, r: jt.Var) -> jt.Var:
        n = self._x.shape[0]
        channels = r.shape[1]
        r = r.reshape(n, self._groups, -1, channels)
        if self._gather:
            # linear in the table, so that only its shape counts
            table = self._table(jt.zeros([self._n_nodes, channels]))
            gradient = self._gather.backward(self._x, r, table, self._mix)[0]
            if self._unit is None:
                return gradient.reshape(self._n_nodes, -1)
            return (gradient * self._unit).sum(1)
        per_group = self._node.shape[1] // self._groups
        shape = [n, self._groups, per_group, r.shape[2], channels]
        # of each node that answers for the point
        r = r.unsqueeze(2).broadcast(shape).reshape(n, -1, r.shape[2], channels)
        return scatter((self._phi * r).sum(2), self._node, self._n_nodes)

    def squares(self) -> jt.Var:
        if self._gather and self._mix is None:
            unit = jt.ones([self._n_nodes, 1, 1]) if self._unit is None else self._unit
            return self._gather.squares(self._x, unit)
        return scatter((self._phi * self._phi).sum(2), self._node, self._n_nodes)

    def _table(self, w):
        return w.unsqueeze(1) if self._unit is None else w.unsqueeze(1) * self._unit


class NumpyDesign(AbstractDesign):
    """`Design` for numpy's float64 arrays; what is between is in float32. x: (N, D) in [0, 1]."""

    precision = np.float32

    def __init__(self, grid: Grid, x: np.ndarray):
        with jt.no_grad():
            self._design = Design(grid, _float32(x))

    def apply(self, w: np.ndarray) -> np.ndarray:
        return self._of(self._design.apply, w)

    def adjoint(self, r: np.ndarray) -> np.ndarray:
        return self._of(self._design.adjoint, r)

    def gram(self, w: np.ndarray) -> np.ndarray:
        return self._of(self._design.gram, w)

    def squares(self) -> np.ndarray:
        with jt.no_grad():
            return self._design.squares().numpy().astype(np.float64)

    @staticmethod
    def _of(product, v):
        with jt.no_grad():
            return product(_float32(v)).numpy().astype(np.float64)


class SparseDesign(AbstractDesign):
    """Phi stored, for numpy's float64 arrays. rows: the matrices of `design_matrix`."""

    precision = np.float64

    def __init__(self, grid: Grid, x: np.ndarray):
        self.rows = design_matrix(grid, x)
        self._columns = [phi.T.tocsr() for phi in self.rows]

    def apply(self, w: np.ndarray) -> np.ndarray:
        return self._each(self.rows, w)

    def adjoint(self, r: np.ndarray) -> np.ndarray:
        return self._each(self._columns, r)

    def squares(self) -> np.ndarray:
        return np.stack([phi.multiply(phi).sum(axis=1).A1 for phi in self._columns], axis=1)

    @staticmethod
    def _each(matrices, v):
        if len(matrices) == 1:
            return matrices[0] @ v
        return np.stack([m @ v[:, c] for c, m in enumerate(matrices)], axis=1)


class ScaledDesign(AbstractDesign):
    """Phi S of a diagonal S: a design for numpy's arrays, and S (M, C)."""

    precision = np.float64

    def __init__(self, design: AbstractDesign, scale: np.ndarray):
        self._design = design
        self._scale = scale

    def apply(self, w: np.ndarray) -> np.ndarray:
        return self._design.apply(self._scale * w)

    def adjoint(self, r: np.ndarray) -> np.ndarray:
        return self._scale * self._design.adjoint(r)

    def squares(self) -> np.ndarray:
        return self._scale**2 * self._design.squares()


def numpy_design(grid: Grid, x: np.ndarray) -> AbstractDesign:
    """A design for numpy's arrays: NumpyDesign where index and kernel have a fused op, which is
    fast and needs little memory, else SparseDesign, which has phi computed only once."""
    fusible = grid.index.fusible and grid.kernel.fusible
    return NumpyDesign(grid, x) if fusible else SparseDesign(grid, x)


def design_matrix(grid: Grid, x: np.ndarray) -> list[sparse.csr_matrix]:
    """Phi by index and kernel, without autodiff: one scipy CSR matrix (N J, M) in float64 that
    serves all channels, or one for each channel where each has a kernel of its own.

    x: (N, D) in [0, 1]. Nodes that a point meets twice (hash collisions) are summed.
    """
    parts = [
        matrix_rows(grid.index, grid.kernel, x[i : i + CHUNK], grid.groups)
        for i in range(0, len(x), CHUNK)
    ]
    return [sparse.vstack(rows, format="csr") for rows in zip(*parts)]


def matrix_rows(
    index: AbstractIndex, kernel: AbstractKernel, x: np.ndarray, groups: int = 1
) -> list[sparse.csr_matrix]:
    """`design_matrix` for an index and a kernel, of points that are computed at once; groups: runs
    of levels that are kept apart."""
    with jt.no_grad():
        points = jt.array(np.asarray(x, np.float32))
        node, offset = index(points)
        # (N, K, H, C or 1)
        phi = kernel(points, node, offset).numpy().astype(np.float64)
        node = node.numpy()
    n, k, kernels, channels = phi.shape
    level = np.arange(k) // (k // groups)
    of_point = np.arange(n)[:, None] * groups + level
    row = of_point[:, :, None] * kernels + np.arange(kernels)
    column = np.broadcast_to(node[:, :, None], row.shape)
    shape = (n * groups * kernels, index.n_nodes)
    places = (row.ravel(), column.ravel())
    return [
        sparse.coo_matrix((phi[..., c].ravel(), places), shape).tocsr() for c in range(channels)
    ]


def _float32(values):
    return jt.array(np.asarray(values, np.float32)).stop_grad()
