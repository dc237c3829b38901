"""A zoo's weights as networks read them: standardised, with canonical signs, and varied in
training."""

from jgrid.weightspace.layers import to_features

import jittor as jt
import numpy as np


class Weights:
    """Weights of a zoo, standardised with one mean and deviation per tensor (per entry would not be
    equivariant), and how to vary them.

    The statistics are of the fields `known`, those that are trained on. Variations, each drawn anew
    for every field and step: permute (a random element of the group), signs (of neurons whose
    function is odd, as sines are: a neuron's row and bias are negated and so is its column in the
    next layer), noise (normal, in deviations), drop (probability that a weight is set to its mean),
    and of fields of sines turn, scale and shift (`random_moves`). canonical: the signs are those of
    `canonical_signs`, of moved fields too."""

    def __init__(
        self,
        space,
        weights,
        known,
        permute=False,
        signs=False,
        noise=0.0,
        drop=0.0,
        turn=0.0,
        scale=0.0,
        shift=0.0,
        canonical=False,
    ):
        self.space = space
        self.weights = canonical_signs(weights) if canonical else weights
        self.permute = permute
        self.signs = signs
        self.noise = noise
        self.drop = drop
        self.canonical = canonical
        self.moves = (turn, scale, shift)
        self.mean = {name: float(value[known].mean()) for name, value in self.weights.items()}
        self.deviation = {
            name: float(value[known].std()) + 1e-12 for name, value in self.weights.items()
        }

    def raw(self, index, rng=None):
        """{name: (B, *sizes)} of fields by their numbers; moved, and varied by the group's
        elements, where there is an rng."""
        chosen = {name: self.weights[name][index] for name, _ in self.space.tensors}
        if rng is None:
            return chosen
        if any(self.moves):
            chosen = moved(
                chosen, *random_moves(len(index), chosen["W1"].shape[2], *self.moves, rng)
            )
            # the rule of the first layer looks at its weights
            chosen = canonical_signs(chosen) if self.canonical else chosen
        if not (self.permute or self.signs):
            return chosen
        for hidden, size in self.space.sizes.items():
            order = (
                rng.permuted(np.tile(np.arange(size), (len(index), 1)), axis=1)
                if self.permute
                else None
            )
            sign = rng.choice(np.float32([-1, 1]), (len(index), size)) if self.signs else None
            for name, axes in self.space.tensors:
                labels = [label for label, _ in axes]
                if hidden in labels:
                    shape = [len(index)] + [size if label == hidden else 1 for label in labels]
                    if order is not None:
                        chosen[name] = np.take_along_axis(
                            chosen[name], order.reshape(shape), axis=1 + labels.index(hidden)
                        )
                    if sign is not None:
                        chosen[name] = chosen[name] * sign.reshape(shape)
        return chosen

    def features(self, index, rng=None):
        """The standardised weights of fields as a network reads them, varied where there is an
        rng."""
        scaled = {}
        for name, value in self.raw(index, rng).items():
            value = (value - self.mean[name]) / self.deviation[name]
            if rng is not None and self.noise:
                value = value + self.noise * rng.standard_normal(value.shape, np.float32)
            if rng is not None and self.drop:
                value = value * (rng.random(value.shape, np.float32) >= self.drop)
            scaled[name] = jt.array(value.astype(np.float32)).stop_grad()
        return to_features(self.space, scaled)


def canonical_signs(weights):
    """The same fields with one of the 2^neurons choices of signs, sin(-u) = -sin(u): {name: (F,
    *sizes)} of MLPs of sines.

    A neuron of the first layer gets the sign that makes its weight of the first input positive,
    those of later layers the sign that makes the sum of their outgoing weights positive, from the
    last layer to the first. Every neuron's sign depends on the others' only through sums, so that
    permutations commute with it."""
    weights = dict(weights)
    for m in range(len(weights) // 2 - 1, 0, -1):
        decisive = weights["W1"][:, :, 0] if m == 1 else weights[f"W{m + 1}"].sum(1)
        sign = np.where(decisive < 0, np.float32(-1), np.float32(1))
        weights[f"W{m}"], weights[f"b{m}"] = (
            weights[f"W{m}"] * sign[:, :, None],
            weights[f"b{m}"] * sign,
        )
        weights[f"W{m + 1}"] = weights[f"W{m + 1}"] * sign[:, None]
    return weights


def random_moves(n, dim, turn, scale, shift, rng):
    """A (n, D, D) and t (n, D) of random moves x -> A x + t: turns, each coordinate times one
    factor, shifts.

    Uniform: the angle in +-turn degrees, in the plane of the first two coordinates; the factor in 1
    +- scale; t in +-shift."""
    angle = np.deg2rad(rng.uniform(-turn, turn, n))
    matrix = np.tile(np.eye(dim), (n, 1, 1))
    if turn:
        matrix[:, :2, :2] = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        ).transpose(2, 0, 1)
    matrix *= rng.uniform(1 - scale, 1 + scale, (n, 1, 1))
    return matrix.astype(np.float32), rng.uniform(-shift, shift, (n, dim)).astype(np.float32)


def moved(weights, matrix, offset):
    """The fields f(A x + t) of fields f whose first layer is W_1 x + b_1: it becomes W_1 A x + (W_1
    t + b_1); nothing else changes.

    weights {name: (F, *sizes)}, A (F, D, D), t (F, D).
    """
    first = weights["W1"]
    return {
        **weights,
        "W1": first @ matrix,
        "b1": weights["b1"] + (first @ offset[..., None])[..., 0],
    }
