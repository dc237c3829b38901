"""Layers that are equivariant to changes of sign as well as to permutations, and the network of
them.

Features are as in `layers.py`. They are odd: the entries of a hidden axis change sign with its
neurons. Kofinas et al. and Kalogeropoulos et al. (ScaleGMN, NeurIPS 2024) reach this by products of
weights along paths; here these are one rule with `layers.EquivariantLinear`."""

from jgrid.network import MLP
from jgrid.weightspace.space import Labels, WeightSpace
from jgrid.weightspace.weights import Weights

import jittor as jt
import numpy as np
from jittor import nn

EPS = 1e-5


class SignedLinear(nn.Module):
    """The rule of `EquivariantLinear` with odd vectors u_a in the place of ones, C_in -> C_out
    features per weight.

        L(v)_o = sum over subsets S of o's hidden axes of
                 (product of u_a, o's axes a not in S) A_S [mean over i's axes a not in S of
                 (product of those u_a) v_i, all tensors i that have S] )

        u_a = A_a [v_i, all tensors i whose one hidden axis is a], of mean square 1

    Each u_a (B, d_a, C) changes sign with the neurons of axis a, so that a pool over a does not
    change and what is spread over a changes with it: the sum over b of W_ab u_b is a path through
    the network. It has a bias where S is empty, which changes no sign. Linear in v but for the
    u_a."""

    def __init__(self, space: WeightSpace, c_in: int, c_out: int, gain: float = 1.0):
        super().__init__()
        self._space = space
        self._c_in = c_in
        self._c_out = c_out
        self._hidden = [space.hidden(axes) for _, axes in space.tensors]
        self._free = [space.free(axes) for _, axes in space.tensors]
        self._shared = space.shared()
        self.matrices = nn.ParameterList()
        for subset in self._shared:
            n_in = sum(self._free[t] * c_in for t in self._having(subset))
            scale = [2.0 ** (-len(self._hidden[t]) / 2) for t in self._having(subset)]
            columns = np.repeat(scale, [self._free[t] * c_out for t in self._having(subset)])
            self.matrices.append(_normal(n_in, columns * gain))
        self.own = nn.ParameterList()
        self.spread = nn.ParameterList()
        for label in space.sizes:
            n_in = sum(self._free[t] * c_in for t in self._of(label))
            self.own.append(_normal(n_in, np.ones(c_in)))
            self.spread.append(_normal(n_in, np.ones(c_out)))
        self.bias = jt.zeros((self.matrices[0].shape[1],))

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        pools = self._vectors(features, self.own)
        spreads = self._vectors(features, self.spread)
        results: list = [None] * len(features)
        for subset, matrix in zip(self._shared, self.matrices):
            tensors = self._having(subset)
            stacked = jt.concat(
                [self._pooled(features[t], t, subset, pools) for t in tensors], dim=-1
            )
            product = stacked.reshape(-1, matrix.shape[0]) @ matrix
            if not subset:
                product = product + self.bias
            product = product.reshape(stacked.shape[:-1] + [-1])
            first = 0
            for t in tensors:
                width = self._free[t] * self._c_out
                part = product[..., first : first + width]
                first += width
                part = self._spread(part, t, subset, spreads)
                results[t] = part if results[t] is None else results[t] + part
        return results

    def _having(self, subset: Labels) -> list[int]:
        """The tensors that have all these hidden axes."""
        return [t for t, hidden in enumerate(self._hidden) if set(subset) <= set(hidden)]

    def _of(self, label: str) -> list[int]:
        """The tensors that have this hidden axis alone."""
        return [t for t, hidden in enumerate(self._hidden) if hidden == (label,)]

    def _vectors(self, features: list[jt.Var], matrices: nn.ParameterList) -> dict[str, jt.Var]:
        """{label: u (B, d, C)}."""
        found = {}
        for label, matrix in zip(self._space.sizes, matrices):
            stacked = jt.concat([features[t] for t in self._of(label)], dim=-1)
            u = (stacked.reshape(-1, matrix.shape[0]) @ matrix).reshape(stacked.shape[:-1] + [-1])
            found[label] = u / jt.sqrt((u * u).mean(1, keepdims=True) + EPS)
        return found

    def _pooled(self, value: jt.Var, t: int, subset: Labels, u: dict[str, jt.Var]) -> jt.Var:
        """A tensor's features without its axes beyond the subset."""
        hidden = self._hidden[t]
        others = [a for a in hidden if a not in subset]
        if not others:
            return value
        wide = value.reshape(value.shape[:-1] + [self._free[t], self._c_in])
        for label in others:
            wide = wide * _along(u[label], hidden, label)
        pooled = wide.mean(dims=[1 + hidden.index(a) for a in others])
        return pooled.reshape(pooled.shape[:-2] + [-1])

    def _spread(self, part: jt.Var, t: int, subset: Labels, u: dict[str, jt.Var]) -> jt.Var:
        """Rows of a product with all of the tensor's hidden axes."""
        hidden = self._hidden[t]
        others = [a for a in hidden if a not in subset]
        if not others:
            return part
        sizes = [self._space.sizes[a] if a in subset else 1 for a in hidden]
        wide = part.reshape([part.shape[0], *sizes, self._free[t], self._c_out])
        for label in others:
            wide = wide * _along(u[label], hidden, label)
        return wide.reshape(wide.shape[:-2] + [-1])


