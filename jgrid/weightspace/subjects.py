"""What the fields of a zoo are of: sine waves, pictures."""

import os
import zlib
from pathlib import Path
from typing import Annotated, Optional, Union

from jgrid import picture
from jgrid.config import HUGE, ArgumentError, Count, Weight, config
from jgrid.image.files import check_pixels, load_image
from jgrid.labelled import load_labelled, read_idx
from jgrid.weightspace.fits import Advance, FitConfig, fit_sirens
from jgrid.weightspace.space import WeightSpace, mlp_space
from jgrid.weightspace.zoo import AbstractSubject, Fitted

import numpy as np
from annotated_types import Interval
from numpy.random import Generator
from PIL import Image

X_LARGEST = np.pi  # sine waves are seen on [-pi, pi]


@config
class SinesConfig:
    """Which sine waves there are: b and a of y = a sin(b x) on [-pi, pi]."""

    lowest: Annotated[float, Interval(ge=0, lt=HUGE)] = 0.5
    """Lowest frequency of the sines, which are seen on [-pi, pi]."""
    highest: Annotated[float, Interval(gt=0, le=HUGE)] = 10.0
    """Highest frequency of the sines."""
    amplitude: Weight = 0.0
    """Largest amplitude of the sines; 0: all have amplitude 1."""

    def check(self) -> None:
        if not self.lowest < self.highest:
            raise ArgumentError(
                "lowest", f"must be less than `highest`, got {self.lowest} and {self.highest}"
            )


