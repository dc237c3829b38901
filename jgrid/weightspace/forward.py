"""Networks that follow a field's own computation: one asks the field at learned points, another
sends messages through its weights; a third goes both ways, and changes the weights.

They are exactly invariant to permutations, and to signs and phases of sines, whatever their
parameters, and the third is equivariant: states of neurons change sign with the neurons, and the
weights behind them too."""

from collections.abc import Sequence

from jgrid.network import MLP
from jgrid.weightspace.layers import to_features
from jgrid.weightspace.weights import Weights

import jittor as jt
import numpy as np
from jittor import nn
from scipy.stats import qmc

FEW = 64  # states
FIRST = 0.1  # of a descent's steps, in deviations of the weights, and of what its head adds


def states(
    weights: dict[str, jt.Var], omega: float, first: jt.Var, mixes: Sequence[jt.Var] = ()
) -> jt.Var:
    """The last layer of SIRENs, computed for C states of each neuron: weights {name: (B, *sizes)},
    first (d_0, C), mixes (C, C) -> (B, d_L, C).

        h_1 = sin(omega (W_1 X + b_1)), h_l = sin(omega (W_l h_{l-1} A_l + b_l)), W_L h_{L-1} + b_L

    Without mixes A the states are the values at the C points X. Each A mixes the messages that a
    neuron gets, and no point is left."""
    layers = len(weights) // 2
    z = _mixed(weights["W1"], first)
    for m in range(1, layers):
        h = jt.sin(omega * (z + weights[f"b{m}"].unsqueeze(2)))
        z = jt.matmul(weights[f"W{m + 1}"], h)
        if mixes and m + 1 < layers:
            z = _mixed(z, mixes[m - 1])
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


