"""Configs of grid fields."""

from dataclasses import dataclass, field, fields

from jgrid import memory
from jgrid.field.base import MOST, Field, positive
from jgrid.grid import VM_AXES, Grid, ProductGrid
from jgrid.index import FourierIndex, GridIndex, PointIndex, geometric_levels, r_sequence
from jgrid.kernel import (
    InterpolationKernel,
    MulFAGainKernel,
    MulFAKernel,
    MulFALiteralKernel,
    RadialKernel,
)
from jgrid.network import MLP

import numpy as np


@dataclass(frozen=True)
class DecoderConfig:
    """The MLP behind a grid."""

    width: int = 64
    """Neurons of a hidden layer."""
    depth: int = 1
    """Hidden layers; 0: no decoder, the levels are summed and the field is linear in its
    features."""


@dataclass(frozen=True)
class FilterConfig:
    """The multiplicative filter network of a MulFAGrid without a decoder."""

    width: int = 16
    """Filters of a layer."""
    depth: int = 1
    """Multiplicative layers."""
    frequency: float = 16.0
    """Bound of the filters' frequency, in half-waves across the grid."""


def _cells(along, domain):
    """Cells along each axis, (L, dim), from those along an axis of a square or cube."""
    lengths = np.ones(domain.dim)
    if domain.aspect is not None:
        lengths = np.asarray(domain.aspect) / np.prod(domain.aspect) ** (1 / domain.dim)
    return np.maximum(1, np.round(np.outer(along, lengths))).astype(int)


def level_index(config, domain, table_size=None):
    """The index of a grid with levels."""
    positive(config, "coarsest", "finest", "levels")
    along = geometric_levels(config.coarsest, config.finest, config.levels)
    return GridIndex(domain.dim, _cells(along, domain), table_size)


def _decoder(config, n_in, domain):
    decoder = config.decoder
    return MLP(n_in, domain.n_out, decoder.width, decoder.depth, bias=domain.start)


def _check(config):
    """What all grid configs have."""
    positive(
        config,
        *(f.name for f in fields(config) if f.name.startswith("lr_") or f.name == "channels"),
    )
    positive(config.decoder, "width", prefix="--field.decoder.")
    if not 0 <= config.decoder.depth <= MOST["depth"]:
        raise ValueError(
            f"--field.decoder.depth must be from 0 to {MOST['depth']}, got {config.decoder.depth}"
        )


def _grid_field(config, domain, index, make_kernel, rates, concat=True):
    """The field of one grid and, with a decoder, the levels side by side (concat) or their sum in
    front of it."""
    _check(config)
    decoded = config.decoder.depth > 0
    channels = config.channels if decoded else domain.n_out
    grid = Grid(index, make_kernel(index, channels), channels, concat=concat and decoded)
    return Field(grid, _decoder(config, grid.n_out, domain) if decoded else None, rates)


@dataclass(frozen=True)
class DenseGridConfig:
    """Dense grids at several resolutions with fixed interpolation."""

    finest: int = 188
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: int = 40
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: int = 2
    """Levels, growing geometrically."""
    channels: int = 8
    """Features per node; with no decoder always the output size."""
    profile: str = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 8e-2
    """Learning rate of the features."""
    lr_network: float = 4e-2
    """Learning rate of the decoder."""

    def build(self, domain):
        return _grid_field(
            self,
            domain,
            level_index(self, domain),
            lambda index, channels: InterpolationKernel(self.profile),
            {"features": self.lr_features, "network": self.lr_network},
        )


@dataclass(frozen=True)
class HashGridConfig:
    """Multi-resolution hash grid (Instant-NGP): levels too large for a table are hashed into it."""

    finest: int = 312
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: int = 13
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: int = 8
    """Levels, growing geometrically."""
    channels: int = 4
    """Features per node; with no decoder always the output size."""
    table_size: int = 23857
    """Most nodes a level may own; places are hashed modulo it, so a prime or a power of two spreads
    them best."""
    profile: str = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 8e-2
    """Learning rate of the features."""
    lr_network: float = 4e-2
    """Learning rate of the decoder."""

    def build(self, domain):
        positive(self, "table_size")
        index = level_index(self, domain, self.table_size)
        return _grid_field(
            self,
            domain,
            index,
            lambda index, channels: InterpolationKernel(self.profile),
            {"features": self.lr_features, "network": self.lr_network},
        )


