"""Fitting an image: f(pixel centre) = colour."""

import math
import os
from pathlib import Path
from typing import Optional, Union

from jgrid import checkpoint, picture
from jgrid.config import config_from_dict
from jgrid.field import Domain, field_from_dict, in_chunks
from jgrid.image.files import check_pixels
from jgrid.image.light import Tone
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.image.tiles import Tiles
from jgrid.index import r_sequence
from jgrid.prior import Belief, believe
from jgrid.task import AbstractTask, shuffled

import jittor as jt
import numpy as np
from jittor import nn
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

PIXEL_BYTES = 56  # of a pixel, as colour, prediction, error and place in an epoch
SHOWN_WHOLE = 2**24  # pixels of the largest picture whose map of errors is not made smaller


class ImageTask(AbstractTask):
    """Mean squared error on pixels of every part of the picture, without replacement within an
    epoch.

    pixels: (H, W, C) in [0, 1]; seed: of the order in which pixels come; held_out: the fraction of
    the pixels, chosen by the seed, that training never sees; `evaluate` then adds psnr_train and
    psnr_held_out. Training passes them by, or after `believe` learns what the others let expect.
    """

    dim = 2
    metric = "psnr"

    def __init__(self, pixels: ArrayLike, seed: int = 0, held_out: float = 0.0):
        if not 0 <= held_out < 1:
            raise ValueError(f"`held_out` must be at least 0 and less than 1, got {held_out}")
        self.pixels = check_pixels(pixels, "pixels")
        self.seed = seed
        self.height, self.width, self.n_out = self.pixels.shape
        self.aspect = _aspect(self.height, self.width)
        self._x = _centres_along(self.width)
        self._y = _centres_along(self.height)
        self._colours = self.pixels.reshape(-1, self.n_out)
        self._seen = np.ones(len(self._colours), bool)
        if held_out:
            order = shuffled(len(self._seen), np.random.default_rng((seed, 2**32)))
            self._seen[order[: int(held_out * len(order))]] = False
        self._learned = self._seen
        self._tiles = Tiles(self._seen.reshape(self.height, self.width), seed)

    def believe(self) -> Optional[Belief]:
        """From now on learn at held-out pixels what the others let expect, by `jgrid.prior`;
        returns that, in the order of `split`, or None where all pixels are seen."""
        seen, held_out = self.split
        if not len(held_out):
            return None
        belief = believe(
            self._centres(seen),
            self._colours[seen],
            self._centres(held_out),
            (self.width, self.height),
            self.seed,
        )
        self._colours = self._colours.copy()
        self._colours[held_out] = np.clip(belief.values, 0, 1)
        self._learned = np.ones_like(self._seen)
        self._tiles = Tiles(self._learned.reshape(self.height, self.width), self.seed)
        return belief

    @property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `pixel_centres` that are trained on and rows held out, rising."""
        return np.flatnonzero(self._seen), np.flatnonzero(~self._seen)

    def place(self, n: int) -> np.ndarray:
        """n nodes where the picture changes; held-out pixels look like the nearest others here."""
        held_out = ~self._seen.reshape(self.height, self.width)
        nearest = distance_transform_edt(held_out, return_distances=False, return_indices=True)
        return place_nodes(self.pixels[tuple(nearest)], n, self.seed)

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        chosen = self._tiles.rows(step, n)
        # indexing is several times slower
        batch = {"x": self._centres(chosen), "colour": self._colours.take(chosen, axis=0)}
        return {name: jt.array(values).stop_grad() for name, values in batch.items()}

    def _centres(self, rows: np.ndarray) -> np.ndarray:
        """These rows of `pixel_centres`."""
        y = rows // self.width
        x = rows - y * self.width
        return np.stack([self._x.take(x), self._y.take(y)], axis=1)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """All points that training learns and their colours, row by row: (N, 2) and (N, C) numpy
        arrays."""
        chosen = np.flatnonzero(self._learned)
        return self._centres(chosen), self._colours[chosen]

    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        return {"mse": model.squared_error(batch["x"], batch["colour"])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        prediction = render(model, self.height, self.width)
        metrics = {
            "psnr": psnr(self.pixels, prediction),
            "ssim": ssim(self.pixels, prediction),
            "ssim_gaussian": ssim_gaussian(self.pixels, prediction),
        }
        if not self._seen.all():
            truth = self.pixels.reshape(-1, self.n_out)
            flat = prediction.reshape(-1, self.n_out)
            held_out = ~self._seen
            metrics["psnr_train"] = psnr(truth[self._seen], flat[self._seen])
            metrics["psnr_held_out"] = psnr(truth[held_out], flat[held_out])
        return metrics

    def export(self, model: nn.Module, out_dir: Union[str, os.PathLike]) -> list[Path]:
        """The fit, its error, and both beside the picture; of a picture of more than 2^24 pixels
        the last two are smaller: every n-th pixel, and the largest error of n x n."""
        out_dir = Path(out_dir)
        prediction = render(model, self.height, self.width)
        np.clip(prediction, 0, 1, out=prediction)
        pairs = picture.bands(self.pixels, prediction)
        error = np.concatenate([np.abs(p - t).max(axis=2) for t, p in pairs])  # the worst channel's
        top = float(np.quantile(error, 0.999))  # a handful of outliers would leave the rest dark
        n = math.ceil(math.sqrt(error.size / SHOWN_WHOLE))
        heat = picture.heat_map(picture.largest_of_blocks(error, n), top)
        title = f"prediction, {psnr(self.pixels, prediction):.2f} dB"
        panels = [("target", self.pixels), (title, prediction)]
        panels = [(caption, pixels[::n, ::n]) for caption, pixels in panels]
        panels.append(("absolute error", heat))
        return [
            picture.save(out_dir / "prediction.png", prediction),
            picture.save(out_dir / "error_map.png", heat),
            picture.save_panels(out_dir / "comparison.png", panels),
        ]


def load_model(path: Union[str, os.PathLike]) -> tuple[nn.Module, int, int]:
    """(model, height, width) of a file of fit_image; ValueError, naming what is wrong, where it is
    another."""
    tensors, saved = checkpoint.read(path)
    try:
        height, width, n_out = (saved[name] for name in ("height", "width", "n_out"))
        whole = all(type(n) is int and 0 < n < 2**31 for n in (height, width, n_out))
        if not whole or n_out > 2**10:
            raise ValueError(f"{path}: no picture has the size {height} x {width} x {n_out}")
        domain = Domain(2, n_out, _aspect(height, width))
        model = field_from_dict(saved["field"]).build(domain)
    except KeyError as error:
        raise ValueError(f"{path}: not a model of fit_image ({error} is missing)") from None
    checkpoint.assign(model, tensors, str(path))
    return model, height, width


def load_tone(path: Union[str, os.PathLike]) -> Optional[Tone]:
    """The curve of a file of fit_image's whose picture was one of light; None for another.
    ValueError where what it says of it is no such curve."""
    saved = checkpoint.read(path)[1].get("tone")
    return None if saved is None else config_from_dict(Tone, saved, f"{path}: tone")


def render(model: nn.Module, height: int, width: int) -> np.ndarray:
    """The field at the pixel centres of a height x width picture -> (H, W, C), not clipped."""
    pixels = np.empty(0, np.float32)
    for y in picture.rows_of_bands(height, width):
        band = in_chunks(model, pixel_centres(height, width, y))
        if not pixels.size:
            pixels = np.empty((height, width, band.shape[1]), band.dtype)
        pixels[y] = band.reshape(-1, width, band.shape[1])
    return pixels


def pixel_centres(height: int, width: int, rows: slice = slice(None)) -> np.ndarray:
    """(H W, 2) centres (x, y) in [0, 1], row by row; x runs along the width. rows: of these rows of
    pixels alone."""
    y, x = np.meshgrid(_centres_along(height)[rows], _centres_along(width), indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _centres_along(n: int) -> np.ndarray:
    return ((np.arange(n) + 0.5) / n).astype(np.float32)


def place_nodes(pixels: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """n nodes (x, y) in [0, 1] where a picture changes: half by the size of its gradient, half
    everywhere; (n, 2) float32.

    The R-sequence, shifted by the seed, through the inverse of the density's distribution: rows
    first, then along the row.
    """
    height, width = pixels.shape[:2]
    slopes = [np.gradient(pixels, axis=axis) for axis in (0, 1) if pixels.shape[axis] > 1]
    squares = [np.square(slope).sum(-1) for slope in slopes]
    size = np.sqrt(sum(squares, start=np.zeros((height, width))))
    density = size + (size.mean() or 1.0)
    even = (r_sequence(n, 2) + np.random.default_rng(seed).uniform(size=2)) % 1
    y = _inverse(even[:, 1], density.sum(1))
    row = np.minimum(y.astype(int), height - 1)
    x = np.empty(n)
    for r in np.unique(row):
        x[row == r] = _inverse(even[row == r, 0], density[r])
    return np.stack([x / width, y / height], axis=1).astype(np.float32)


def _inverse(t: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where the share t of pixels of these weights is reached, in pixels."""
    reached = np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum()
    return np.interp(t, reached, np.arange(len(weights) + 1))


def _aspect(height: int, width: int) -> tuple[float, float]:
    longest = max(height, width)
    return width / longest, height / longest
