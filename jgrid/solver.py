"""Least squares for the features of a grid: without a decoder the field is linear in them, so they
can be solved for.

    min over w of |Phi w - y|^2 + tikhonov |w|^2,
    (Phi w)_n = sum over i in U(x_n) of phi(x_n, theta_i) w_i

with the kernel's theta frozen. Each feature channel is a problem of its own.
"""

import os
import time
from pathlib import Path
from typing import Annotated, Callable, Optional, Union

from jgrid import checkpoint
from jgrid.config import MOST, ArgumentError, Count, Share, Weight, config
from jgrid.design import Design, linear_grid, matrix_rows
from jgrid.field import Field, count_parameters
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAKernel
from jgrid.network import MLP
from jgrid.ops.channels import add_scaled, dot
from jgrid.optimizer import Adam
from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from annotated_types import Interval
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from tqdm import tqdm, trange

TINY = 1e-30  # keeps 0 / 0 of a channel that is solved already at 0
ROUNDING = 1e-5  # tolerance below which float32 would only iterate on its rounding, and drift
# smallest pivot beside the largest with which a matrix of the exact solve counts as regular
SINGULAR = 1e-6

Callback = Callable[[int, float], None]


def _checked(grid, x, y, **counts):
    """Points and values as float32 arrays; counts: what must be at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ArgumentError(name, f"must be at least 1, got {count}")
    x, y = (np.asarray(v.numpy() if isinstance(v, jt.Var) else v, np.float32) for v in (x, y))
    if len(x) < 1 or x.shape != (len(x), grid.index.dim) or y.shape != (len(x), grid.n_out):
        raise ValueError(
            f"a solver needs points (N, {grid.index.dim}) and values (N, {grid.n_out}), got"
            f" {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a solver needs finite points and values")
    return x, y


def solve(
    grid: Grid,
    x: np.ndarray,
    y: np.ndarray,
    iterations: int = 100,
    tolerance: float = 1e-3,
    tikhonov: float = 0.0,
    callback: Optional[Callback] = None,
    progress: bool = False,
) -> tuple[int, float]:
    """Set the features to the least squares fit of y, starting from what they are; exactly and at
    once where `separable` applies.

    Otherwise conjugate gradients on the normal equations (CGLS) with step lengths of its own for
    each channel, preconditioned by the columns' lengths and the levels' weights,

        P = diag(weight_i / |Phi_i|^2).

    It stops after `iterations`, or where the columns are as good as orthogonal to the
    residual r, |P^(1/2) Phi^T r| <= tolerance |r|, or nothing is left of it, |r| <= tolerance^2
    |y|.

    x: (N, D) in [0, 1]; y: (N, n_out); callback(iteration, loss) after each, with the features in
    place, and loss the mean squared residual. Returns the iterations made and the loss. Raises
    ValueError for points or values of other shapes or not finite."""
    x, y = _checked(grid, x, y, iterations=iterations)
    exact = separable(grid, x, y) if tikhonov == 0 else None
    if exact is not None:
        place(grid, jt.array(exact))
        with jt.no_grad():
            loss = float(((grid(jt.array(x)) - jt.array(y)) ** 2).mean().item())
        if callback:
            callback(1, loss)
        return 1, loss
    return conjugate_gradients(
        grid, jt.array(x), jt.array(y), iterations, tolerance, tikhonov, callback, progress
    )


def level_weights(grid: Grid) -> jt.Var:
    """The root of a level's share of the cells of the finest, for each node (M, 1); one where
    levels are kept apart.

    What is smooth can be said by every level that resolves it, and would be corrected as many times
    over. With geometric weights those corrections stay bounded, as in a multilevel preconditioner:
    a quarter fewer iterations on pictures."""
    if grid.groups > 1 or not isinstance(grid.index, GridIndex):
        return jt.ones([grid.w.shape[0], 1])
    cells = np.prod(grid.index.cells.astype(np.float64), axis=1)
    return jt.array(
        np.repeat(np.sqrt(cells / cells.max()), grid.index.size)[:, None].astype(np.float32)
    )


def place(grid: Grid, w: jt.Var) -> None:
    """Set the features, which stay parameters: Jittor's update would take over that w needs no
    gradient."""
    grid.w.update(w)
    grid.w.start_grad()


def conjugate_gradients(
    grid: Grid,
    x: jt.Var,
    y: jt.Var,
    iterations: int,
    tolerance: float,
    tikhonov: Union[float, jt.Var] = 0.0,
    callback: Optional[Callback] = None,
    progress: bool = False,
) -> tuple[int, float]:
    """`solve` for Jittor variables, always by iterations; tikhonov may be (M, 1), each node's
    own."""
    ridged = isinstance(tikhonov, jt.Var) or tikhonov > 0
    bar = tqdm(total=iterations, disable=not progress, unit="iteration", dynamic_ncols=True)
    with jt.no_grad(), bar:
        design = Design(grid, x)
        w = grid.w.copy()
        squares = design.squares()
        inverse = (level_weights(grid) / jt.maximum(squares + tikhonov, TINY)).broadcast(w.shape)
        r = y.reshape(-1, w.shape[1])
        least = dot(r, r) * tolerance**4

        def gradient():
            """z = P s of s = Phi^T r - tikhonov w; <s, z>, but zero for a channel that is done,
            which halts it; and |r|^2."""
            s = design.adjoint(r)
            s = s - tikhonov * w if ridged else s
            z = inverse * s
            gamma = dot(s, z)
            squared = dot(r, r)
            whole = squared + dot(w, tikhonov * w) if ridged else squared
            unsolved = (gamma > max(tolerance, ROUNDING) ** 2 * whole) & (squared > least)
            return z, gamma * unsolved, squared

        r = r - design.apply(w)
        p, gamma, squared = gradient()
        for iteration in range(1, iterations + 1):
            q = design.apply(p)
            length = dot(q, q) + dot(p, tikhonov * p) if ridged else dot(q, q)
            alpha = gamma / jt.maximum(length, TINY)
            w = add_scaled(w, alpha, p)
            r = add_scaled(r, -alpha, q)
            last = gamma
            z, gamma, squared = gradient()
            p = add_scaled(z, gamma / jt.maximum(last, TINY), p)
            # what is not asked for would wait, and keep all it needs
            jt.sync([w, r, p, gamma, squared])
            place(grid, w)
            loss = float(squared.numpy().sum() / y.numel())
            bar.update()
            bar.set_postfix(loss=f"{loss:.3g}")
            if callback:
                callback(iteration, loss)
            if not gamma.numpy().any():
                break
    return iteration, loss


def raster_axes(x: np.ndarray) -> Optional[list[np.ndarray]]:
    """The coordinates along each axis, where the points are all of their combinations, axis 0
    fastest; else None."""
    axes = []
    rest = x
    for axis in range(x.shape[1]):
        later = (rest[:, axis + 1 :] != rest[0, axis + 1 :]).any(1)
        axes.append(rest[: np.argmax(later) if later.any() else len(rest), axis])
        rest = rest[:: len(axes[-1])]
    shape = [len(a) for a in axes[::-1]]
    if np.prod(shape) != len(x):
        return None
    whole = x.reshape(*shape, len(axes))
    for axis, along in enumerate(axes):
        if not np.array_equal(
            whole[..., axis], np.broadcast_to(along.reshape(-1, *[1] * axis), shape)
        ):
            return None
    return axes


def separable(grid: Grid, x: np.ndarray, y: np.ndarray) -> Optional[np.ndarray]:
    """The exact features for one dense level with interpolation on a raster of points, float32 (M,
    C); None where it does not apply.

    There Phi is a Kronecker product of one matrix A_d per axis with two numbers in a row, so A_2 W
    A_1^T = Y is solved axis by axis, each by the tridiagonal normal equations A_d^T A_d in float64.
    It does not apply if one of them is singular."""
    index = grid.index
    kernel = grid.kernel
    if (
        not (isinstance(index, GridIndex) and isinstance(kernel, InterpolationKernel))
        or index.n_levels > 1
        or index.folded[0]
    ):
        return None
    axes = raster_axes(x)
    if axes is None:
        return None
    w = y.reshape(*(len(a) for a in axes[::-1]), -1).astype(np.float64)
    for axis, (points, cells) in enumerate(zip(axes, index.cells[0])):
        line = GridIndex(1, [cells])
        (matrix,) = matrix_rows(line, InterpolationKernel(kernel.profile), points[:, None])
        normal = matrix.T @ matrix
        band = np.stack([normal.diagonal(), np.append(normal.diagonal(-1), 0.0)])
        try:
            factor = cholesky_banded(band, lower=True)
        except LinAlgError:
            return None
        if factor[0].min() < SINGULAR * factor[0].max():
            return None
        along = index.dim - 1 - axis
        w = np.moveaxis(w, along, 0)
        solved = cho_solve_banded((factor, True), matrix.T @ w.reshape(len(points), -1))
        w = np.moveaxis(solved.reshape(-1, *w.shape[1:]), 0, along)
    return (w.reshape(index.n_nodes, -1) * kernel.parts).astype(np.float32)


def project(
    grid: Grid,
    x: np.ndarray,
    y: np.ndarray,
    steps: int = 100,
    lr: float = 1e-2,
    iterations: int = 3,
    tikhonov: float = 0.0,
    callback: Optional[Callback] = None,
    progress: bool = False,
) -> float:
    """Variable projection: Adam on the kernel's parameters theta, while the features stay the best
    for them.

        d/dtheta min over w of |Phi w - y|^2 = d/dtheta |Phi w* - y|^2 at the minimum w*,

    which a few iterations of conjugate gradients from the last step's features follow. Arguments
    and errors as for `solve`; `iterations` per step and lr Adam's rate. Returns the last loss."""
    x, y = (
        jt.array(v).stop_grad() for v in _checked(grid, x, y, steps=steps, iterations=iterations)
    )
    parameters = [p for p in grid.kernel.parameters() if not p.is_stop_grad()]
    if not parameters:
        raise ValueError("variable projection needs a kernel with parameters to train")
    optimizer = Adam([{"params": parameters, "lr": lr}])
    for step in trange(1, steps + 1, disable=not progress, unit="step", dynamic_ncols=True):
        if step > 1:
            optimizer.step(((grid(x) - y) ** 2).mean())
        _, loss = conjugate_gradients(grid, x, y, iterations, 0.0, tikhonov)
        if callback:
            callback(step, loss)
    return loss


