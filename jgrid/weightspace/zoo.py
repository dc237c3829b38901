"""Zoos: thousands of small networks, fitted at once, and kept with what they are of."""

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import checkpoint, memory
from jgrid.config import ArgumentError
from jgrid.weightspace.fits import Advance, FitConfig
from jgrid.weightspace.space import WeightSpace

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

# fields that are fitted together; a finished chunk is kept, and an interrupted zoo goes on behind
# it
CHUNK = 1000

# of F networks: weights {name: (F, *sizes)}, labels (F,) or (F, n), quality (F,)
Fitted = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


class AbstractSubject(ABC):
    """What the networks of a zoo are of.

    config: what tells this subject from others, JSON-able; activation: "sine" or "relu"; quality:
    the name of what `fit` measures, "psnr" or "accuracy"; most: how many networks there can be, or
    None where more can always be drawn; test: of each whether it is one to test on, where the
    subject says so.
    """

    config: dict[str, Any]
    activation: str
    quality: str
    most: Optional[int] = None
    test: Optional[np.ndarray] = None

    @property
    def together(self) -> int:
        """How many are fitted at once."""
        return CHUNK

    @abstractmethod
    def space(self, config: FitConfig) -> WeightSpace:
        """The space of the networks' weights."""

    @abstractmethod
    def fit(
        self, first: int, last: int, config: FitConfig, rng: Generator, advance: Advance
    ) -> Fitted:
        """Fit the networks first to last - 1. It calls advance() after each step."""


@dataclass(frozen=True)
class Zoo:
    """F networks of one space: weights {name: (F, *sizes)}, labels (F,) or (F, n), quality (F,),
    and how they came about.

    quality: of fields the PSNR, -10 log10 of the fit's mean squared error; of classifiers their
    accuracy. config holds `space`, `activation` ("sine" or "relu"), `omega`, `quality` ("psnr" or
    "accuracy"), `made` (subject and fit) and `seconds` of fitting. Fields that were imported have
    the quality "unknown", 0. test (F,): 1 of networks that their subject has to test on, 0 of
    others."""

    weights: dict[str, np.ndarray]
    labels: np.ndarray
    quality: np.ndarray
    config: dict[str, Any]
    test: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.quality)

    @property
    def space(self) -> WeightSpace:
        return _space_from_list(self.config["space"])

    @property
    def kind(self) -> str:
        """What the networks are: "classifiers"; or fields, "grids" and "pictures" with classes,
        "sines" with amplitudes and frequencies."""
        if self.config["quality"] == "accuracy":
            return "classifiers"
        if "features" in self.weights:
            return "grids"
        return "pictures" if self.labels.ndim == 1 else "sines"

    def split(self, held_out: int) -> tuple[np.ndarray, np.ndarray]:
        """`divide` of the zoo's networks."""
        return divide(len(self), held_out, self.test)

    def spread(self) -> dict[str, dict[str, float]]:
        """{tensor: {"mean", "deviation"}} of the weights of all networks."""
        return {
            name: {"mean": float(value.mean()), "deviation": float(value.std())}
            for name, value in self.weights.items()
        }

    def save(self, path: Union[str, os.PathLike]) -> None:
        tensors = {**self.weights, "labels": self.labels, "quality": self.quality}
        if self.test is not None:
            tensors["test"] = self.test
        checkpoint.save(path, tensors, self.config)

    def check(self) -> None:
        """ValueError, or what else reading a broken file raises, where this is no zoo."""
        n = len(self.quality)
        shapes = {name: (n, *(size for _, size in axes)) for name, axes in self.space.tensors}
        found = {name: value.shape for name, value in self.weights.items()}
        if found != shapes or len(self.labels) != n or self.quality.ndim != 1:
            raise ValueError(f"its tensors are not those of {n} networks of its space")
        for name, value in {"labels": self.labels, "quality": self.quality, **self.weights}.items():
            numbers = np.issubdtype(value.dtype, np.number)
            if not numbers or not np.isfinite(value).all() or not len(value):
                raise ValueError(f"{name} is empty or has values that are no finite numbers")
        if self.test is not None and (
            self.test.shape != (n,) or set(np.unique(self.test)) - {0, 1}
        ):
            raise ValueError("test has not a 0 or 1 for each network")
        activations = ("sine", "relu")
        qualities = ("psnr", "accuracy", "unknown")
        if self.config["activation"] not in activations or self.config["quality"] not in qualities:
            raise ValueError("its activation or its quality is unknown")
        for name in ("omega", "seconds"):
            value = self.config[name]
            if not isinstance(value, (int, float)) or not 0 <= value < 1e30:
                raise ValueError(f"{name} is no number")

    @staticmethod
    def load(path: Union[str, os.PathLike]) -> "Zoo":
        """A zoo that `save` wrote; ValueError, naming the file, where it is none."""
        tensors, config = checkpoint.read(path)
        try:
            labels = tensors.pop("labels")
            quality = tensors.pop("quality")
            test = tensors.pop("test", None)
            zoo = Zoo(tensors, labels, quality, config, test)
            zoo.check()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}: not a zoo ({error})") from None
        return zoo

    @staticmethod
    def join(zoos: Sequence["Zoo"]) -> "Zoo":
        """One zoo of several of one subject and fit, in the order in which they were made."""
        weights = {
            name: np.concatenate([zoo.weights[name] for zoo in zoos]) for name in zoos[0].weights
        }
        labels = np.concatenate([zoo.labels for zoo in zoos])
        quality = np.concatenate([zoo.quality for zoo in zoos])
        made = {
            **zoos[0].config["made"],
            "first": zoos[0].config["made"]["first"],
            "last": zoos[-1].config["made"]["last"],
        }
        seconds = sum(zoo.config["seconds"] for zoo in zoos)
        config = {**zoos[0].config, "made": made, "seconds": seconds}
        test = None
        if zoos[0].test is not None:
            test = np.concatenate([zoo.test for zoo in zoos])
        return Zoo(weights, labels, quality, config, test)


