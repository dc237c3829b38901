"""The grid tangent kernel: Phi, G = Phi Phi^T and products with them (paper, section 4)."""

import copy

import jittor as jt
import numpy as np
from scipy import sparse

CHUNK = 2**15  # points whose index and kernel are computed at once


def design_matrix(grid, x):
    """Phi with Phi[n, i] = dg(x_n) / dw_i = phi(x_n, theta_i), from the grid's index and kernel; no
    autodiff.

    x (N, D) in [0, 1]. Returns a list of scipy CSR matrices (N, M) in float64, one that serves all
    channels or one for each channel where each has a kernel of its own. Nodes that a point meets
    twice (hash collisions) are summed. Where a grid gives J numbers per channel (levels side by
    side, several kernels), rows are (N J, M): point by point, then level, then kernel.
    """
    parts = [_rows(grid, np.asarray(x[i : i + CHUNK], np.float32)) for i in range(0, len(x), CHUNK)]
    return [sparse.vstack(rows, format="csr") for rows in zip(*parts)]


def _rows(grid, x):
    with jt.no_grad():
        node, offset = grid.index(jt.array(x))
        # (N, K, H, C or 1)
        phi = grid.kernel(jt.array(x), node, offset).numpy().astype(np.float64)
        node = node.numpy()
    (n, k, kernels, channels), groups = phi.shape, grid.groups
    # row of (point, level, kernel)
    row = (np.arange(n)[:, None] * groups + np.arange(k) // (k // groups))[
        :, :, None
    ] * kernels + np.arange(kernels)
    column = np.broadcast_to(node[:, :, None], row.shape)
    shape = (n * groups * kernels, grid.index.n_nodes)
    return [
        sparse.coo_matrix((phi[..., c].ravel(), (row.ravel(), column.ravel())), shape).tocsr()
        for c in range(channels)
    ]


def gtk(grid, x1, x2=None):
    """G[i, j] = sum_m phi(x1_i, theta_m) phi(x2_j, theta_m) = <dg(x1_i)/dw, dg(x2_j)/dw>, (N1, N2)
    float64; x2 None: x1.

    (C, N1, N2), one matrix per channel, where each channel has a kernel of its own.
    """
    first = design_matrix(grid, x1)
    second = first if x2 is None else design_matrix(grid, x2)
    kernels = np.stack([(a @ b.T).toarray() for a, b in zip(first, second)])
    return kernels[0] if len(kernels) == 1 else kernels


class SparseProducts:
    """Phi w and Phi^T r with the stored matrix: w (M, C), r (N, C), both float64."""

    precision = np.float64

    def __init__(self, design):
        self.design = design
        self.adjoints = [phi.T.tocsr() for phi in design]

    def forward(self, w):
        return self._each(self.design, w)

    def adjoint(self, r):
        return self._each(self.adjoints, r)

    def gram(self, w):
        """Phi^T Phi w."""
        return self.adjoint(self.forward(w))

    @staticmethod
    def _each(matrices, v):
        if len(matrices) == 1:
            return matrices[0] @ v
        return np.stack([m @ v[:, c] for c, m in enumerate(matrices)], axis=1)


class GridProducts:
    """The same without the matrix, by the grid's own forward and backward pass (fused where it is):
    numbers in float32."""

    precision = np.float32

    def __init__(self, grid, x):
        self._grid = copy.copy(grid)  # shares index and kernel, and has features of its own
        self._shape = tuple(grid.w.shape)
        self._x = _float32(x).stop_grad()

    def forward(self, w):
        with jt.no_grad():
            return self._at(_float32(w)).numpy().astype(np.float64)

    def adjoint(self, r):
        return self._back(_float32(r)).numpy().astype(np.float64)

    def gram(self, w):
        """Phi^T Phi w."""
        return self._back(self._at(_float32(w)).detach()).numpy().astype(np.float64)

    def _at(self, w):
        self._grid.w = w
        return self._grid(self._x)

    def _back(self, r):
        w = jt.zeros(self._shape)
        return jt.grad((self._at(w) * r).sum(), w)


def _float32(values):
    return jt.array(np.asarray(values, np.float32))


def products(grid, x):
    """GridProducts where the grid has a fused op, else SparseProducts. The grid gives a number per
    channel."""
    if grid.index.fusible and grid.kernel.fusible:
        return GridProducts(grid, x)
    return SparseProducts(design_matrix(grid, x))


def drift(start, now):
    """|G(t) - G(0)| / |G(0)| in Frobenius norms: what Theorem 2 says is zero."""
    return float(np.linalg.norm(now - start) / np.linalg.norm(start))
