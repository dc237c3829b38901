"""Training predicted (paper, Theorem 1): outputs after any number of steps, dense for few points,
by Lanczos for pictures; and of Adam, by a kernel of its own."""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

from jgrid.design import AbstractDesign, ScaledDesign
from jgrid.optimizer import BETAS

import jittor as jt
import numpy as np
from scipy.linalg import eigh_tridiagonal

CHECK_EVERY = 5  # Lanczos steps between tests of convergence
FLOW_TIMES = 80  # at which the residual of Adam's flow is known
NOTHING = 1e-5  # part of the first residual that need not be resolved further: PSNR beyond 100 dB


def learned_part(
    eigenvalues: np.ndarray,
    lr: float,
    steps: Union[Sequence[float], np.ndarray],
    flow: bool = False,
) -> np.ndarray:
    """p_k(lambda) = (1 - (1 - lr lambda)^k) / lambda, and k lr at 0; under gradient flow
    (1 - exp(-lr lambda k)) / lambda.

    What training has done to a mode after k steps: its residual is left with 1 - lambda p_k.
    eigenvalues (M,), steps (S,) -> (S, M)."""
    x = lr * np.asarray(eigenvalues, np.float64)
    k = np.asarray(steps, np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.exp(k * (-x if flow else np.log1p(-np.minimum(x, 0.5))))
        learned = -np.expm1(k * (-x if flow else np.log1p(-np.minimum(x, 0.5))))
        if not flow:  # near 1 and beyond, where the logarithm ends, the power itself is exact
            left = np.where(x > 0.5, (1 - x) ** k, left)
            learned = np.where(x > 0.5, 1 - left, learned)
        return np.where(np.abs(x) < 1e-14, k * lr, learned / np.where(x == 0, 1, x) * lr)


def predicted_outputs(
    kernel: np.ndarray,
    y: np.ndarray,
    lr: float,
    steps: Sequence[int],
    start: Union[float, np.ndarray] = 0.0,
    kernel_test: Optional[np.ndarray] = None,
    start_test: Union[float, np.ndarray] = 0.0,
    flow: bool = False,
) -> np.ndarray:
    """Outputs after k steps of full-batch gradient descent, f_k = f_0 + K' p_k(K) (y - f_0); under
    gradient flow at times lr k.

    K' is the kernel between the points asked for and the training points: kernel_test, or with None
    the kernel itself, where the formula is y - f_k = (I - lr K)^k (y - f_0). kernel (N, N),
    kernel_test (N', N), y and start (N, C), start_test (N', C), steps (S,) -> (S, N or N', C).
    Dense: for a few thousand points."""
    values, vectors = np.linalg.eigh(kernel)
    values = np.maximum(values, 0)
    modes = vectors.T @ (y - start)
    towards = (kernel if kernel_test is None else kernel_test) @ vectors
    return (start if kernel_test is None else start_test) + np.stack(
        [towards @ (p[:, None] * modes) for p in learned_part(values, lr, steps, flow)]
    )


class Forecast:
    """Weights after each of `steps` steps of full-batch gradient descent, from products with Phi
    alone; G is never formed.

        w_k = w_0 + p_k(A) b,   A = Phi^T Phi,   b = Phi^T (y - Phi w_0),
        p_k(t) = (1 - (1 - lr t)^k) / t,

    where p_k(A) b is taken in the Krylov space of A and b (Lanczos), which serves all k, and all
    channels, at once. It is enlarged until another CHECK_EVERY products would move no predicted
    output by more than `tolerance` of the residual then (a residual below NOTHING of the first
    counts as that).

    design: for numpy's arrays; y (N, C); w0 (M, C); steps: (S,), or (S, C) for steps of each
    channel's own; lr None: 1 / lambda_max, the largest over the channels.

    Attributes: weights (S, M, C); lr; lambda_max; ritz: eigenvalues of the Krylov space, a list by
    channel; residual (S, C): the predicted |y - Phi w_k|; n_products: how many pairs of products
    with Phi and Phi^T it took. The Krylov space stays with it, about n_products M C numbers."""

    def __init__(
        self,
        design: AbstractDesign,
        y: np.ndarray,
        w0: np.ndarray,
        steps: Union[Sequence[float], np.ndarray],
        lr: Optional[float] = None,
        flow: bool = False,
        tolerance: float = 5e-3,
    ):
        residual = y - design.apply(w0)
        b = design.adjoint(residual)
        channels = b.shape[1]
        size = np.linalg.norm(b, axis=0)
        energy = (residual**2).sum(0)
        steps = np.asarray(steps, np.float64)
        self.steps = steps
        v = _unit(b, size, 0)
        before = np.zeros_like(b)
        beta = np.zeros(channels)
        basis = []
        alphas = []
        betas: list[np.ndarray] = []
        old = None
        # rounding spoils the basis slowly, so a small space may need more than its dimension
        most = 4 * len(b)
        if lr is not None and not flow:
            most = min(most, max(1, int(steps.max())))  # p_k is a polynomial of degree k - 1
        for n in range(1, most + 1):
            u = design.gram(v) - beta * before
            alpha = (v * u).sum(0)
            u -= alpha * v
            basis.append(v.astype(design.precision))
            alphas.append(alpha)
            before = v
            beta = np.linalg.norm(u, axis=0)
            v = _unit(u, beta, 1e-12 * alpha.max())
            complete = n == most or not v.any()
            if n % CHECK_EVERY == 0 or complete:
                self.ritz, self.lr, new, left = _small(alphas, betas, size, energy, steps, lr, flow)
                floor = np.maximum(left, NOTHING * np.sqrt(energy))
                if complete or (
                    old is not None and _change(alphas, betas, old, new, floor) < tolerance
                ):
                    break
                old = new
            betas.append(beta)
        self.n_products = len(basis) + 1
        self.residual = left
        self.lambda_max = max(r.max() for r in self.ritz)
        self._w0 = w0
        self._basis = np.stack(basis, axis=-1)  # (M, C, n)
        self._problem = (alphas, betas, size, energy)
        self._flow = flow

    @functools.cached_property
    def weights(self) -> np.ndarray:
        return self.after(self.steps)

    def after(self, steps: Union[Sequence[float], np.ndarray]) -> np.ndarray:
        """Weights after other steps, (S,) or (S, C), none beyond those it was made for -> (S, M,
        C)."""
        steps = np.asarray(steps, np.float64)
        coefficients = _small(*self._problem, steps, self.lr, self._flow)[2]
        parts = [(self._basis[:, c] @ new).T for c, new in enumerate(coefficients)]
        return self._w0 + np.stack(parts, axis=-1)


class AdamForecast:
    """Weights after steps of Adam, from products with Phi alone.

    Adam divides by sqrt(v_j), which for a residual that is nearly white is |phi_j| sqrt(R), with
    phi_j the column of Phi and R a running mean of the residual's mean square. So features follow
    gradient flow under a kernel of Adam's own,

        K_A = Phi diag(1 / |phi_j|) Phi^T,   dt = rate sqrt(n / N / R)   a step,

    with n of N points in a batch: seldom seen features move as far as others. It leaves out
    Adam's inertia, and early residuals are anything but white: the first tens of steps are not
    foretold.

    design: for numpy's arrays; y (N, C); w0 (M, C); rates: the learning rate of every step; steps:
    those after which weights are asked for, from 1 to len(rates); fraction: n / N; beta: Adam's
    second. ValueError for other steps.

    Attributes: weights (S, M, C); times (S, C): the flow's, a channel each; n_products, as
    Forecast's."""

    def __init__(
        self,
        design: AbstractDesign,
        y: np.ndarray,
        w0: np.ndarray,
        rates: Sequence[float],
        steps: Sequence[int],
        fraction: float = 1.0,
        beta: float = BETAS[1],
        tolerance: float = 5e-3,
    ):
        if min(steps) < 1 or max(steps) > len(rates):
            raise ValueError(f"steps must be from 1 to {len(rates)}, got {list(steps)}")
        # a feature that no point sees stays where it is
        squares = np.broadcast_to(design.squares(), w0.shape)
        seen = squares > 1e-12 * squares.max()
        scale = np.where(seen, np.where(seen, squares, 1.0) ** -0.25, 0.0)
        scaled = ScaledDesign(design, scale)
        speeds = np.sqrt(fraction) * np.asarray(rates, np.float64)
        # of the flow from 0: what the start says is part of the target
        target = y - design.apply(w0)
        first = np.mean(target**2, axis=0)
        first = np.where(first > 0, first, 1.0)  # a channel with nothing to learn
        longest = 4 * speeds.sum() / np.sqrt(first)
        shares = np.concatenate([[0.0], np.geomspace(1e-6, 1, FLOW_TIMES)])
        while True:
            times = shares[:, None] * longest
            flow = Forecast(
                scaled, target, np.zeros_like(w0), times, lr=1.0, flow=True, tolerance=tolerance
            )
            energy = np.maximum(flow.residual**2 / len(y), NOTHING**2 * first)
            reached = _adam_times(times, energy, speeds, beta)
            if not (reached[-1] > longest).any():
                break
            longest = np.maximum(longest, 2 * reached[-1])
        self.n_products = flow.n_products
        self.times = reached[np.asarray(steps) - 1]
        self.weights = w0 + scale * flow.after(self.times)


def _adam_times(times, energy, rates, beta):
    """The time of a flow after each step of Adam, (K, C), where the residual's mean square is
    energy (T, C) at `times` (T, C)."""
    channels = range(energy.shape[1])
    now = np.zeros(energy.shape[1])
    mean = np.zeros(energy.shape[1])
    reached = []
    for k, rate in enumerate(rates):
        left = np.array([np.interp(now[c], times[:, c], energy[:, c]) for c in channels])
        mean = beta * mean + (1 - beta) * left
        now = now + rate / np.sqrt(mean / (1 - beta ** (k + 1)))
        reached.append(now)
    return np.array(reached)


def _unit(v, size, floor):
    """Columns of v divided by their sizes; those that are nothing become zero."""
    return np.where(size > floor, v / np.where(size > 0, size, 1), 0)


def _small(alphas, betas, size, energy, steps, lr, flow):
    """The problem in the Krylov space: its eigenvalues, lr, coefficients [(n, S)] by channel,
    residual norms (S, C)."""
    diagonal = np.array(alphas)
    off = np.array(betas).reshape(-1, len(size))
    pairs = [
        eigh_tridiagonal(diagonal[:, c], off[: len(diagonal) - 1, c]) for c in range(len(size))
    ]
    lr = 1 / max(values[-1] for values, _ in pairs) if lr is None else lr
    coefficients = []
    left = []
    for c, (values, vectors) in enumerate(pairs):
        values = np.maximum(values, 0)
        first = size[c] * vectors[0]
        # (S, n)
        of_channel = steps if steps.ndim == 1 else steps[:, c]
        modes = learned_part(values, lr, of_channel, flow) * first
        coefficients.append(vectors @ modes.T)
        left.append(np.sqrt(np.maximum(energy[c] - 2 * modes @ first + modes**2 @ values, 0)))
    return [values for values, _ in pairs], lr, coefficients, np.stack(left, axis=-1)


def _change(alphas, betas, old, new, left):
    """The largest |Phi (new - old)| relative to the residual, over steps and channels; in the
    basis, Phi^T Phi is T."""
    worst = 0.0
    for c, (a, b) in enumerate(zip(old, new)):
        d = b.copy()
        d[: len(a)] -= a
        diagonal = np.array(alphas)[:, c, None]
        off = np.array(betas)[: len(d) - 1, c, None]
        square = (diagonal * d**2).sum(0) + 2 * (off * d[:-1] * d[1:]).sum(0)
        worst = max(
            worst, np.sqrt(np.max(np.maximum(square, 0) / np.maximum(left[:, c] ** 2, 1e-300)))
        )
    return worst


def gradient_descent(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    lr: float,
    steps: Sequence[int],
    params: Optional[list[jt.Var]] = None,
) -> Iterator[tuple[int, float]]:
    """Really train on 1/2 sum (f(x) - y)^2 by full-batch gradient descent; yields (k, seconds so
    far) at each k of steps, rising.

    x (N, D), y (N, C); params: what moves, None: the features, network and kernel together. The
    caller's time does not count."""
    params = params or [p for group in model.parameter_groups() for p in group["params"]]
    x, y = (jt.array(np.asarray(v, np.float32)).stop_grad() for v in (x, y))
    optimizer = jt.optim.SGD(params, lr)
    done = 0
    seconds = 0.0
    for k in steps:
        began = time.perf_counter()
        while done < k:
            residual = model(x) - y
            optimizer.step(0.5 * (residual * residual).sum())
            done += 1
        jt.sync_all(True)
        seconds += time.perf_counter() - began
        yield k, seconds
