"""Thousands of small networks, fitted at once."""

from collections.abc import Sequence
from typing import Annotated, Any, Callable, Optional

from jgrid.config import MOST, ArgumentError, Count, Positive, config
from jgrid.ops.siren import fused_siren_errors

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from numpy.random import Generator

Advance = Callable[[], Any]  # called after each step


@config
class FitConfig:
    """How the fields of a zoo are fitted: full-batch Adam on all points, the learning rate falling
    to zero by a cosine."""

    hidden: Optional[tuple[Annotated[int, Interval(ge=1, le=2**14)], ...]] = None
    """Neurons of each hidden layer; 16 16 unless given."""
    omega: Positive = 30.0
    """Frequency of the sines."""
    steps: Count = 300
    """Steps of Adam."""
    lr: Positive = 1e-2
    """Learning rate at the start."""
    seed: Annotated[int, Interval(ge=0, le=MOST)] = 0
    """Of the fields' weights at the start, and of the subjects where they are drawn."""
    shared_start: bool = False
    """Start all fields from the same weights: a negative control, in which a plain MLP can compare
    weight by weight."""

    def check(self) -> None:
        if self.hidden == ():
            raise ArgumentError("hidden", "needs one layer at least")

    @property
    def neurons(self) -> tuple[int, ...]:
        """Of each hidden layer."""
        return (16, 16) if self.hidden is None else self.hidden


def fit_sirens(
    x: np.ndarray,
    targets: np.ndarray,
    config: FitConfig,
    rng: Generator,
    advance: Advance = lambda: None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fit one SIREN to each target: x (N, D) in [-1, 1], targets (F, N, C) -> weights {name: (F,
    *sizes)}, PSNR (F,).

    advance() is called after every step.
    """
    widths = (x.shape[1], *config.neurons, targets.shape[2])
    if config.shared_start:
        rng = np.random.default_rng(config.seed)
    start = siren_start(widths, len(targets), config.omega, rng, config.shared_start)
    parameters = [jt.array(value) for value in start.values()]
    points = jt.array(x).stop_grad()
    values = jt.array(targets).stop_grad()

    def errors() -> jt.Var:
        return fused_siren_errors(points, values, config.omega, *parameters)

    train(errors, parameters, config, advance)
    return {name: p.numpy() for name, p in zip(start, parameters)}, psnr(errors())


def siren_start(
    widths: Sequence[int],
    fields: int,
    omega: float,
    rng: Generator,
    shared: bool = False,
) -> dict[str, np.ndarray]:
    """Weights uniform in +-sqrt(6 / d_in) / omega, the last layer's in +-1 / sqrt(d_in); biases
    zero: {name: (F, *sizes)}.

    Every field draws its own, or all share one draw.
    """
    weights = {}
    for m, (a, b) in enumerate(zip(widths[:-1], widths[1:]), 1):
        bound = 1 / np.sqrt(a) if m == len(widths) - 1 else np.sqrt(6 / a) / omega
        drawn = rng.uniform(-bound, bound, (1 if shared else fields, b, a))
        weights[f"W{m}"] = np.broadcast_to(drawn, (fields, b, a)).astype(np.float32)
        weights[f"b{m}"] = np.zeros((fields, b), np.float32)
    return weights


def relu_networks(x: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """F ReLU MLPs, each on points of its own: x (F, N, D), W_l (F, n_{l+1}, n_l), b_l (F, n_{l+1})
    -> (F, N, n_L)."""
    z = x
    for i in range(0, len(weights_and_biases), 2):
        weight, bias = weights_and_biases[i : i + 2]
        z = jt.matmul(z, weight.transpose(0, 2, 1)) + bias.unsqueeze(1)
        if i + 2 < len(weights_and_biases):
            z = nn.relu(z)
    return z


def train(
    errors: Callable[[], jt.Var],
    parameters: list[jt.Var],
    config: FitConfig,
    advance: Advance,
) -> None:
    """Full-batch Adam on the sum of errors(), the learning rate falling to zero by a cosine;
    advance() is called after every step."""
    optimizer = jt.optim.Adam(parameters, config.lr)
    for step in range(config.steps):
        optimizer.lr = config.lr * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        optimizer.step(errors().sum())
        if step % 10 == 9:
            jt.sync_all(True)  # so that the progress shown is true
        advance()


def psnr(errors: jt.Var) -> np.ndarray:
    """-10 log10 of mean squared errors (F,), at most 120 dB."""
    return -10 * np.log10(np.maximum(errors.numpy(), 1e-12))