def warm_start(field: Field, x: np.ndarray, y: np.ndarray, iterations: int = 12) -> float:
    """Start a grid with a ReLU decoder at the least squares fit of the same grid without it;
    returns the fit's mean squared residual.

    The first n_out channels of each level get the features that interpolation fits to y, as for
    `solve`. The decoder sums them over the levels and passes them on in pairs of hidden units, v =
    relu(v) - relu(-v); its other units start as they are, unheard. Raises ValueError where the
    decoder has no hidden layer or less than 2 n_out units, or the grid less than n_out channels.
    """
    n = y.shape[1]
    grid = field.grid
    network = field.network
    layers = network.path if isinstance(network, MLP) else []
    wide = len(layers) > 1 and layers[0].weight.shape[0] >= 2 * n
    kernels = (InterpolationKernel, MulFAKernel)
    mixes = isinstance(grid, Grid) and isinstance(grid.kernel, kernels) and grid.w.shape[1] >= n
    if grid is None or not (isinstance(network, MLP) and wide and mixes):
        raise ValueError(
            f"a warm start needs a grid of at least {n} channels, with interpolation or MulFA"
            f" kernels, and a decoder with hidden layers of at least {2 * n} units"
        )
    kernel = grid.kernel
    if not isinstance(kernel, InterpolationKernel):
        kernel = InterpolationKernel(kernel.profile)
    linear = Grid(grid.index, kernel, n)
    _, loss = solve(linear, x, y, iterations)
    w = grid.w.numpy()
    w[:, :n] = linear.w.numpy()
    place(grid, jt.array(w))
    if isinstance(grid.kernel, MulFAKernel):  # those channels' kernels interpolate
        mix = grid.kernel.mix.numpy()
        mix[:, 0, :, :n] = np.eye(1, mix.shape[2])[0][:, None]
        grid.kernel.mix.assign(mix)
    per_group = grid.n_out // grid.groups
    _pass_on(layers, n, grid.groups, per_group)
    _open(network.gates, n, grid.groups, per_group)
    return loss


