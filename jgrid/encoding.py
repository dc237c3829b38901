"""gamma(x): Fourier features (Tancik et al. 2020), and the frequencies they may have."""

from typing import Optional

import jittor as jt
import numpy as np
from jittor import nn
from typing_extensions import Literal

# none: the coordinates themselves
Frequencies = Literal["none", "basic", "positional", "log-linear", "gaussian"]


def basic_frequencies(
    dim: int, features: Optional[int] = None, sigma: Optional[float] = None
) -> np.ndarray:
    """B = I: one wave across the domain along each axis; (D, D). `features` and `sigma` are of the
    others only."""
    return np.eye(dim)


def positional_frequencies(dim: int, features: int, sigma: float) -> np.ndarray:
    """sigma^(j/m), j < m = features / D, on each axis apart (the article's form, section 6.1); (m
    D, D)."""
    m = _per_axis(dim, features)
    return _on_each_axis(float(sigma) ** (np.arange(m) / m), dim)


def log_linear_frequencies(dim: int, features: int, sigma: float) -> np.ndarray:
    """2^t - 1, t from 0 to sigma in m = features / D even steps, on each axis apart (the authors'
    repository); (m D, D)."""
    return _on_each_axis(2.0 ** np.linspace(0.0, sigma, _per_axis(dim, features)) - 1.0, dim)


def gaussian_frequencies(dim: int, features: int, sigma: float) -> np.ndarray:
    """B ~ sigma N(0, 1), (features, D), in waves across the domain; drawn from numpy's global
    generator."""
    return sigma * np.random.normal(size=(features, dim))


def _per_axis(dim: int, features: int) -> int:
    if features < dim:
        raise ValueError(
            f"`features` must be at least {dim} for frequencies along each of {dim} axes, got"
            f" {features}"
        )
    return features // dim


def _on_each_axis(along: np.ndarray, dim: int) -> np.ndarray:
    return np.kron(np.eye(dim), along[:, None])


FREQUENCIES = {
    "basic": basic_frequencies,
    "positional": positional_frequencies,
    "log-linear": log_linear_frequencies,
    "gaussian": gaussian_frequencies,
}


class FourierFeatures(nn.Module):
    """gamma(x) = [sin(2 pi B x), cos(2 pi B x)], x (N, D) -> (N, 2 P): first all sines, then all
    cosines.

    frequencies: B (P, D), in waves per unit of x. Training does not change them, but they are saved
    with the model."""

    def __init__(self, frequencies: np.ndarray):
        super().__init__()
        self.frequencies = jt.array(np.asarray(frequencies, np.float32)).stop_grad()
        self.n_out = 2 * len(frequencies)

    def execute(self, x: jt.Var) -> jt.Var:
        angle = 2.0 * np.pi * (x @ self.frequencies.transpose())
        return jt.concat([jt.sin(angle), jt.cos(angle)], dim=-1)
