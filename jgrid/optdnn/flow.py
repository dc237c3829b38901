"""The theorem, checked without training: with T_k = h_k f a method's network must converge to the
flow of x' = f(x)."""

from collections.abc import Sequence

from jgrid.optdnn.implicit import anderson
from jgrid.optdnn.methods import Method, Module, clock, run

import numpy as np

DEPTHS = (40, 80, 160, 320, 640)


class VectorField:
    """f(x) = W2 tanh(W1 x + b), fixed and random: x (N, dim) float64."""

    def __init__(self, dim: int = 4, hidden: int = 16, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.first = rng.normal(size=(dim, hidden)) / dim**0.5
        self.second = rng.normal(size=(hidden, dim)) / hidden**0.5
        self.bias = rng.normal(size=hidden)
        self.starts = rng.normal(size=(64, dim))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x @ self.first + self.bias) @ self.second

    def flow(self, steps: int = 2000) -> np.ndarray:
        """x(1) from the starts x(0), by the classical Runge-Kutta method."""
        x = self.starts
        h = 1 / steps
        for _ in range(steps):
            a = self(x)
            b = self(x + h / 2 * a)
            c = self(x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + self(x + h * c))
        return x


def flow_errors(method: Method, depths: Sequence[int] = DEPTHS, seed: int = 0) -> list[float]:
    """The largest error over 64 starts, at time 1, of the networks of a method with so many layers,
    each T_k = h_k f by `clock`."""
    f = VectorField(seed=seed)
    exact = f.flow()
    errors = []
    for layers in depths:
        steps = clock(method, layers)
        modules = [[_scaled(f, h)] * len(method.tableau(k).U) for k, h in enumerate(steps)]
        errors.append(float(np.abs(run(method, f.starts, modules, _solve) - exact).max()))
    return errors


def slope(errors: Sequence[float]) -> float:
    """log2 of the last halving: the order p of errors ~ layers^-p where the last depth is twice the
    one before."""
    return float(np.log2(errors[-2] / errors[-1]))


def _scaled(f: VectorField, h: float) -> Module:
    return lambda y: h * f(y)


def _solve(module: Module, rest: np.ndarray, d: float) -> np.ndarray:
    return anderson(lambda y: rest + d * module(y), rest, tolerance=1e-13)[0]
