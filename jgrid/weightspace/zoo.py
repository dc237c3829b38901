"""Zoos: thousands of small networks, fitted at once, and kept with what they are of."""

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jgrid import checkpoint, memory
from jgrid.ops.siren import fused_siren_errors
from jgrid.weightspace.space import WeightSpace

import jittor as jt
import numpy as np
from jittor import nn
from tqdm import tqdm

# fields that are fitted together; a finished chunk is kept, and an interrupted zoo goes on behind
# it
CHUNK = 1000


@dataclass(frozen=True)
class FitConfig:
    """How the fields of a zoo are fitted: full-batch Adam on all points, the learning rate falling
    to zero by a cosine."""

    hidden: tuple[int, ...] = (16, 16)
    """Neurons of each hidden layer."""
    omega: float = 30.0
    """Frequency of the sines."""
    steps: int = 300
    """Steps of Adam."""
    lr: float = 1e-2
    """Learning rate at the start."""
    seed: int = 0
    """Of the fields' weights at the start, and of the subjects where they are drawn."""
    shared_start: bool = False
    """Start all fields from the same weights: a negative control, in which a plain MLP can compare
    weight by weight."""

    def __post_init__(self):
        sizes = self.hidden and 1 <= min(self.hidden) <= max(self.hidden) <= 2**14
        if not sizes or self.steps < 1 or self.seed < 0 or min(self.omega, self.lr) <= 0:
            raise ValueError(
                "--fit needs hidden layers of 1 to 16,384 neurons, steps >= 1, seed >= 0, omega >"
                f" 0 and lr > 0, got {self.hidden}, {self.steps}, {self.seed}, {self.omega} and"
                f" {self.lr}"
            )


@dataclass(frozen=True)
class Zoo:
    """F networks of one space: weights {name: (F, *sizes)}, labels (F,) or (F, n), quality (F,),
    and how they came about.

    quality: of fields the PSNR, -10 log10 of the fit's mean squared error; of classifiers their
    accuracy. config holds `space`, `activation` ("sine" or "relu"), `omega`, `quality` ("psnr" or
    "accuracy"), `made` (subject and fit) and `seconds`."""

    weights: dict
    labels: np.ndarray
    quality: np.ndarray
    config: dict

    @property
    def space(self) -> WeightSpace:
        return space_from_list(self.config["space"])

    def save(self, path):
        checkpoint.save(
            path, {**self.weights, "labels": self.labels, "quality": self.quality}, self.config
        )

    @staticmethod
    def load(path):
        """A zoo that `save` wrote; ValueError, naming the file, where it is none."""
        tensors, config = checkpoint.read(path)
        try:
            labels = tensors.pop("labels")
            quality = tensors.pop("quality")
            space = space_from_list(config["space"])
            shapes = {
                name: (len(quality), *(size for _, size in axes)) for name, axes in space.tensors
            }
            if (
                {name: value.shape for name, value in tensors.items()} != shapes
                or len(labels) != len(quality)
                or quality.ndim != 1
            ):
                raise ValueError(
                    f"its tensors are not those of {len(quality)} networks of its space"
                )
            for name, value in {"labels": labels, "quality": quality, **tensors}.items():
                if (
                    not np.issubdtype(value.dtype, np.number)
                    or not np.isfinite(value).all()
                    or not len(value)
                ):
                    raise ValueError(f"{name} is empty or has values that are no finite numbers")
            if config["activation"] not in ("sine", "relu") or config["quality"] not in (
                "psnr",
                "accuracy",
            ):
                raise ValueError("its activation or its quality is unknown")
            if not all(
                isinstance(config[name], (int, float)) and 0 <= config[name] < 1e30
                for name in ("omega", "seconds")
            ):
                raise ValueError("omega or seconds is no number")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}: not a zoo ({error})") from None
        return Zoo(tensors, labels, quality, config)

    @staticmethod
    def join(zoos):
        """One zoo of several of the same config."""
        weights = {
            name: np.concatenate([zoo.weights[name] for zoo in zoos]) for name in zoos[0].weights
        }
        return Zoo(
            weights,
            *(
                np.concatenate([getattr(zoo, part) for zoo in zoos])
                for part in ("labels", "quality")
            ),
            zoos[0].config,
        )


def space_to_list(space):
    """A space as JSON keeps it."""
    return [[name, [list(axis) for axis in axes]] for name, axes in space.tensors]


def space_from_list(values):
    tensors = tuple((name, tuple((label, size) for label, size in axes)) for name, axes in values)
    for name, axes in tensors:
        if not isinstance(name, str) or not all(
            type(size) is int and isinstance(label, (str, type(None))) for label, size in axes
        ):
            raise ValueError("its space is no list of names and axes")
    return WeightSpace(tensors)