@dataclass(frozen=True)
class MulFAGridConfig:
    """MulFAGrid: grids with the multiplicative Fourier adaptive kernel."""

    finest: int = 188
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: int = 40
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: int = 2
    """Levels, growing geometrically."""
    channels: int = 8
    """Features per node; with no decoder always the output size."""
    table_size: int = 2**22
    """Most nodes a level may own; larger levels are hashed."""
    kernels: int = 1
    """Kernels that read each feature side by side, for the decoder: more fit better and cost time;
    with no decoder always one."""
    octaves: int = 1
    """Octaves of gamma(offset): more fit finer detail and wiggle more between the samples."""
    spread: float = 1.0
    """Standard deviation of the kernels' coefficients at the start, for the decoder."""
    constant: float = 0.0
    """Added to the coefficients of 1 at the start: with 1 and a small spread the kernels start near
    plain interpolation."""
    profile: str = "linear"
    """Window: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    lr_features: float = 4e-2
    """Learning rate of the features."""
    lr_network: float = 4e-2
    """Learning rate of the decoder and of the kernels' coefficients, or, with no decoder, of the
    filter network."""

    def build(self, domain):
        positive(self, "table_size", "octaves", "kernels", "spread")
        positive(self.filter, "width", "depth", "frequency", prefix="--field.filter.")

        def kernel(index, channels):
            if self.decoder.depth:
                return MulFAKernel(
                    domain.dim,
                    index.n_levels,
                    channels,
                    self.kernels,
                    self.octaves,
                    self.profile,
                    self.spread,
                    self.constant,
                )
            return MulFAGainKernel(
                index.positions(),
                channels,
                self.octaves,
                self.filter.width,
                self.filter.depth,
                self.filter.frequency,
                self.profile,
            )

        return _grid_field(
            self,
            domain,
            level_index(self, domain, self.table_size),
            kernel,
            {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network},
        )


@dataclass(frozen=True)
class FourierGridConfig:
    """FourierGrid, MulFAGrid's predecessor: the mean of dense grids looked up at Fourier-warped
    coordinates."""

    finest: int = 102
    """Cells of every band along an axis of a square or cube."""
    octaves: int = 3
    """Octaves of warps: bands are the coordinates and, for each octave, their sine and cosine."""
    channels: int = 4
    """Features per node; with no decoder always the output size."""
    profile: str = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 5e-2
    """Learning rate of the features."""
    lr_network: float = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain):
        positive(self, "finest", *(["octaves"] if self.octaves > 0 else []))
        return _grid_field(
            self,
            domain,
            FourierIndex(domain.dim, _cells(self.finest, domain), self.octaves),
            lambda index, channels: InterpolationKernel(self.profile, index.n_levels),
            {"features": self.lr_features, "network": self.lr_network},
            concat=False,
        )


@dataclass(frozen=True)
class RadialGridConfig:
    """Irregular grid: scattered nodes with radial kernels of learned shape (NeuRBF), with octaves
    the irregular MulFAGrid."""

    nodes: int = 24000
    """Nodes, placed where the subject has detail."""
    neighbours: int = 4
    """Nearest nodes that answer for a point."""
    channels: int = 8
    """Features per node; with no decoder always the output size."""
    octaves: int = 0
    """Octaves of gamma(offset) that the radial windows multiply; 0: the windows alone."""
    sharpness: float = 3.0
    """How steep the windows start, per spacing of the nodes."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 2e-2
    """Learning rate of the features."""
    lr_kernel: float = 1e-2
    """Learning rate of the windows' shapes."""
    lr_network: float = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain):
        positive(
            self, "nodes", "neighbours", "sharpness", *(["octaves"] if self.octaves > 0 else [])
        )
        memory.require(256 * self.nodes, f"placing {self.nodes:,} nodes", "--field.nodes")
        nodes = domain.place(self.nodes) if domain.place else r_sequence(self.nodes, domain.dim)
        return _grid_field(
            self,
            domain,
            PointIndex(nodes, self.neighbours),
            lambda index, channels: RadialKernel(
                index.n_nodes, domain.dim, channels, self.octaves, self.sharpness
            ),
            {"features": self.lr_features, "kernel": self.lr_kernel, "network": self.lr_network},
        )


@dataclass(frozen=True)
class VMGridConfig:
    """TensoRF's vector-matrix factors: planes times lines in 3-D, lines times lines in 2-D, and a
    decoder."""

    finest: int = 512
    """Cells of a line, or along a side of a plane, along an axis of a square or cube."""
    rank: int = 256
    """Products of each mode (there are three in 3-D, else one)."""
    profile: str = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    scale: float = 0.3
    """Bound of the factors at the start: products of tiny ones would have no gradient."""
    lr_features: float = 2e-2
    """Learning rate of the factors."""
    lr_network: float = 1e-2
    """Learning rate of the decoder; of depth 0, one linear layer, it is TensoRF's basis matrix."""

    def build(self, domain):
        _check(self)
        positive(self, "finest", "rank", "scale")
        cells = _cells(self.finest, domain)

        def factor(axes):
            return axes, Grid(
                GridIndex(len(axes), cells[:, list(axes)]),
                InterpolationKernel(self.profile),
                self.rank,
                scale=self.scale,
            )

        grid = ProductGrid([[factor(axes) for axes in mode] for mode in VM_AXES[domain.dim]])
        return Field(
            grid,
            _decoder(self, grid.n_out, domain),
            {"features": self.lr_features, "network": self.lr_network},
        )


@dataclass(frozen=True)
class LiteralMulFAGridConfig:
    """MulFAGrid with the paper's kernel to the letter, guarded against vanishing denominators: for
    study."""

    finest: int = 188
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: int = 40
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: int = 2
    """Levels, growing geometrically."""
    channels: int = 8
    """Features per node; with no decoder always the output size."""
    octaves: int = 4
    """Octaves of gamma(x)."""
    floor: float = 0.1
    """Least magnitude of the denominator."""
    filter: FilterConfig = field(default_factory=lambda: FilterConfig(depth=4))
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 1e-2
    """Learning rate of the features."""
    lr_network: float = 5e-3
    """Learning rate of the decoder and the filter network."""

    def build(self, domain):
        positive(self, "octaves", "floor")
        positive(self.filter, "width", "depth", "frequency", prefix="--field.filter.")
        return _grid_field(
            self,
            domain,
            level_index(self, domain),
            lambda index, channels: MulFALiteralKernel(
                index.positions(),
                index.n_levels,
                self.octaves,
                self.filter.width,
                self.filter.depth,
                self.filter.frequency,
                self.floor,
            ),
            {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network},
        )
