"""Configs of grid fields."""

from collections.abc import Sequence
from typing import Annotated, Callable, Optional, Union

from jgrid import memory
from jgrid.config import MOST, Count, Finite, Positive, config
from jgrid.field.base import (
    AbstractDomain,
    Channels,
    Depth,
    Field,
    Levels,
    Octaves,
    OctavesOrZero,
    Width,
)
from jgrid.grid import VM_AXES, Grid, ProductGrid
from jgrid.index import (
    AbstractIndex,
    Fold,
    FourierIndex,
    GridIndex,
    PointIndex,
    geometric_levels,
    r_sequence,
)
from jgrid.kernel import (
    AbstractKernel,
    InterpolationKernel,
    MulFAGainKernel,
    MulFAKernel,
    MulFALiteralKernel,
    RadialKernel,
)
from jgrid.network import MLP
from jgrid.ops.basis import Profile

import numpy as np
from annotated_types import Interval


@config
class DecoderConfig:
    """The MLP behind a grid."""

    width: Width = 64
    """Neurons of a hidden layer."""
    depth: Annotated[int, Interval(ge=0, le=64)] = 1
    """Hidden layers; 0: no decoder, the levels are summed and the field is linear in its
    features."""
    gated: bool = False
    """Whether the inputs and each hidden layer are multiplied by affine functions of what they
    come from: a multiplicative network."""


@config
class FilterConfig:
    """The multiplicative filter network of a MulFAGrid without a decoder."""

    width: Width = 16
    """Filters of a layer."""
    depth: Depth = 1
    """Multiplicative layers."""
    frequency: Positive = 16.0
    """Bound of the filters' frequency, in half-waves across the grid."""


TableSize = Annotated[int, Interval(ge=2, le=MOST)]
MakeKernel = Callable[[AbstractIndex, int], AbstractKernel]  # of an index and its channels


def _cells(along: Union[int, Sequence[int]], domain: AbstractDomain) -> np.ndarray:
    """Cells along each axis, (L, dim), from those along an axis of a square or cube."""
    lengths = np.ones(domain.dim)
    if domain.aspect is not None:
        lengths = np.asarray(domain.aspect) / np.prod(domain.aspect) ** (1 / domain.dim)
    return np.maximum(1, np.round(np.outer(along, lengths))).astype(int)


def level_index(
    domain: AbstractDomain,
    coarsest: int,
    finest: int,
    levels: int,
    table_size: Optional[int] = None,
    fold: Fold = "hash",
) -> GridIndex:
    """The index of a grid with levels, from `coarsest` to `finest` cells along an axis of a square
    or cube."""
    cells = _cells(geometric_levels(coarsest, finest, levels), domain)
    return GridIndex(domain.dim, cells, table_size, fold)


def _decoder(config: DecoderConfig, n_in: int, domain: AbstractDomain) -> MLP:
    return MLP(n_in, domain.n_out, config.width, config.depth, domain.start, config.gated)


def _grid_field(
    domain: AbstractDomain,
    index: AbstractIndex,
    make_kernel: MakeKernel,
    channels: int,
    decoder: DecoderConfig,
    rates: dict[str, float],
    concat: bool = True,
) -> Field:
    """The field of one grid and, with a decoder, the levels side by side (concat) or their sum in
    front of it."""
    if not decoder.depth:
        grid = Grid(index, make_kernel(index, domain.n_out), domain.n_out)
        return Field(grid, None, rates)
    grid = Grid(index, make_kernel(index, channels), channels, concat=concat)
    return Field(grid, _decoder(decoder, grid.n_out, domain), rates)


