"""Configs of networks on coordinates, and of grids with an OptDNN as their decoder."""

from abc import ABC, abstractmethod

from jgrid.config import Count, Positive, config
from jgrid.encoding import FREQUENCIES, FourierFeatures, Frequencies
from jgrid.field.base import AbstractDomain, Channels, Depth, Features, Field, Levels, Width
from jgrid.field.grids import level_index
from jgrid.grid import Grid
from jgrid.kernel import InterpolationKernel
from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire
from jgrid.optdnn.methods import find_method
from jgrid.optdnn.network import coordinate_network

import numpy as np
from jittor import nn
from typing_extensions import Literal

MethodName = Literal[
    "gd",
    "heavy-ball",
    "nesterov",
    "apg2",
    "optimistic",
    "ab2",
    "dual-averaging",
    "admm",
    "proximal-point",
    "proximal-gradient",
    "fista",
]


@config
class SirenConfig:
    """SIREN: an MLP of sines on the coordinates."""

    width: Width = 256
    """Neurons of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    omega: Positive = 30.0
    """Frequency of the sines."""
    lr: Positive = 1e-4
    """Learning rate."""

    def build(self, domain: AbstractDomain) -> Field:
        return Field(
            None,
            Siren(domain.dim, domain.n_out, self.width, self.depth, self.omega),
            {"network": self.lr},
        )


@config
class FourierNetConfig:
    """Fourier features and a ReLU MLP (Tancik et al. 2020)."""

    encoding: Frequencies = "gaussian"
    """Frequencies: none (the coordinates themselves), basic, positional, log-linear or gaussian."""
    features: Features = 256
    """Frequencies, each a sine and a cosine."""
    sigma: Positive = 10.0
    """Standard deviation (gaussian), ratio of the highest frequency to the lowest (positional) or
    log2 of the highest (log-linear)."""
    width: Width = 256
    """Neurons of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    lr: Positive = 1e-3
    """Learning rate."""

    def build(self, domain: AbstractDomain) -> Field:
        def network(n_in: int) -> MLP:
            return MLP(n_in, domain.n_out, self.width, self.depth, bias=domain.start)

        if self.encoding == "none":
            return Field(None, network(domain.dim), {"network": self.lr})
        frequencies = FREQUENCIES[self.encoding](domain.dim, self.features, self.sigma)
        encoding = FourierFeatures(frequencies)
        return Field(None, nn.Sequential(encoding, network(encoding.n_out)), {"network": self.lr})


@config
class MFNConfig:
    """Multiplicative filter network (Fathony et al. 2021)."""

    filters: Literal["fourier", "gabor"] = "fourier"
    """fourier (sines) or gabor (sines under a Gaussian)."""
    width: Width = 256
    """Neurons of a layer."""
    depth: Depth = 3
    """Multiplicative layers."""
    scale: Positive = 256.0
    """Bound of each filter's frequency, times the root of their number: what all filters together
    come to."""
    alpha: Positive = 6.0
    """Shape of the gamma distribution of the inverse squared width of all Gabor filters
    together."""
    beta: Positive = 1.0
    """Rate of that distribution."""
    lr: Positive = 1e-2
    """Learning rate."""

    def build(self, domain: AbstractDomain) -> Field:
        n = self.depth + 1
        scale = self.scale / np.sqrt(n)

        def one() -> nn.Module:
            if self.filters == "fourier":
                return FourierFilter(domain.dim, self.width, scale)
            return GaborFilter(domain.dim, self.width, scale, self.alpha / n, self.beta)

        filters = [one() for _ in range(n)]
        return Field(None, MFN(filters, domain.n_out), {"network": self.lr})


@config
class WireConfig:
    """WIRE: a complex MLP of Gabor wavelets on the coordinates (Saragadam et al. 2023)."""

    width: Width = 181
    """Complex neurons of a wavelet layer: 256 / sqrt(2), as many numbers as 256 real ones need."""
    depth: Depth = 3
    """Wavelet layers, the first, on the coordinates, among them."""
    omega: Positive = 20.0
    """Frequency of the wavelets."""
    scale: Positive = 30.0
    """Inverse width of the wavelets."""
    lr: Positive = 5e-3
    """Learning rate."""

    def build(self, domain: AbstractDomain) -> Field:
        return Field(
            None,
            Wire(domain.dim, domain.n_out, self.width, self.depth, self.omega, self.scale),
            {"network": self.lr},
        )


@config
class AbstractOptDNNConfig(ABC):
    """What fields with an OptDNN have in common."""

    method: MethodName = "nesterov"
    """gd, heavy-ball, nesterov, apg2, optimistic, ab2, dual-averaging, admm; implicit:
    proximal-point, proximal-gradient, fista."""
    learnable: bool = False
    """Train the method's coefficients too."""
    width: Width = 64
    """Numbers of the state that every layer updates."""
    hidden: Width = 64
    """Neurons of the two-layer network that stands for a gradient."""
    depth: Depth = 4
    """Layers: steps of the method."""
    activation: Literal["relu", "gelu", "sigmoid", "tanh"] = "relu"
    """relu, gelu, sigmoid or tanh."""

    def network(self, n_in: int, n_out: int, reach: float) -> nn.Module:
        return coordinate_network(
            n_in,
            n_out,
            find_method(self.method),
            self.width,
            self.hidden,
            self.depth,
            self.activation,
            self.learnable,
            reach=reach,
            bias=0.5,
        )

    @abstractmethod
    def build(self, domain: AbstractDomain) -> Field:
        """The field."""


@config
class OptDNNConfig(AbstractOptDNNConfig):
    """OptDNN, a network that follows from an optimisation method, on Fourier features."""

    features: Features = 128
    """Gaussian frequencies, each a sine and a cosine."""
    sigma: Positive = 10.0
    """Standard deviation of the frequencies."""
    lr_network: Positive = 2e-3
    """Learning rate."""

    def build(self, domain: AbstractDomain) -> Field:
        encoding = FourierFeatures(FREQUENCIES["gaussian"](domain.dim, self.features, self.sigma))
        return Field(
            None,
            nn.Sequential(encoding, self.network(encoding.n_out, domain.n_out, 1.0)),
            {"network": self.lr_network},
        )


@config
class OptDNNGridConfig(AbstractOptDNNConfig):
    """Linear grids at several resolutions with an OptDNN as their decoder."""

    width: Width = 32
    """Numbers of the state that every layer updates."""
    hidden: Width = 32
    """Neurons of the two-layer network that stands for a gradient."""
    depth: Depth = 2
    """Layers: steps of the method."""
    finest: Count = 235
    """Cells of the finest level along an axis of a square or cube."""
    coarsest: Count = 30
    """Cells of the coarsest level along an axis of a square or cube."""
    levels: Levels = 4
    """Levels, growing geometrically."""
    channels: Channels = 4
    """Features per node."""
    lr_features: Positive = 8e-2
    """Learning rate of the features."""
    lr_network: Positive = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain: AbstractDomain) -> Field:
        index = level_index(domain, self.coarsest, self.finest, self.levels)
        grid = Grid(index, InterpolationKernel(), self.channels, concat=True)
        return Field(
            grid,
            self.network(grid.n_out, domain.n_out, 0.0),
            {"features": self.lr_features, "network": self.lr_network},
        )