def _open(gates, n, groups, per_group):
    """Make a decoder's gates ones where it sums and passes on."""
    summed = (np.arange(groups)[:, None] * per_group + np.arange(n)).ravel()
    for depth, gate in enumerate(gates):
        rows = slice(2 * n) if depth else summed
        weight = gate.weight.numpy()
        bias = gate.bias.numpy()
        weight[rows] = 0.0
        bias[rows] = 1.0
        gate.weight.assign(weight)
        gate.bias.assign(bias)


def _pass_on(layers, n, groups, per_group):
    """Make a decoder's first 2 n hidden units sum the first n of the `per_group` inputs of each
    group, and pass the sums on to its outputs; the other units are unheard."""
    # (2 n, n)
    pair = np.kron(np.eye(n), [[1.0], [-1.0]])
    for depth, layer in enumerate(layers):
        last = layer is layers[-1]
        rows = slice(None) if last else slice(2 * n)
        weight = layer.weight.numpy()
        bias = layer.bias.numpy()
        weight[rows] = 0.0
        bias[rows] = 0.0
        if depth == 0:
            weight[rows] = np.tile(np.pad(pair, ((0, 0), (0, per_group - n))), groups)
        elif last:
            weight[:, : 2 * n] = pair.T
        else:
            weight[rows, rows] = np.eye(2 * n)
        layer.weight.assign(weight)
        layer.bias.assign(bias)