@config
class DenseGridConfig:
    """Dense grids at several resolutions with fixed interpolation."""

    finest: Count = 188
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: Count = 40
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: Levels = 2
    """Levels, growing geometrically."""
    channels: Channels = 8
    """Features per node; with no decoder always the output size."""
    profile: Profile = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = DecoderConfig()
    lr_features: Positive = 8e-2
    """Learning rate of the features."""
    lr_network: Positive = 4e-2
    """Learning rate of the decoder."""

    def build(self, domain: AbstractDomain) -> Field:
        return _grid_field(
            domain,
            level_index(domain, self.coarsest, self.finest, self.levels),
            lambda index, channels: InterpolationKernel(self.profile),
            self.channels,
            self.decoder,
            {"features": self.lr_features, "network": self.lr_network},
        )


@config
class HashGridConfig:
    """Multi-resolution hash grid (Instant-NGP): levels too large for a table are hashed into it."""

    finest: Count = 600
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: Count = 16
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: Levels = 6
    """Levels, growing geometrically."""
    channels: Channels = 4
    """Features per node; with no decoder always the output size."""
    table_size: TableSize = 23970
    """Most nodes a level may own; in the plane the hash is Instant-NGP's where it is a power of
    two."""
    fold: Fold = "hash"
    """How larger levels share their table: lattice, as far apart as they can, or hash, anywhere."""
    profile: Profile = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = DecoderConfig(width=128)
    lr_features: Positive = 8e-2
    """Learning rate of the features."""
    lr_network: Positive = 3e-2
    """Learning rate of the decoder."""

    def build(self, domain: AbstractDomain) -> Field:
        return _grid_field(
            domain,
            level_index(
                domain, self.coarsest, self.finest, self.levels, self.table_size, self.fold
            ),
            lambda index, channels: InterpolationKernel(self.profile),
            self.channels,
            self.decoder,
            {"features": self.lr_features, "network": self.lr_network},
        )


@config
class MulFAGridConfig:
    """MulFAGrid: grids with the multiplicative Fourier adaptive kernel."""

    finest: Count = 600
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: Count = 45
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: Levels = 4
    """Levels, growing geometrically."""
    channels: Channels = 8
    """Features per node; with no decoder always the output size."""
    table_size: TableSize = 11598
    """Most nodes a level may own; larger levels are folded."""
    fold: Fold = "lattice"
    """How larger levels share their table: lattice, as far apart as they can, or hash, anywhere."""
    kernels: Annotated[int, Interval(ge=1, le=16)] = 1
    """Kernels that read each feature side by side, for the decoder: more fit better and cost time;
    with no decoder always one."""
    octaves: Octaves = 1
    """Octaves of gamma(offset): more fit finer detail and wiggle more between the samples."""
    spread: Positive = 0.3
    """Standard deviation of the kernels' coefficients at the start, for the decoder."""
    constant: Finite = 1.0
    """Added to the coefficients of 1 at the start: with 1 and a small spread the kernels start near
    plain interpolation, and wiggle less between the samples."""
    profile: Profile = "linear"
    """Window: nearest, linear or smooth."""
    decoder: DecoderConfig = DecoderConfig(gated=True)
    filter: FilterConfig = FilterConfig()
    lr_features: Positive = 8e-2
    """Learning rate of the features."""
    lr_network: Positive = 5e-2
    """Learning rate of the decoder and of the kernels' coefficients, or, with no decoder, of the
    filter network."""

    def build(self, domain: AbstractDomain) -> Field:

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
            domain,
            level_index(
                domain, self.coarsest, self.finest, self.levels, self.table_size, self.fold
            ),
            kernel,
            self.channels,
            self.decoder,
            {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network},
        )


@config
class FourierGridConfig:
    """FourierGrid, MulFAGrid's predecessor: the mean of dense grids looked up at Fourier-warped
    coordinates."""

    finest: Count = 102
    """Cells of every band along an axis of a square or cube."""
    octaves: OctavesOrZero = 3
    """Octaves of warps: bands are the coordinates and, for each octave, their sine and cosine."""
    channels: Channels = 4
    """Features per node; with no decoder always the output size."""
    profile: Profile = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = DecoderConfig()
    lr_features: Positive = 5e-2
    """Learning rate of the features."""
    lr_network: Positive = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain: AbstractDomain) -> Field:
        return _grid_field(
            domain,
            FourierIndex(domain.dim, _cells(self.finest, domain), self.octaves),
            lambda index, channels: InterpolationKernel(self.profile, index.n_levels),
            self.channels,
            self.decoder,
            {"features": self.lr_features, "network": self.lr_network},
            concat=False,
        )