class Descent(nn.Module):
    """A learned descent: features -> the changes of the features, as `Equivariant`.

        t = A z(v) + head(z(v)),   u <- beta u + step(v, t - z(v)),   v <- v + u,   rounds times

    z (B, d_L, C) is what the last layer makes of C states (`states`), t what it shall make of them
    after the edit. ask: the states are those of C learned points, so that z are values of the
    field, and it asks the field; else they are mixtures, as the forward reader's. `_step` is a step
    down the gradient of |t - z|^2, with a matrix that mixes the states for each round and layer.
    weights: whose features are read and changed."""

    def __init__(
        self,
        weights: Weights,
        states: int = 128,
        width: int = 512,
        rounds: int = 8,
        ask: bool = False,
    ):
        super().__init__()
        self._weights = weights
        inputs, layers, outputs = _sizes(weights)
        self._layers = layers
        self._scale = FEW / states
        if ask:
            # evenly, so that no part of the field is overlooked
            points = qmc.Halton(inputs, seed=np.random.randint(2**31)).random(states)
            self.first = jt.array((2 * points.T - 1).astype(np.float32))
            start = []
        else:
            self.first = _normal(inputs, states)
            start = [_normal(states, states) / (2 * self._scale) for _ in range(layers - 2)]
        self.mixes = nn.ParameterList(start)
        self.head = _Head(states * outputs, states * outputs, width)
        self.line = jt.array(np.eye(states * outputs, dtype=np.float32))
        eye = np.eye(states, dtype=np.float32)
        steps = range(rounds * layers)
        self.pairs = nn.ParameterList([jt.array(eye) for _ in steps])
        self.weighs = nn.ParameterList([jt.ones((states,)) for _ in steps])
        self.momentum = jt.full((rounds, 2 * layers), 0.8)

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        start = self._weights.unscaled(features)
        deviation = self._weights.deviation
        fields = start
        velocity = {name: jt.zeros_like(value) for name, value in start.items()}
        target = None
        for n in range(self.momentum.shape[0]):
            h, slopes, z = self._pass(fields)
            if target is None:
                flat = z.reshape(z.shape[0], -1)
                target = (flat @ self.line + FIRST * self.head(z)).reshape(z.shape)
            moves = self._step(fields, n, h, slopes, target - z)
            for i, name in enumerate(fields):
                velocity[name] = self.momentum[n, i] * velocity[name] + moves[name]
            fields = {name: value + velocity[name] for name, value in fields.items()}
        change = {name: (fields[name] - start[name]) / deviation[name] for name in fields}
        return to_features(self._weights.space, change)

    def _mix(self, m: int) -> jt.Var:
        return self.mixes[m - 1] * self._scale

    def _pass(self, weights: dict[str, jt.Var]) -> tuple[list, list, jt.Var]:
        """h_m = sin(u_m) and cos(u_m) (B, d_m, C) of each hidden layer, and z: as `states`."""
        h: list = [None]
        slopes: list = [None]
        z = _mixed(weights["W1"], self.first)
        for m in range(1, self._layers):
            u = self._weights.omega * (z + weights[f"b{m}"].unsqueeze(2))
            h.append(jt.sin(u))
            slopes.append(jt.cos(u))
            z = jt.matmul(weights[f"W{m + 1}"], h[m])
            if len(self.mixes) and m + 1 < self._layers:
                z = _mixed(z, self._mix(m))
        return h, slopes, z + weights[f"b{self._layers}"].unsqueeze(2)

    def _step(
        self, weights: dict[str, jt.Var], n: int, h: list, slopes: list, error: jt.Var
    ) -> dict[str, jt.Var]:
        """{name: (B, *sizes)}, the changes of round n:

            g_L = t - z,   g_{m-1} = (W_m / deviation)^T (g_m A_m^T) / sqrt(d_{m-1}) * cos(u_{m-1})
            dW_m = s g_m A_m^T P h_{m-1}^T,   db_m = s g_m p,   s = deviation / (10 sqrt(C))

        A_m mixes the states on the way to layer m; P and p are of the round and the layer."""
        small = FIRST * self.first.shape[1] ** -0.5
        g = error
        moves = {}
        for m in range(self._layers, 0, -1):
            at = n * self._layers + m - 1
            moves[f"b{m}"] = (g * self.weighs[at]).sum(2)
            if len(self.mixes) and 1 < m < self._layers:
                g = _mixed(g, self._mix(m - 1).transpose(0, 1))
            below = h[m - 1].transpose(0, 2, 1) if m > 1 else self.first.transpose(0, 1)
            paired = _mixed(g, self.pairs[at])
            moves[f"W{m}"] = jt.matmul(paired, below) if m > 1 else _mixed(paired, below)
            if m > 1:
                w = weights[f"W{m}"]
                back = 1 / (self._weights.deviation[f"W{m}"] * w.shape[2] ** 0.5)
                g = jt.matmul(w.transpose(0, 2, 1), g) * slopes[m - 1] * back
        deviation = self._weights.deviation
        return {name: moves[name] * (small * deviation[name]) for name in weights}


class _Head(nn.Module):
    """(B, d, C) -> layer normalisation of all -> an MLP of one hidden layer -> (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        self.network = MLP(n_in, n_out, width, 1)

    def execute(self, z: jt.Var) -> jt.Var:
        return self.network(self.norm(z.reshape(z.shape[0], -1)))


def _mixed(states: jt.Var, mix: jt.Var) -> jt.Var:
    """(B, d, C) @ (C, C') -> (B, d, C')."""
    return (states.reshape(-1, states.shape[2]) @ mix).reshape(*states.shape[:2], -1)


def _sizes(weights: Weights) -> tuple[int, int, int]:
    """d_0, L and d_L of fields."""
    layers = len(weights.weights) // 2
    return weights.weights["W1"].shape[2], layers, weights.weights[f"b{layers}"].shape[1]


def _normal(n_in: int, n_out: int) -> jt.Var:
    drawn = np.random.normal(size=(n_in, n_out)) / np.sqrt(n_in)
    return jt.array(drawn.astype(np.float32))