def relu_networks(x, *weights_and_biases):
    """F ReLU MLPs, each on points of its own: x (F, N, D), W_l (F, n_{l+1}, n_l), b_l (F, n_{l+1})
    -> (F, N, n_L)."""
    z = x
    for i in range(0, len(weights_and_biases), 2):
        weight, bias = weights_and_biases[i : i + 2]
        z = jt.matmul(z, weight.transpose(0, 2, 1)) + bias.unsqueeze(1)
        if i + 2 < len(weights_and_biases):
            z = nn.relu(z)
    return z


def train(errors, parameters, config, advance):
    """Full-batch Adam on the sum of errors(), the learning rate falling to zero by a cosine;
    advance() is called after every step."""
    optimizer = jt.optim.Adam(parameters, config.lr)
    for step in range(config.steps):
        optimizer.lr = config.lr * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        optimizer.step(errors().sum())
        if step % 10 == 9:
            jt.sync_all(True)  # so that the progress shown is true
        advance()


def siren_start(widths, fields, omega, rng, shared=False):
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


def fit_sirens(x, targets, config, rng, advance=lambda: None):
    """Fit one SIREN to each target: x (N, D) in [-1, 1], targets (F, N, C) -> weights {name: (F,
    *sizes)}, PSNR (F,).

    advance() is called after every step.
    """
    widths = (x.shape[1], *config.hidden, targets.shape[2])
    start = siren_start(
        widths,
        len(targets),
        config.omega,
        np.random.default_rng(config.seed) if config.shared_start else rng,
        config.shared_start,
    )
    parameters = [jt.array(value) for value in start.values()]
    points = jt.array(x).stop_grad()
    targets = jt.array(targets).stop_grad()

    def errors():
        return fused_siren_errors(points, targets, config.omega, *parameters)

    train(errors, parameters, config, advance)
    return {name: p.numpy() for name, p in zip(start, parameters)}, -10 * np.log10(
        np.maximum(errors().numpy(), 1e-12)
    )


def fit_zoo(subject, fields, config, folder, progress=True):
    """The zoo of a subject's first `fields` fields, a chunk at a time; returns (Zoo, seconds of
    fitting).

    A subject has `config` (JSON-able), `activation`, `quality` (its name), `space(config)` and
    `fit(first, last, config, rng, advance)`
    -> weights, labels, quality, which calls advance() after each step; it may have `together`,
    where fewer than CHUNK should be fitted at once. Finished chunks are kept in folder/parts until
    all are done, so that a run that was interrupted goes on where it was; chunks of another subject
    or config are fitted again. Writes folder/zoo.safetensors."""
    chunk_size = getattr(subject, "together", CHUNK)
    dim = subject.space(config).dim
    together = min(fields, chunk_size)
    memory.require(
        24 * together * dim + 4 * fields * dim,
        f"{together:,} fields of {dim:,} weights, fitted together",
        "--fit.hidden",
    )
    parts = Path(folder) / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    chunks = []
    seconds = 0.0
    firsts = range(0, fields, chunk_size)
    with tqdm(
        total=len(firsts) * config.steps, disable=not progress, unit="step", dynamic_ncols=True
    ) as bar:
        for first in firsts:
            last = min(first + chunk_size, fields)
            made = {
                "subject": subject.config,
                "fit": {**asdict(config), "hidden": list(config.hidden)},
                "first": first,
                "last": last,
            }
            path = parts / f"{first:07d}.safetensors"
            chunk, spent = _kept(path, made)
            if chunk is None:
                started = time.time()
                rng = np.random.default_rng([config.seed, first])
                weights, labels, quality = subject.fit(first, last, config, rng, bar.update)
                spent = time.time() - started
                about = {
                    "space": space_to_list(subject.space(config)),
                    "activation": subject.activation,
                    "omega": config.omega,
                }
                chunk = Zoo(
                    weights,
                    labels,
                    quality,
                    {**about, "quality": subject.quality, "made": made, "seconds": spent},
                )
                chunk.save(path)
            else:
                bar.update(config.steps)
            bar.set_postfix({"fitted": last, subject.quality: f"{chunk.quality.mean():.3g}"})
            chunks.append(chunk)
            seconds += spent
    zoo = Zoo.join(chunks)
    zoo.config["made"].update(first=0, last=fields)
    zoo.config["seconds"] = seconds
    zoo.save(Path(folder) / "zoo.safetensors")
    for first in firsts:
        (parts / f"{first:07d}.safetensors").unlink()
    with contextlib.suppress(OSError):  # parts of another run are left alone
        parts.rmdir()
    return zoo, seconds


def _kept(path, made):
    """The chunk that an interrupted run left, and its seconds; None where there is none of this
    kind."""
    with contextlib.suppress(ValueError):
        chunk = Zoo.load(path)
        if chunk.config.get("made") == made:
            return chunk, chunk.config["seconds"]
    return None, 0.0