def divide(
    n: int, held_out: int, test: Optional[np.ndarray] = None
) -> tuple[np.ndarray, np.ndarray]:
    """(networks to train on, networks to test on) of the first n: sorted numbers.

    test: which of them are to test on; None: `held_out` of them at random, always the same.
    ArgumentError where one of the two is empty."""
    if test is not None:
        test = test[:n].astype(bool)
        if test.all() or not test.any():
            raise ArgumentError("fields", f"has none to train on or none to test on: {n} are few")
        return np.flatnonzero(~test), np.flatnonzero(test)
    if held_out >= n:
        raise ArgumentError(
            "held_out", f"must be less than the number of networks, {n}, got {held_out}"
        )
    order = np.random.default_rng(0).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def fit_zoo(
    subject: AbstractSubject,
    fields: int,
    config: FitConfig,
    folder: Union[str, os.PathLike],
    progress: bool = True,
) -> Zoo:
    """The zoo of a subject's first `fields` fields, a chunk at a time.

    Finished chunks are kept in folder/parts until all are done, so that a run that was interrupted
    goes on where it was; chunks of another subject or config are fitted again. Writes
    folder/zoo.safetensors. ValueError where the subject has fewer; memory.NotEnough."""
    if subject.most is not None and fields > subject.most:
        raise ArgumentError("fields", f"must be at most {subject.most}, got {fields}")
    _require_memory(subject, fields, config)
    parts = Path(folder) / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    firsts = range(0, fields, subject.together)
    steps = len(firsts) * config.steps
    chunks = []
    with tqdm(total=steps, disable=not progress, unit="step", dynamic_ncols=True) as bar:
        for first in firsts:
            last = min(first + subject.together, fields)
            path = _part(parts, first)
            made = _made(subject, config, first, last)
            chunk = _kept(path, made)
            if chunk is None:
                chunk = _fit_chunk(subject, config, made, bar.update)
                chunk.save(path)
            else:
                bar.update(config.steps)
            bar.set_postfix({"fitted": last, subject.quality: f"{chunk.quality.mean():.3g}"})
            chunks.append(chunk)
    zoo = Zoo.join(chunks)
    zoo.save(Path(folder) / "zoo.safetensors")
    for first in firsts:
        _part(parts, first).unlink()
    with contextlib.suppress(OSError):  # parts of another run are left alone
        parts.rmdir()
    return zoo


def _require_memory(subject: AbstractSubject, fields: int, config: FitConfig) -> None:
    dim = subject.space(config).dim
    together = min(fields, subject.together)
    memory.require_of_jittor(
        24 * together * dim + 4 * fields * dim,
        f"{together:,} fields of {dim:,} weights, fitted together",
        "`fit.hidden`",
    )


def _part(folder: Path, first: int) -> Path:
    """The file of the chunk that begins with a field."""
    return folder / f"{first:07d}.safetensors"


def _made(subject: AbstractSubject, config: FitConfig, first: int, last: int) -> dict[str, Any]:
    """What tells a chunk from all others."""
    fit = {**asdict(config), "hidden": list(config.neurons)}
    return {"subject": subject.config, "fit": fit, "first": first, "last": last}


def _kept(path: Path, made: dict[str, Any]) -> Optional[Zoo]:
    """The chunk that an interrupted run left; None where there is none of this kind."""
    with contextlib.suppress(ValueError):
        chunk = Zoo.load(path)
        if chunk.config.get("made") == made:
            return chunk
    return None


def _fit_chunk(
    subject: AbstractSubject, config: FitConfig, made: dict[str, Any], advance: Advance
) -> Zoo:
    first = made["first"]
    started = time.time()
    rng = np.random.default_rng([config.seed, first])
    weights, labels, quality = subject.fit(first, made["last"], config, rng, advance)
    about = {
        "space": space_to_list(subject.space(config)),
        "activation": subject.activation,
        "omega": config.omega,
        "quality": subject.quality,
        "made": made,
        "seconds": time.time() - started,
    }
    test = None if subject.test is None else subject.test[first : made["last"]].astype(np.uint8)
    return Zoo(weights, labels, quality, about, test)


def space_to_list(space: WeightSpace) -> list:
    """A space as JSON keeps it."""
    return [[name, [list(axis) for axis in axes]] for name, axes in space.tensors]


def _space_from_list(values: Any) -> WeightSpace:
    """ValueError, or what else such values raise, where they are none of `space_to_list`."""
    tensors = tuple((name, tuple((label, size) for label, size in axes)) for name, axes in values)
    for name, axes in tensors:
        if not isinstance(name, str) or not all(
            type(size) is int and isinstance(label, (str, type(None))) for label, size in axes
        ):
            raise ValueError("its space is no list of names and axes")
    return WeightSpace(tensors)
