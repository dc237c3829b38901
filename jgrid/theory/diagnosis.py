"""What a field will do on a picture, before it is trained; and the training that shows whether that
is so."""

import time
from typing import NamedTuple

from jgrid.image.metrics import psnr
from jgrid.image.task import pixel_centres
from jgrid.theory.bound import bound, complexity_by_cg, fair_complexity, trace
from jgrid.theory.dynamics import Forecast, gradient_descent
from jgrid.theory.gtk import CHUNK, design_matrix, products
from jgrid.theory.spectrum import band_eigenvalues

import jittor as jt
import numpy as np

# octaves of frequencies, in parts of the highest, half a wave per pixel
BANDS = {
    "1/64 to 1/16": (1 / 64, 1 / 16),
    "1/16 to 1/4": (1 / 16, 1 / 4),
    "1/4 to 1/2": (1 / 4, 1 / 2),
    "1/2 to 1": (1 / 2, 1.0),
}

PRECISE = 90.0  # dB; beyond it the rounding of training in float32 decides


class Points(NamedTuple):
    """The pixels of a task that are trained on, and those held out, in float64 but for x; rows:
    theirs in the picture."""

    x: np.ndarray
    y: np.ndarray
    x_held_out: np.ndarray
    y_held_out: np.ndarray
    rows: np.ndarray


def split_points(task):
    """The points of an ImageTask."""
    centres = pixel_centres(task.height, task.width)
    colours = task.pixels.reshape(-1, task.n_out).astype(np.float64)
    trained, held_out = task.split
    return Points(centres[trained], colours[trained], centres[held_out], colours[held_out], trained)


def checked_steps(steps, count=16):
    """About `count` step numbers from 1 to `steps`, evenly on a logarithmic scale."""
    return sorted({int(k) for k in np.round(np.geomspace(1, steps, count))})


def predict(field, points, steps):
    """PSNR curves of a field without decoder under full-batch gradient descent at 1 / lambda_max,
    without training.

    Returns (forecast, products at the trained points, {"psnr", "psnr_held_out": lists over steps,
    "seconds"}); psnr_held_out is [] where nothing is held out.
    """
    grid = field.grid
    with jt.no_grad():  # compiled here, as training's first steps are, and not timed
        jt.sync_all(True)
        grid(jt.array(points.x[:9])).sync(True)
    products(grid, points.x[:9]).gram(grid.w.numpy())
    began = time.perf_counter()
    at_trained = products(grid, points.x)
    forecast = Forecast(at_trained, points.y, grid.w.numpy().astype(np.float64), steps)
    curves = {
        "psnr": [psnr(points.y, at_trained.forward(w)) for w in forecast.weights],
        "psnr_held_out": [],
    }
    if len(points.x_held_out):
        at_held_out = products(grid, points.x_held_out)
        curves["psnr_held_out"] = [
            psnr(points.y_held_out, at_held_out.forward(w)) for w in forecast.weights
        ]
    return forecast, at_trained, {**curves, "seconds": time.perf_counter() - began}


def train(field, points, lr, steps):
    """The same curves by really training the features; "seconds" are of the steps alone, without
    compilation and evaluation."""
    grid = field.grid
    curves = {"psnr": [], "psnr_held_out": []}
    list(gradient_descent(field, points.x, points.y, 0.0, [2], [grid.w]))  # compiles
    for _, seconds in gradient_descent(field, points.x, points.y, lr, steps, [grid.w]):
        curves["seconds"] = seconds
        with jt.no_grad():
            curves["psnr"].append(psnr(points.y, field(jt.array(points.x)).numpy()))
            if len(points.x_held_out):
                curves["psnr_held_out"].append(
                    psnr(points.y_held_out, field(jt.array(points.x_held_out)).numpy())
                )
    return curves


def largest_error(predicted, real):
    """The largest difference between predicted and real PSNR over all checked steps, in dB; above
    PRECISE both count as PRECISE."""
    return max(
        abs(min(p, PRECISE) - min(r, PRECISE))
        for name in ("psnr", "psnr_held_out")
        for p, r in zip(predicted[name], real[name])
    )


def measures(field, task, points, forecast, at_trained, steps):
    """What else the kernel says after the last of `steps` steps; means over the channels.

    norm: |w_t - w_0|^2; fair: sqrt(norm tr G) / n; bound: of the mean absolute error, failing for a
    channel with probability 0.05; delta, delta_misfit: Complexity's for ridge lambda_max / t, what
    t steps leave alone; condition: of the Krylov space, so a lower bound; halving: {band: steps
    until half of its frequencies' residual is gone}, for the bands that the picture has."""
    moved = ((forecast.weights[-1] - field.grid.w.numpy()) ** 2).sum(0)
    n = len(points.x)
    # Phi whole may not fit into memory
    energy = sum(
        trace(design_matrix(field.grid, points.x[i : i + CHUNK])) for i in range(0, n, CHUNK)
    )
    error = np.abs(np.clip(at_trained.forward(forecast.weights[-1]), 0, 1) - points.y).mean(0)
    labels = points.y - at_trained.forward(field.grid.w.numpy())
    spent = complexity_by_cg(at_trained, labels, forecast.lambda_max / steps[-1], tolerance=1e-3)
    eigenvalues = band_eigenvalues(
        at_trained, task.height, task.width, BANDS.values(), task.n_out, points.rows
    )
    least = min(values[values > 1e-6 * values[-1]][0] for values in forecast.ritz)
    return {
        "lambda_max": float(forecast.lambda_max),
        "condition": float(forecast.lambda_max / least),
        "norm": float(moved.mean()),
        "fair": float(fair_complexity(moved, energy, n).mean()),
        "bound": float(bound(error, moved, energy, n).mean()),
        "delta": float(spent.delta.mean()),
        "delta_misfit": float(spent.misfit.mean()),
        "halving": {
            band: float(np.log(2) / (forecast.lr * value))
            for band, value in zip(BANDS, eigenvalues)
            if value == value
        },
    }
