"""phi(x, theta_i): how much each node counts.

A kernel here is a window of the offset u of x from the node in cells (the product over the axes of a profile) times a
combination of the basis [1, gamma(u)]. A kernel object may hold H kernels that read the same features side by side (heads).
`profile`, `octaves` and `heads` say which; `collapse(w)` gives the table that the fused op reads instead of phi, where the
kernel is `fusible`.
"""
from jgrid.ops.basis import PROFILES, fourier_octaves, window

import jittor as jt
import numpy as np
from jittor import nn


def _check_profile(profile):
    if profile not in PROFILES:
        raise ValueError(f"an interpolation profile is one of {', '.join(PROFILES)}, got {profile!r}")


def _basis(offset, octaves):
    """[1, gamma(u)]: (..., D) -> (..., 1 + 2 D octaves)."""
    one = jt.ones(offset.shape[:-1] + [1])
    return jt.concat([one, fourier_octaves(offset, octaves)], dim=-1) if octaves else one


class InterpolationKernel(nn.Module):
    """phi(x, i) = window(u) / parts: nearest, linear (bi-, trilinear) or smooth interpolation; no parameters, H = 1.

    parts: how many grids the sum runs over, where it shall be their mean.
    """

    fusible, octaves, heads = True, 0, False

    def __init__(self, profile="linear", parts=1):
        super().__init__()
        _check_profile(profile)
        self.profile, self.parts = profile, parts

    def n_heads(self, dim):
        return 1

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1, 1)."""
        return (window(self.profile, offset) / self.parts).unsqueeze(-1).unsqueeze(-1)

    def collapse(self, w):
        """Features (M, C) -> table (M, 1, C)."""
        return w.unsqueeze(1) if self.parts == 1 else w.unsqueeze(1) / self.parts


class MulFAKernel(nn.Module):
    """The multiplicative Fourier adaptive kernel in front of a decoder: each feature is read through 1 + P kernels at once,

        phi_h(x, i) = window(u) [1, gamma(u)]_h,   gamma(u) = [sin(pi 2^k u), cos(pi 2^k u)], k < octaves,   P = 2 D octaves.

    The decoder's first layer W mixes them, so hidden unit j sees the features through the learned kernel
    window(u) <W_j, [1, gamma(u)]>: the paper's multiplicative filter network (eqs. 6-7) with its last linear layer merged
    into the decoder's first, the window in place of the normalisation of eq. 8, whose denominator can vanish, and the node
    filters sin(omega i + phi) left out, as docs/mulfa.md measures. No parameters of its own.
    """

    fusible, heads = True, True

    def __init__(self, octaves=1, profile="linear"):
        super().__init__()
        _check_profile(profile)
        if octaves < 1:
            raise ValueError(f"a MulFA kernel wants octaves >= 1, got {octaves}")
        self.profile, self.octaves = profile, octaves

    def n_heads(self, dim):
        return 1 + 2 * dim * self.octaves

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1 + P, 1)."""
        return (window(self.profile, offset).unsqueeze(-1) * _basis(offset, self.octaves)).unsqueeze(-1)

    def collapse(self, w):
        """Features (M, C) -> table (M, 1, C)."""
        return w.unsqueeze(1)


def _filter_network(dim, octaves, width, depth, frequency):
    """omega (dim, width), phi (width,) and the linear layer of each multiplicative layer."""
    bound = np.pi * frequency
    omega = [jt.array(np.random.uniform(-bound, bound, (dim, width)).astype(np.float32)) for _ in range(depth)]
    phase = [jt.array(np.random.uniform(-np.pi, np.pi, width).astype(np.float32)) for _ in range(depth)]
    linear = [nn.Linear(2 * dim * octaves if layer == 0 else width, width) for layer in range(depth)]
    return nn.ParameterList(omega), nn.ParameterList(phase), nn.ModuleList(linear)


