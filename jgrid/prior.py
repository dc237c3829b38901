"""What to believe between the samples: a Gaussian process whose kernel is a grid's.

A grid of dense levels, each of cells half as wide as the one before, with interpolation as its
kernel and half the variance for each finer level, is a smooth function of unknown detail:

    f = Phi w,   w_i ~ N(0, 2^(L-1-l)) for the nodes of level l < L,   y_n = f(x_n) + noise.

Given the samples, the best guess of f is a least squares fit with a ridge that grows with the
level, lambda being the variance of the noise,

    min over w of |Phi w - y|^2 + lambda sum_i 2^(l-L+1) w_i^2,

and lambda is the one of the least generalised cross-validation (Golub, Heath, Wahba 1979),

    GCV(lambda) = |y - H y|^2 / n / (tr(I - H) / n)^2,   H y the fit at the samples,

which estimates, from the samples alone, the mean squared error of the fit at one that is left out.
The trace is that of a random vector of signs s (Hutchinson): tr(I - H) = E[s^T (s - H s)].
"""

from collections.abc import Sequence
from typing import NamedTuple

from jgrid import memory
from jgrid.field import in_chunks
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel
from jgrid.solver import conjugate_gradients

import jittor as jt
import numpy as np

LARGEST = 10.0  # lambda; from here it falls by factors of STEP
SMALLEST = 1e-3
STEP = 10**0.5
WORSE = 1.02  # times the least GCV: the search ends
TRIED = 2**15  # samples on which lambda is looked for, about, those in the middle
FEWEST = 2**10  # there, or all are tried
ITERATIONS = 200
TOLERANCE = 4e-3
BYTES = 60  # of a node, and channel


class Belief(NamedTuple):
    """values (N', C): the best guess where it was asked for; strength: lambda, of samples scaled to
    a variance of 1; error: the mean squared error there that the samples let expect."""

    values: np.ndarray
    strength: float
    error: float


def believe(
    x: np.ndarray, y: np.ndarray, between: np.ndarray, cells: Sequence[int], seed: int = 0
) -> Belief:
    """The best guess at points `between`, from the samples alone.

    x (N, D) in [0, 1], y (N, C) and between (N', D) float32; cells (D,): of the finest level along
    the axes, for a raster its pixels, in whose middles interpolation is smoothest; seed: of the
    signs. ValueError for less than two samples."""
    if len(x) < 2:
        raise ValueError(f"to tell what lies between samples takes at least 2, got {len(x)}")
    signs = np.random.default_rng((seed, 2**33)).choice([-1.0, 1.0], size=(len(x), 1))
    mean = y.mean(0, dtype=np.float64)
    scale = float(np.sqrt(((y - mean) ** 2).mean())) or 1.0
    labels = np.concatenate([(y - mean) / scale, signs], axis=1).astype(np.float32)
    fit = _Fit(x, labels, cells)
    strength = _strength(_middle(x, labels, cells) if len(x) > TRIED else fit)
    error = fit.solve(strength) * scale**2
    values = in_chunks(fit.grid, between)[:, :-1] * scale + mean
    return Belief(values.astype(np.float32), strength, float(error))


def _strength(fit: "_Fit") -> float:
    """The lambda of the least GCV: from large, where the fit is smooth and soon found, to small."""
    strength = LARGEST
    best = (np.inf, strength)
    while strength > SMALLEST:
        found = fit.solve(strength)
        if found > WORSE * best[0]:
            break
        best = min(best, (found, strength))
        strength /= STEP
    return best[1]


def _middle(x: np.ndarray, labels: np.ndarray, cells: Sequence[int]) -> "_Fit":
    """The same for the samples in the middle of the domain, about TRIED if they lie evenly, with
    cells of the same size; for all where hardly any lie there."""
    middle = np.ceil(np.multiply(cells, (TRIED / len(x)) ** (1 / x.shape[1]))).astype(int)
    first = (np.asarray(cells) - middle) // 2  # whole cells
    moved = (x * cells - first) / middle
    inside = ((moved >= 0) & (moved <= 1)).all(1)
    if inside.sum() < FEWEST:
        return _Fit(x, labels, cells)
    return _Fit(moved[inside].astype(np.float32), labels[inside], middle)


class _Fit:
    """The fit of labels (N, C + 1), the last the signs, by a grid with these cells and halves of
    them."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, cells: Sequence[int]):
        levels = max(1, int(np.log2(max(cells))))
        of_levels = np.ceil(np.asarray(cells) / 2.0 ** np.arange(levels)[::-1, None]).astype(int)
        nodes = np.prod(of_levels + 1.0, axis=1).sum()
        memory.require(
            int(BYTES * (nodes + len(x)) * labels.shape[1]),
            f"what lies between {len(x):,} samples, on {nodes:,.0f} nodes",
            "`prior` or the number of pixels",
        )
        index = GridIndex(len(cells), of_levels)
        kernel = InterpolationKernel("linear")
        self.grid = Grid(index, kernel, labels.shape[1], scale=0.0)
        ridge = np.repeat(2.0 ** np.arange(1 - levels, 1), index.size)
        self._ridge = jt.array(ridge[:, None].astype(np.float32)).stop_grad()
        self._x = jt.array(x).stop_grad()
        self._labels = jt.array(labels).stop_grad()

    def solve(self, strength: float) -> float:
        """Fit, beginning with the last fit; returns GCV, the mean over the channels."""
        conjugate_gradients(
            self.grid, self._x, self._labels, ITERATIONS, TOLERANCE, strength * self._ridge
        )
        with jt.no_grad():
            residual = (self._labels - self.grid(self._x)).numpy().astype(np.float64)
        left = (residual[:, -1] * self._labels.numpy()[:, -1]).mean()
        return float((residual[:, :-1] ** 2).mean() / left**2)