@config
class RadialGridConfig:
    """Irregular grid: scattered nodes with radial kernels of learned shape (NeuRBF), with octaves
    the irregular MulFAGrid."""

    nodes: Count = 24000
    """Nodes, placed where the subject has detail."""
    neighbours: Annotated[int, Interval(ge=1, le=2**8)] = 4
    """Nearest nodes that answer for a point."""
    channels: Channels = 8
    """Features per node; with no decoder always the output size."""
    octaves: OctavesOrZero = 0
    """Octaves of gamma(offset) that the radial windows multiply; 0: the windows alone."""
    sharpness: Positive = 3.0
    """How steep the windows start, per spacing of the nodes."""
    decoder: DecoderConfig = DecoderConfig()
    lr_features: Positive = 2e-2
    """Learning rate of the features."""
    lr_kernel: Positive = 1e-2
    """Learning rate of the windows' shapes."""
    lr_network: Positive = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain: AbstractDomain) -> Field:
        memory.require(256 * self.nodes, f"placing {self.nodes:,} nodes", "`nodes`")
        nodes = domain.place(self.nodes) if domain.place else r_sequence(self.nodes, domain.dim)
        return _grid_field(
            domain,
            PointIndex(nodes, self.neighbours),
            lambda index, channels: RadialKernel(
                index.n_nodes, domain.dim, channels, self.octaves, self.sharpness
            ),
            self.channels,
            self.decoder,
            {"features": self.lr_features, "kernel": self.lr_kernel, "network": self.lr_network},
        )


@config
class VMGridConfig:
    """TensoRF's vector-matrix factors: planes times lines in 3-D, lines times lines in 2-D, and a
    decoder."""

    finest: Count = 512
    """Cells of a line, or along a side of a plane, along an axis of a square or cube."""
    rank: Width = 256
    """Products of each mode (there are three in 3-D, else one)."""
    profile: Profile = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = DecoderConfig()
    scale: Positive = 0.3
    """Bound of the factors at the start: products of tiny ones would have no gradient."""
    lr_features: Positive = 2e-2
    """Learning rate of the factors."""
    lr_network: Positive = 1e-2
    """Learning rate of the decoder; of depth 0, one linear layer, it is TensoRF's basis matrix."""

    def build(self, domain: AbstractDomain) -> Field:
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
            _decoder(self.decoder, grid.n_out, domain),
            {"features": self.lr_features, "network": self.lr_network},
        )


@config
class LiteralMulFAGridConfig:
    """MulFAGrid with the paper's kernel to the letter, guarded against vanishing denominators: for
    study."""

    finest: Count = 188
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: Count = 40
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: Levels = 2
    """Levels, growing geometrically."""
    channels: Channels = 8
    """Features per node; with no decoder always the output size."""
    octaves: Octaves = 4
    """Octaves of gamma(x)."""
    floor: Positive = 0.1
    """Least magnitude of the denominator."""
    filter: FilterConfig = FilterConfig(depth=4)
    decoder: DecoderConfig = DecoderConfig()
    lr_features: Positive = 1e-2
    """Learning rate of the features."""
    lr_network: Positive = 5e-3
    """Learning rate of the decoder and the filter network."""

    def build(self, domain: AbstractDomain) -> Field:
        return _grid_field(
            domain,
            level_index(domain, self.coarsest, self.finest, self.levels),
            lambda index, channels: MulFALiteralKernel(
                index.positions(),
                index.n_levels,
                self.octaves,
                self.filter.width,
                self.filter.depth,
                self.filter.frequency,
                self.floor,
            ),
            self.channels,
            self.decoder,
            {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network},
        )