@config
class SolveConfig:
    """How a field without a decoder is solved."""

    iterations: Count = 100
    """Most iterations of conjugate gradients; with kernel steps, those of each step."""
    tolerance: Share = 1e-3
    """Stop where all features are as good as orthogonal to the residual: the cosine of the angle is
    at most this."""
    tikhonov: Weight = 0.0
    """Weight of the squared features beside the sum of squared errors."""
    kernel_steps: Annotated[int, Interval(ge=0, le=MOST)] = 0
    """Steps of Adam on the kernel's parameters, with the features solved for at each (variable
    projection); 0: the kernel as it starts."""
    eval_every: Count = 10
    """Iterations, or kernel steps, between evaluations."""


class LeastSquares:
    """Solves for the features of `model` on all samples of `task`, with the files and the result of
    a Trainer.

    ValueError for a field that is not linear in its features, or kernel steps where the kernel has
    nothing to train."""

    def __init__(
        self,
        task: AbstractTask,
        model: Field,
        config: SolveConfig,
        out_dir: Optional[Union[str, os.PathLike]] = None,
        progress: bool = True,
    ):
        self.grid = linear_grid(model)
        if config.kernel_steps and not self.grid.kernel.parameters():
            raise ArgumentError(
                "kernel_steps",
                "must be 0 for an interpolation, whose kernel has no parameters, got"
                f" {config.kernel_steps}",
            )
        self.task = task
        self.model = model
        self.config = config
        self.progress = progress
        self.log = Path(out_dir) / "metrics.jsonl" if out_dir is not None else None
        self.history: list[dict[str, float]] = []

    def fit(self) -> dict[str, float]:
        """Solve; returns the result: last metrics, loss, steps (iterations), parameters,
        seconds_train, seconds_total."""
        started = time.time()
        x, y = self.task.samples()
        self._compile(x, y)
        if self.log:
            self.log.write_text("")
        begun = time.time()
        paused = 0.0  # seconds of the evaluations, which do not count

        def evaluate(step, loss):
            nonlocal paused
            stopped = time.time()
            seconds = round(stopped - begun - paused, 3)
            metrics = self.task.evaluate(self.model)
            self._record({"step": step, "seconds": seconds, "loss": loss, **metrics})
            paused += time.time() - stopped

        def after(step, loss):
            if step % self.config.eval_every == 0:
                evaluate(step, loss)

        config = self.config
        steps, loss = self._solve(
            x, y, config.iterations, config.kernel_steps, after, self.progress
        )
        if not self.history or self.history[-1]["step"] != steps:
            evaluate(steps, loss)
        last = self.history[-1]
        return {
            **{name: value for name, value in last.items() if name not in ("step", "seconds")},
            "steps": steps,
            "parameters": count_parameters(self.model),
            "seconds_train": last["seconds"],
            "seconds_total": round(time.time() - started, 3),
        }

    def _compile(self, x, y):
        """Compile all there is, which does not count, by a first step that is undone."""
        start = {name: value.numpy() for name, value in self.model.state_dict().items()}
        self._solve(x, y, 1, min(2, self.config.kernel_steps))
        checkpoint.assign(self.model, start)

    def _record(self, line):
        self.history.append(line)
        if self.log:
            with open(self.log, "a") as file:
                file.write(checkpoint.to_json(line) + "\n")

    def _solve(self, x, y, iterations, kernel_steps, callback=None, progress=False):
        """(steps, loss): of kernel steps where there are, else of iterations."""
        grid = self.grid
        tikhonov = self.config.tikhonov
        if kernel_steps:
            lr = self.model.rates["kernel"]
            loss = project(grid, x, y, kernel_steps, lr, iterations, tikhonov, callback, progress)
            return kernel_steps, loss
        tolerance = self.config.tolerance
        return solve(grid, x, y, iterations, tolerance, tikhonov, callback, progress)
