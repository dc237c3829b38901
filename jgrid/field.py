"""Fields: a grid or nothing, then a network or nothing; and the configs that build them.

A config is a frozen dataclass; its fields are the command line's flags, and `build(dim, n_out, aspect, place)` makes the field.
`aspect` (dim,) says how long the domain is along each axis relative to the others: cells come out square, and as many as in
a square of the same resolution; `place(n)` -> (n, dim) in [0, 1] puts scattered nodes where the subject wants them (None: evenly).
"""
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields

from jgrid.encoding import FREQUENCIES, FourierFeatures
from jgrid.grid import VM_AXES, Grid, ProductGrid
from jgrid.index import FourierIndex, GridIndex, PointIndex, geometric_levels, r_sequence
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel, MulFALiteralKernel, RadialKernel
from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire
from jgrid.optdnn.methods import find_method
from jgrid.optdnn.network import coordinate_network

import jittor as jt
import numpy as np
from jittor import nn


class Field(nn.Module):
    """f(x) = network(grid(x)), either of which may be None: x (N, D) in [0, 1] -> (N, n_out).

    rates: the learning rate of each part, any of "features", "kernel", "network".
    """

    def __init__(self, grid, network, rates):
        super().__init__()
        self.grid, self.network, self.rates = grid, network, rates

    def execute(self, x):
        if self.grid is not None:
            x = self.grid(x)
        return self.network(x) if self.network is not None else x

    def start_at(self, value):
        """Move an MLP's last bias, about which the outputs start, to `value`; other networks are left as they are."""
        for module in self.modules():
            if isinstance(module, MLP):
                bias = module.layers[-1].bias
                bias.update(jt.zeros(bias.shape) + value)
        return self

    def use_plain_ops(self):
        """Compute by the plain twins of the fused ops from now on."""
        for module in self.modules():
            if isinstance(module, (Grid, MLP)):
                module.fused = None

    def squared_error(self, x, target):
        """mean((f(x) - target)^2), with an MLP behind the grid computed in one op: x (N, D), target (N, n_out) -> scalar."""
        if isinstance(self.network, MLP):
            return self.network.squared_error(self.grid(x) if self.grid is not None else x, target)
        return ((self(x) - target) ** 2).mean()

    def parameter_groups(self):
        """[{"name", "params", "lr", "lazy"}] for the optimiser: features, the kernel's parameters, the network's; no fixed arrays."""
        grids = [module for module in self.modules() if isinstance(module, Grid)]
        parts = {"features": [grid.w for grid in grids],
                 "kernel": [p for grid in grids for p in grid.kernel.parameters()],
                 "network": [p for p in self.network.parameters() if not p.is_stop_grad()] if self.network is not None else []}
        return [{"name": name, "params": params, "lr": self.rates[name], "lazy": name == "features"}
                for name, params in parts.items() if params]


def count_parameters(model):
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for group in model.parameter_groups() for p in group["params"])


def _positive(config, *names, prefix="--field."):
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise ValueError(f"{prefix}{name.replace('_', '-')} must be positive, got {getattr(config, name)}")


@dataclass(frozen=True)
class DecoderConfig:
    """The MLP behind a grid."""
    width: int = 64
    """Neurons of a hidden layer."""
    depth: int = 1
    """Hidden layers; 0: no decoder, the levels are summed and the field is linear in its features."""


@dataclass(frozen=True)
class FilterConfig:
    """The multiplicative filter network of a MulFAGrid without a decoder."""
    width: int = 16
    """Filters of a layer."""
    depth: int = 1
    """Multiplicative layers."""
    frequency: float = 16.0
    """Bound of the filters' frequency, in half-waves across the grid."""


def _cells(along, dim, aspect):
    """Cells along each axis, (L, dim), from those along an axis of a square or cube."""
    lengths = np.ones(dim) if aspect is None else np.asarray(aspect) / np.prod(aspect) ** (1 / dim)
    return np.maximum(1, np.round(np.outer(along, lengths))).astype(int)


def _levels(config, dim, aspect, table_size=None):
    """The index of a grid with levels."""
    _positive(config, "coarsest", "finest", "levels")
    return GridIndex(dim, _cells(geometric_levels(config.coarsest, config.finest, config.levels), dim, aspect), table_size)


def _decoder(config, n_in, n_out):
    return MLP(n_in, n_out, config.decoder.width, config.decoder.depth, bias=0.5)


