"""Zoos: thousands of small networks, fitted at once, and kept with what they are of."""

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, Union

from jgrid import checkpoint, memory
from jgrid.config import MOST, ArgumentError, Count, Positive, config
from jgrid.ops.siren import fused_siren_errors
from jgrid.weightspace.space import WeightSpace

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from numpy.random import Generator
from tqdm import tqdm

# fields that are fitted together; a finished chunk is kept, and an interrupted zoo goes on behind
# it
CHUNK = 1000

# of F networks: weights {name: (F, *sizes)}, labels (F,) or (F, n), quality (F,)
Fitted = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]
Advance = Callable[[], Any]  # called after each step


@config
class FitConfig:
    """How the fields of a zoo are fitted: full-batch Adam on all points, the learning rate falling
    to zero by a cosine."""

    hidden: tuple[Annotated[int, Interval(ge=1, le=2**14)], ...] = (16, 16)
    """Neurons of each hidden layer."""
    omega: Positive = 30.0
    """Frequency of the sines."""
    steps: Count = 300
    """Steps of Adam."""
    lr: Positive = 1e-2
    """Learning rate at the start."""
    seed: Annotated[int, Interval(ge=0, le=MOST)] = 0
    """Of the fields' weights at the start, and of the subjects where they are drawn."""
    shared_start: bool = False
    """Start all fields from the same weights: a negative control, in which a plain MLP can compare
    weight by weight."""

    def check(self) -> None:
        if not self.hidden:
            raise ArgumentError("hidden", "needs one layer at least")


class AbstractSubject(ABC):
    """What the networks of a zoo are of.

    config: what tells this subject from others, JSON-able; activation: "sine" or "relu"; quality:
    the name of what `fit` measures, "psnr" or "accuracy"; most: how many networks there can be, or
    None where more can always be drawn.
    """

    config: dict[str, Any]
    activation: str
    quality: str
    most: Optional[int] = None

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
    "accuracy"), `made` (subject and fit) and `seconds` of fitting."""

    weights: dict[str, np.ndarray]
    labels: np.ndarray
    quality: np.ndarray
    config: dict[str, Any]

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

    def save(self, path: Union[str, os.PathLike]) -> None:
        tensors = {**self.weights, "labels": self.labels, "quality": self.quality}
        checkpoint.save(path, tensors, self.config)

    @staticmethod
    def load(path: Union[str, os.PathLike]) -> "Zoo":
        """A zoo that `save` wrote; ValueError, naming the file, where it is none."""
        tensors, config = checkpoint.read(path)
        try:
            labels = tensors.pop("labels")
            quality = tensors.pop("quality")
            zoo = Zoo(tensors, labels, quality, config)
            _check(zoo)
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
        return Zoo(weights, labels, quality, config)


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


def fit_sirens(
    x: np.ndarray,
    targets: np.ndarray,
    config: FitConfig,
    rng: Generator,
    advance: Advance = lambda: None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fit one SIREN to each target: x (N, D) in [-1, 1], targets (F, N, C) -> weights {name: (F,
    *sizes)}, PSNR (F,).

    advance() is called after every step.
    """
    widths = (x.shape[1], *config.hidden, targets.shape[2])
    if config.shared_start:
        rng = np.random.default_rng(config.seed)
    start = siren_start(widths, len(targets), config.omega, rng, config.shared_start)
    parameters = [jt.array(value) for value in start.values()]
    points = jt.array(x).stop_grad()
    values = jt.array(targets).stop_grad()

    def errors() -> jt.Var:
        return fused_siren_errors(points, values, config.omega, *parameters)

    train(errors, parameters, config, advance)
    return {name: p.numpy() for name, p in zip(start, parameters)}, psnr(errors())


