"""The theory's toy problems, for many independent copies of a network at once: nested rings,
parity, Telgarsky's saw-tooth."""

from abc import ABC, abstractmethod
from typing import Any, Callable, NamedTuple, Optional

from jgrid.field import Field
from jgrid.optdnn import figures
from jgrid.optdnn.methods import Method
from jgrid.optdnn.network import coordinate_network
from jgrid.task import AbstractTask
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from jittor import nn
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

Data = tuple[np.ndarray, np.ndarray]  # of K copies: x (K, N, n), y (K, N) labels or (K, N, 1)
Model = Callable[[jt.Var], jt.Var]  # (K, N, n) -> (K, N, n_out)


class CopiesTask(AbstractTask):
    """Training of K copies of a network side by side on `data`, and its `test`.

    Each step takes the same n of every copy's points, all of them where there are no more. The loss
    is summed over the copies, so that none feels the others. After `evaluate`, `scores` (K,) holds
    each copy's accuracy or mean squared error on `test`.
    """

    scores: np.ndarray

    def __init__(self, data: Data, test: Data):
        self.x, self.y = data
        self.test = test
        self.dim = self.x.shape[2]
        self.classify = self.y.ndim == 2
        self.n_out = int(self.y.max()) + 1 if self.classify else 1
        self.metric = "accuracy" if self.classify else "mse"

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        x = self.x
        y = self.y
        if n < x.shape[1]:
            chosen = np.random.default_rng(step).choice(x.shape[1], n, replace=False)
            x = x[:, chosen]
            y = y[:, chosen]
        return {"x": jt.array(x), "y": jt.array(y)}

    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        output = model(batch["x"])
        y = batch["y"]
        copies = float(len(y))
        if self.classify:
            logits = output.reshape(-1, self.n_out)
            return {"cross_entropy": nn.cross_entropy_loss(logits, y.reshape(-1)) * copies}
        return {"squared_error": ((output - y) ** 2).mean() * copies}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        x, y = self.test
        output = outputs(model, x)
        if self.classify:
            self.scores = (output.argmax(2) == y).mean(1)
        else:
            self.scores = np.square(output - y).mean((1, 2))
        return {self.metric: float(self.scores.mean())}


class Measured(NamedTuple):
    """numbers: of the trained copies, by name; drawn: what `figure` shows of the first copy."""

    numbers: dict[str, Any]
    drawn: np.ndarray
    caption: str


class AbstractToy(ABC):
    """A toy problem, and the networks that are trained on it.

    width, hidden, layers, activation, gain: of `coordinate_network`; lr, steps, batch: of their
    training.
    """

    width: int
    hidden: int
    layers: int
    activation: str
    gain: float
    lr: float
    steps: int
    batch: int

    @abstractmethod
    def task(self, copies: int, seed: int = 0) -> CopiesTask:
        """Data for so many copies, and what to test them on."""

    @abstractmethod
    def measure(self, model: Model, task: CopiesTask) -> Measured:
        """What a model of copies has learned, after the task's `evaluate`."""

    @abstractmethod
    def figure(
        self, task: CopiesTask, drawn: dict[str, np.ndarray], captions: dict[str, str]
    ) -> Figure:
        """The first copies of several methods side by side, as `measure` gives them."""


class Rings(AbstractToy):
    """Two classes on four rings, tested on fresh points: accuracy and margins."""

    width = 2
    hidden = 16
    layers = 12
    activation = "tanh"
    gain = 0.25
    lr = 5e-3
    steps = 1500
    batch = 256
    reach = 7.0  # of the pictures: half their side

    def task(self, copies: int, seed: int = 0) -> CopiesTask:
        train, test = (
            [nested_rings(1200, seed=[seed + copy, part]) for copy in range(copies)]
            for part in (0, 1)
        )
        return CopiesTask(_stacked(train), _stacked(test))

    def measure(self, model: Model, task: CopiesTask) -> Measured:
        x, y = task.test
        values = decision_values(model, len(x), self.reach)
        margins = logit_margins(model, x, y)
        mean = float(margins.mean())
        numbers = {
            "logit_margin": mean,
            "logit_margin_of_seeds": margins.tolist(),
            "input_margin": float(input_margins(values, x, y, self.reach).mean()),
        }
        return Measured(numbers, values[0], f"{task.scores[0]:.1%}, logit margin {mean:.1f}")

    def figure(
        self, task: CopiesTask, drawn: dict[str, np.ndarray], captions: dict[str, str]
    ) -> Figure:
        x, y = task.test
        return figures.regions(drawn, self.reach, x[0], y[0], captions)


class Parity(AbstractToy):
    """Whether the product of eight bits is 1: how many copies get all vectors right."""

    width = 8
    hidden = 16
    layers = 8
    activation = "relu"
    gain = 0.5
    lr = 1e-2
    steps = 1000
    batch = 256

    def task(self, copies: int, seed: int = 0) -> CopiesTask:
        data = _repeated(parity(), copies)
        return CopiesTask(data, data)

    def measure(self, model: Model, task: CopiesTask) -> Measured:
        copies = len(task.scores)
        solved = int((task.scores == 1).sum())
        logits = outputs(model, task.x)[0]
        numbers = {"solved": solved, "seeds": copies}
        return Measured(numbers, logits[:, -1] - logits[:, 0], f"{solved} of {copies}")

    def figure(
        self, task: CopiesTask, drawn: dict[str, np.ndarray], captions: dict[str, str]
    ) -> Figure:
        return figures.parities(drawn, task.y[0], captions)


