"""The networks on weights by name: what the apps compare."""

from dataclasses import dataclass

from jgrid.weightspace.adapt import FlatWeights
from jgrid.weightspace.baselines import FlatMLP, RowEncoder, RowTransformer
from jgrid.weightspace.layers import DWSNet, Equivariant

from typing_extensions import Literal

# name: (from weights to outputs, from weights to weights, or None where there is none)
MODELS = {
    "dwsnet": (
        lambda space, n_out, net, c_in: DWSNet(
            space, n_out, net.channels, net.depth, c_in, net.pool, net.dropout
        ),
        lambda space, net: Equivariant(
            space, 1, net.channels, 1, net.depth, net.pool, net.dropout, last_gain=0.1
        ),
    ),
    "mlp": (
        lambda space, n_out, net, c_in: FlatMLP(space, n_out, net.width, c_in=c_in),
        lambda space, net: FlatWeights(space, net.width),
    ),
    "mlp-permuted": (
        lambda space, n_out, net, c_in: FlatMLP(space, n_out, net.width, c_in=c_in),
        None,
    ),
    "mlp-aligned": (
        lambda space, n_out, net, c_in: FlatMLP(space, n_out, net.width, c_in=c_in),
        None,
    ),
    "inr2vec": (lambda space, n_out, net, c_in: RowEncoder(space, n_out), None),
    "transformer": (lambda space, n_out, net, c_in: RowTransformer(space, n_out), None),
}


@dataclass(frozen=True)
class NetConfig:
    """Size of the networks on weights, and their learning."""

    channels: int = 24
    """Features per weight of a DWSNet."""
    depth: int = 4
    """Equivariant layers of a DWSNet."""
    pool: Literal["mean", "sum", "max"] = "mean"
    """How its layers pool."""
    dropout: float = 0.0
    """Of its features."""
    lr: float = 3e-3
    """Its learning rate."""
    width: int = 256
    """Neurons of each of the two hidden layers of the flat MLP."""
    lr_baselines: float = 1e-3
    """Learning rate of all others."""
    weight_decay: float = 0.0
    """Of all: added to the gradients, times the weights."""

    def __post_init__(self):
        if min(self.channels, self.depth, self.width) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                "--net needs channels, depth and width >= 1 and 0 <= dropout < 1, got "
                f"{self.channels}, {self.depth}, {self.width} and {self.dropout}"
            )
        if min(self.lr, self.lr_baselines) <= 0 or self.weight_decay < 0:
            raise ValueError(
                "--net needs lr and lr-baselines > 0 and weight-decay >= 0, got "
                f"{self.lr}, {self.lr_baselines} and {self.weight_decay}"
            )