def _check(config):
    """What all grid configs have."""
    _positive(config, *(f.name for f in fields(config) if f.name.startswith("lr_") or f.name == "channels"))
    _positive(config.decoder, "width", prefix="--field.decoder.")
    if config.decoder.depth < 0:
        raise ValueError(f"--field.decoder.depth must not be negative, got {config.decoder.depth}")


def _grid_field(config, index, make_kernel, n_out, rates, concat=True):
    """The field of one grid and, with a decoder, the levels side by side (concat) or their sum in front of it."""
    _check(config)
    decoded = config.decoder.depth > 0
    channels = config.channels if decoded else n_out
    grid = Grid(index, make_kernel(index, channels), channels, concat=concat and decoded)
    return Field(grid, _decoder(config, grid.n_out, n_out) if decoded else None, rates)


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

    def build(self, dim, n_out, aspect=None, place=None):
        return _grid_field(self, _levels(self, dim, aspect), lambda index, channels: InterpolationKernel(self.profile), n_out,
                           {"features": self.lr_features, "network": self.lr_network})


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
    table_size: int = 22500
    """Most nodes a level may own."""
    profile: str = "linear"
    """Interpolation: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lr_features: float = 8e-2
    """Learning rate of the features."""
    lr_network: float = 4e-2
    """Learning rate of the decoder."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "table_size")
        return _grid_field(self, _levels(self, dim, aspect, self.table_size), lambda index, channels: InterpolationKernel(self.profile),
                           n_out, {"features": self.lr_features, "network": self.lr_network})


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
    """Kernels that read each feature side by side, for the decoder: more fit better and cost time; with no decoder always one."""
    octaves: int = 1
    """Octaves of gamma(offset): more fit finer detail and wiggle more between the samples."""
    spread: float = 1.0
    """Standard deviation of the kernels' coefficients at the start, for the decoder."""
    constant: float = 0.0
    """Added to the coefficients of 1 at the start: with 1 and a small spread the kernels start near plain interpolation."""
    profile: str = "linear"
    """Window: nearest, linear or smooth."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    lr_features: float = 4e-2
    """Learning rate of the features."""
    lr_network: float = 4e-2
    """Learning rate of the decoder and of the kernels' coefficients, or, with no decoder, of the filter network."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "table_size", "octaves", "kernels", "spread")
        _positive(self.filter, "width", "depth", "frequency", prefix="--field.filter.")

        def kernel(index, channels):
            if self.decoder.depth:
                return MulFAKernel(dim, index.n_levels, channels, self.kernels, self.octaves, self.profile, self.spread, self.constant)
            return MulFAGainKernel(index.positions(), channels, self.octaves, self.filter.width, self.filter.depth,
                                   self.filter.frequency, self.profile)

        return _grid_field(self, _levels(self, dim, aspect, self.table_size), kernel, n_out,
                           {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network})


@dataclass(frozen=True)
class FourierGridConfig:
    """FourierGrid, MulFAGrid's predecessor: the mean of dense grids looked up at Fourier-warped coordinates."""
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

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "finest")
        return _grid_field(self, FourierIndex(dim, _cells(self.finest, dim, aspect), self.octaves),
                           lambda index, channels: InterpolationKernel(self.profile, index.n_levels), n_out,
                           {"features": self.lr_features, "network": self.lr_network}, concat=False)


@dataclass(frozen=True)
class RadialGridConfig:
    """Irregular grid: scattered nodes with radial kernels of learned shape (NeuRBF), with octaves the irregular MulFAGrid."""
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

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "nodes", "neighbours", "sharpness")
        nodes = place(self.nodes) if place else r_sequence(self.nodes, dim)
        return _grid_field(self, PointIndex(nodes, self.neighbours),
                           lambda index, channels: RadialKernel(index.n_nodes, dim, channels, self.octaves, self.sharpness), n_out,
                           {"features": self.lr_features, "kernel": self.lr_kernel, "network": self.lr_network})


@dataclass(frozen=True)
class VMGridConfig:
    """TensoRF's vector-matrix factors: planes times lines in 3-D, lines times lines in 2-D, and a decoder."""
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

    def build(self, dim, n_out, aspect=None, place=None):
        _check(self)
        _positive(self, "finest", "rank", "scale")
        cells = _cells(self.finest, dim, aspect)

        def factor(axes):
            return axes, Grid(GridIndex(len(axes), cells[:, list(axes)]), InterpolationKernel(self.profile), self.rank, scale=self.scale)

        grid = ProductGrid([[factor(axes) for axes in mode] for mode in VM_AXES[dim]])
        return Field(grid, _decoder(self, grid.n_out, n_out), {"features": self.lr_features, "network": self.lr_network})