class OddNorm(nn.Module):
    """relu(z - t) - relu(-z - t) of z, the features of each weight divided by the root of their
    mean square; a threshold t per tensor and feature. It is odd."""

    def __init__(self, space: WeightSpace, channels: int):
        super().__init__()
        self.threshold = nn.ParameterList(
            [jt.full((space.free(axes) * channels,), 0.5) for _, axes in space.tensors]
        )

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        results = []
        for value, threshold in zip(features, self.threshold):
            z = value / jt.sqrt((value * value).mean(-1, keepdims=True) + EPS)
            results.append(nn.relu(z - threshold) - nn.relu(-z - threshold))
        return results


class SignedDWSNet(nn.Module):
    """A DWSNet for MLPs of sines, invariant to signs as well: `SignedLinear` and `OddNorm` in turn,
    the mean and the maximum of the features' sizes, and an MLP: features -> (B, n_out).

    weights: whose features are read; as a shift is not odd, their means are added again."""

    def __init__(
        self, weights: Weights, n_out: int, channels: int = 24, depth: int = 4, head: int = 64
    ):
        super().__init__()
        space = weights.space
        self._means = [weights.mean[name] / weights.deviation[name] for name, _ in space.tensors]
        sizes = [1] + [channels] * depth
        modules: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:]):
            modules += [SignedLinear(space, a, b, gain=1.5), OddNorm(space, b)]
        self.body = nn.Sequential(*modules)
        self._axes = [list(range(1, 1 + len(space.hidden(axes)))) for _, axes in space.tensors]
        free = sum(space.free(axes) for _, axes in space.tensors)
        fixed = sum(space.free(axes) for _, axes in space.tensors if not space.hidden(axes))
        self.head = MLP((2 * free - fixed) * channels, n_out, head, 1)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        pooled = []
        features = [value + mean for value, mean in zip(features, self._means)]
        for value, axes in zip(self.body(features), self._axes):
            if axes:
                size = jt.abs(value)
                pooled += [size.mean(dims=axes), size.max(dims=axes)]
            else:
                pooled.append(value)
        return self.head(jt.concat([v.reshape(v.shape[0], -1) for v in pooled], dim=1))


def _along(u: jt.Var, hidden: Labels, label: str) -> jt.Var:
    """u (B, d, C) as it is multiplied with features (B, hidden axes, free, C)."""
    sizes = [u.shape[1] if a == label else 1 for a in hidden]
    return u.reshape([u.shape[0], *sizes, 1, u.shape[2]])


def _normal(n_in: int, columns: np.ndarray) -> jt.Var:
    """A matrix of n_in rows whose columns have these deviations, over the root of n_in."""
    drawn = np.random.normal(size=(n_in, len(columns))) * columns / np.sqrt(n_in)
    return jt.array(drawn.astype(np.float32))