class Sines(AbstractSubject):
    """y = a sin(b x) on [-pi, pi], b uniform in [lowest, highest], a uniform in [0, amplitude], or
    1 where amplitude is 0.

    The fields see x / pi in [-1, 1], and targets divided by the largest amplitude. Labels (F, 2): a
    and b."""

    activation = "sine"
    quality = "psnr"

    def __init__(
        self,
        points: int = 64,
        lowest: float = 0.5,
        highest: float = 10.0,
        amplitude: float = 0.0,
    ):
        self.config = {
            "kind": "sines",
            "points": points,
            "lowest": lowest,
            "highest": highest,
            "amplitude": amplitude,
        }
        self.points = np.linspace(-1, 1, points, dtype=np.float32)[:, None]
        self.lowest = lowest
        self.highest = highest
        self.amplitude = amplitude

    def space(self, config: FitConfig) -> WeightSpace:
        return mlp_space((1, *config.neurons, 1))

    def fit(
        self, first: int, last: int, config: FitConfig, rng: Generator, advance: Advance
    ) -> Fitted:
        targets, labels = self.draw(last - first, rng)
        weights, psnr = fit_sirens(self.points, targets, config, rng, advance)
        return weights, labels, psnr

    def draw(self, n: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Targets (n, N, 1) and labels (n, 2)."""
        b = rng.uniform(self.lowest, self.highest, n)
        a = rng.uniform(0, self.amplitude, n) if self.amplitude else np.ones(n)
        y = a[:, None] * np.sin(b[:, None] * X_LARGEST * self.points[:, 0])
        targets = (y / max(self.amplitude, 1.0)).astype(np.float32)[..., None]
        return targets, np.stack([a, b], 1).astype(np.float32)


class Pictures(AbstractSubject):
    """Pictures (F, side, side, C) in [0, 1] as fields of (x, y) in [-1, 1]; targets are values -
    0.5. Labels (F,): classes. test (F,): which of them are to test on."""

    activation = "sine"
    quality = "psnr"

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        name: str,
        test: Optional[np.ndarray] = None,
    ):
        # so that a zoo of other pictures is told apart
        crc = zlib.crc32(labels.tobytes(), zlib.crc32(pixels.tobytes()))
        self.config: dict = {"kind": "pictures", "name": name, "side": pixels.shape[1], "crc": crc}
        self.pixels = pixels
        if test is not None:
            self.config["test"] = int(test.sum())
        self.labels = labels
        self.test = test
        self.most = len(pixels)
        line = np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)
        self.points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, first: int, last: int) -> "Pictures":
        """Some of the pictures."""
        return Pictures(self.pixels[first:last], self.labels[first:last], self.config["name"])

    def space(self, config: FitConfig) -> WeightSpace:
        return mlp_space((2, *config.neurons, self.pixels.shape[-1]))

    def targets(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """What fields of these pictures are fitted to (F, N, C), and their labels."""
        chosen = self.pixels[first:last]
        values = chosen.reshape(len(chosen), -1, chosen.shape[-1]) - np.float32(0.5)
        return values, self.labels[first:last]

    def fit(
        self, first: int, last: int, config: FitConfig, rng: Generator, advance: Advance
    ) -> Fitted:
        targets, labels = self.targets(first, last)
        weights, psnr = fit_sirens(self.points, targets, config, rng, advance)
        return weights, labels, psnr


@config
class ReductionConfig:
    """How pictures are made small."""

    side: Count = 10
    """Pixels along a side, to which pictures are reduced."""
    crop: Annotated[int, Interval(ge=0)] = 20
    """Pixels along a side of the middle of the pictures that is used; 0: the largest square."""


def load_pictures(path: Union[str, os.PathLike], side: int, crop: int = 0) -> Pictures:
    """An idx file of pictures with its labels beside it, a folder with such a file, with CIFAR-10
    or with a sub-folder for each class (whose pictures come in a fixed random order) -> Pictures.

    The `crop` x `crop` pixels in the middle (0: the largest square) are averaged to side x side.
    ValueError says what is wrong."""
    path = Path(path)
    if (path / "data_batch_1.bin").is_file():
        return _load_cifar(path, side, crop)
    if path.is_dir() and any(path.glob("*-images-idx3-ubyte*")):
        # those to train on where there are both: train comes after t10k
        path = max(path.glob("*-images-idx3-ubyte*"))
    if path.is_dir():
        return _load_folder(path, side, crop)
    return _load_idx(path, side, crop)


def load_split(path: Union[str, os.PathLike], side: int, crop: int = 0) -> Pictures:
    """All pictures of a folder of idx files, `train-...` and those to test on, `t10k-...`.

    They are mixed such that any first part of them has both in the same shares. Else as
    `load_pictures`."""
    parts = []
    for kind in ("train", "t10k"):
        files = sorted(Path(path).glob(f"{kind}-images-idx3-ubyte*"))
        if not files:
            raise ValueError(f"{path}: no {kind}-images-idx3-ubyte in this folder")
        parts.append(_load_idx(files[-1], side, crop))
    place = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in parts])
    order = np.argsort(place, kind="stable")
    return Pictures(
        np.concatenate([part.pixels for part in parts])[order],
        np.concatenate([part.labels for part in parts])[order],
        Path(path).name,
        order >= len(parts[0]),
    )


def _load_cifar(path: Path, side: int, crop: int) -> Pictures:
    # those to test on are the last sixth
    images, labels = (np.concatenate(part) for part in zip(*load_labelled(path)))
    pixels = [_reduced(image.transpose(1, 2, 0), side, crop, path) for image in images]
    return Pictures(np.stack(pixels), labels, path.name)


def _load_folder(path: Path, side: int, crop: int) -> Pictures:
    kinds = Image.registered_extensions()
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in kinds)
    if not files:
        raise ValueError(f"{path}: no pictures in this folder")
    classes = sorted({p.parent for p in files})
    # so that any part of them has all classes
    order = np.random.default_rng(0).permutation(np.array(files, object))
    pixels = [
        _reduced(picture.as_rgb(check_pixels(load_image(p), p)), side, crop, p) for p in order
    ]
    labels = np.array([classes.index(p.parent) for p in order], np.int32)
    return Pictures(np.stack(pixels), labels, path.name)


def _load_idx(path: Path, side: int, crop: int) -> Pictures:
    images = read_idx(path)
    if images.ndim != 3:
        raise ValueError(f"{path}: needs an idx file of pictures, with 3 axes, got {images.ndim}")
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if beside == path:
        raise ValueError(
            f"{path}: an idx file of pictures is named ...images-idx3..., so that its labels can be"
            " found"
        )
    labels = read_idx(beside)
    if labels.shape != images.shape[:1]:
        raise ValueError(f"{beside}: {labels.shape} labels for {len(images)} pictures")
    pixels = [_reduced(image[..., None] / np.float32(255), side, crop, path) for image in images]
    return Pictures(np.stack(pixels), labels.astype(np.int32), path.parent.name)


def _reduced(pixels: np.ndarray, side: int, crop: int, name: Path) -> np.ndarray:
    """The middle of (H, W, C), averaged to (side, side, C)."""
    height, width = pixels.shape[:2]
    size = crop or min(height, width)
    if size > min(height, width) or side > size:
        raise ValueError(
            f"{name}: {height} x {width} pixels have no {size} x {size} to be averaged to {side} x"
            f" {side}"
        )
    top = (height - size) // 2
    left = (width - size) // 2
    middle = pixels[top : top + size, left : left + size]
    if size % side == 0:
        blocks = middle.reshape(side, size // side, side, size // side, -1)
        return blocks.mean((1, 3)).astype(np.float32)
    channels = [
        np.asarray(Image.fromarray(np.float32(c), "F").resize((side, side), Image.Resampling.BOX))
        for c in np.moveaxis(middle, -1, 0)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 1)
