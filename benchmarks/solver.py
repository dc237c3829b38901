"""The direct solver beside Adam: seconds to the same PSNR, on the same pixels with the same fused
ops."""

import time
from dataclasses import dataclass

from jgrid.field import Domain, MulFAGridConfig
from jgrid.field.presets import NO_DECODER
from jgrid.grid import Grid
from jgrid.image.task import ImageTask
from jgrid.index import GridIndex, geometric_levels
from jgrid.kernel import InterpolationKernel
from jgrid.optimizer import Adam
from jgrid.solver import (
    conjugate_gradients,
    place,
    project,
    separable,
    solve,
    warm_start,
)
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import skimage.data
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RATES = (1e-2, 3e-2, 1e-1)  # Adam's, of which the best counts
# steps of each method that compile and warm up, apart from the measured ones
WARM = 2


@dataclass(frozen=True)
class Case:
    """A grid without decoder, the PSNR to reach, and the most steps Adam may take to it."""

    cells: tuple
    table_size: int
    target: float
    steps: int


CASES = {
    "dense": Case((384,), None, 35.0, 300),
    "hash": Case(tuple(geometric_levels(16, 512, 16)), 2**16, 35.0, 200),
}
QUICK = {
    "dense": Case((48,), None, 22.0, 200),
    "hash": Case(tuple(geometric_levels(4, 64, 4)), 2**12, 22.0, 200),
}


def picture(quick=False):
    """Points (N, 2) and colours (N, 3) of scikit-image's astronaut, quick: an eighth of its
    resolution."""
    pixels = skimage.data.astronaut()[:: 8 if quick else 1, :: 8 if quick else 1] / 255.0
    return ImageTask(pixels).samples()


def decibels(loss):
    return -10.0 * np.log10(loss)


def adam_curve(model, groups, x, y, steps, target=np.inf):
    """[(seconds, PSNR)] of full-batch Adam; the PSNR of a step is that of its own loss, so that
    nothing is evaluated apart."""
    optimizer = Adam(groups)
    curve = []
    start = time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        loss = ((model(x) - y) ** 2).mean()
        optimizer.step(loss)
        jt.sync_all()
        curve.append((before - start, decibels(loss.item())))
        if curve[-1][1] >= target:
            break
    return curve


def solver_curve(run):
    """[(seconds, PSNR)] of run(callback), which calls back with a step and its loss."""
    curve = []
    start = time.perf_counter()
    run(lambda step, loss: curve.append((time.perf_counter() - start, decibels(loss))))
    return curve


def seconds_to(curve, target):
    """When the curve passes the target PSNR, between its points linearly; None if it does not."""
    for (t0, p0), (t1, p1) in zip([(0.0, -np.inf), *curve], curve):
        if p1 >= target:
            return t1 if np.isinf(p0) else t0 + (t1 - t0) * (target - p0) / (p1 - p0)
    return None


def median(values):
    """The median of those that were reached; None if none was."""
    values = [v for v in values if v is not None]
    return float(np.median(values)) if values else None


def compare(case, x, y, repeats):
    """One entry of `run`: medians over the repeats, in which the methods take turns."""
    grid = Grid(GridIndex(2, case.cells, case.table_size), InterpolationKernel(), y.shape[1])
    start = grid.w.numpy()
    points = jt.array(x).stop_grad()
    colours = jt.array(y).stop_grad()

    def adam(rate, steps):
        place(grid, jt.array(start))
        return adam_curve(
            grid, [{"params": [grid.w], "lr": rate}], points, colours, steps, case.target
        )

    def by(method, iterations):
        place(grid, jt.array(start))
        return solver_curve(lambda callback: method(iterations, callback))

    def best(iterations, callback):  # what a user calls
        solve(grid, x, y, iterations, callback=callback)

    def iterated(iterations, callback):
        conjugate_gradients(grid, points, colours, iterations, 1e-3, callback=callback)

    methods = {
        "solver": lambda steps: by(best, min(steps, 60)),
        "cg": lambda steps: by(iterated, min(steps, 60)),
        **{rate: lambda steps, rate=rate: adam(rate, steps) for rate in RATES},
    }
    for method in methods.values():
        method(WARM)
    curves = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            curves[name].append(method(case.steps))
    seconds = {
        name: median(seconds_to(curve, case.target) for curve in runs)
        for name, runs in curves.items()
    }
    reached = {rate: seconds[rate] for rate in RATES if seconds[rate] is not None}
    rate = min(reached, key=reached.get) if reached else None
    return {
        "adam_seconds": reached.get(rate),
        "solver_seconds": seconds["solver"],
        "psnr_reached": case.target,
        "adam_rate": rate,
        "adam_steps": len(curves[rate][0]) if rate else None,
        "cg_seconds": seconds["cg"],
        "solver_steps": len([p for _, p in curves["solver"][0] if p < case.target]) + 1,
    }


