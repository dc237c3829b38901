"""The paper's general grid model, g(x) = sum over i in U(x) of phi(x, theta_i) w_i."""

from collections.abc import Sequence

from jgrid import memory
from jgrid.index import AbstractIndex, check_points
from jgrid.kernel import AbstractKernel
from jgrid.ops.gather import FUSED_CHANNELS, CollapsedGather, weighted_gather

import jittor as jt
import numpy as np
from jittor import nn

LOWER = "`finest`, `channels`, `table_size`, `rank` or `nodes`, whichever the field has"


class Grid(nn.Module):
    """g_h(x) = sum_{i in U(x)} phi_h(x, theta_i) w_i, linear in the features w (paper, section 3),
    for each of H kernels.

    index: U, gives nodes and offsets; kernel: phi; channels: C; concat: return the sums of each
    level and kernel, (N, L H C), for a decoder, instead of their total over the levels, (N, H C);
    fused: compute by one op where index and kernel are fusible, else as the formula reads. The
    features start uniform in +-`scale`."""

    def __init__(
        self,
        index: AbstractIndex,
        kernel: AbstractKernel,
        channels: int,
        concat: bool = False,
        fused: bool = True,
        scale: float = 1e-4,
    ):
        super().__init__()
        if channels < 1:
            raise ValueError(f"a grid needs at least 1 channel, got {channels}")
        memory.require_of_jittor(
            24 * index.n_nodes * channels,
            f"a grid of {index.n_nodes:,} nodes with {channels} channels",
            LOWER,
        )
        self.index = index
        self.kernel = kernel
        self.w = (jt.rand((index.n_nodes, channels)) * 2.0 - 1.0) * scale
        # runs of levels that are summed
        self.groups = index.n_levels if concat else 1
        self.fused = None
        if fused and index.fusible and kernel.fusible and channels <= FUSED_CHANNELS:
            self.fused = CollapsedGather(index, kernel.profile, kernel.octaves, self.groups)
        self.n_out = kernel.n_kernels * channels * self.groups
        self._share = None

    def execute(self, x: jt.Var) -> jt.Var:
        """x (N, D) in [0, 1], clamped -> (N, n_out). ValueError for points of another shape."""
        check_points(x, self.index.dim)
        if self.fused:
            # the same sum, (N, groups, H, C)
            levels = self.fused(x, *self.kernel.collapse(self.w))
        else:
            node, offset = self.index(x)  # U(x)
            phi = self.kernel(x, node, offset)  # phi(x, theta_i)
            levels = weighted_gather(phi, self.w, node, self.groups)  # sum of phi_i w_i
        if self._share is not None:
            levels = levels * self._share
        return levels.reshape(x.shape[0], self.n_out)

    def fade_in(self, progress: float) -> None:
        """Count level l as (1 - cos(pi clamp(p (L-1) - l + 1, 0, 1))) / 2 from now on (BARF, Lin et
        al. 2021, eq. 14).

        progress: p, from 0, the coarsest level alone, to 1, all. ValueError for levels that are
        summed."""
        if self.groups == 1:
            raise ValueError(
                "levels can fade in only where there are several, side by side in front of a"
                " decoder"
            )
        self._share = None
        if progress < 1:
            come = np.clip(progress * (self.groups - 1) - np.arange(self.groups) + 1, 0, 1)
            share = ((1 - np.cos(np.pi * come)) / 2).astype(np.float32)
            self._share = jt.array(share.reshape(-1, 1, 1)).stop_grad()

    def total_variation(self, x: jt.Var) -> jt.Var:
        """The mean over levels and channels of sum_d (w[corner + e_d] - w[corner])^2, the first
        corners of the cells of x (N, D)."""
        corners = self.index(x)[0].reshape(x.shape[0], self.index.n_levels, -1)
        # the first corner, and the next along each axis
        near = [corners[:, :, i] for i in [0] + [1 << axis for axis in range(self.index.dim)]]
        w = self.w[jt.stack(near, dim=2)]  # (N, L, 1 + D, C)
        return ((w[:, :, 1:] - w[:, :, :1]) ** 2).sum(2).mean()


# Which axes each factor of a mode reads: in 3-D TensoRF's planes and lines, in fewer dimensions
# what is left of them
VM_AXES: dict[int, list[list[tuple[int, ...]]]] = {
    1: [[(0,)]],
    2: [[(0,), (1,)]],
    3: [[(1, 2), (0,)], [(0, 2), (1,)], [(0, 1), (2,)]],
}


def _along(x: jt.Var, axes: Sequence[int]) -> jt.Var:
    return jt.concat([x[:, axis : axis + 1] for axis in axes], dim=1)


class ProductGrid(nn.Module):
    """Products of grids over some of the axes each, TensoRF's vector-matrix factors (Chen et al.
    2022): for a decoder,

        z_m(x) = prod_f g_mf(x on the axes of f), a vector over the rank;   z = [z_1, z_2, ...].

    modes: for each m its factors, a list of (axes, grid); the grids of a mode have one n_out.
    """

    def __init__(self, modes: Sequence[Sequence[tuple[Sequence[int], Grid]]]):
        super().__init__()
        self.axes = [[axes for axes, _ in factors] for factors in modes]
        self.modes = nn.ModuleList(
            [nn.ModuleList([grid for _, grid in factors]) for factors in modes]
        )
        self.n_out = sum(factors[0][1].n_out for factors in modes)

    def execute(self, x: jt.Var) -> jt.Var:
        """x (N, D) in [0, 1], clamped -> (N, n_out)."""
        parts = []
        for axes_of, grids in zip(self.axes, self.modes):
            values = [grid(_along(x, axes)) for axes, grid in zip(axes_of, grids)]
            product = values[0]
            for value in values[1:]:
                product = product * value
            parts.append(product)
        return jt.concat(parts, dim=1)

    def total_variation(self, x: jt.Var) -> jt.Var:
        """The sum of `Grid.total_variation` over all factors, each at its own axes of x (N, D)."""
        return sum(
            grid.total_variation(_along(x, axes))
            for axes_of, grids in zip(self.axes, self.modes)
            for axes, grid in zip(axes_of, grids)
        )