class MulFAGainKernel(nn.Module):
    """The multiplicative Fourier adaptive kernel without a decoder: a gain per channel, made by a multiplicative filter network.

        phi(x, i, c) = window(u) (1 + z_c),   z = W_L z_{L-1} + b_L,   z_{l+1} = (W_l z_l + b_l) * sin(omega_l p_i + phi_l),

    z_0 = gamma(u), p_i the node's position (paper, eqs. 6-7). W_L starts at zero: the kernel starts as plain interpolation.
    The filters depend on the node only and the rest is affine in gamma, so z = <a_i, gamma> + b_i with a_i, b_i computed once
    per node (`coefficients`), not once per point. H = 1.

    positions: (M, D) in [0, 1]; channels: C; octaves: of gamma; width, depth: of the filter network;
    frequency: the filters' omega is uniform in +-frequency pi, so at most `frequency` half-waves across the grid.
    """

    fusible, heads = True, False

    def __init__(self, positions, channels, octaves=1, width=16, depth=1, frequency=16.0, profile="linear"):
        super().__init__()
        _check_profile(profile)
        if min(channels, octaves, width, depth) < 1:
            raise ValueError(f"a MulFA gain wants channels, octaves, width, depth >= 1, got {channels}, {octaves}, {width}, {depth}")
        dim = positions.shape[1]
        self.profile, self.octaves = profile, octaves
        self._positions = jt.array(positions).stop_grad()
        self.omega, self.phase, self.linear = _filter_network(dim, octaves, width, depth, frequency)
        self.last = nn.Linear(width, channels)
        self.last.weight = jt.zeros((channels, width))
        self.last.bias = jt.zeros((channels,))

    def n_heads(self, dim):
        return 1

    def filters(self):
        """s_l = sin(omega_l p + phi_l) for each layer l: list of (M, width)."""
        return [jt.sin(self._positions @ omega + phase) for omega, phase in zip(self.omega, self.phase)]

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1, C): the chain as written, for every point and node."""
        z = fourier_octaves(offset, self.octaves)
        for layer, s in zip(self.linear, self.filters()):
            z = layer(z) * s[node]
        return (window(self.profile, offset).unsqueeze(-1) * (1.0 + self.last(z))).unsqueeze(2)

    def coefficients(self):
        """B with 1 + z_c = sum_p B_ipc [1, gamma]_p, (M, 1 + P, C): the chain applied to the basis of affine functions of gamma."""
        filters = self.filters()
        # rows: the constant function, then each gamma_p; a bias adds to the constant only
        z = jt.concat([self.linear[0].bias.unsqueeze(0), self.linear[0].weight.transpose()], dim=0)       # (1 + P, width)
        z = z.unsqueeze(0) * filters[0].unsqueeze(1)                                                         # (M, 1 + P, width)
        constant = jt.array(np.eye(1, z.shape[1], dtype=np.float32)[0]).unsqueeze(-1)                        # (1 + P, 1)
        for layer, s in zip(list(self.linear)[1:], filters[1:]):
            z = (z @ layer.weight.transpose() + constant * layer.bias) * s.unsqueeze(1)
        return z @ self.last.weight.transpose() + constant * (1.0 + self.last.bias)

    def collapse(self, w):
        """Features (M, C) -> table (M, 1 + P, C): the features times their coefficients."""
        return w.unsqueeze(1) * self.coefficients()


class MulFALiteralKernel(nn.Module):
    """Eqs. 6-8 as public notes report them, for study; it does not start near interpolation.

        z_0 = gamma(x),   z_{l+1} = (W_l z_l + b_l) * sin(omega_l p_i + phi_l),   raw = <w, z_L> + b,
        phi(x, i) = raw(x, i) / sum_j raw(x, j),   j over the active nodes of the level of i.

    x and the node's position p_i are in [0, 1]; all channels share the kernel, H = 1. Nothing in the paper keeps the
    denominator from zero: here it keeps its sign and stays at least `floor` away.

    positions: (M, D); levels: L; octaves: of gamma; width, depth: of the network; frequency: of the filters, as in MulFAGainKernel.
    """

    fusible, heads = False, False

    def __init__(self, positions, levels, octaves=4, width=16, depth=4, frequency=16.0, floor=0.1):
        super().__init__()
        if min(levels, octaves, width, depth) < 1 or floor <= 0:
            raise ValueError(f"a literal MulFA kernel wants levels, octaves, width, depth >= 1 and floor > 0, got {levels}, {octaves}, "
                             f"{width}, {depth}, {floor}")
        self.levels, self.octaves, self.floor = levels, octaves, floor
        self._positions = jt.array(positions).stop_grad()
        self.omega, self.phase, self.linear = _filter_network(positions.shape[1], octaves, width, depth, frequency)
        self.last = nn.Linear(width, 1)

    def n_heads(self, dim):
        return 1

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset unused -> phi (N, K, 1, 1)."""
        z = fourier_octaves(x, self.octaves).unsqueeze(1)
        for layer, omega, phase in zip(self.linear, self.omega, self.phase):
            z = layer(z) * jt.sin(self._positions @ omega + phase)[node]
        raw = self.last(z).reshape(node.shape[0], self.levels, -1)
        total = raw.sum(2, keepdims=True)
        sign = jt.ternary(total < 0, -jt.ones_like(total), jt.ones_like(total))
        guarded = sign * jt.maximum(jt.abs(total), jt.ones_like(total) * self.floor)
        return (raw / guarded).reshape(*node.shape, 1, 1)


class RadialKernel(nn.Module):
    """Normalised inverse quadratics of learned shape, one per node (NeuRBF, Chen et al. 2023), for scattered nodes:

        phi_h(x, i) = r_i / sum_j r_j [1, gamma(u)]_h,   r_i = 1 / (1 + |A_i u|^2),   j over U(x).

    The denominator is positive. With octaves it is the irregular MulFAGrid: a radial window in MulFAKernel's place of window(u).

    A (M, D, D) starts as `sharpness` times the identity; octaves: of gamma, P = 2 D octaves, 0: the window alone.
    """

    fusible = False

    def __init__(self, n_nodes, dim, octaves=0, sharpness=3.0):
        super().__init__()
        if octaves < 0:
            raise ValueError(f"a radial kernel wants octaves >= 0, got {octaves}")
        self.octaves = octaves
        self.shape = jt.array(np.tile(sharpness * np.eye(dim, dtype=np.float32), (n_nodes, 1, 1)))

    def n_heads(self, dim):
        return 1 + 2 * dim * self.octaves

    def execute(self, x, node, offset):
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1 + P, 1)."""
        stretched = (self.shape[node] * offset.unsqueeze(2)).sum(-1)
        r = 1.0 / (1.0 + (stretched * stretched).sum(-1))
        return ((r / r.sum(1, keepdims=True)).unsqueeze(-1) * _basis(offset, self.octaves)).unsqueeze(-1)
