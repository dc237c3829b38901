"""Least squares for the features of a grid: without a decoder the field is linear in them, so they
can be solved for.

    min over w of |Phi w - y|^2 + tikhonov |w|^2,   (Phi w)_n = sum over i in U(x_n) of phi(x_n,
    theta_i) w_i

with the kernel's theta frozen. Each feature channel is a problem of its own.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from jgrid import checkpoint
from jgrid.field import count_parameters
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAKernel
from jgrid.network import MLP
from jgrid.ops.channels import add_scaled, dot
from jgrid.ops.gather import scatter, weighted_gather
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.sparse import csr_matrix
from tqdm import tqdm, trange

TINY = 1e-30  # keeps 0 / 0 of a channel that is solved already at 0
ROUNDING = 1e-5  # tolerance below which float32 would only iterate on its rounding, and drift
# smallest pivot beside the largest with which a matrix of the exact solve counts as regular
SINGULAR = 1e-6


class Design:
    """Phi of a grid at fixed points, as products with it: never stored, the kernel as it is at the
    construction.

    Features are (M, C), values (N, groups, H, C): the sums of each run of levels and each kernel
    that the grid keeps apart."""

    def __init__(self, grid, x):
        self.x = x
        self.gather = grid.fused
        self.groups = grid.groups
        self.n_nodes = grid.w.shape[0]
        if self.gather:
            # collapsing is a product with the unit
            unit, self._mix = grid.kernel.collapse(jt.ones(grid.w.shape))
            self._unit = None if unit.shape[1] == 1 and (unit == 1.0).all().item() else unit
        if not self.gather or self._mix is not None:
            self._node, offset = grid.index(x)
            self._phi = grid.kernel(x, self._node, offset)

    def apply(self, w):
        """Phi w: (M, C) -> (N, groups, H, C)."""
        if self.gather:
            return self.gather.forward(self.x, self._table(w), self._mix)
        return weighted_gather(self._phi, w, self._node, self.groups)

    def adjoint(self, r):
        """Phi^T r: (N, groups, H, C) -> (M, C)."""
        if self.gather:
            table = self.gather.backward(
                self.x, r, self._table(jt.zeros([self.n_nodes, r.shape[3]])), self._mix
            )[0]
            return (
                table.reshape(self.n_nodes, -1)
                if self._unit is None
                else (table * self._unit).sum(1)
            )
        n, groups, h, c = r.shape
        r = (
            r.unsqueeze(2)
            .broadcast([n, groups, self._node.shape[1] // groups, h, c])
            .reshape(n, -1, h, c)
        )
        return scatter((self._phi * r).sum(2), self._node, self.n_nodes)

    def squares(self):
        """The squared lengths of Phi's columns, (M, C); corners of one cell that share a slot count
        apart."""
        if self.gather and self._mix is None:
            return self.gather.squares(
                self.x, jt.ones([self.n_nodes, 1, 1]) if self._unit is None else self._unit
            )
        return scatter((self._phi * self._phi).sum(2), self._node, self.n_nodes)

    def _table(self, w):
        return w.unsqueeze(1) if self._unit is None else w.unsqueeze(1) * self._unit


def _checked(grid, x, y, **counts):
    """Points and values as float32 arrays; counts: what must be at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"a solver needs {name} of at least 1, got {count}")
    x, y = (np.asarray(v.numpy() if isinstance(v, jt.Var) else v, np.float32) for v in (x, y))
    if len(x) < 1 or x.shape != (len(x), grid.index.dim) or y.shape != (len(x), grid.n_out):
        raise ValueError(
            f"a solver needs points (N, {grid.index.dim}) and values (N, {grid.n_out}), got"
            f" {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a solver needs finite points and values")
    return x, y


