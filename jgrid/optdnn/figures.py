"""Pictures of what OptDNNs do: convergence to a flow, decision regions, fits."""

from collections.abc import Sequence
from typing import Any

from jgrid.picture import subplots

import matplotlib
import numpy as np
from matplotlib.figure import Figure


def convergence(depths: Sequence[int], errors: dict[str, list[float]]) -> Figure:
    """Errors against the flow over the depth, errors: {method: list}."""
    figure, ((axis,),) = subplots(1, 1, 7.5, 4.8)
    marks = "osv^D<>*XPhd"
    colours = matplotlib.colormaps["tab20"]
    for n, (name, values) in enumerate(errors.items()):
        axis.loglog(
            depths,
            values,
            marker=marks[n % len(marks)],
            markersize=5,
            color=colours(n % 20),
            label=name,
        )
    axis.set(
        xlabel="layers",
        ylabel="largest error at time 1",
        title="networks with T = h f against the flow of x' = f(x)",
        xticks=depths,
    )
    axis.set_xticklabels([str(d) for d in depths])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def regions(
    values: dict[str, np.ndarray],
    reach: float,
    points: np.ndarray,
    labels: np.ndarray,
    captions: dict[str, str],
) -> Figure:
    """Decision regions by method: values {name: (n, n) raster of the logits' difference}, points
    (N, 2) with labels over them."""
    figure, axes = _panels(len(values), 4)
    shown = slice(0, 400)
    for axis, (name, raster) in zip(axes, values.items()):
        axis.imshow(
            np.tanh(raster / 8),
            extent=(-reach, reach) * 2,
            origin="lower",
            cmap="RdBu",
            vmin=-1.6,
            vmax=1.6,
        )
        line = np.linspace(-reach, reach, len(raster))
        axis.contour(line, line, raster, levels=[0], colors="0.15", linewidths=1)
        axis.scatter(
            *points[shown].T, s=4, c=np.where(labels[shown], "#08306b", "#67000d"), linewidths=0
        )
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{name}\n{captions[name]}", fontsize=9)
    return figure


def parities(
    outputs: dict[str, np.ndarray], labels: np.ndarray, captions: dict[str, str]
) -> Figure:
    """What networks make of all 2^n vectors of bits, half of the bits along each axis; outputs
    {name: (2^n,) logits' difference}.

    A cross marks a vector of which a network has the wrong sign.
    """
    figure, axes = _panels(len(outputs), 5, 2.6, 2.9)
    side = 2 ** (int(np.log2(len(labels))) // 2)
    for axis, (name, values) in zip(axes, outputs.items()):
        axis.imshow(np.tanh(values / 4).reshape(-1, side), cmap="RdBu", vmin=-1.6, vmax=1.6)
        row, column = np.nonzero(((values > 0) != (labels > 0)).reshape(-1, side))
        axis.plot(column, row, "x", color="0.1", markersize=5)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{name}\n{captions[name]}", fontsize=9)
    return figure


def fits(
    x: np.ndarray, y: np.ndarray, outputs: dict[str, np.ndarray], captions: dict[str, str]
) -> Figure:
    """Fitted functions over their target, outputs {name: (N,)}."""
    figure, axes = _panels(len(outputs), 4, 3.4, 2.4)
    for axis, (name, values) in zip(axes, outputs.items()):
        axis.plot(x, y, color="0.7", linewidth=4)
        axis.plot(x, values, color="C3", linewidth=1.2)
        axis.set_title(f"{name}: {captions[name]}", fontsize=9)
        axis.grid(alpha=0.3)
    return figure


def costs(rows: dict[str, dict[str, Any]]) -> Figure:
    """Accuracy over multiply-adds, rows {name: {"test_accuracy", "multiply_adds"}}."""
    figure, ((axis,),) = subplots(1, 1, 6.5, 4.5)
    for n, (name, row) in enumerate(rows.items()):
        place = (row["multiply_adds"] / 1e6, 100 * row["test_accuracy"])
        axis.plot(*place, "o", color=f"C{n}")
        axis.annotate(name, place, fontsize=8, xytext=(5, 4), textcoords="offset points")
    axis.set(xlabel="million multiply-adds per picture", ylabel="test accuracy (%)", xscale="log")
    axis.grid(alpha=0.3, which="both")
    return figure


def misread(pictures: np.ndarray, labels: np.ndarray, logits: np.ndarray, most: int = 40) -> Figure:
    """Pictures (N, C, H, W) whose class (N,) is not that of the largest logit (N, classes), those
    first where a wrong one is furthest ahead; in captions, the class and what was read."""
    read = logits.argmax(1)
    rows = np.arange(len(labels))
    ahead = logits.max(1) - logits[rows, labels]
    wrong = rows[read != labels]
    shown = wrong[np.argsort(-ahead[wrong], kind="stable")][:most]
    figure, axes = _panels(max(1, len(shown)), 8, 1.1, 1.3)
    for axis, n in zip(axes, shown):
        colour = {} if pictures.shape[1] == 3 else {"cmap": "gray_r", "vmin": 0, "vmax": 1}
        axis.imshow(pictures[n].transpose(1, 2, 0), **colour)
        axis.set_title(f"{labels[n]} read as {read[n]}", fontsize=8)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(f"{len(wrong):,} of {len(labels):,} misread", fontsize=10)
    return figure


def iterations(iterated: dict[str, np.ndarray], unrolled: dict[str, list[float]]) -> Figure:
    """Errors in dB over steps: of methods, {name: after 0, 1, ...}, and of networks over their
    layers."""
    figure, ((axis,),) = subplots(1, 1, 7, 4.5)
    for name, errors in iterated.items():
        axis.plot(np.arange(1, len(errors)), errors[1:], label=name)
    for name, of_layers in unrolled.items():
        layers = np.arange(1, len(of_layers))
        axis.plot(layers, of_layers[1:], "--", marker=".", label=f"{name}, unrolled and trained")
        axis.axhline(of_layers[-1], color=axis.lines[-1].get_color(), linewidth=0.6)
    axis.set(xlabel="steps, or layers", ylabel="error (dB)", xscale="log")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=9)
    return figure


def _panels(
    n: int, columns: int, width: float = 3.4, height: float = 3.4
) -> tuple[Figure, np.ndarray]:
    """A figure and its n axes, in rows of so many columns."""
    columns = min(n, columns)
    figure, axes = subplots(-(-n // columns), columns, width, height)
    for empty in axes.flat[n:]:
        empty.set_axis_off()
    return figure, axes.ravel()[:n]
