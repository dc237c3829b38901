"""The generalisation bound (paper, Theorem 3): what a field's held-out error can be at most, from
its kernel and the labels."""

from typing import NamedTuple

import numpy as np


class Complexity(NamedTuple):
    """Of labels y (N, C) under a kernel G, by channel (C,), with z = (G + ridge I)^-1 y:

        delta = y^T z,   norm = z^T G z = |w|^2 of the fitted features,   misfit = |y - G z|^2;
        delta = norm + misfit / ridge.

    With ridge 0 the pseudo-inverse is meant: delta = norm = y^T G^+ y counts what the grid can
    reach, and misfit is the part of |y|^2 that it cannot. Where that is not zero, the paper's Delta
    = y^T G^-1 y is infinite."""

    delta: np.ndarray
    norm: np.ndarray
    misfit: np.ndarray


def complexity(kernel, y, ridge=0.0):
    """Delta of a dense kernel (N, N) and labels (N, C), by its eigenvalues; those below 1e-12 of
    the largest count as zero."""
    values, vectors = np.linalg.eigh(kernel)
    squares = (vectors.T @ y) ** 2
    values = np.where(values > 1e-12 * values[-1], values, 0)[:, None]
    if ridge == 0:
        reached = values > 0
        norm = (squares * np.divide(1, values, out=np.zeros_like(values), where=reached)).sum(0)
        return Complexity(norm, norm, (squares * ~reached).sum(0))
    delta = (squares / (values + ridge)).sum(0)
    norm = (squares * values / (values + ridge) ** 2).sum(0)
    return Complexity(delta, norm, ridge * (delta - norm))


def complexity_by_cg(products, y, ridge, tolerance=1e-6, most=2000):
    """The same from products with Phi and Phi^T alone, by conjugate gradients; ridge > 0.

    Ends when |y - (G + ridge I) z| < tolerance |y| in each channel, or after `most` steps with a
    RuntimeError."""
    z = np.zeros_like(y)
    residual = y.copy()
    direction = residual.copy()
    square = (residual**2).sum(0)
    wanted = tolerance**2 * square
    for _ in range(most):
        if (square <= wanted).all():
            fitted = products.forward(products.adjoint(z))
            norm = (z * fitted).sum(0)
            return Complexity(norm + ridge * (z**2).sum(0), norm, ((y - fitted) ** 2).sum(0))
        product = products.forward(products.adjoint(direction)) + ridge * direction
        step = square / np.maximum((direction * product).sum(0), 1e-300)
        z = z + step * direction
        residual = residual - step * product
        before = square
        square = (residual**2).sum(0)
        direction = residual + square / np.maximum(before, 1e-300) * direction
    raise RuntimeError(
        f"conjugate gradients did not reach {tolerance} in {most} steps; take a larger ridge than"
        f" {ridge}"
    )


def trace(design):
    """tr G = sum of phi^2, by channel (1 or C,), from the list of `design_matrix`."""
    return np.array([phi.multiply(phi).sum() for phi in design])


def fair_complexity(norm, trace, n):
    """sqrt(Delta tr G) / n: the bound's middle term but for the 2; it does not change when the
    kernel is scaled, as Delta does."""
    return np.sqrt(norm * trace) / n


def bound(train_loss, norm, trace, n, failure=0.05):
    """With probability 1 - failure, for a loss in [0, 1] that moves no faster than the output, the
    expected loss is at most

        L_train + 2 sqrt(|w - w_0|^2 tr G) / n + 3 sqrt(log(2 / failure) / (2 n)).

    The middle term is the Rademacher complexity of outputs from features in a ball (of a radius
    fixed before the data were seen; the radius found by training costs a union over radii, which is
    left out). norm = |w - w_0|^2, of interpolation Delta."""
    return (
        train_loss
        + 2 * fair_complexity(norm, trace, n)
        + 3 * np.sqrt(np.log(2 / failure) / (2 * n))
    )