class Telgarsky(AbstractToy):
    """The saw-tooth of four teeth: mean squared errors."""

    width = 4
    hidden = 8
    layers = 10
    activation = "relu"
    gain = 0.5
    lr = 1e-2
    steps = 3000
    batch = 64

    def task(self, copies: int, seed: int = 0) -> CopiesTask:
        data = _repeated(telgarsky(), copies)
        return CopiesTask(data, data)

    def measure(self, model: Model, task: CopiesTask) -> Measured:
        median = float(np.median(task.scores))
        numbers = {"mse": median, "mse_mean": float(task.scores.mean())}
        values = outputs(model, task.x)[0][:, 0]
        return Measured(numbers, values, f"median MSE {median:.1e}")

    def figure(
        self, task: CopiesTask, drawn: dict[str, np.ndarray], captions: dict[str, str]
    ) -> Figure:
        return figures.fits(task.x[0], task.y[0], drawn, captions)


def train_copies(
    toy: AbstractToy,
    task: CopiesTask,
    method: Method,
    learnable: bool = False,
    width: Optional[int] = None,
    steps: Optional[int] = None,
    seed: int = 0,
) -> tuple[Field, dict[str, Any]]:
    """Copies of a method's network, trained side by side on the toy's task, and the trainer's
    result. width and steps: the toy's own unless given."""
    jt.set_global_seed(seed)
    network = coordinate_network(
        task.dim,
        task.n_out,
        method,
        width or toy.width,
        toy.hidden,
        toy.layers,
        toy.activation,
        learnable=learnable,
        copies=(len(task.x),),
        gain=toy.gain,
    )
    model = Field(None, network, {"network": toy.lr})
    steps = steps or toy.steps
    train = TrainConfig(steps=steps, batch=toy.batch, eval_every=steps, warmup=0, decay=1e-3)
    return model, Trainer(task, model, train).fit()


def nested_rings(n: int, rings: int = 4, seed: Any = 0) -> Data:
    """n points (n, 2) on rings of radius 1.5 i (1 + noise), i = 1 .. rings, labels (n,) 0 and 1 in
    turn.

    The radius of a point is 3 (i / 2 + u / 5), u uniform in [0, 1]: neighbouring rings are 0.9
    apart (Sander et al. 2021)."""
    rng = np.random.default_rng(seed)
    ring = np.arange(n) % rings + 1
    radius = 3 * (0.5 * ring + 0.2 * rng.random(n))
    angle = 2 * np.pi * rng.random(n)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype(np.float32), (ring % 2).astype(np.int32)


def parity(n_bits: int = 8) -> Data:
    """All of {-1, 1}^n_bits (2^n, n) and whether the product of the bits is 1 (2^n,)."""
    bits = (np.arange(2**n_bits)[:, None] >> np.arange(n_bits)) % 2 * 2 - 1
    return bits.astype(np.float32), (bits.prod(1) > 0).astype(np.int32)


def telgarsky(n: int = 512, folds: int = 3) -> Data:
    """x (n, 1) on [0, 1] and the tent map 1 - |2 x - 1| applied `folds` times, 2^(folds - 1) teeth
    (Telgarsky 2016)."""
    x = np.linspace(0, 1, n)[:, None]
    y = x
    for _ in range(folds):
        y = 1 - np.abs(2 * y - 1)
    return x.astype(np.float32), y.astype(np.float32)


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    """Of every copy, what it puts out at its points: x (K, N, n) -> (K, N, n_out) numpy."""
    with jt.no_grad():
        return model(jt.array(x)).numpy()


def logit_margins(model: Model, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of every copy, the median over points of the true class's logit minus the other's: x (K, N,
    2), y (K, N) -> (K,)."""
    logits = outputs(model, x)
    return np.median((logits[..., 1] - logits[..., 0]) * (2 * y - 1), axis=1)


def decision_values(model: Model, copies: int, reach: float, n: int = 400) -> np.ndarray:
    """Logit of class 1 minus that of class 0 at the points of an n x n raster over [-reach,
    reach]^2, (copies, n, n), rows along y."""
    line = np.linspace(-reach, reach, n, dtype=np.float32)
    x = np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2)
    logits = outputs(model, np.repeat(x[None], copies, axis=0))
    return (logits[..., 1] - logits[..., 0]).reshape(copies, n, n)


def input_margins(values: np.ndarray, x: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
    """Of every copy, the 5th percentile over points of the distance to the other side of its
    decision boundary; 0 if misclassified.

    values: of `decision_values`; x (K, N, 2), y (K, N); distances in the points' units, to about a
    step of the raster."""
    margins = []
    n = values.shape[1]
    for raster, points, labels in zip(values, x, y):
        at = np.clip(np.round((points + reach) / (2 * reach) * (n - 1)), 0, n - 1).astype(int)
        row = at[:, 1]
        column = at[:, 0]
        side = [distance_transform_edt(inside) for inside in (raster <= 0, raster > 0)]
        distance = np.where(labels > 0, side[1][row, column], side[0][row, column])
        margins.append(np.percentile(distance, 5) * 2 * reach / (n - 1))
    return np.array(margins)


def _stacked(parts: list[Data]) -> Data:
    """The data of several copies, each its own."""
    x, y = zip(*parts)
    return np.stack(x), np.stack(y)


def _repeated(data: Data, copies: int) -> Data:
    """The same data for every copy."""
    x, y = data
    return np.repeat(x[None], copies, axis=0), np.repeat(y[None], copies, axis=0)
