"""Tangent kernels: of a grid in closed form (GTK; paper, section 4), of ReLU MLPs on Fourier
features in closed form, of any field by autodiff; and regression with a kernel."""

from typing import Any, Optional

from jgrid.design import design_matrix
from jgrid.grid import Grid

import jittor as jt
import numpy as np


def gtk(grid: Grid, x1: np.ndarray, x2: Optional[np.ndarray] = None) -> np.ndarray:
    """The grid tangent kernel G = Phi Phi^T, exact and constant while the features train:

        G[i, j] = sum_m phi(x1_i, theta_m) phi(x2_j, theta_m) = <dg(x1_i)/dw, dg(x2_j)/dw>.

    x1 (N1, D), x2 (N2, D) in [0, 1], or None for x1 -> (N1, N2) float64; (C, N1, N2), a matrix per
    channel, where each channel has a kernel of its own."""
    first = design_matrix(grid, x1)
    second = first if x2 is None else design_matrix(grid, x2)
    kernels = np.stack([(a @ b.T).toarray() for a, b in zip(first, second)])
    return kernels[0] if len(kernels) == 1 else kernels


def drift(start: np.ndarray, now: np.ndarray) -> float:
    """|G(t) - G(0)| / |G(0)| in Frobenius norms: what Theorem 2 says is zero."""
    return float(np.linalg.norm(now - start) / np.linalg.norm(start))


def fourier_kernel(
    x1: np.ndarray,
    x2: np.ndarray,
    frequencies: np.ndarray,
    amplitudes: Optional[np.ndarray] = None,
) -> np.ndarray:
    """h_gamma(x1 - x2) = sum_j a_j^2 cos(2 pi b_j . (x1 - x2)), the inner product of Fourier
    features (Tancik et al. 2020).

    x1 (N1, D), x2 (N2, D), frequencies b (P, D) in waves per unit, amplitudes a (P,) (None: ones)
    -> (N1, N2)."""
    scale = np.ones(len(frequencies)) if amplitudes is None else np.asarray(amplitudes)
    angles = [
        2 * np.pi * np.asarray(x, np.float64) @ np.asarray(frequencies, np.float64).T
        for x in (x1, x2)
    ]
    sines, cosines = ([f(angle) * scale for angle in angles] for f in (np.sin, np.cos))
    return sines[0] @ sines[1].T + cosines[0] @ cosines[1].T


def relu_ntk(
    inner: np.ndarray,
    square1: np.ndarray,
    square2: np.ndarray,
    n_in: int,
    layers: int,
    width: int,
) -> np.ndarray:
    """The tangent kernel of a wide ReLU MLP in standard parameters, by the arc-cosine recursion
    (Jacot et al. 2018; Lee et al. 2019).

        S_0 = <z, z'> / n_in,  Theta_0 = <z, z'> + 1,
        S_l = sqrt(s s') (sin t + (pi - t) cos t) / (2 pi),  cos t = S_{l-1} / sqrt(s s'),
        Theta_l = width S_l + Theta_{l-1} (pi - t) / (2 pi) + 1.

    inner (N1, N2) of the inputs z, square1 (N1,) and square2 (N2,) their squared norms; layers:
    linear ones, so layers - 1 of ReLU; weights start N(0, 1 / inputs), biases 0, all trained at one
    rate -> (N1, N2)."""
    s1 = np.asarray(square1)[:, None] / n_in
    s2 = np.asarray(square2)[None] / n_in
    covariance = inner / n_in
    theta = inner + 1.0
    for _ in range(layers - 1):
        size = np.sqrt(s1 * s2)
        # safe where an input is zero
        angle = np.arctan2(np.sqrt(np.maximum(size**2 - covariance**2, 0)), covariance)
        covariance = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        theta = width * covariance + theta * (np.pi - angle) / (2 * np.pi) + 1.0
        s1 = s1 / 2
        s2 = s2 / 2
    return theta


def composed_ntk(
    x1: np.ndarray,
    x2: np.ndarray,
    layers: int,
    width: int,
    frequencies: Optional[np.ndarray] = None,
    amplitudes: Optional[np.ndarray] = None,
) -> np.ndarray:
    """The NTK of a ReLU MLP on Fourier features, h_NTK(h_gamma(x1 - x2)); frequencies None: on the
    coordinates themselves.

    The features are divided by |a|, so that they have length one and the kernel depends on x1 - x2
    only."""
    if frequencies is None:
        x1 = np.asarray(x1, np.float64)
        x2 = np.asarray(x2, np.float64)
        return relu_ntk(x1 @ x2.T, (x1**2).sum(1), (x2**2).sum(1), x1.shape[1], layers, width)
    scale = np.ones(len(frequencies)) if amplitudes is None else np.asarray(amplitudes)
    inner = fourier_kernel(x1, x2, frequencies, scale / np.linalg.norm(scale))
    return relu_ntk(inner, np.ones(len(x1)), np.ones(len(x2)), 2 * len(frequencies), layers, width)


def empirical_ntk(
    model: Any, x1: np.ndarray, x2: Optional[np.ndarray] = None
) -> dict[str, np.ndarray]:
    """The full tangent kernel of a field by autodiff, as the shares of its parameter groups
    (features, kernel, network):

        Theta_g[(n, c), (m, d)] = <df_c(x1_n)/dp, df_d(x2_m)/dp> over the parameters p of group g;
        their sum is the kernel.

    x1 (N1, D), x2 (N2, D) or None for x1; returns {name: (N1 C, N2 C) float64}, point by point,
    then channel. For small N: one backward pass per row.
    """
    first = jacobian(model, x1)
    second = first if x2 is None else jacobian(model, x2)
    return {name: first[name] @ second[name].T for name in first}


def jacobian(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """df_c(x_n)/dp for each parameter group, {name: (N C, parameters) float64}."""
    groups = model.parameter_groups()
    params = [p for group in groups for p in group["params"]]
    rows = []
    for point in np.asarray(x, np.float32):
        value = model(jt.array(point[None]))
        for channel in range(value.shape[1]):
            gradients = jt.grad(value[0, channel], params, retain_graph=True)
            rows.append([g.numpy().ravel().astype(np.float64) for g in gradients])
    columns = list(zip(*rows))
    result = {}
    for group in groups:
        count = len(group["params"])
        result[group["name"]] = np.concatenate([np.stack(c) for c in columns[:count]], axis=1)
        columns = columns[count:]
    return result


def kernel_regression(
    kernel: np.ndarray, kernel_test: np.ndarray, y: np.ndarray, ridge: float = 0.0
) -> np.ndarray:
    """f(x) = K_test (K + ridge I)^-1 y: what training for ever gives from a start at zero.

    kernel (N, N), kernel_test (N_test, N), y (N,) or (N, C) -> (N_test,) or (N_test, C). With ridge
    0 the pseudo-inverse is meant: directions of eigenvalues below 1e-12 of the largest are left
    out, as training never reaches them."""
    values, vectors = np.linalg.eigh(kernel)
    kept = values > 1e-12 * values[-1] if ridge == 0 else np.ones(len(values), bool)
    modes = vectors[:, kept].T @ y
    shifted = values[kept] + ridge
    return kernel_test @ (vectors[:, kept] @ (modes / shifted.reshape(-1, *[1] * (modes.ndim - 1))))
