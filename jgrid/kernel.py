"""phi(x, theta_i): how much each node counts.

A kernel here is a window of the offset u of x from the node in cells (the product over the axes of
a profile) times a combination of the basis [1, gamma(u)]. A kernel object may hold H kernels that
read the same features side by side.
"""

from abc import ABC, abstractmethod
from typing import Optional

from jgrid.ops.basis import PROFILES, Profile, fourier_octaves, window

import jittor as jt
import numpy as np
from jittor import nn


class AbstractKernel(ABC, nn.Module):
    """phi: the weight of each node of U(x) at a point. Variables among its attributes are trained,
    unless their gradient is stopped.

    What a grid, the theory and the memory's budget ask of it:

    n_kernels: H, the kernels side by side; n_filters: numbers that it computes of each node on the
    way, 0 for a plain formula.

    fusible: phi is the window `profile` of u times a combination of [1, gamma(u)], gamma with
    `octaves` octaves, so that `ops.gather` can sum it by one op from what `collapse` gives; a
    kernel that is not fusible needs none of the three.
    """

    n_kernels: int = 1
    n_filters: int = 0
    fusible: bool = False
    profile: Profile
    octaves: int

    @abstractmethod
    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K) int32, offset u (N, K, D) -> phi (N, K, H, C), or (N, K, H, 1)
        where all channels are weighted alike; differentiable in x and offset."""

    def collapse(self, w: jt.Var) -> tuple[jt.Var, Optional[jt.Var]]:
        """What the fused op reads in place of phi, of the features w (M, C): a table (M, 1, C) and
        the mix of [1, gamma(u)] that all nodes of a level share, (L, H, 1 + P, C), or a table
        (M, 1 + P, C), each node's own combination, and None."""
        raise NotImplementedError(f"{type(self).__name__} is not fusible")


def _check_profile(profile: str) -> None:
    if profile not in PROFILES:
        raise ValueError(
            f"an interpolation profile is one of {', '.join(PROFILES)}, got {profile!r}"
        )


def _basis(offset: jt.Var, octaves: int) -> jt.Var:
    """[1, gamma(u)]: (..., D) -> (..., 1 + 2 D octaves)."""
    one = jt.ones(offset.shape[:-1] + [1])
    return jt.concat([one, fourier_octaves(offset, octaves)], dim=-1)


class InterpolationKernel(AbstractKernel):
    """phi(x, i) = window(u) / parts: nearest, linear (bi-, trilinear) or smooth interpolation; no
    parameters, H = 1.

    parts: how many grids the sum runs over, where it shall be their mean.
    """

    fusible = True
    octaves = 0

    def __init__(self, profile: Profile = "linear", parts: int = 1):
        super().__init__()
        _check_profile(profile)
        self.profile = profile
        self.parts = parts

    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1, 1)."""
        return (window(self.profile, offset) / self.parts).unsqueeze(-1).unsqueeze(-1)

    def collapse(self, w: jt.Var) -> tuple[jt.Var, Optional[jt.Var]]:
        """Features (M, C) -> table (M, 1, C), no mix."""
        table = w.unsqueeze(1)
        return table if self.parts == 1 else table / self.parts, None


def _random_mix(
    levels: int, kernels: int, functions: int, channels: int, spread: float, constant: float = 0.0
) -> jt.Var:
    """Coefficients (L, H, B, C) of functions [1, ...]: normal numbers times `spread`, so that no
    two channels see alike, about `constant` times the 1."""
    mix = spread * np.random.normal(size=(levels, kernels, functions, channels))
    mix[:, :, 0] += constant
    return jt.array(mix.astype(np.float32))


def _mixture(mix: jt.Var, offset: jt.Var, octaves: int) -> jt.Var:
    """sum_p mix[l, h, p, c] [1, gamma(u)]_p with l the level of each node: offset (N, K, D) -> (N,
    K, H, C)."""
    levels, kernels, functions, channels = mix.shape
    n, k, _ = offset.shape
    basis = _basis(offset, octaves).reshape(n, levels, k // levels, 1, functions, 1)
    return (basis * mix.unsqueeze(1)).sum(4).reshape(n, k, kernels, channels)


class MulFAKernel(AbstractKernel):
    """The multiplicative Fourier adaptive kernel in front of a decoder: learned, one for each
    channel and level,

        phi_h(x, i, c) = window(u) <a_lhc, [1, gamma(u)]>,   gamma(u) = [sin(pi 2^k u), cos(pi 2^k
        u)], k < octaves,

    u the offset of x from node i in cells, l the level of i, h < H the kernels of a channel (one
    by default). The coefficients a start as normal numbers, so that each channel reads
    its features through a kernel of its own. It is the paper's multiplicative filter network (eqs.
    6-7) of one layer, with a window in place of the normalisation of eq. 8, whose denominator can
    vanish, and without the node filters sin(omega i + phi), as docs/mulfa.md measures.

    dim, levels, channels: D, L and C of the grid; kernels: H; spread: standard deviation of the
    coefficients at the start; constant: added to those of 1, so that with a small spread the
    kernels start near plain interpolation."""

    fusible = True

    def __init__(
        self,
        dim: int,
        levels: int,
        channels: int,
        kernels: int = 1,
        octaves: int = 1,
        profile: Profile = "linear",
        spread: float = 1.0,
        constant: float = 0.0,
    ):
        super().__init__()
        _check_profile(profile)
        if min(dim, levels, channels, kernels, octaves) < 1 or spread <= 0:
            raise ValueError(
                "a MulFA kernel needs dim, levels, channels, kernels, octaves >= 1 and spread > 0,"
                f" got {dim}, {levels}, {channels}, {kernels}, {octaves}, {spread}"
            )
        self.profile = profile
        self.octaves = octaves
        self.n_kernels = kernels
        self.mix = _random_mix(levels, kernels, 1 + 2 * dim * octaves, channels, spread, constant)

    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, H, C)."""
        weight = window(self.profile, offset).unsqueeze(-1).unsqueeze(-1)
        return weight * _mixture(self.mix, offset, self.octaves)

    def collapse(self, w: jt.Var) -> tuple[jt.Var, Optional[jt.Var]]:
        """Features (M, C) -> table (M, 1, C) and mix (L, H, 1 + P, C)."""
        return w.unsqueeze(1), self.mix


