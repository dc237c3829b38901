"""Implicit layers: y = r + d T(y), solved by Anderson's iteration, differentiated at the
solution."""

from typing import Any, Callable

import jittor as jt
import numpy as np


def anderson(
    function: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    tolerance: float = 1e-7,
    most: int = 100,
    memory: int = 5,
) -> tuple[np.ndarray, int, float]:
    """A fixed point y = function(y) of each row of an array (N, ...), by Anderson acceleration
    (Walker and Ni 2011).

    The next y is sum_i w_i function(y_i) over the last `memory` points, with weights that sum to 1
    and make |sum_i w_i r_i| least, r_i = function(y_i) - y_i. Returns (function(y), evaluations,
    residual), the residual being the largest |r| / |y| of a row; stops at `tolerance` or after
    `most` evaluations."""
    points: list[np.ndarray] = []
    values: list[np.ndarray] = []
    y = start
    best = (np.inf, start)
    evaluations = 0
    while evaluations < most:
        evaluations += 1
        value = function(y)
        residual = _rows(value - y)
        lengths = np.linalg.norm(_rows(value), axis=1) + 1e-12
        error = float((np.linalg.norm(residual, axis=1) / lengths).max(initial=0.0))
        if error < best[0]:
            best = (error, value)
        if error <= tolerance:
            break
        points = [*points, residual][-memory:]
        values = [*values, value][-memory:]
        y = _mix(points, values)
    return best[1], evaluations, best[0]


class FixedPointSolver:
    """Called as solve(T, r, d): the y with y = r + d T(y), for a contraction d T.

    Gradients come from the equation at the solution, dy = (I - d J_T)^-1 (dr + d dT), whose
    transpose is solved by the same iteration: memory does not grow with the number of iterations
    (Bai, Kolter and Koltun 2019). After a call `residual` and `evaluations` say how it went. Where
    T is a block with `weights()` of its own making, they are made once for all its calls."""

    def __init__(self, tolerance: float = 1e-7, most: int = 100):
        self.tolerance = tolerance
        self.most = most
        self.residual = 0.0
        self.evaluations = 0

    def __call__(self, module: Callable[..., jt.Var], rest: jt.Var, d: Any) -> jt.Var:
        arguments = (module.weights(),) if hasattr(module, "weights") else ()
        scale = d.item() if isinstance(d, jt.Var) else d
        with jt.no_grad():
            fixed = rest.detach()

            def right_side(y: np.ndarray) -> np.ndarray:
                return (fixed + scale * module(jt.array(y), *arguments)).numpy()

            found = anderson(right_side, fixed.numpy(), self.tolerance, self.most)
            solution, self.evaluations, self.residual = found
        # once more, with its derivatives by r, d and T's parameters
        y = rest + d * module(jt.array(solution), *arguments)
        return _AtSolution(lambda z: scale * module(z, *arguments), self.tolerance)(y)


def unrolled(
    module: Callable[[jt.Var], jt.Var], rest: jt.Var, d: Any, iterations: int = 100
) -> jt.Var:
    """The plain twin: y_{i+1} = r + d T(y_i) from y_0 = r, all of it differentiated."""
    y = rest
    for _ in range(iterations):
        y = rest + d * module(y)
    return y


class _AtSolution(jt.Function):
    """y as it is; backwards, u = (I - J^T)^-1 g instead of g, where J is the derivative of function
    at y."""

    def __init__(self, function: Callable[[jt.Var], jt.Var], tolerance: float):
        self.function = function
        self.tolerance = tolerance

    def execute(self, y: jt.Var) -> jt.Var:
        self.y = y
        return y

    def grad(self, g: jt.Var) -> jt.Var:
        y = self.y.detach().start_grad()
        value = self.function(y)
        g = g.numpy()

        def transposed(u: np.ndarray) -> np.ndarray:
            return g + jt.grad((value * jt.array(u)).sum(), y).numpy()

        return jt.array(anderson(transposed, g, self.tolerance)[0])


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1)


def _mix(residuals: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    """The combination of `values` with the least combined residual, row by row."""
    # (N, memory, n)
    R = np.stack(residuals, axis=1)
    gram = (R @ R.transpose(0, 2, 1)).astype(np.float64)
    n = R.shape[1]
    gram += (1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None, None] + 1e-30) * np.eye(n)
    w = np.linalg.solve(gram, np.ones((len(gram), n, 1)))
    # (N, 1, memory)
    w = (w / w.sum(1, keepdims=True)).astype(values[0].dtype).transpose(0, 2, 1)
    return (w @ np.stack([_rows(v) for v in values], axis=1)).reshape(values[0].shape)
