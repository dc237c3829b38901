"""What DWSNets are compared with: networks on weights that do not respect their symmetries, and
alignment, which tries to undo them."""

from jgrid.network import MLP
from jgrid.weightspace.layers import to_weights
from jgrid.weightspace.space import WeightSpace

import jittor as jt
import numpy as np
from jittor import nn
from scipy.optimize import linear_sum_assignment


class FlatMLP(nn.Module):
    """An MLP on all weights side by side: features (B, ..., C) -> (B, n_out)."""

    def __init__(
        self, space: WeightSpace, n_out: int, width: int = 256, depth: int = 2, c_in: int = 1
    ):
        super().__init__()
        self.network = MLP(space.dim * c_in, n_out, width, depth)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        flat = [value.reshape(value.shape[0], -1) for value in features]
        return self.network(jt.concat(flat, dim=1))


class _Rows(nn.Module):
    """The rows [W_m | b_m] of an MLP, a neuron each, padded to one length, with a mark of their
    layer: -> (B, rows, n)."""

    def __init__(self, space: WeightSpace):
        super().__init__()
        self._space = space
        tensors = space.tensors
        self._pairs = [(w, b) for (w, _), (b, _) in zip(tensors[::2], tensors[1::2])]
        self._widest = max(axes[1][1] for _, axes in tensors[::2])
        rows = [axes[0][1] for _, axes in tensors[::2]]
        self._mark = np.repeat(np.eye(len(rows), dtype=np.float32), rows, axis=0)
        self.n = self._widest + 1 + len(rows)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        weights = to_weights(self._space, features)
        layers = []
        for w, b in self._pairs:
            parts = [weights[w], weights[b].unsqueeze(2)]
            short = self._widest - weights[w].shape[2]
            if short:
                parts.append(jt.zeros(weights[w].shape[:2] + [short]))
            layers.append(jt.concat(parts, dim=2))
        rows = jt.concat(layers, dim=1)
        mark = jt.array(self._mark).unsqueeze(0).expand(rows.shape[0], *self._mark.shape)
        return jt.concat([rows, mark], dim=2)


class RowEncoder(nn.Module):
    """One MLP for every row [W_m | b_m], the maximum over the rows, and a linear head: INR2Vec's
    architecture (De Luigi et al. 2023)."""

    def __init__(self, space: WeightSpace, n_out: int, width: int = 224, depth: int = 3):
        super().__init__()
        self.rows = _Rows(space)
        self.network = MLP(self.rows.n, width, width, depth - 1)
        self.head = MLP(width, n_out, width, 1)

    def execute(self, features: list[jt.Var]) -> jt.Var:
        rows = self.rows(features)
        encoded = self.network(rows.reshape(-1, rows.shape[2]))
        encoded = encoded.reshape(rows.shape[0], rows.shape[1], -1)
        return self.head(nn.relu(encoded.max(1)))


class RowTransformer(nn.Module):
    """A pre-norm transformer whose tokens are the rows [W_m | b_m], mean pool and a linear head:
    features -> (B, n_out)."""

    def __init__(
        self, space: WeightSpace, n_out: int, width: int = 64, depth: int = 3, heads: int = 4
    ):
        super().__init__()
        self.rows = _Rows(space)
        self.embed = nn.Linear(self.rows.n, width)
        self.heads = heads
        self.head = nn.Linear(width, n_out)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2 * depth + 1)])
        self.query = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(depth)])
        self.result = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.network = nn.ModuleList([MLP(width, width, 4 * width, 1) for _ in range(depth)])

    def execute(self, features: list[jt.Var]) -> jt.Var:
        z = self.embed(self.rows(features))
        norms = list(self.norms)
        layers = zip(self.query, self.result, self.network)
        for layer, (query, result, network) in enumerate(layers):
            z = z + result(self._attend(query(norms[2 * layer](z))))
            normed = norms[2 * layer + 1](z)
            z = z + network(normed.reshape(-1, z.shape[2])).reshape(z.shape)
        return self.head(norms[-1](z).mean(1))

    def _attend(self, qkv: jt.Var) -> jt.Var:
        batch = qkv.shape[0]
        tokens = qkv.shape[1]
        width = qkv.shape[2] // 3
        parts = qkv.reshape(batch, tokens, 3, self.heads, width // self.heads)
        parts = parts.transpose(2, 0, 3, 1, 4)
        q = parts[0]
        k = parts[1]
        v = parts[2]
        likeness = jt.matmul(q, k.transpose(0, 1, 3, 2)) / np.sqrt(width / self.heads)
        weights = nn.softmax(likeness, dim=-1)
        return jt.matmul(weights, v).transpose(0, 2, 1, 3).reshape(batch, tokens, width)


def align(
    space: WeightSpace,
    weights: dict[str, np.ndarray],
    reference: dict[str, np.ndarray],
    rounds: int = 5,
) -> dict[str, np.ndarray]:
    """Permute every field's neurons to resemble a reference: argmax over P of <v_ref, P v>, one
    hidden axis after the other.

    weights {name: (F, *sizes)}, reference {name: (*sizes,)}; each step is a linear assignment
    (Ainsworth et al. 2023, Git Re-Basin), and `rounds` are made over all hidden axes. Returns the
    permuted weights."""
    weights = dict(weights)
    for _ in range(rounds):
        for hidden, size in space.sizes.items():
            places = {
                name: 1 + [label for label, _ in axes].index(hidden)
                for name, axes in space.tensors
                if hidden in space.hidden(axes)
            }
            likeness = [
                _likeness(reference[name], weights[name], axis) for name, axis in places.items()
            ]
            best = [linear_sum_assignment(one, maximize=True)[1] for one in np.sum(likeness, 0)]
            order = np.stack(best)
            for name, axis in places.items():
                value = weights[name]
                shape = [len(order)] + [size if a == axis else 1 for a in range(1, value.ndim)]
                weights[name] = np.take_along_axis(value, order.reshape(shape), axis=axis)
    return weights


def _likeness(reference: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """<entry j of the reference along an axis, entry k of a field's> of every field: (F, j, k)."""
    size = values.shape[axis]
    ours = np.moveaxis(reference, axis - 1, 0).reshape(size, -1)
    theirs = np.moveaxis(values, axis, 1).reshape(len(values), size, -1)
    return np.einsum("jr,fkr->fjk", ours, theirs, optimize=True)
