"""phi(x, theta_i): how much each node counts.

Every kernel here is a window of the offset, the product over the axes of a profile of |x - node| measured in cells; the
MulFA kernel multiplies the window by a learned gain. So all share one collapsed form, which the fused ops compute:

    phi(x, i, c) = window(u) (B_i0c + sum_p gamma_p(u) B_ipc),   u = offset of x from node i

with the basis coefficients B: one for the fixed kernels.
"""
import jittor as jt
import numpy as np
from jgrid.ops.basis import PROFILES, fourier_octaves, window
from jittor import nn


class InterpolationKernel(nn.Module):
    """phi(x, i) = window(offset): nearest, linear (bi-, trilinear) or smooth interpolation; no parameters."""

    octaves = 0

    def __init__(self, profile="linear"):
        super().__init__()
        if profile not in PROFILES:
            raise ValueError(f"an interpolation kernel is one of {', '.join(PROFILES)}, got {profile!r}")
        self.profile = profile

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset (N, K, D) -> phi (N, K)."""
        return window(self.profile, offset)

    def collapse(self, w):
        """The features times the basis coefficients, (M, C) -> (M, 1, C)."""
        return w.unsqueeze(1)


class MulFAKernel(nn.Module):
    """The multiplicative Fourier adaptive kernel: a window times a gain that a multiplicative filter network makes.

    phi(x, i, c) = window(u) (1 + z_c),   z = W_L z_{L-1} + b_L,   z_{l+1} = (W_l z_l + b_l) * sin(omega_l p_i + phi_l),
    z_0 = gamma(u), with u the offset of x from node i in cells and p_i the node's position (paper, eqs. 6-7; the window and
    the 1 + stand in for the normalisation of eq. 8, whose denominator can vanish). W_L starts at zero: the kernel starts as
    plain interpolation. The filters depend on the node only and the rest is affine in gamma, so z = <a_i, gamma> + b_i with
    a_i, b_i computed once per node (`coefficients`), not once per point.

    positions: (M, D) in [0, 1]; channels: C; octaves: of gamma; width, depth: of the filter network;
    frequency: the filters' omega is uniform in +-frequency pi, so at most `frequency` half-waves across the grid.
    """

    def __init__(self, positions, channels, octaves=1, width=16, depth=1, frequency=16.0, profile="linear"):
        super().__init__()
        if min(channels, octaves, width, depth) < 1 or profile not in PROFILES:
            raise ValueError(f"a MulFA kernel wants channels, octaves, width, depth >= 1 and a known profile, got {channels}, "
                             f"{octaves}, {width}, {depth}, {profile!r}")
        dim = positions.shape[1]
        self.profile, self.octaves, self.channels = profile, octaves, channels
        self._positions = jt.array(positions).stop_grad()
        sizes = [2 * dim * octaves] + [width] * depth
        self.omega = nn.ParameterList([jt.array(np.float32(np.pi * frequency) * np.random.uniform(-1, 1, (dim, width)).astype(np.float32))
                                       for _ in range(depth)])
        self.phase = nn.ParameterList([jt.array(np.random.uniform(-np.pi, np.pi, width).astype(np.float32)) for _ in range(depth)])
        self.linear = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])])
        self.last = nn.Linear(width, channels)
        self.last.weight = jt.zeros((channels, width))
        self.last.bias = jt.zeros((channels,))

    def filters(self, positions):
        """s_l = sin(omega_l p + phi_l) for each layer l: list of (M, width)."""
        return [jt.sin(positions @ omega + phase) for omega, phase in zip(self.omega, self.phase)]

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset (N, K, D) -> phi (N, K, C): the chain as written, node by node."""
        z = fourier_octaves(offset, self.octaves)
        for layer, s in zip(self.linear, self.filters(self._positions)):
            z = layer(z) * s[node]
        return window(self.profile, offset).unsqueeze(-1) * (1.0 + self.last(z))

    def coefficients(self):
        """B of the collapsed form, (M, 1 + P, C): the chain applied to the basis of affine functions of gamma."""
        filters = self.filters(self._positions)
        # rows: the constant function, then each gamma_p; a bias adds to the constant only
        z = jt.concat([self.linear[0].bias.unsqueeze(0), self.linear[0].weight.transpose()], dim=0)       # (1 + P, width)
        z = z.unsqueeze(0) * filters[0].unsqueeze(1)                                                         # (M, 1 + P, width)
        constant = jt.array(np.eye(1, z.shape[1], dtype=np.float32)[0]).unsqueeze(-1)                        # (1 + P, 1)
        for layer, s in zip(list(self.linear)[1:], filters[1:]):
            z = (z @ layer.weight.transpose() + constant * layer.bias) * s.unsqueeze(1)
        return z @ self.last.weight.transpose() + constant * (1.0 + self.last.bias)

    def collapse(self, w):
        """The features times the basis coefficients, (M, C) -> (M, 1 + P, C)."""
        return w.unsqueeze(1) * self.coefficients()
