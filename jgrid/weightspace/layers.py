"""Equivariant and invariant layers on weight spaces.

Between layers a point of V with C features per weight is a list, a variable for each tensor: (B,
hidden axes sorted by label, free C): the free axes are folded into the last one, features fastest.
"""

from collections.abc import Sequence

from jgrid.ops.norm import fused_norm_relu
from jgrid.weightspace.space import Axes, Labels, WeightSpace

import jittor as jt
import numpy as np
from jittor import nn

POOLS = ("mean", "sum", "max")


def to_features(space: WeightSpace, weights: dict[str, jt.Var]) -> list[jt.Var]:
    """{name: (B, *sizes)} -> the list of features with C = 1."""
    features = []
    for name, axes in space.tensors:
        order = _hidden_first(axes)
        value = weights[name]
        if order != sorted(order):
            value = value.transpose(0, *(1 + i for i in order))
        hidden = [space.sizes[label] for label in space.hidden(axes)]
        features.append(value.reshape([value.shape[0], *hidden, space.free(axes)]))
    return features


def to_weights(space: WeightSpace, features: list[jt.Var]) -> dict[str, jt.Var]:
    """The inverse of `to_features`, of the first feature."""
    weights = {}
    for (name, axes), value in zip(space.tensors, features):
        order = _hidden_first(axes)
        sizes = [axes[i][1] for i in order]
        value = value.reshape([value.shape[0], *sizes, -1])[..., 0]
        back = [1 + order.index(i) for i in range(len(axes))]
        weights[name] = value.transpose(0, *back) if back != sorted(back) else value
    return weights


def _hidden_first(axes: Axes) -> list[int]:
    """The axes' places, hidden ones sorted by label, then the free ones."""
    return sorted(range(len(axes)), key=lambda i: (axes[i][0] is None, axes[i][0] or ""))


def _pool(value: jt.Var, axes: Sequence[int], pool: str) -> jt.Var:
    if not axes:
        return value
    return {"mean": value.mean, "sum": value.sum, "max": value.max}[pool](dims=axes)


class EquivariantLinear(nn.Module):
    """Every linear map V -> V that commutes with the group, C_in -> C_out features per weight.

        L(v)_o = sum over subsets S of o's hidden axes of broadcast_o( A_S [pool_{i -> S} v_i, all
        tensors i that have S] ) + bias_o

    For each set S of hidden axes that tensors share: every tensor that has S is pooled over its
    other hidden axes, the pools' free axes and features side by side are multiplied by one dense
    matrix A_S, and its rows for each tensor o that has S are broadcast over o's other hidden axes.
    The blocks of A_S are the maps of each pair (i, o), so that one product serves all pairs: the
    basis has sum_{i, o} 2^{|hidden axes i and o share|} free_i free_o maps per pair of features,
    which is all there are for mean and sum pooling.

    pool: mean, sum or max (which makes the layer equivariant but not linear). The matrices start
    normal, so that the variance of features that agree along hidden axes is multiplied by gain^2
    (of independent ones the pooled part is smaller); biases start at zero."""

    def __init__(
        self, space: WeightSpace, c_in: int, c_out: int, pool: str = "mean", gain: float = 1.0
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"`pool` must be one of {', '.join(POOLS)}, got {pool!r}")
        self._space = space
        self.pool = pool
        self.c_out = c_out
        self._hidden = [space.hidden(axes) for _, axes in space.tensors]
        self._free = [space.free(axes) for _, axes in space.tensors]
        self._shared = space.shared()
        self.matrices = nn.ParameterList(
            [self._matrix(subset, c_in, c_out, gain) for subset in self._shared]
        )
        self.biases = nn.ParameterList([jt.zeros((free * c_out,)) for free in self._free])

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        results: list = [None] * len(features)
        for subset, matrix in zip(self._shared, self.matrices):
            tensors = self._having(subset)
            pooled = [self._pooled(features[t], t, subset) for t in tensors]
            stacked = pooled[0] if len(pooled) == 1 else jt.concat(pooled, dim=-1)
            product = stacked.reshape(-1, matrix.shape[0]) @ matrix
            product = product.reshape(stacked.shape[:-1] + [-1])
            first = 0
            for t in tensors:
                width = self._free[t] * self.c_out
                part = product if len(tensors) == 1 else product[..., first : first + width]
                first += width
                part = self._ready(part, t, subset)
                results[t] = part + self.biases[t] if results[t] is None else results[t] + part
        # a tensor's own set of axes is among the subsets, so that each sum has its full shape
        return results

    def _having(self, subset: Labels) -> list[int]:
        """The tensors that have all these hidden axes."""
        return [t for t, hidden in enumerate(self._hidden) if set(subset) <= set(hidden)]

    def _matrix(self, subset: Labels, c_in: int, c_out: int, gain: float) -> jt.Var:
        """A_S (sum of free_i c_in, sum of free_o c_out): each column's variance is gain^2 / (its
        inputs x the subsets of its tensor o)."""
        rows: list[float] = []
        columns: list[float] = []
        for t in self._having(subset):
            sizes = [self._space.sizes[label] for label in self._hidden[t] if label not in subset]
            others = float(np.prod(sizes))
            rows += [1.0 / others if self.pool == "sum" else 1.0] * (self._free[t] * c_in)
            columns += [2.0 ** (-len(self._hidden[t]) / 2)] * (self._free[t] * c_out)
        spread = gain / np.sqrt(len(rows)) * np.outer(rows, columns)
        return jt.array((spread * np.random.normal(size=spread.shape)).astype(np.float32))

    def _pooled(self, value: jt.Var, t: int, subset: Labels) -> jt.Var:
        """A tensor's features, pooled over its hidden axes beyond the subset."""
        axes = [1 + a for a, label in enumerate(self._hidden[t]) if label not in subset]
        return _pool(value, axes, self.pool)

    def _ready(self, part: jt.Var, t: int, subset: Labels) -> jt.Var:
        """Rows of a product with an axis for each of the tensor's hidden axes, to be broadcast."""
        sizes = [self._space.sizes[a] if a in subset else 1 for a in self._hidden[t]]
        return part.reshape([part.shape[0], *sizes, part.shape[-1]])