def solve(grid, x, y, iterations=100, tolerance=1e-3, tikhonov=0.0, callback=None, progress=False):
    """Set the features to the least squares fit of y, starting from what they are; exactly and at
    once where `separable` applies.

    Otherwise conjugate gradients on the normal equations (CGLS) with step lengths of its own for
    each channel, preconditioned by the columns' lengths and the levels' weights: P = diag(weight_i
    / |Phi_i|^2). It stops after `iterations`, or where the columns are as good as orthogonal to the
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


def level_weights(grid):
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


def place(grid, w):
    """Set the features, which stay parameters: Jittor's update would take over that w needs no
    gradient."""
    grid.w.update(w)
    grid.w.start_grad()


def conjugate_gradients(
    grid, x, y, iterations, tolerance, tikhonov=0.0, callback=None, progress=False
):
    """`solve` for Jittor variables, always by iterations."""
    with (
        jt.no_grad(),
        tqdm(total=iterations, disable=not progress, unit="iteration", dynamic_ncols=True) as bar,
    ):
        design = Design(grid, x)
        w = grid.w.copy()
        inverse = (level_weights(grid) / jt.maximum(design.squares() + tikhonov, TINY)).broadcast(
            w.shape
        )
        r = y.reshape(x.shape[0], grid.groups, -1, w.shape[1])
        least = dot(r, r) * tolerance**4

        def gradient():
            """s = Phi^T r - tikhonov w, P s, <s, P s>, which is zero for a channel that is done and
            so halts it, and |r|^2."""
            s = design.adjoint(r)
            s = s - tikhonov * w if tikhonov else s
            z = inverse * s
            squared = dot(r, r)
            gamma = dot(s, z)
            whole = squared + tikhonov * dot(w, w) if tikhonov else squared
            return (
                z,
                gamma * ((gamma > max(tolerance, ROUNDING) ** 2 * whole) & (squared > least)),
                squared,
            )

        r = r - design.apply(w)
        p, gamma, squared = gradient()
        iteration = 0
        for iteration in range(1, iterations + 1):
            q = design.apply(p)
            length = dot(q, q) + tikhonov * dot(p, p) if tikhonov else dot(q, q)
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


def raster_axes(x):
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


def separable(grid, x, y):
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
        or index.hashed[0]
    ):
        return None
    axes = raster_axes(x)
    if axes is None:
        return None
    w = y.reshape(*(len(a) for a in axes[::-1]), -1).astype(np.float64)
    for axis, (points, cells) in enumerate(zip(axes, index.cells[0])):
        points = jt.array(points[:, None])
        along = index.dim - 1 - axis
        node, offset = GridIndex(1, [cells])(points)
        phi = (
            InterpolationKernel(kernel.profile)(points, node, offset)
            .numpy()
            .ravel()
            .astype(np.float64)
        )
        matrix = csr_matrix(
            (phi, (np.repeat(np.arange(len(points)), 2), node.numpy().ravel())),
            shape=(len(points), cells + 1),
        )
        normal = matrix.T @ matrix
        try:
            factor = cholesky_banded(
                np.stack([normal.diagonal(), np.append(normal.diagonal(-1), 0.0)]), lower=True
            )
        except LinAlgError:
            return None
        if factor[0].min() < SINGULAR * factor[0].max():
            return None
        w = np.moveaxis(w, along, 0)
        solved = cho_solve_banded((factor, True), matrix.T @ w.reshape(len(points), -1))
        w = np.moveaxis(solved.reshape(-1, *w.shape[1:]), 0, along)
    return (w.reshape(index.n_nodes, -1) * kernel.parts).astype(np.float32)


def project(
    grid, x, y, steps=100, lr=1e-2, iterations=3, tikhonov=0.0, callback=None, progress=False
):
    """Variable projection: Adam on the kernel's parameters theta, while the features stay the best
    for them.

        d/dtheta min over w of |Phi w - y|^2 = d/dtheta |Phi w* - y|^2 at the minimum w*, which a
        few conjugate gradient
    iterations from the last step's features follow. Arguments and errors as for `solve`;
    `iterations` per step and lr Adam's rate. Returns the last loss.
    """
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


def warm_start(field, x, y, iterations=12):
    """Start a grid with a ReLU decoder at the least squares fit of the same grid without it;
    returns the fit's mean squared residual.

    The first n_out channels of each level get the features that interpolation fits to y, as for
    `solve`. The decoder sums them over the levels and passes them on in pairs of hidden units, v =
    relu(v) - relu(-v); its other units start as they are, unheard. Raises ValueError where the
    decoder has no hidden layer or less than 2 n_out units, or the grid less than n_out channels.
    """
    grid = field.grid
    n = y.shape[1]
    layers = (
        list(field.network.layers)
        if isinstance(field.network, MLP) and isinstance(grid, Grid)
        else []
    )
    mixes = isinstance(grid, Grid) and isinstance(grid.kernel, (InterpolationKernel, MulFAKernel))
    if len(layers) < 2 or not mixes or layers[0].weight.shape[0] < 2 * n or grid.w.shape[1] < n:
        raise ValueError(
            f"a warm start needs a grid of at least {n} channels, with interpolation or MulFA"
            f" kernels, and a decoder with hidden layers of at least {2 * n} units"
        )
    kernel = (
        grid.kernel
        if isinstance(grid.kernel, InterpolationKernel)
        else InterpolationKernel(grid.kernel.profile)
    )
    linear = Grid(grid.index, kernel, n)
    _, loss = solve(linear, x, y, iterations)
    w = grid.w.numpy()
    w[:, :n] = linear.w.numpy()
    place(grid, jt.array(w))
    if isinstance(grid.kernel, MulFAKernel):  # those channels' kernels interpolate
        mix = grid.kernel.mix.numpy()
        mix[:, 0, :, :n] = np.eye(1, mix.shape[2])[0][:, None]
        grid.kernel.mix.assign(mix)
    # (2 n, n)
    pair = np.kron(np.eye(n), [[1.0], [-1.0]])
    per_level = grid.n_out // grid.groups
    for depth, layer in enumerate(layers):
        weight = layer.weight.numpy()
        bias = layer.bias.numpy()
        rows = slice(None) if layer is layers[-1] else slice(2 * n)
        weight[rows] = 0.0
        bias[rows] = 0.0
        if depth == 0:
            weight[rows] = np.tile(np.pad(pair, ((0, 0), (0, per_level - n))), grid.groups)
        elif layer is layers[-1]:
            weight[:, : 2 * n] = pair.T
        else:
            weight[rows, rows] = np.eye(2 * n)
        layer.weight.assign(weight)
        layer.bias.assign(bias)
    return loss


@dataclass(frozen=True)
class SolveConfig:
    """How a field without a decoder is solved."""

    iterations: int = 100
    """Most iterations of conjugate gradients; with kernel steps, those of each step."""
    tolerance: float = 1e-3
    """Stop where all features are as good as orthogonal to the residual: the cosine of the angle is
    at most this."""
    tikhonov: float = 0.0
    """Weight of the squared features beside the sum of squared errors."""
    kernel_steps: int = 0
    """Steps of Adam on the kernel's parameters, with the features solved for at each (variable
    projection); 0: the kernel as it starts."""
    eval_every: int = 10
    """Iterations, or kernel steps, between evaluations."""

    def __post_init__(self):
        if self.iterations < 1 or self.eval_every < 1:
            raise ValueError(
                f"--solve needs iterations and eval-every of at least 1, got {self.iterations} and"
                f" {self.eval_every}"
            )
        if not (
            0 <= self.tolerance < 1 and 0 <= self.tikhonov < float("inf") and self.kernel_steps >= 0
        ):
            raise ValueError(
                "--solve needs 0 <= tolerance < 1, tikhonov >= 0 and kernel-steps >= 0, got "
                f"{self.tolerance}, {self.tikhonov} and {self.kernel_steps}"
            )


class Solver:
    """Solves for the features of `model` on all samples of `task`, with the files and the result of
    a Trainer.

    Raises ValueError, naming the flag, for a field that is not linear in its features.
    """

    def __init__(self, task, model, config, out_dir=None, progress=True):
        if model.network is not None or not isinstance(model.grid, Grid):
            raise ValueError(
                "--solver cg needs a grid without a network behind it: give grid:mulfa, grid:dense,"
                " grid:hash, grid:fourier or grid:radial with --field.decoder.depth 0"
            )
        if config.kernel_steps and not model.grid.kernel.parameters():
            raise ValueError(
                f"--solve.kernel-steps needs a kernel with parameters, got {config.kernel_steps}"
                " for an interpolation"
            )
        self.task = task
        self.model = model
        self.config = config
        self.progress = progress
        self.out_dir = Path(out_dir) if out_dir is not None else None
        self.history = []

    def fit(self):
        """Solve; returns the result: last metrics, loss, steps (iterations), parameters,
        seconds_train, seconds_total."""
        started, (x, y) = time.time(), self.task.samples()
        start = {name: value.numpy() for name, value in self.model.state_dict().items()}
        # compiles what there is to compile, which does not count
        self._solve(x, y, 1, min(2, self.config.kernel_steps))
        checkpoint.assign(self.model, start)
        with (
            open(self.out_dir / "metrics.jsonl", "w") if self.out_dir else contextlib.nullcontext()
        ) as log:
            seconds = 0.0
            mark = time.time()

            def evaluate(step, loss):
                nonlocal seconds, mark
                seconds += time.time() - mark
                self.history.append(
                    {
                        "step": step,
                        "seconds": round(seconds, 3),
                        "loss": loss,
                        **self.task.evaluate(self.model),
                    }
                )
                if log:
                    log.write(checkpoint.to_json(self.history[-1]) + "\n")
                    log.flush()
                mark = time.time()

            def after(step, loss):
                if step % self.config.eval_every == 0:
                    evaluate(step, loss)

            steps, loss = self._solve(
                x, y, self.config.iterations, self.config.kernel_steps, after, self.progress
            )
            if not self.history or self.history[-1]["step"] != steps:
                evaluate(steps, loss)
        metrics = {
            name: value
            for name, value in self.history[-1].items()
            if name not in ("step", "seconds")
        }
        return {
            **metrics,
            "steps": steps,
            "parameters": count_parameters(self.model),
            "seconds_train": self.history[-1]["seconds"],
            "seconds_total": round(time.time() - started, 3),
        }

    def _solve(self, x, y, iterations, kernel_steps, callback=None, progress=False):
        """(steps, loss): of kernel steps where there are, else of iterations."""
        config = self.config
        grid = self.model.grid
        if kernel_steps:
            loss = project(
                grid,
                x,
                y,
                kernel_steps,
                self.model.rates["kernel"],
                iterations,
                config.tikhonov,
                callback,
                progress,
            )
            return kernel_steps, loss
        return solve(grid, x, y, iterations, config.tolerance, config.tikhonov, callback, progress)