def _uniform(bound: float, shape: tuple[int, ...]) -> jt.Var:
    return jt.array(np.random.uniform(-bound, bound, shape).astype(np.float32))


def _filter_network(
    dim: int, octaves: int, width: int, depth: int, frequency: float
) -> tuple[nn.ParameterList, nn.ParameterList, nn.ModuleList]:
    """omega (dim, width), phi (width,) and the linear layer of each multiplicative layer."""
    omega = [_uniform(np.pi * frequency, (dim, width)) for _ in range(depth)]
    phase = [_uniform(np.pi, (width,)) for _ in range(depth)]
    inputs = [2 * dim * octaves] + [width] * (depth - 1)
    linear = [nn.Linear(n, width) for n in inputs]
    return nn.ParameterList(omega), nn.ParameterList(phase), nn.ModuleList(linear)


class MulFAGainKernel(AbstractKernel):
    """The multiplicative Fourier adaptive kernel without a decoder: a gain per channel, made by a
    multiplicative filter network.

        phi(x, i, c) = window(u) (1 + z_c),   z = W_L z_{L-1} + b_L,   z_{l+1} = (W_l z_l + b_l) *
        sin(omega_l p_i + phi_l),

    z_0 = gamma(u), p_i the node's position (paper, eqs. 6-7). W_L starts at zero: the kernel starts
    as plain interpolation. The filters depend on the node only and the rest is affine in gamma, so
    z = <a_i, gamma> + b_i with a_i, b_i computed once per node (`coefficients`), not once per
    point. H = 1.

    positions: (M, D) in [0, 1]; channels: C; octaves: of gamma; width, depth: of the filter
    network; frequency: the filters' omega is uniform in +-frequency pi, so at most `frequency`
    half-waves across the grid."""

    fusible = True

    def __init__(
        self,
        positions: np.ndarray,
        channels: int,
        octaves: int = 1,
        width: int = 16,
        depth: int = 1,
        frequency: float = 16.0,
        profile: Profile = "linear",
    ):
        super().__init__()
        _check_profile(profile)
        if min(channels, octaves, width, depth) < 1:
            raise ValueError(
                f"a MulFA gain needs channels, octaves, width, depth >= 1, got {channels},"
                f" {octaves}, {width}, {depth}"
            )
        dim = positions.shape[1]
        self.profile = profile
        self.octaves = octaves
        self.n_filters = width * depth
        self._positions = jt.array(positions).stop_grad()
        self.omega, self.phase, self.linear = _filter_network(dim, octaves, width, depth, frequency)
        self.last = nn.Linear(width, channels)
        self.last.weight = jt.zeros((channels, width))
        self.last.bias = jt.zeros((channels,))

    def filters(self) -> list[jt.Var]:
        """s_l = sin(omega_l p + phi_l) for each layer l: list of (M, width)."""
        layers = zip(self.omega, self.phase)
        return [jt.sin(self._positions @ omega + phase) for omega, phase in layers]

    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1, C): the chain as written, for
        every point and node."""
        z = fourier_octaves(offset, self.octaves)
        for layer, s in zip(self.linear, self.filters()):
            z = layer(z) * s[node]
        weight = window(self.profile, offset).unsqueeze(-1)
        return (weight * (1.0 + self.last(z))).unsqueeze(2)

    def coefficients(self) -> jt.Var:
        """B with 1 + z_c = sum_p B_ipc [1, gamma]_p, (M, 1 + P, C): the chain applied to the basis
        of affine functions of gamma."""
        first, *layers = self.linear
        first_filter, *filters = self.filters()
        # rows: the constant function, then each gamma_p; a bias adds to the constant only
        # (1 + P, width)
        z = jt.concat([first.bias.unsqueeze(0), first.weight.transpose()], dim=0)
        # (M, 1 + P, width)
        z = z.unsqueeze(0) * first_filter.unsqueeze(1)
        # (1 + P, 1)
        constant = jt.array(np.eye(1, z.shape[1], dtype=np.float32)[0]).unsqueeze(-1)
        for layer, s in zip(layers, filters):
            z = (z @ layer.weight.transpose() + constant * layer.bias) * s.unsqueeze(1)
        return z @ self.last.weight.transpose() + constant * (1.0 + self.last.bias)

    def collapse(self, w: jt.Var) -> tuple[jt.Var, Optional[jt.Var]]:
        """Features (M, C) -> table (M, 1 + P, C), the features times their coefficients; no mix."""
        return w.unsqueeze(1) * self.coefficients(), None


class MulFALiteralKernel(AbstractKernel):
    """Eqs. 6-8 as public notes report them, for study; it does not start near interpolation.

        z_0 = gamma(x),   z_{l+1} = (W_l z_l + b_l) * sin(omega_l p_i + phi_l),   raw = <w, z_L> +
        b,
        phi(x, i) = raw(x, i) / sum_j raw(x, j),   j over the active nodes of the level of i.

    x and the node's position p_i are in [0, 1]; all channels share the kernel, H = 1. Nothing in
    the paper keeps the denominator from zero: here it keeps its sign and stays at least `floor`
    away.

    positions: (M, D); levels: L; octaves: of gamma; width, depth: of the network; frequency: of the
    filters, as in MulFAGainKernel."""

    def __init__(
        self,
        positions: np.ndarray,
        levels: int,
        octaves: int = 4,
        width: int = 16,
        depth: int = 4,
        frequency: float = 16.0,
        floor: float = 0.1,
    ):
        super().__init__()
        if min(levels, octaves, width, depth) < 1 or floor <= 0:
            raise ValueError(
                "a literal MulFA kernel needs levels, octaves, width, depth >= 1 and floor > 0,"
                f" got {levels}, {octaves}, {width}, {depth}, {floor}"
            )
        self.levels = levels
        self.octaves = octaves
        self.n_filters = width * depth
        self.floor = floor
        self._positions = jt.array(positions).stop_grad()
        self.omega, self.phase, self.linear = _filter_network(
            positions.shape[1], octaves, width, depth, frequency
        )
        self.last = nn.Linear(width, 1)

    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K), offset unused -> phi (N, K, 1, 1)."""
        z = fourier_octaves(x, self.octaves).unsqueeze(1)
        for layer, omega, phase in zip(self.linear, self.omega, self.phase):
            z = layer(z) * jt.sin(self._positions @ omega + phase)[node]
        raw = self.last(z).reshape(node.shape[0], self.levels, -1)
        total = raw.sum(2, keepdims=True)
        sign = jt.ternary(total < 0, -jt.ones_like(total), jt.ones_like(total))
        floor = jt.ones_like(total) * self.floor
        guarded = sign * jt.maximum(jt.abs(total), floor)
        return (raw / guarded).reshape(*node.shape, 1, 1)


