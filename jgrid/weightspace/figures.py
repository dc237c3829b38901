"""Pictures of zoos, of what was read from weights, and of embeddings."""

from collections.abc import Sequence
from typing import Any

from jgrid.ops.siren import fused_sirens
from jgrid.picture import subplots
from jgrid.weightspace.zoo import Zoo

import jittor as jt
import numpy as np
from matplotlib.figure import Figure

SHOWN = 12  # fields of a zoo
SIDE = 60  # pixels a field of a picture is rendered with


def can_draw(zoo: Zoo) -> bool:
    """Whether a zoo's networks are waves of a line, or grey or coloured pictures."""
    if zoo.config["activation"] != "sine":
        return False
    inputs = zoo.weights["W1"].shape[2]
    last = f"b{len(zoo.weights) // 2}"
    return inputs == 1 or (inputs == 2 and zoo.weights[last].shape[1] in (1, 3))


def fields(zoo: Zoo) -> Figure:
    """The first fields of a zoo of sine networks, each at more points than it was fitted at, with
    its PSNR where that is known."""
    n = min(SHOWN, len(zoo.quality))
    parameters = [jt.array(zoo.weights[name][:n]) for name, _ in zoo.space.tensors]
    figure, axes = subplots(2, (n + 1) // 2, 1.6, 1.8)
    if zoo.weights["W1"].shape[2] == 1:
        line = np.linspace(-1, 1, 400, dtype=np.float32)
        values = fused_sirens(jt.array(line[:, None]), zoo.config["omega"], *parameters).numpy()
        for ax, value in zip(axes.flat, values):
            ax.plot(line, value[:, 0], linewidth=0.9)
    else:
        line = np.linspace(-1, 1, SIDE, dtype=np.float32)
        x = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        values = fused_sirens(jt.array(x), zoo.config["omega"], *parameters).numpy() + 0.5
        for ax, value in zip(axes.flat, values):
            ax.imshow(
                np.clip(value.reshape(SIDE, SIDE, -1), 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1
            )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    if zoo.config["quality"] == "psnr":
        for ax, psnr in zip(axes.flat, zoo.quality):
            ax.set_title(f"{psnr:.1f} dB", fontsize=8)
    return figure


def predictions(truth: np.ndarray, found: dict[str, np.ndarray], name: str) -> Figure:
    """Predicted over true values of held-out fields, a panel for each model: truth (F,), found
    {model: (F,)}."""
    figure, axes = subplots(1, len(found), 3.4, 3.4)
    for ax, (model, values) in zip(axes.flat, found.items()):
        ax.plot([truth.min(), truth.max()], [truth.min(), truth.max()], color="0.7", linewidth=1)
        ax.plot(truth, values, ".", markersize=3, alpha=0.6)
        ax.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title=model)
    return figure


def find_tsne() -> Any:
    """scikit-learn's t-SNE, which takes a second that other figures need not wait for; ValueError
    where it is not installed."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError(
            "embeddings are drawn with scikit-learn, which is not installed: pip install"
            " scikit-learn"
        ) from None
    return TSNE


def embedding(found: dict[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """t-SNE of embeddings {model: (F, n)} in the plane, a row for each model, coloured by each
    label: labels (F, n_labels)."""
    tsne = find_tsne()
    figure, axes = subplots(len(found), len(names))
    for row, (model, values) in zip(axes, found.items()):
        values = (values - values.mean(0)) / (values.std(0) + 1e-9)
        perplexity = min(30.0, (len(values) - 1) / 3)
        plane = tsne(perplexity=perplexity, init="pca", random_state=0)
        place = plane.fit_transform(values.astype(np.float64))
        for ax, label, name in zip(row, labels.T, names):
            dots = ax.scatter(*place.T, c=label, s=7, cmap="viridis")
            ax.set(xticks=[], yticks=[], title=f"{model}, coloured by {name}")
            figure.colorbar(dots, ax=ax)
    return figure


def domains(clean: np.ndarray, corrupted: np.ndarray, side: int) -> Figure:
    """Pictures of the domain classifiers know (above) and of the corrupted one (below): (n, D) in
    [0, 1] each."""
    figure, axes = subplots(2, len(clean), 1.0, 1.1)
    for row, values in zip(axes, (clean, corrupted)):
        for ax, value in zip(row, values):
            ax.imshow(value.reshape(side, side, -1).squeeze(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    return figure


def edits(rows: dict[str, np.ndarray]) -> Figure:
    """Pictures (n, side, side, C) in [0, 1], a row for each name."""
    figure, axes = subplots(len(rows), len(next(iter(rows.values()))), 1.0, 1.0)
    for row, (name, values) in zip(axes, rows.items()):
        for ax, value in zip(row, values):
            ax.imshow(np.clip(value, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    return figure