def run(quick=False):
    """{"dense": ..., "hash": ...}: seconds to the same PSNR of Adam, at its best of RATES, and of
    the solver."""
    x, y = picture(quick)
    return {
        name: compare(case, x, y, 1 if quick else 3)
        for name, case in (QUICK if quick else CASES).items()
    }


def trained(config, warm, steps):
    """[(seconds, PSNR)] of the trainer on a field with a decoder; warm: from the solved grid, whose
    seconds count."""
    jt.set_global_seed(0)
    np.random.seed(0)
    task = ImageTask(skimage.data.astronaut() / 255.0)
    field = config.build(task)
    seconds = 0.0
    if warm:
        start = time.perf_counter()
        warm_start(field, *task.samples())
        seconds = time.perf_counter() - start
    trainer = Trainer(
        task, field, TrainConfig(steps=steps, eval_every=max(1, steps // 25)), progress=False
    )
    trainer.fit()
    return [(line["seconds"] + seconds, line["psnr"]) for line in trainer.history]


def gain_curves(x, y, steps):
    """The grid with MulFA gains: Adam on features and kernel together, and variable projection from
    a solved start."""
    config = MulFAGridConfig(finest=96, coarsest=48, levels=2, decoder=NO_DECODER)
    points = jt.array(x).stop_grad()
    colours = jt.array(y).stop_grad()

    def joint(n):
        field = config.build(Domain(2, y.shape[1]))
        rates = {"features": 1e-1, "kernel": 3e-2}
        return adam_curve(
            field,
            [{**group, "lr": rates[group["name"]]} for group in field.parameter_groups()],
            points,
            colours,
            n,
        )

    def projected(n):
        grid = config.build(Domain(2, y.shape[1])).grid

        def run(callback):
            conjugate_gradients(grid, points, colours, 12, 1e-3, callback=callback)
            project(grid, x, y, n // 5, lr=3e-2, iterations=6, callback=callback)

        return solver_curve(run)

    for method in (joint, projected):
        method(10)
    return {
        "Adam on features and kernel": joint(steps),
        "solve, then variable projection": projected(steps),
    }


def linear_curves(case, x, y, steps):
    """Adam and the solver's iterations on the grid of a case, and the exact solve where it is
    one."""
    grid = Grid(GridIndex(2, case.cells, case.table_size), InterpolationKernel(), y.shape[1])
    start = grid.w.numpy()
    points = jt.array(x).stop_grad()
    colours = jt.array(y).stop_grad()

    def adam(n):
        place(grid, jt.array(start))
        return adam_curve(grid, [{"params": [grid.w], "lr": 3e-2}], points, colours, n)

    def iterated(n):
        place(grid, jt.array(start))
        return solver_curve(
            lambda callback: conjugate_gradients(grid, points, colours, n, 1e-3, callback=callback)
        )

    def exact():
        place(grid, jt.array(start))
        return solver_curve(lambda callback: solve(grid, x, y, callback=callback))

    adam(WARM)
    iterated(WARM)
    curves = {"Adam, rate 0.03": adam(steps), "solver, iterations": iterated(25)}
    if separable(grid, x, y) is not None:
        exact()
        curves["solver, exact"] = exact()
    return curves


def plot(path, steps=250):
    """Draw PSNR over seconds: Adam and the solver on the grids of `run`, the projection, and
    training from a solved start."""
    x, y = picture()
    quarter = ImageTask(skimage.data.astronaut()[::2, ::2] / 255.0).samples()
    panels = {
        f"{name} grid, no decoder": linear_curves(case, x, y, min(steps, 150))
        for name, case in CASES.items()
    }
    panels["MulFA gains, no decoder, a quarter of the pixels"] = gain_curves(*quarter, steps)
    panels["MulFAGrid with its decoder"] = {
        "Adam": trained(MulFAGridConfig(), False, steps),
        "Adam from the solved grid": trained(MulFAGridConfig(), True, steps),
    }
    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(figure.subplots(2, 2).flat, panels.items()):
        for label, curve in curves.items():
            axes.plot(*zip(*curve), marker="o", markersize=4 if len(curve) < 30 else 0, label=label)
        best = max(p for curve in curves.values() for _, p in curve)
        axes.set(
            title=title,
            xlabel="seconds",
            ylabel="PSNR (dB)",
            xscale="log",
            xlim=(0.01, None),
            ylim=(max(10, best - 20), best + 1),
        )
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.savefig(path)
    return {
        title: {label: curve[-1] for label, curve in curves.items()}
        for title, curves in panels.items()
    }