class RadialKernel(AbstractKernel):
    """Normalised inverse quadratics of learned shape, one per node (NeuRBF, Chen et al. 2023), for
    scattered nodes:

        phi(x, i) = r_i / sum_j r_j,   r_i = 1 / (1 + |A_i u|^2),   j over U(x).

    The denominator is positive. With octaves it is the irregular MulFAGrid: phi(x, i, c) = r_i /
    sum_j r_j <a_c, [1, gamma(u)]>, a radial window in MulFAKernel's place of window(u).

    A (M, D, D) starts as `sharpness` times the identity; channels: C; octaves: of gamma, 0: the
    window alone."""

    def __init__(
        self, n_nodes: int, dim: int, channels: int, octaves: int = 0, sharpness: float = 3.0
    ):
        super().__init__()
        if octaves < 0:
            raise ValueError(f"a radial kernel needs octaves >= 0, got {octaves}")
        self.octaves = octaves
        start = sharpness * np.eye(dim, dtype=np.float32)
        self.shape = jt.array(np.tile(start, (n_nodes, 1, 1)))
        if octaves:
            self.mix = _random_mix(1, 1, 1 + 2 * dim * octaves, channels, 1.0)

    def execute(self, x: jt.Var, node: jt.Var, offset: jt.Var) -> jt.Var:
        """x (N, D), node (N, K), offset u (N, K, D) -> phi (N, K, 1, 1 or, with octaves, C)."""
        stretched = (self.shape[node] * offset.unsqueeze(2)).sum(-1)
        r = 1.0 / (1.0 + (stretched * stretched).sum(-1))
        share = (r / r.sum(1, keepdims=True)).unsqueeze(-1).unsqueeze(-1)
        if not self.octaves:
            return share
        return share * _mixture(self.mix, offset, self.octaves)
