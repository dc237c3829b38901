"""The generalisation bound (paper, Theorem 3): what a field's held-out error can be at most, from
its kernel and the labels."""

from typing import NamedTuple, Union

from jgrid.design import CHUNK, AbstractDesign, design_matrix
from jgrid.grid import Grid

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


def complexity(kernel: np.ndarray, y: np.ndarray, ridge: float = 0.0) -> Complexity:
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


def complexity_by_cg(
    design: AbstractDesign, y: np.ndarray, ridge: float, tolerance: float = 1e-6, most: int = 2000
) -> Complexity:
    """The same without the kernel, from a design for numpy's arrays, by conjugate gradients on
    (G + ridge I) z = y; ridge > 0.

    Ends when |y - (G + ridge I) z| < tolerance |y| in each channel, or after `most` steps with a
    RuntimeError."""
    # Not the iteration of jgrid.solver: that one finds features in float32, by Jittor and with a
    # preconditioner, and stops where rounding begins. Here the labels' z is asked for, to 1e-6 and
    # better, which takes float64, and Jittor's loops over channels know float32 alone.
    z = np.zeros_like(y)
    residual = y.copy()
    direction = residual.copy()
    square = (residual**2).sum(0)
    enough = tolerance**2 * square
    for _ in range(most):
        if (square <= enough).all():
            fitted = design.apply(design.adjoint(z))
            norm = (z * fitted).sum(0)
            return Complexity(norm + ridge * (z**2).sum(0), norm, ((y - fitted) ** 2).sum(0))
        product = design.apply(design.adjoint(direction)) + ridge * direction
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


def trace(grid: Grid, x: np.ndarray) -> np.ndarray:
    """tr G = sum of phi^2 over points and nodes, by channel, (C,) or (1,) where one serves all."""
    total = np.zeros(1)
    for i in range(0, len(x), CHUNK):  # Phi whole may not fit into memory
        rows = design_matrix(grid, x[i : i + CHUNK])
        total = total + np.array([phi.multiply(phi).sum() for phi in rows])
    return total


def fair_complexity(norm: np.ndarray, trace: Union[float, np.ndarray], n: int) -> np.ndarray:
    """sqrt(Delta tr G) / n: the bound's middle term but for the 2; it does not change when the
    kernel is scaled, as Delta does."""
    return np.sqrt(norm * trace) / n


def bound(
    train_loss: Union[float, np.ndarray],
    norm: np.ndarray,
    trace: Union[float, np.ndarray],
    n: int,
    failure: float = 0.05,
) -> np.ndarray:
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