@dataclass(frozen=True)
class LiteralMulFAGridConfig:
    """MulFAGrid with the paper's kernel to the letter, guarded against vanishing denominators: for study."""
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

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "octaves", "floor")
        _positive(self.filter, "width", "depth", "frequency", prefix="--field.filter.")
        return _grid_field(self, _levels(self, dim, aspect),
                           lambda index, channels: MulFALiteralKernel(index.positions(), index.n_levels, self.octaves, self.filter.width,
                                                                      self.filter.depth, self.filter.frequency, self.floor), n_out,
                           {"features": self.lr_features, "kernel": self.lr_network, "network": self.lr_network})


@dataclass(frozen=True)
class SirenConfig:
    """SIREN: an MLP of sines on the coordinates."""
    width: int = 256
    """Neurons of a hidden layer."""
    depth: int = 3
    """Hidden layers."""
    omega: float = 30.0
    """Frequency of the sines."""
    lr: float = 1e-4
    """Learning rate."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "width", "depth", "omega", "lr")
        return Field(None, Siren(dim, n_out, self.width, self.depth, self.omega), {"network": self.lr})


@dataclass(frozen=True)
class FourierNetConfig:
    """Fourier features and a ReLU MLP (Tancik et al. 2020)."""
    encoding: str = "gaussian"
    """Frequencies: none (the coordinates themselves), basic, positional, log-linear or gaussian."""
    features: int = 256
    """Frequencies, each a sine and a cosine."""
    sigma: float = 10.0
    """Standard deviation (gaussian), ratio of the highest frequency to the lowest (positional) or log2 of the highest (log-linear)."""
    width: int = 256
    """Neurons of a hidden layer."""
    depth: int = 3
    """Hidden layers."""
    lr: float = 1e-3
    """Learning rate."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "features", "sigma", "width", "depth", "lr")
        if self.encoding == "none":
            return Field(None, MLP(dim, n_out, self.width, self.depth, bias=0.5), {"network": self.lr})
        if self.encoding not in FREQUENCIES:
            raise ValueError(f"--field.encoding is one of none, {', '.join(FREQUENCIES)}, got {self.encoding!r}")
        encoding = FourierFeatures(FREQUENCIES[self.encoding](dim, self.features, self.sigma))
        network = nn.Sequential(encoding, MLP(encoding.n_out, n_out, self.width, self.depth, bias=0.5))
        return Field(None, network, {"network": self.lr})


@dataclass(frozen=True)
class MFNConfig:
    """Multiplicative filter network (Fathony et al. 2021)."""
    filters: str = "fourier"
    """fourier (sines) or gabor (sines under a Gaussian)."""
    width: int = 256
    """Neurons of a layer."""
    depth: int = 3
    """Multiplicative layers."""
    scale: float = 256.0
    """Bound of the frequency of the product of all filters."""
    alpha: float = 6.0
    """Shape of the gamma distribution of the inverse squared width of all Gabor filters together."""
    beta: float = 1.0
    """Rate of that distribution."""
    lr: float = 1e-2
    """Learning rate."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "width", "depth", "scale", "alpha", "beta", "lr")
        n, scale = self.depth + 1, self.scale / np.sqrt(self.depth + 1)
        if self.filters == "fourier":
            filters = [FourierFilter(dim, self.width, scale) for _ in range(n)]
        elif self.filters == "gabor":
            filters = [GaborFilter(dim, self.width, scale, self.alpha / n, self.beta) for _ in range(n)]
        else:
            raise ValueError(f"--field.filters is fourier or gabor, got {self.filters!r}")
        return Field(None, MFN(filters, n_out), {"network": self.lr})


@dataclass(frozen=True)
class WireConfig:
    """WIRE: a complex MLP of Gabor wavelets on the coordinates (Saragadam et al. 2023)."""
    width: int = 181
    """Complex neurons of a wavelet layer: 256 / sqrt(2), as many numbers as 256 real ones need."""
    depth: int = 3
    """Wavelet layers, the first, on the coordinates, among them."""
    omega: float = 20.0
    """Frequency of the wavelets."""
    scale: float = 30.0
    """Inverse width of the wavelets."""
    lr: float = 5e-3
    """Learning rate."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "width", "depth", "omega", "scale", "lr")
        return Field(None, Wire(dim, n_out, self.width, self.depth, self.omega, self.scale), {"network": self.lr})


