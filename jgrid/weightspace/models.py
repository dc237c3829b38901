"""The networks on weights by name: what the app compares."""

from collections.abc import Sequence
from typing import Annotated, Callable

from jgrid.config import ArgumentError, Count, Positive, Share, Weight, config
from jgrid.weightspace.adapt import FlatWeights
from jgrid.weightspace.baselines import FlatMLP, RowEncoder, RowTransformer
from jgrid.weightspace.forward import Descent, ForwardReader, Probes
from jgrid.weightspace.layers import DWSNet, Equivariant
from jgrid.weightspace.signed import SignedDWSNet
from jgrid.weightspace.space import WeightSpace
from jgrid.weightspace.weights import Weights

from annotated_types import Interval
from jittor import nn
from typing_extensions import Literal

Reader = Callable[[Weights, int, "NetConfig", int], nn.Module]
SIGNED = "dwsnet-signed"
LEARN_FAST = {"dwsnet", SIGNED, "forward", "probes"}


@config
class NetConfig:
    """Size of the networks on weights, and their learning."""

    channels: Count = 24
    """Features per weight of dwsnet and dwsnet-signed."""
    depth: Annotated[int, Interval(ge=1, le=1000)] = 4
    """Equivariant layers of dwsnet and dwsnet-signed."""
    pool: Literal["mean", "sum", "max"] = "mean"
    """How the layers of dwsnet pool."""
    dropout: Share = 0.0
    """Of the features of dwsnet."""
    lr: Positive = 3e-3
    """Learning rate of the DWSNets, the forward reader and the probes."""
    states: Count = 128
    """Features of a neuron in the forward reader."""
    rounds: Annotated[int, Interval(ge=1, le=1000)] = 8
    """Steps of the forward reader and the probes, where they edit."""
    probes: Count = 64
    """Points at which `probes` asks a field."""
    width: Count = 256
    """Neurons of each of the two hidden layers of the flat MLP, and of the hidden layer behind the
    forward reader and the probes."""
    lr_baselines: Positive = 1e-3
    """Learning rate of all others."""
    weight_decay: Weight = 0.0
    """Of all: added to the gradients, times the weights."""

    def rate(self, model: str) -> float:
        """The learning rate of a model."""
        return self.lr if model in LEARN_FAST else self.lr_baselines

    def require_heeded(self, models: Sequence[str]) -> None:
        """ArgumentError for what one of the models would pass over."""
        for name in ("pool", "dropout"):
            if SIGNED in models and getattr(self, name) != getattr(NetConfig(), name):
                raise ArgumentError(name, f"is of dwsnet: leave it out with {SIGNED}")


def _of_one_feature(build: Callable[[Weights, int, NetConfig], nn.Module]) -> Reader:
    """A reader of the weights and nothing beside them."""

    def checked(weights: Weights, n_out: int, net: NetConfig, c_in: int) -> nn.Module:
        if c_in != 1:
            raise ValueError(f"`c_in` must be 1 for this model, got {c_in}")
        return build(weights, n_out, net)

    return checked


def _dwsnet(weights: Weights, n_out: int, net: NetConfig, c_in: int) -> nn.Module:
    return DWSNet(weights.space, n_out, net.channels, net.depth, c_in, net.pool, net.dropout)


def _signed(weights: Weights, n_out: int, net: NetConfig) -> nn.Module:
    net.require_heeded([SIGNED])
    return SignedDWSNet(weights, n_out, net.channels, net.depth)


def _forward(weights: Weights, n_out: int, net: NetConfig) -> nn.Module:
    return ForwardReader(weights, n_out, net.states, net.width)


def _probes(weights: Weights, n_out: int, net: NetConfig) -> nn.Module:
    return Probes(weights, n_out, net.probes, net.width)


def _flat(weights: Weights, n_out: int, net: NetConfig, c_in: int) -> nn.Module:
    return FlatMLP(weights.space, n_out, net.width, c_in=c_in)


def _row_encoder(weights: Weights, n_out: int, net: NetConfig) -> nn.Module:
    return RowEncoder(weights.space, n_out)


def _row_transformer(weights: Weights, n_out: int, net: NetConfig) -> nn.Module:
    return RowTransformer(weights.space, n_out)


def _equivariant(space: WeightSpace, net: NetConfig) -> nn.Module:
    return Equivariant(space, 1, net.channels, 1, net.depth, net.pool, net.dropout, last_gain=0.1)


def _flat_weights(space: WeightSpace, net: NetConfig) -> nn.Module:
    return FlatWeights(space, net.width)


def _forward_editor(weights: Weights, net: NetConfig) -> nn.Module:
    return Descent(weights, net.states, net.width, net.rounds)


def _probes_editor(weights: Weights, net: NetConfig) -> nn.Module:
    return Descent(weights, net.probes, net.width, net.rounds, ask=True)


# from weights with c_in features each to n_out numbers: build(weights, n_out, net, c_in)
READERS: dict[str, Reader] = {
    "dwsnet": _dwsnet,
    SIGNED: _of_one_feature(_signed),
    "forward": _of_one_feature(_forward),
    "probes": _of_one_feature(_probes),
    "mlp": _flat,
    "mlp-permuted": _flat,
    "mlp-aligned": _flat,
    "inr2vec": _of_one_feature(_row_encoder),
    "transformer": _of_one_feature(_row_transformer),
}
OF_ROWS = {"inr2vec", "transformer"}  # they read the neurons of an MLP one by one
OF_SINES = {SIGNED, "forward", "probes"}  # they know what a neuron of a SIREN does
KNOW_ALL_SIGNS = {"forward", "probes"}  # and all phases: a canonical form would be for nothing
ASK_THE_FIELD = {"probes"}  # they see values of the field, the others its weights alone
# from weights to weights: build(space, net)
EDITORS = {"dwsnet": _equivariant, "mlp": _flat_weights}
# of fields of sines: build(weights, net)
FIELD_EDITORS: dict[str, Callable[[Weights, NetConfig], nn.Module]] = {
    "dwsnet": lambda weights, net: _equivariant(weights.space, net),
    "forward": _forward_editor,
    "probes": _probes_editor,
    "mlp": lambda weights, net: _flat_weights(weights.space, net),
}
