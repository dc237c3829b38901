"""Configs of networks on coordinates, and of grids with an OptDNN as their decoder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jgrid.encoding import FREQUENCIES, FourierFeatures
from jgrid.field.base import Field, positive
from jgrid.field.grids import level_index
from jgrid.grid import Grid
from jgrid.kernel import InterpolationKernel
from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire
from jgrid.optdnn.methods import find_method
from jgrid.optdnn.network import coordinate_network

import numpy as np
from jittor import nn


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

    def build(self, domain):
        positive(self, "width", "depth", "omega", "lr")
        return Field(
            None,
            Siren(domain.dim, domain.n_out, self.width, self.depth, self.omega),
            {"network": self.lr},
        )


@dataclass(frozen=True)
class FourierNetConfig:
    """Fourier features and a ReLU MLP (Tancik et al. 2020)."""

    encoding: str = "gaussian"
    """Frequencies: none (the coordinates themselves), basic, positional, log-linear or gaussian."""
    features: int = 256
    """Frequencies, each a sine and a cosine."""
    sigma: float = 10.0
    """Standard deviation (gaussian), ratio of the highest frequency to the lowest (positional) or
    log2 of the highest (log-linear)."""
    width: int = 256
    """Neurons of a hidden layer."""
    depth: int = 3
    """Hidden layers."""
    lr: float = 1e-3
    """Learning rate."""

    def build(self, domain):
        positive(self, "features", "sigma", "width", "depth", "lr")
        if self.encoding == "none":
            return Field(
                None,
                MLP(domain.dim, domain.n_out, self.width, self.depth, bias=domain.start),
                {"network": self.lr},
            )
        if self.encoding not in FREQUENCIES:
            raise ValueError(
                f"--field.encoding is one of none, {', '.join(FREQUENCIES)}, got {self.encoding!r}"
            )
        encoding = FourierFeatures(
            FREQUENCIES[self.encoding](domain.dim, self.features, self.sigma)
        )
        network = nn.Sequential(
            encoding, MLP(encoding.n_out, domain.n_out, self.width, self.depth, bias=domain.start)
        )
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
    """Bound of each filter's frequency, times the root of their number: what all filters together
    come to."""
    alpha: float = 6.0
    """Shape of the gamma distribution of the inverse squared width of all Gabor filters
    together."""
    beta: float = 1.0
    """Rate of that distribution."""
    lr: float = 1e-2
    """Learning rate."""

    def build(self, domain):
        positive(self, "width", "depth", "scale", "alpha", "beta", "lr")
        n = self.depth + 1
        scale = self.scale / np.sqrt(self.depth + 1)
        if self.filters == "fourier":
            filters = [FourierFilter(domain.dim, self.width, scale) for _ in range(n)]
        elif self.filters == "gabor":
            filters = [
                GaborFilter(domain.dim, self.width, scale, self.alpha / n, self.beta)
                for _ in range(n)
            ]
        else:
            raise ValueError(f"--field.filters is fourier or gabor, got {self.filters!r}")
        return Field(None, MFN(filters, domain.n_out), {"network": self.lr})


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

    def build(self, domain):
        positive(self, "width", "depth", "omega", "scale", "lr")
        return Field(
            None,
            Wire(domain.dim, domain.n_out, self.width, self.depth, self.omega, self.scale),
            {"network": self.lr},
        )


@dataclass(frozen=True)
class AbstractOptDNNConfig(ABC):
    """What fields with an OptDNN have in common."""

    method: str = "nesterov"
    """gd, heavy-ball, nesterov, apg2, optimistic, ab2, dual-averaging, admm; implicit:
    proximal-point, proximal-gradient, fista."""
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

    def network(self, n_in, n_out, reach):
        positive(self, "width", "hidden", "depth", "lr_network")
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
    def build(self, domain):
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

    def build(self, domain):
        positive(self, "features", "sigma")
        encoding = FourierFeatures(FREQUENCIES["gaussian"](domain.dim, self.features, self.sigma))
        return Field(
            None,
            nn.Sequential(encoding, self.network(encoding.n_out, domain.n_out, 1.0)),
            {"network": self.lr_network},
        )


@dataclass(frozen=True)
class OptDNNGridConfig(AbstractOptDNNConfig):
    """Linear grids at several resolutions with an OptDNN as their decoder."""

    width: int = 32
    """Numbers of the state that every layer updates."""
    hidden: int = 32
    """Neurons of the two-layer network that stands for a gradient."""
    depth: int = 2
    """Layers: steps of the method."""
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
    lr_network: float = 1e-2
    """Learning rate of the decoder."""

    def build(self, domain):
        positive(self, "channels", "lr_features")
        grid = Grid(level_index(self, domain), InterpolationKernel(), self.channels, concat=True)
        return Field(
            grid,
            self.network(grid.n_out, domain.n_out, 0.0),
            {"features": self.lr_features, "network": self.lr_network},
        )