@dataclass(frozen=True)
class AbstractOptDNNConfig(ABC):
    """What fields with an OptDNN have in common."""
    method: str = "nesterov"
    """gd, heavy-ball, nesterov, apg2, optimistic, ab2, dual-averaging, admm; implicit: proximal-point, proximal-gradient, fista."""
    learnable: bool = False
    """Train the method's coefficients too."""
    width: int = 64
    """Numbers of the state that every layer updates."""
    hidden: int = 64
    """Neurons of the two-layer network that stands for a gradient."""
    depth: int = 4
    """Layers: steps of the method."""
    activation: str = "relu"
    """relu, gelu, sigmoid or tanh."""

    def network(self, n_in, n_out):
        _positive(self, "width", "hidden", "depth", "lr_network")
        return coordinate_network(n_in, n_out, find_method(self.method), self.width, self.hidden, self.depth, self.activation,
                                  self.learnable, bias=0.5)

    @abstractmethod
    def build(self, dim, n_out, aspect=None, place=None):
        """The field."""


@dataclass(frozen=True)
class OptDNNConfig(AbstractOptDNNConfig):
    """OptDNN, a network that follows from an optimisation method, on Fourier features."""
    features: int = 128
    """Gaussian frequencies, each a sine and a cosine."""
    sigma: float = 10.0
    """Standard deviation of the frequencies."""
    lr_network: float = 2e-3
    """Learning rate."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "features", "sigma")
        encoding = FourierFeatures(FREQUENCIES["gaussian"](dim, self.features, self.sigma))
        return Field(None, nn.Sequential(encoding, self.network(encoding.n_out, n_out)), {"network": self.lr_network})


@dataclass(frozen=True)
class OptDNNGridConfig(AbstractOptDNNConfig):
    """Linear grids at several resolutions with an OptDNN as their decoder."""
    finest: int = 235
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: int = 30
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: int = 4
    """Levels, growing geometrically."""
    channels: int = 4
    """Features per node."""
    lr_features: float = 8e-2
    """Learning rate of the features."""
    lr_network: float = 5e-3
    """Learning rate of the decoder."""

    def build(self, dim, n_out, aspect=None, place=None):
        _positive(self, "channels", "lr_features")
        grid = Grid(_levels(self, dim, aspect), InterpolationKernel("linear", self.levels), self.channels, concat=True)
        return Field(grid, self.network(grid.n_out, n_out), {"features": self.lr_features, "network": self.lr_network})


FIELDS = {"grid:mulfa": MulFAGridConfig, "grid:mulfa-literal": LiteralMulFAGridConfig, "grid:hash": HashGridConfig,
          "grid:dense": DenseGridConfig, "grid:fourier": FourierGridConfig, "grid:radial": RadialGridConfig, "grid:vm": VMGridConfig,
          "net:siren": SirenConfig, "net:fourier": FourierNetConfig, "net:mfn": MFNConfig, "net:wire": WireConfig,
          "net:optdnn": OptDNNConfig, "grid:optdnn": OptDNNGridConfig}


def field_to_dict(config):
    """A field's config as plain data, with its command-line name under "kind"."""
    kind = next(name for name, cls in FIELDS.items() if isinstance(config, cls))
    return {"kind": kind, **asdict(config)}


def field_from_dict(values):
    """The inverse of `field_to_dict`. Raises ValueError for an unknown kind or entry."""
    values = dict(values)
    kind = values.pop("kind", None)
    if kind not in FIELDS:
        raise ValueError(f"unknown field {kind!r}; there are {', '.join(FIELDS)}")
    for part, cls in (("decoder", DecoderConfig), ("filter", FilterConfig)):
        if part in values:
            values[part] = _from_dict(cls, values[part], f"{kind}'s {part}")
    return _from_dict(FIELDS[kind], values, kind)


def _from_dict(cls, values, name):
    unknown = values.keys() - {f.name for f in fields(cls)}
    if unknown:
        raise ValueError(f"{name} has no {', '.join(sorted(unknown))}")
    return cls(**values)