class NormRelu(nn.Module):
    """Layer normalisation along the features of each weight, with a gain and a shift per tensor and
    feature, then relu; equivariant."""

    def __init__(self, space: WeightSpace, channels: int):
        super().__init__()
        self.gain = nn.ParameterList([jt.ones((channels,)) for _ in space.tensors])
        self.shift = nn.ParameterList([jt.zeros((channels,)) for _ in space.tensors])

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        return [
            fused_norm_relu(value.reshape(-1, gain.shape[0]), gain, shift).reshape(value.shape)
            for value, gain, shift in zip(features, self.gain, self.shift)
        ]


class Dropout(nn.Module):
    """Sets entries to zero with probability p while training and scales the others by 1 / (1 - p);
    does nothing in evaluation."""

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"`dropout` must be at least 0 and less than 1, got {p}")
        self.p = p

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        if self.p == 0 or not self.is_training():
            return features
        return [
            value * (jt.rand(value.shape) >= self.p).float32() / (1 - self.p) for value in features
        ]


class Equivariant(nn.Module):
    """A DWSNet from weights to weights: linear, then (norm and relu, dropout, linear) times depth -
    1, C_in -> channels -> C_out features.

    Its last layer starts small with `last_gain`, for outputs that are a change of the weights.
    """

    def __init__(
        self,
        space: WeightSpace,
        c_in: int,
        channels: int,
        c_out: int,
        depth: int,
        pool: str = "mean",
        dropout: float = 0.0,
        last_gain: float = 1.0,
    ):
        super().__init__()
        if depth < 1:
            raise ValueError(f"`depth` must be at least 1, got {depth}")
        sizes = [c_in] + [channels] * (depth - 1) + [c_out]
        modules: list[nn.Module] = []
        for layer, (a, b) in enumerate(zip(sizes[:-1], sizes[1:])):
            gain = 1.0
            if layer:
                modules += [NormRelu(space, a), Dropout(dropout)]
                gain = 2.0**0.5  # a relu leaves half of the second moment
            if layer == depth - 1:
                gain *= last_gain
            modules.append(EquivariantLinear(space, a, b, pool, gain))
        self.network = nn.Sequential(*modules)

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        return self.network(features)


class InvariantPool(nn.Module):
    """Pools every hidden axis of every tensor, by mean and by maximum: features -> (B, 2 C sum of
    free)."""

    def __init__(self, space: WeightSpace):
        super().__init__()
        self._axes = [list(range(1, 1 + len(space.hidden(axes)))) for _, axes in space.tensors]

    def execute(self, features: list[jt.Var]) -> jt.Var:
        pools = [
            _pool(v, axes, pool)
            for pool in ("mean", "max")
            for v, axes in zip(features, self._axes)
        ]
        return jt.concat([v.reshape(v.shape[0], -1) for v in pools], dim=1)


class DWSNet(nn.Module):
    """Equivariant layers, norm and relu, invariant pool, and an MLP of one hidden layer: weights ->
    (B, n_out), invariant."""

    def __init__(
        self,
        space: WeightSpace,
        n_out: int,
        channels: int = 24,
        depth: int = 4,
        c_in: int = 1,
        pool: str = "mean",
        dropout: float = 0.0,
        head: int = 64,
    ):
        super().__init__()
        self._space = space
        self.body = Equivariant(space, c_in, channels, channels, depth, pool, dropout)
        self.norm = NormRelu(space, channels)
        self.pool = InvariantPool(space)
        n_pooled = 2 * channels * sum(space.free(axes) for _, axes in space.tensors)
        self.hidden = nn.Linear(n_pooled, head)
        self.dropout = Dropout(dropout)
        self.last = nn.Linear(head, n_out)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        pooled = self.pool(self.norm(self.body(features)))
        return self.last(self.dropout([nn.relu(self.hidden(pooled))])[0])