def siren_start(
    widths: Sequence[int],
    fields: int,
    omega: float,
    rng: Generator,
    shared: bool = False,
) -> dict[str, np.ndarray]:
    """Weights uniform in +-sqrt(6 / d_in) / omega, the last layer's in +-1 / sqrt(d_in); biases
    zero: {name: (F, *sizes)}.

    Every field draws its own, or all share one draw.
    """
    weights = {}
    for m, (a, b) in enumerate(zip(widths[:-1], widths[1:]), 1):
        bound = 1 / np.sqrt(a) if m == len(widths) - 1 else np.sqrt(6 / a) / omega
        drawn = rng.uniform(-bound, bound, (1 if shared else fields, b, a))
        weights[f"W{m}"] = np.broadcast_to(drawn, (fields, b, a)).astype(np.float32)
        weights[f"b{m}"] = np.zeros((fields, b), np.float32)
    return weights


def relu_networks(x: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """F ReLU MLPs, each on points of its own: x (F, N, D), W_l (F, n_{l+1}, n_l), b_l (F, n_{l+1})
    -> (F, N, n_L)."""
    z = x
    for i in range(0, len(weights_and_biases), 2):
        weight, bias = weights_and_biases[i : i + 2]
        z = jt.matmul(z, weight.transpose(0, 2, 1)) + bias.unsqueeze(1)
        if i + 2 < len(weights_and_biases):
            z = nn.relu(z)
    return z


def train(
    errors: Callable[[], jt.Var],
    parameters: list[jt.Var],
    config: FitConfig,
    advance: Advance,
) -> None:
    """Full-batch Adam on the sum of errors(), the learning rate falling to zero by a cosine;
    advance() is called after every step."""
    optimizer = jt.optim.Adam(parameters, config.lr)
    for step in range(config.steps):
        optimizer.lr = config.lr * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        optimizer.step(errors().sum())
        if step % 10 == 9:
            jt.sync_all(True)  # so that the progress shown is true
        advance()


def psnr(errors: jt.Var) -> np.ndarray:
    """-10 log10 of mean squared errors (F,), at most 120 dB."""
    return -10 * np.log10(np.maximum(errors.numpy(), 1e-12))


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
    fit = {**asdict(config), "hidden": list(config.hidden)}
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
        "space": _space_to_list(subject.space(config)),
        "activation": subject.activation,
        "omega": config.omega,
        "quality": subject.quality,
        "made": made,
        "seconds": time.time() - started,
    }
    return Zoo(weights, labels, quality, about)


def _check(zoo: Zoo) -> None:
    """ValueError, or what else reading a broken file raises, where a zoo is none."""
    n = len(zoo.quality)
    shapes = {name: (n, *(size for _, size in axes)) for name, axes in zoo.space.tensors}
    found = {name: value.shape for name, value in zoo.weights.items()}
    if found != shapes or len(zoo.labels) != n or zoo.quality.ndim != 1:
        raise ValueError(f"its tensors are not those of {n} networks of its space")
    for name, value in {"labels": zoo.labels, "quality": zoo.quality, **zoo.weights}.items():
        numbers = np.issubdtype(value.dtype, np.number)
        if not numbers or not np.isfinite(value).all() or not len(value):
            raise ValueError(f"{name} is empty or has values that are no finite numbers")
    activations = ("sine", "relu")
    qualities = ("psnr", "accuracy")
    if zoo.config["activation"] not in activations or zoo.config["quality"] not in qualities:
        raise ValueError("its activation or its quality is unknown")
    for name in ("omega", "seconds"):
        value = zoo.config[name]
        if not isinstance(value, (int, float)) or not 0 <= value < 1e30:
            raise ValueError(f"{name} is no number")


def _space_to_list(space: WeightSpace) -> list:
    """A space as JSON keeps it."""
    return [[name, [list(axis) for axis in axes]] for name, axes in space.tensors]


def _space_from_list(values: Any) -> WeightSpace:
    """ValueError, or what else such values raise, where they are none of `_space_to_list`."""
    tensors = tuple((name, tuple((label, size) for label, size in axes)) for name, axes in values)
    for name, axes in tensors:
        if not isinstance(name, str) or not all(
            type(size) is int and isinstance(label, (str, type(None))) for label, size in axes
        ):
            raise ValueError("its space is no list of names and axes")
    return WeightSpace(tensors)
