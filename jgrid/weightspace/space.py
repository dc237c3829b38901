"""The weights of one architecture as a space: which axes of which tensors belong to the same hidden
layer."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Optional

import numpy as np

Labels = tuple[str, ...]  # of hidden axes, sorted
Axes = tuple[tuple[Optional[str], int], ...]  # label and size of each axis of a tensor


@dataclass(frozen=True)
class WeightSpace:
    """V, the direct sum of weight tensors, and the group that permutes the entries of each hidden
    axis.

    tensors: ((name, ((label, size), ...)), ...), an axis for each dimension; label: the hidden
    axis's name, or None where the axis is free (inputs, outputs, nodes of a grid). Axes of one
    label are permuted together. A batch of points of V is {name: (F, *sizes)}.
    """

    tensors: tuple[tuple[str, Axes], ...]

    def __post_init__(self) -> None:
        sizes: dict[Optional[str], int] = {}
        for name, axes in self.tensors:
            labels = self.hidden(axes)
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name} has two axes of one hidden layer: {labels}")
            for label, size in axes:
                if size < 1 or sizes.setdefault(label, size) != size and label is not None:
                    raise ValueError(
                        f"{name}: hidden axis {label} has {size} and {sizes[label]} entries"
                    )

    @staticmethod
    def hidden(axes: Axes) -> Labels:
        """The labels of the hidden axes, sorted."""
        return tuple(sorted(label for label, _ in axes if label is not None))

    @staticmethod
    def free(axes: Axes) -> int:
        """The number of entries of the free axes together."""
        return int(np.prod([size for label, size in axes if label is None], dtype=int))

    @property
    def sizes(self) -> dict[str, int]:
        """{label: entries} of the hidden axes."""
        return {
            label: size for _, axes in self.tensors for label, size in axes if label is not None
        }

    @property
    def dim(self) -> int:
        """Numbers of one point of V."""
        return sum(int(np.prod([size for _, size in axes])) for _, axes in self.tensors)

    def shared(self) -> list[Labels]:
        """Every set of hidden axes that some tensor has, as sorted tuples of labels, the empty one
        first."""
        found = {
            subset
            for _, axes in self.tensors
            for n in range(len(axes) + 1)
            for subset in combinations(self.hidden(axes), n)
        }
        return sorted(found, key=lambda subset: (len(subset), subset))

    def random_permutations(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{label: (size,) permutation}, uniform."""
        return {label: rng.permutation(size) for label, size in self.sizes.items()}

    def permute(
        self, weights: dict[str, np.ndarray], permutations: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The action of the group on {name: (F, *sizes)}: entry j of a hidden axis becomes the
        former entry permutation[j]."""
        moved = {}
        for name, axes in self.tensors:
            value = weights[name]
            for axis, (label, _) in enumerate(axes, 1):
                if label is not None:
                    value = np.take(value, permutations[label], axis=axis)
            moved[name] = value
        return moved

    def part(self, names: Collection[str]) -> "WeightSpace":
        """The space of some of the tensors."""
        return WeightSpace(tuple((name, axes) for name, axes in self.tensors if name in names))

    def flat(self, weights: dict[str, np.ndarray]) -> np.ndarray:
        """{name: (F, *sizes)} -> (F, dim)."""
        return np.concatenate(
            [weights[name].reshape(len(weights[name]), -1) for name, _ in self.tensors], axis=1
        )


def mlp_space(widths: Sequence[int]) -> WeightSpace:
    """The space of an MLP d_0, d_1, ..., d_M: W_m (d_m, d_{m-1}) and b_m (d_m,); the group permutes
    d_1 ... d_{M-1}."""
    if len(widths) < 2:
        raise ValueError(f"an MLP has an input and an output size at least, got widths {widths}")
    axes = [
        (None if m in (0, len(widths) - 1) else f"h{m:02d}", int(width))
        for m, width in enumerate(widths)
    ]
    tensors: list[tuple[str, Axes]] = []
    for m in range(1, len(widths)):
        tensors += [(f"W{m}", (axes[m], axes[m - 1])), (f"b{m}", (axes[m],))]
    return WeightSpace(tuple(tensors))


def cnn_space(channels: Sequence[int], n_out: int) -> WeightSpace:
    """The space of a convolutional classifier: W_m (c_m, c_{m-1}, taps) and b_m (c_m,) of 3 x 3
    taps, then a linear layer of all channels.

    channels: c_0, of the pictures, c_1, ..., c_M, which the group permutes, taps and all. The
    linear layer is W_{M+1} (n_out, c_M)."""
    *layers, last, bias = mlp_space((*channels, n_out)).tensors
    taps = [(name, (*axes, (None, 9)) if name.startswith("W") else axes) for name, axes in layers]
    return WeightSpace((*taps, last, bias))
