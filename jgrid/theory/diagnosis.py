"""What a field will do on a picture, before it is trained; and the training that shows whether that
is so."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional, Union

from jgrid.config import ArgumentError
from jgrid.design import AbstractDesign, linear_grid, numpy_design
from jgrid.field import Domain, Field, field_to_dict
from jgrid.image.metrics import psnr
from jgrid.image.task import ImageTask, pixel_centres
from jgrid.theory.bounds import bound, complexity_by_cg, fair_complexity, trace
from jgrid.theory.dynamics import AdamForecast, Forecast, gradient_descent
from jgrid.theory.spectrum import band_eigenvalues
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from scipy.stats import spearmanr

# octaves of frequencies, in parts of the highest, half a wave per pixel
BANDS = {
    "1/64 to 1/16": (1 / 64, 1 / 16),
    "1/16 to 1/4": (1 / 16, 1 / 4),
    "1/4 to 1/2": (1 / 4, 1 / 2),
    "1/2 to 1": (1 / 2, 1.0),
}

PRECISE = 90.0  # dB; beyond it the rounding of training in float32 decides
ADAM_STEPS = 300  # of the training that `choose` chooses for

Subject = Union[ImageTask, tuple[np.ndarray, np.ndarray]]


class Points(NamedTuple):
    """The points of a subject that are trained on, and those held out, in float64 but for x; rows:
    those of the trained ones, among all pixels of a picture."""

    x: np.ndarray
    y: np.ndarray
    x_held_out: np.ndarray
    y_held_out: np.ndarray
    rows: np.ndarray


class Curves(NamedTuple):
    """PSNR in dB after each of the checked steps, of the points trained on and of those held out
    ([] where there are none), and the seconds that finding it took."""

    psnr: list[float]
    psnr_held_out: list[float]
    seconds: float


class Prediction(NamedTuple):
    """What `predict` and `predict_adam` find.

    steps: those checked; psnr, psnr_held_out: in dB after each of them, of the points trained on
    and of those held out ([] where there are none); lr: the learning rate it is said for; seconds:
    what it took; field: as it starts; points: what it was predicted on; forecast: with the weights
    after each step; design: Phi at the trained points."""

    steps: list[int]
    psnr: list[float]
    psnr_held_out: list[float]
    lr: float
    seconds: float
    field: Field
    points: Points
    forecast: Union[Forecast, AdamForecast]
    design: AbstractDesign


def _curves(prediction: Prediction) -> Curves:
    return Curves(prediction.psnr, prediction.psnr_held_out, prediction.seconds)


def split_points(subject: Subject) -> Points:
    """The points of an ImageTask, or of a pair of points (N, D) in [0, 1] and values (N, C), of
    which none is held out."""
    if isinstance(subject, ImageTask):
        centres = pixel_centres(subject.height, subject.width)
        colours = subject.pixels.reshape(-1, subject.n_out).astype(np.float64)
        trained, held_out = subject.split
        return Points(
            centres[trained], colours[trained], centres[held_out], colours[held_out], trained
        )
    x = np.asarray(subject[0], np.float32)
    y = np.asarray(subject[1], np.float64)
    if x.ndim != 2 or y.ndim != 2 or not 0 < len(x) == len(y):
        raise ArgumentError(
            "subject", f"must be points (N, D) and values (N, C), got {x.shape} and {y.shape}"
        )
    return Points(x, y, x[:0], y[:0], np.arange(len(x)))


def build(subject: Subject, config: Any, seed: int) -> Field:
    """The field of a config, the same at every call with the same seed."""
    jt.set_global_seed(seed)
    np.random.seed(seed)
    if isinstance(subject, ImageTask):
        field = subject.build(config)
    else:
        points = split_points(subject)
        field = config.build(Domain(points.x.shape[1], points.y.shape[1]))
    jt.sync_all(True)  # Jittor draws numbers when they are first used, in the order of their use
    return field


def checked_steps(steps: int, count: int = 16) -> list[int]:
    """About `count` step numbers from 1 to `steps`, evenly on a logarithmic scale."""
    return sorted({int(k) for k in np.round(np.geomspace(1, steps, count))})


def predict(
    subject: Subject, config: Any, steps: Union[int, Sequence[int]] = 2000, seed: int = 0
) -> Prediction:
    """The PSNR curve of a field without decoder under full-batch gradient descent at
    1 / lambda_max, its kernel frozen; nothing is trained (paper, Theorem 1).

    subject: an ImageTask, whose held-out pixels are predicted too, or a pair of points (N, D) in
    [0, 1] and values (N, C) in [0, 1]; config: any of a grid field with `decoder.depth` 0; steps:
    those to check, or the last, before which some 15 are checked; seed: of the features at the
    start, set as Jittor's and numpy's. ValueError for a field that is not linear in its features.
    """
    asked = [steps] if isinstance(steps, int) else list(steps)
    if not asked or min(asked) < 1:
        raise ArgumentError("steps", f"must be at least 1, got {steps}")
    checked = checked_steps(steps) if isinstance(steps, int) else asked

    def forecast(design, y, w0, field):
        found = Forecast(design, y, w0, checked)
        return found, float(found.lr)

    return _predicted(subject, config, seed, checked, forecast)


def predict_adam(
    subject: Subject, config: Any, training: Optional[TrainConfig] = None, seed: int = 0
) -> Prediction:
    """The PSNR curve of a field without decoder as the library trains it, by Adam, its kernel
    frozen; nothing is trained. An approximation: see `AdamForecast`.

    training: None for TrainConfig(steps=ADAM_STEPS); the rest as for `predict`. Some 15 of the
    steps are checked; lr is the features' rate before it decays. ValueError also for training by
    the clock, clipped or averaged."""
    training = training or TrainConfig(steps=ADAM_STEPS)
    for name in ("minutes", "clip", "ema"):
        if getattr(training, name):
            raise ArgumentError(name, "must be 0 for Adam to be foretold")
    checked = checked_steps(training.steps)

    def forecast(design, y, w0, field):
        lr = field.rates["features"]
        rates = [lr * training.rate(k) for k in range(training.steps)]
        fraction = min(1.0, training.batch / len(y))
        return AdamForecast(design, y, w0, rates, checked, fraction), lr

    return _predicted(subject, config, seed, checked, forecast)


def _predicted(subject, config, seed, checked, make_forecast):
    """The Prediction by make_forecast(design, y, w0, field), which gives a forecast and its lr."""
    field = build(subject, config, seed)
    grid = linear_grid(field)
    points = split_points(subject)
    # compiled here, as training's first steps are, and not timed
    numpy_design(grid, points.x[:9]).gram(grid.w.numpy())
    began = time.perf_counter()
    design = numpy_design(grid, points.x)
    forecast, lr = make_forecast(design, points.y, grid.w.numpy().astype(np.float64), field)
    fitted = [psnr(points.y, design.apply(w)) for w in forecast.weights]
    held_out = []
    if len(points.x_held_out):
        between = numpy_design(grid, points.x_held_out)
        held_out = [psnr(points.y_held_out, between.apply(w)) for w in forecast.weights]
    seconds = time.perf_counter() - began
    return Prediction(checked, fitted, held_out, lr, seconds, field, points, forecast, design)


def train(subject: Subject, config: Any, lr: float, steps: Sequence[int], seed: int = 0) -> Curves:
    """The same by really training the features; its seconds are of the steps alone, without
    compilation and evaluation."""
    field = build(subject, config, seed)
    points = split_points(subject)
    features = [linear_grid(field).w]
    fitted = []
    held_out = []
    seconds = []
    list(gradient_descent(field, points.x, points.y, 0.0, [2], features))  # compiles
    for _, so_far in gradient_descent(field, points.x, points.y, lr, steps, features):
        seconds.append(so_far)
        fitted.append(psnr(points.y, field.values(points.x)))
        if len(points.x_held_out):
            held_out.append(psnr(points.y_held_out, field.values(points.x_held_out)))
    return Curves(fitted, held_out, seconds[-1])


def largest_error(predicted: Union[Prediction, Curves], real: Curves) -> float:
    """The largest difference between predicted and real PSNR over all checked steps, in dB; above
    PRECISE both count as PRECISE."""
    pairs = [
        *zip(predicted.psnr, real.psnr),
        *zip(predicted.psnr_held_out, real.psnr_held_out),
    ]
    return max(abs(min(p, PRECISE) - min(r, PRECISE)) for p, r in pairs)


def measures(task: ImageTask, prediction: Prediction) -> dict[str, Any]:
    """What else the kernel says after the last of the predicted steps; means over the channels.

    norm: |w_t - w_0|^2; fair: sqrt(norm tr G) / n; bound: of the mean absolute error, failing for a
    channel with probability 0.05; delta, delta_misfit: Complexity's for ridge lambda_max / t, what
    t steps leave alone; condition: of the Krylov space, so a lower bound; halving: {band: steps
    until half of its frequencies' residual is gone}, for the bands that the picture has."""
    grid = linear_grid(prediction.field)
    points = prediction.points
    design = prediction.design
    forecast = prediction.forecast
    assert isinstance(forecast, Forecast), "of gradient descent alone"
    n = len(points.x)
    start = grid.w.numpy()
    moved = ((forecast.weights[-1] - start) ** 2).sum(0)
    energy = trace(grid, points.x)
    error = np.abs(np.clip(design.apply(forecast.weights[-1]), 0, 1) - points.y).mean(0)
    labels = points.y - design.apply(start)
    ridge = forecast.lambda_max / prediction.steps[-1]
    spent = complexity_by_cg(design, labels, ridge, tolerance=1e-3)
    least = min(values[values > 1e-6 * values[-1]][0] for values in forecast.ritz)
    eigenvalues = band_eigenvalues(
        design, task.height, task.width, BANDS.values(), task.n_out, points.rows
    )
    halving = {
        band: float(np.log(2) / (forecast.lr * value))
        for band, value in zip(BANDS, eigenvalues)
        if not np.isnan(value)
    }
    return {
        "lambda_max": float(forecast.lambda_max),
        "condition": float(forecast.lambda_max / least),
        "norm": float(moved.mean()),
        "fair": float(fair_complexity(moved, energy, n).mean()),
        "bound": float(bound(error, moved, energy, n).mean()),
        "delta": float(spent.delta.mean()),
        "delta_misfit": float(spent.misfit.mean()),
        "halving": halving,
    }


def diagnose(
    task: ImageTask, name: str, config: Any, steps: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """A row of a ranking under a name: what `predict` and `measures` find, as plain data; nothing
    is trained."""
    prediction = predict(task, config, steps, seed)
    held_out = prediction.psnr_held_out
    row = {
        "name": name,
        "field": field_to_dict(config),
        "features": int(np.prod(linear_grid(prediction.field).w.shape)),
        "lr": prediction.lr,
        "products": prediction.forecast.n_products,
        "steps": prediction.steps,
        "predicted": _curves(prediction)._asdict(),
        "psnr": prediction.psnr[-1],
        "psnr_held_out": held_out[-1] if held_out else None,
        **measures(task, prediction),
    }
    del prediction
    jt.gc()
    return row


def verify(row: dict[str, Any], task: ImageTask, config: Any, seed: int = 0) -> None:
    """Train what a row predicted, and add the real curves to it: "trained", and the largest
    "prediction_error_db"."""
    trained = train(task, config, row["lr"], row["steps"], seed)
    row["trained"] = trained._asdict()
    row["prediction_error_db"] = largest_error(Curves(**row["predicted"]), trained)
    jt.gc()


def ranked(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by predicted PSNR, the best first: after Adam where that was foretold; of the held-out
    points where there are any."""

    def score(row):
        if "adam" in row:
            return (row["adam"]["psnr_held_out"] or row["adam"]["psnr"])[-1]
        return row["psnr"] if row["psnr_held_out"] is None else row["psnr_held_out"]

    return sorted(rows, key=score, reverse=True)


def train_by_adam(task: ImageTask, config: Any, seed: int = 0) -> float:
    """The held-out PSNR of a field as the library trains: by Adam in batches, the kernel too."""
    by_adam = TrainConfig(steps=ADAM_STEPS, eval_every=ADAM_STEPS, seed=seed)
    trainer = Trainer(task, build(task, config, seed), by_adam, progress=False)
    return trainer.fit()["psnr_held_out"]


def agreement(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How well predictions choose among fields that were verified and trained by Adam.

    Of each score of the rows: its rank correlation with the held-out PSNR in fact ("spearman"), and
    by how much the field it puts first is worse than the best ("regret_db"). Without a suffix:
    gradient descent, foretold by its kernel; "_adam": Adam, by its own; "_adam_descent": Adam, by
    the kernel of gradient descent; "_adam_features": Adam, by the number of features, which whoever
    has no theory would go by; "_bound": gradient descent, by the generalisation bound.
    "prediction_error_db_adam": by how much Adam's held-out PSNR is missed at most."""
    by_descent = [row["trained"]["psnr_held_out"][-1] for row in rows]
    by_adam = [row["psnr_held_out_adam"] for row in rows]
    descent = [row["psnr_held_out"] for row in rows]
    adam = [row["adam"]["psnr_held_out"][-1] for row in rows]
    errors = np.abs(np.subtract(adam, by_adam))
    result = {"prediction_error_db_adam": float(errors.max())}
    for suffix, score, real in (
        ("", descent, by_descent),
        ("_adam", adam, by_adam),
        ("_adam_descent", descent, by_adam),
        ("_adam_features", [row["features"] for row in rows], by_adam),
        ("_bound", [-row["bound"] for row in rows], by_descent),
    ):
        result["spearman" + suffix] = float(spearmanr(score, real).statistic)
        result["regret_db" + suffix] = max(real) - real[int(np.argmax(score))]
    return result


def choose(
    task: ImageTask,
    candidates: dict[str, Any],
    steps: int = 2000,
    seed: int = 0,
    verified: bool = False,
) -> dict[str, Any]:
    """The best of some fields, {name: config}, by the held-out PSNR that is predicted after
    ADAM_STEPS steps of Adam: {"chosen": its name, "fields": a row for each}; verified: with all
    trained, and the entries of `agreement`."""
    rows = []
    for name, config in candidates.items():
        row = diagnose(task, name, config, steps, seed)
        adam = predict_adam(task, config, seed=seed)
        row["adam"] = {"steps": adam.steps, **_curves(adam)._asdict()}
        if verified:
            verify(row, task, config, seed)
            row["psnr_held_out_adam"] = train_by_adam(task, config, seed)
        rows.append(row)
    chosen = {"chosen": ranked(rows)[0]["name"], "fields": rows}
    return {**chosen, **agreement(rows)} if verified else chosen
