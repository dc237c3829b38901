"""Networks that follow a field's own computation: one asks the field at learned points, the other
sends messages through its weights.

Both are exactly invariant to permutations, and to signs and phases of sines, whatever their
parameters: states of neurons change sign with the neurons, and the weights behind them too."""

from collections.abc import Sequence

from jgrid.network import MLP
from jgrid.weightspace.weights import Weights

import jittor as jt
import numpy as np
from jittor import nn

FEW = 64  # states


def states(
    weights: dict[str, jt.Var], omega: float, first: jt.Var, mixes: Sequence[jt.Var] = ()
) -> jt.Var:
    """The last layer of SIRENs, computed for C states of each neuron: weights {name: (B, *sizes)},
    first (d_0, C), mixes (C, C) -> (B, d_L, C).

        h_1 = sin(omega (W_1 X + b_1)), h_l = sin(omega (W_l h_{l-1} A_l + b_l)), W_L h_{L-1} + b_L

    Without mixes A the states are the values at the C points X. Each A mixes the messages that a
    neuron gets, and no point is left."""
    layers = len(weights) // 2
    w = weights["W1"]
    z = (w.reshape(-1, w.shape[2]) @ first).reshape(w.shape[0], w.shape[1], -1)
    for m in range(1, layers):
        h = jt.sin(omega * (z + weights[f"b{m}"].unsqueeze(2)))
        z = jt.matmul(weights[f"W{m + 1}"], h)
        if mixes and m + 1 < layers:
            z = (z.reshape(-1, z.shape[2]) @ mixes[m - 1]).reshape(z.shape)
    return z + weights[f"b{layers}"].unsqueeze(2)


class Probes(nn.Module):
    """An MLP on the values of a field at learned points in [-1, 1]^d_0: features -> (B, n_out).

    It asks the field. weights: whose features are read; points: their number."""

    def __init__(self, weights: Weights, n_out: int, points: int = 64, width: int = 256):
        super().__init__()
        self._weights = weights
        inputs, _, outputs = _sizes(weights)
        self.points = jt.array(np.random.uniform(-1, 1, (inputs, points)).astype(np.float32))
        self.head = _Head(points * outputs, n_out, width)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        fields = self._weights.unscaled(features)
        return self.head(states(fields, self._weights.omega, self.points))


class ForwardReader(nn.Module):
    """An MLP on what a field's last layer makes of learned states: features -> (B, n_out).

    Each neuron has `channels` states: the sines of its bias and of learned mixtures of the messages
    that reach it, which are the states before it times the weights between. weights: whose features
    are read."""

    def __init__(self, weights: Weights, n_out: int, channels: int = 128, width: int = 256):
        super().__init__()
        self._weights = weights
        inputs, layers, outputs = _sizes(weights)
        self.first = _normal(inputs, channels)
        # A = FEW / C times these, so that a step of Adam turns the sines of many states, each a sum
        # of C messages, no further than those of few
        self._scale = FEW / channels
        start = [_normal(channels, channels) / (2 * self._scale) for _ in range(layers - 2)]
        self.mixes = nn.ParameterList(start)
        self.head = _Head(channels * outputs, n_out, width)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        fields = self._weights.unscaled(features)
        mixes = [mix * self._scale for mix in self.mixes]
        return self.head(states(fields, self._weights.omega, self.first, mixes))


class _Head(nn.Module):
    """(B, d, C) -> layer normalisation of all -> an MLP of one hidden layer -> (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        self.network = MLP(n_in, n_out, width, 1)

    def execute(self, z: jt.Var) -> jt.Var:
        return self.network(self.norm(z.reshape(z.shape[0], -1)))


def _sizes(weights: Weights) -> tuple[int, int, int]:
    """d_0, L and d_L of fields."""
    layers = len(weights.weights) // 2
    return weights.weights["W1"].shape[2], layers, weights.weights[f"b{layers}"].shape[1]


def _normal(n_in: int, n_out: int) -> jt.Var:
    drawn = np.random.normal(size=(n_in, n_out)) / np.sqrt(n_in)
    return jt.array(drawn.astype(np.float32))
