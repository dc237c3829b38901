"""Pictures for people: saving, heat maps with a scale, panels side by side, curves, iso-lines."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Union

from jgrid.checkpoint import atomic_path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
MARGIN = 8
BAND = 2**22  # pixels that are worked on at a time
Panels = Sequence[tuple[str, np.ndarray]]  # captions and pictures (H, W, C)


def rows_of_bands(height: int, width: int) -> list[slice]:
    """The rows of the bands in which a picture is worked on, so that what that takes does not grow
    with the picture."""
    rows = max(1, BAND // width)
    return [slice(y, min(y + rows, height)) for y in range(0, height, rows)]


def bands(*pictures: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Bands of pictures of one size, side by side."""
    for rows in rows_of_bands(*pictures[0].shape[:2]):
        yield tuple(pixels[rows] for pixels in pictures)


def largest_of_blocks(values: np.ndarray, n: int) -> np.ndarray:
    """(H, W) -> the largest of each n x n, which are smaller at the end of a line or column."""
    along = np.maximum.reduceat(values, np.arange(0, values.shape[0], n), axis=0)
    return np.maximum.reduceat(along, np.arange(0, values.shape[1], n), axis=1)


def save(path: Union[str, os.PathLike], pixels: np.ndarray) -> Path:
    """Write (H, W, C) values in [0, 1] as an 8-bit PNG of 1 to 4 channels; more are cut to three.
    Returns the path."""
    channels = pixels.shape[2] if pixels.shape[2] in MODES else 3
    levels = np.concatenate(
        [
            np.round(np.clip(band, 0, 1) * 255).astype(np.uint8)
            for (band,) in bands(pixels[..., :channels])
        ]
    )
    image = Image.fromarray(levels[..., 0] if channels == 1 else levels, MODES[channels])
    with atomic_path(path) as temporary:
        image.save(temporary)
    return Path(path)


def save_panels(path: Union[str, os.PathLike], panels: Panels) -> Path:
    """Write [(caption, (H, W, C) picture)] `side_by_side` as a PNG; returns the path."""
    return save(path, side_by_side(panels))


def save_figure(path: Union[str, os.PathLike], figure: Figure) -> Path:
    """Write a figure of matplotlib's as a PNG; returns the path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    return Path(path)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (H, W, 3): grey repeated, alpha laid over white, further channels dropped."""
    channels = pixels.shape[2]
    colour = np.repeat(pixels[..., :1], 3, axis=2) if channels <= 2 else pixels[..., :3]
    if channels in (2, 4):
        alpha = pixels[..., -1:]
        colour = colour * alpha + (1 - alpha)
    return np.clip(colour, 0, 1)


def heat(values: np.ndarray, top: float) -> np.ndarray:
    """(H, W) values from 0 to top -> (H, W, 3) colours, dark to bright (matplotlib's magma)."""
    return matplotlib.colormaps["magma"](np.clip(values / max(top, 1e-12), 0, 1))[..., :3]


def heat_map(values: np.ndarray, top: float) -> np.ndarray:
    """(H, W) values as `heat`, with the scale of the colours."""
    return with_scale(heat(values, top), top)


def with_scale(pixels: np.ndarray, top: float) -> np.ndarray:
    """A heat map with its colour scale, 0 to top, on the right."""
    height, width = pixels.shape[:2]
    size = max(11, height // 32)
    bar = max(6, height // 32)
    room = size * 4
    canvas = Image.new("RGB", (width + MARGIN + bar + room, height), "white")
    canvas.paste(_image(pixels), (0, 0))
    ramp = heat(np.repeat(np.linspace(1, 0, height)[:, None], bar, axis=1), 1.0)
    canvas.paste(_image(ramp), (width + MARGIN, 0))
    draw = ImageDraw.Draw(canvas)
    right = width + MARGIN + bar + 4
    _text(draw, (right, 2), f"{top:.2g}", "lt", size)
    _text(draw, (right, height // 2), f"{top / 2:.2g}", "lm", size)
    _text(draw, (right, height - 2), "0", "ls", size)
    return np.asarray(canvas, np.float32) / 255


def side_by_side(panels: Panels) -> np.ndarray:
    """[(caption, (H, W, C) picture)] -> one (H', W', 3) picture: the panels in a row, aligned at
    the top, captions above, for which narrow panels get room."""
    size = max(12, max(p.shape[0] for _, p in panels) // 28)
    top = size + 2 * MARGIN
    font = ImageFont.load_default(size)
    columns = [max(p.shape[1], int(np.ceil(font.getlength(caption)))) for caption, p in panels]
    width = sum(columns) + MARGIN * (len(panels) + 1)
    canvas = Image.new("RGB", (width, top + max(p.shape[0] for _, p in panels)), "white")
    draw = ImageDraw.Draw(canvas)
    left = MARGIN
    for (caption, pixels), column in zip(panels, columns):
        canvas.paste(_image(as_rgb(pixels)), (left, top))
        _text(draw, (left, MARGIN), caption, "lt", size)
        left += column + MARGIN
    return np.asarray(canvas, np.float32) / 255


def subplots(
    rows: int, columns: int, width: float = 4.2, height: float = 3.6
) -> tuple[Figure, np.ndarray]:
    """A figure, which belongs to no window, and its axes (rows, columns), each of width x height
    inches."""
    figure = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def curve(
    path: Union[str, os.PathLike],
    x: Sequence[float],
    y: Sequence[float],
    x_label: str,
    y_label: str,
) -> Path:
    """A line plot of y over x as a PNG."""
    figure, ((axes,),) = subplots(1, 1, 6, 4)
    axes.plot(x, y, marker="o", markersize=3)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    return save_figure(path, figure)


def contours(path: Union[str, os.PathLike], panels: Panels, spacing: float) -> Path:
    """[(title, (H, W) signed values)] side by side: colours, iso-lines `spacing` apart, the zero
    line bold; a PNG."""
    top = max(float(np.abs(values).max()) for _, values in panels)
    levels = spacing * np.arange(-np.ceil(top / spacing), np.ceil(top / spacing) + 1)
    figure, (row,) = subplots(1, len(panels), 5 + 0.8 / len(panels), 5)
    for axes, (title, values) in zip(row, panels):
        shown = axes.imshow(
            values, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu", vmin=-top, vmax=top
        )
        with warnings.catch_warnings():
            # matplotlib's, where no line passes through the picture
            warnings.simplefilter("ignore", UserWarning)
            axes.contour(
                values,
                levels=levels,
                extent=(0, 1, 0, 1),
                colors="black",
                linewidths=0.4,
                alpha=0.5,
                linestyles="solid",
            )
            axes.contour(values, levels=[0.0], extent=(0, 1, 0, 1), colors="black", linewidths=1.6)
        axes.set(title=title, xticks=[], yticks=[])
    figure.colorbar(shown, ax=figure.axes, shrink=0.8)
    return save_figure(path, figure)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8))


def _text(
    draw: ImageDraw.ImageDraw, position: tuple[int, int], text: str, anchor: str, size: int
) -> None:
    draw.text(position, text, fill=(40, 40, 40), anchor=anchor, font=ImageFont.load_default(size))
