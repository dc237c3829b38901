"""The symmetries that networks of sines have beside permutations, and canonical forms for them.

sin(-u) = -sin(u), sin(u + pi) = -sin(u): the row and the bias of a neuron may change sign, or its
phase omega b may move by pi, if its outgoing weights change sign. Weights here are {name: (F,
*sizes)} of MLPs of sines, W_m and b_m as `space.mlp_space` has them."""

import numpy as np

Neurons = dict[int, np.ndarray]  # (F, n_m) of each hidden layer m, from 1 on


def hidden_layers(weights: dict[str, np.ndarray]) -> range:
    """The numbers m of the hidden layers."""
    return range(1, len(weights) // 2)


def flip(weights: dict[str, np.ndarray], signs: Neurons) -> dict[str, np.ndarray]:
    """The same fields with the neurons of each layer times signs of -1 and 1, incoming weights,
    biases and outgoing weights."""
    weights = dict(weights)
    for m, sign in signs.items():
        weights[f"W{m}"] = weights[f"W{m}"] * sign[:, :, None]
        weights[f"b{m}"] = weights[f"b{m}"] * sign
        weights[f"W{m + 1}"] = weights[f"W{m + 1}"] * sign[:, None]
    return weights


def shift(weights: dict[str, np.ndarray], turns: Neurons, omega: float) -> dict[str, np.ndarray]:
    """The same fields with the phases omega b of each layer's neurons moved by whole numbers of
    half turns, pi; outgoing weights change sign where the number is odd."""
    weights = dict(weights)
    for m, number in turns.items():
        sign = np.where(number % 2, np.float32(-1), np.float32(1))
        moved = weights[f"b{m}"] + number * np.float64(np.pi / omega)
        weights[f"b{m}"] = moved.astype(np.float32)
        weights[f"W{m + 1}"] = weights[f"W{m + 1}"] * sign[:, None]
    return weights


def canonical(weights: dict[str, np.ndarray], omega: float) -> dict[str, np.ndarray]:
    """One form for all signs and phases of a field: `canonical_phases`, then `canonical_signs`."""
    return canonical_signs(canonical_phases(weights, omega))


def canonical_phases(weights: dict[str, np.ndarray], omega: float) -> dict[str, np.ndarray]:
    """The same fields with all phases omega b in [-pi/2, pi/2]; permutations and changes of sign
    commute with it."""
    turns = {m: -np.round(weights[f"b{m}"] * (omega / np.pi)) for m in hidden_layers(weights)}
    return shift(weights, turns, omega)


def canonical_signs(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same fields with one of the 2^neurons choices of signs.

    A neuron of the first layer gets the sign that makes its weight of the first input positive,
    those of later layers the sign that makes the sum of their outgoing weights positive, from the
    last layer to the first. Every neuron's sign depends on the others' only through sums, so that
    permutations commute with it."""
    for m in reversed(hidden_layers(weights)):
        decisive = weights["W1"][:, :, 0] if m == 1 else weights[f"W{m + 1}"].sum(1)
        sign = np.where(decisive < 0, np.float32(-1), np.float32(1))
        weights = flip(weights, {m: sign})
    return weights
