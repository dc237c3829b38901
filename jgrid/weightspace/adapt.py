"""Domain adaptation in one pass: weights of picture classifiers -> weights of classifiers for a
corrupted domain."""

from typing import Annotated, Any, Optional

from jgrid.config import Weight, config
from jgrid.task import AbstractTask, Epochs
from jgrid.weightspace.baselines import FlatMLP
from jgrid.weightspace.classifiers import Pairs, classify
from jgrid.weightspace.layers import to_weights
from jgrid.weightspace.space import WeightSpace
from jgrid.weightspace.weights import Weights

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from numpy.random import Generator
from scipy.ndimage import rotate

CHUNK = 1000  # pictures that are corrupted at once
# pixels that adapted classifiers see at once in evaluations; their layers take some ten times as
# many numbers
TOGETHER = 2**23


@config
class DomainConfig:
    """The domain of pictures to which classifiers are adapted."""

    rotation: Annotated[float, Interval(ge=-360, le=360)] = 45.0
    """Of the corrupted domain, in degrees."""
    noise: Weight = 0.2
    """Of the corrupted domain, standard deviation."""
    flip: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Of the corrupted domain, the probability with which a picture is mirrored."""
    jitter: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Of the corrupted domain: brightness, contrast and saturation of each picture are multiplied
    by up to 1 +- this."""


def corrupt(pixels: np.ndarray, domain: DomainConfig, rng: Generator) -> np.ndarray:
    """Pictures (n, side, side, C) of another domain, in [0, 1]: turned, mirrored, with other
    colours, and noisy, in this order.

    All are turned by `rotation` degrees about their middle, and have normal noise of deviation
    `noise`. Drawn for each: whether it is mirrored, left to right, with probability `flip`; and
    three factors uniform in 1 +- jitter, of its brightness, of its contrast (the difference from
    its mean), and of its saturation (the difference from the mean over C)."""
    found = np.empty(pixels.shape, np.float32)
    # some need double precision, for which all at once may be too many
    for first in range(0, len(pixels), CHUNK):
        some = pixels[first : first + CHUNK]
        if domain.rotation:
            some = rotate(some, domain.rotation, axes=(1, 2), reshape=False, order=1)
        if domain.flip:
            mirrored = rng.random((len(some), 1, 1, 1)) < domain.flip
            some = np.where(mirrored, some[:, :, ::-1], some)
        if domain.jitter:
            some = _recoloured(some, domain.jitter, rng)
        noisy = some + domain.noise * rng.standard_normal(some.shape)
        found[first : first + CHUNK] = np.clip(noisy, 0, 1)
    return found


def _recoloured(pixels: np.ndarray, jitter: float, rng: Generator) -> np.ndarray:
    factors = rng.uniform(1 - jitter, 1 + jitter, (3, len(pixels), 1, 1, 1))
    brightness, contrast, saturation = factors
    pixels = pixels * brightness
    for factor, axes in ((contrast, (1, 2, 3)), (saturation, 3)):
        mean = pixels.mean(axes, keepdims=True)
        pixels = mean + factor * (pixels - mean)
    return pixels


class FlatWeights(nn.Module):
    """The flat MLP from weights to weights: its outputs cut into the tensors of the space. It
    starts near zero."""

    def __init__(self, space: WeightSpace, width: int = 256, depth: int = 2):
        super().__init__()
        self._space = space
        self.mlp = FlatMLP(space, space.dim, width, depth)
        last = list(self.mlp.network.layers)[-1]
        last.weight = last.weight * 0.01

    def execute(self, features: list[jt.Var]) -> list[jt.Var]:
        flat = self.mlp(features)
        first = 0
        results = []
        for value in features:
            n = int(np.prod(value.shape[1:]))
            results.append(flat[:, first : first + n].reshape(value.shape))
            first += n
        return results


class AdaptTask(AbstractTask):
    """v' = v - deviation * model(v), one pass, such that the classifier v' is right on corrupted
    pictures.

    weights: of the classifiers; pairs: their classes (F, 2); train, test: classifiers; known,
    unseen: corrupted pictures that training sees and that it does not. `accuracy` is that of unseen
    classifiers on unseen pictures, and `accuracy_unadapted` theirs as they are."""

    dim = 0
    n_out = 2
    metric = "accuracy"
    n_pictures = 64
    n_test = 200

    def __init__(
        self,
        weights: Weights,
        pairs: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        known: Pairs,
        unseen: Pairs,
        seed: int = 0,
    ):
        self.weights = weights
        self.pairs = pairs
        self.test = test
        self.seed = seed
        self.known = known
        self.unseen = unseen
        self.unadapted: Optional[float] = None
        self._epochs = Epochs(train, seed)

    def sample(self, step: int, n: int) -> dict[str, Any]:
        index = self._epochs.rows(step, n)
        rng = np.random.default_rng([self.seed, step])
        x, y = self.known.sample(self.pairs[index], self.n_pictures, rng)
        return {
            "index": index,
            "x": jt.array(x).stop_grad(),
            "y": jt.array(y.reshape(-1)).stop_grad(),
        }

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, jt.Var]:
        logits = classify(batch["x"], *self.adapted(model, batch["index"]).values())
        return {"cross_entropy": nn.cross_entropy_loss(logits.reshape(-1, 2), batch["y"])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self.unadapted is None:
            self.unadapted = self.accuracy(None)
        model.eval()
        found = self.accuracy(model)
        model.train()
        return {"accuracy": found, "accuracy_unadapted": self.unadapted}

    def adapted(self, model: Optional[nn.Module], index: np.ndarray) -> dict[str, jt.Var]:
        """The classifiers' adapted weights {name: (F, *sizes)}; model None: as they are."""
        raw = {name: jt.array(value).stop_grad() for name, value in self.weights.raw(index).items()}
        if model is None:
            return raw
        change = to_weights(self.weights.space, model(self.weights.features(index)))
        return {
            name: value - self.weights.deviation[name] * change[name] for name, value in raw.items()
        }

    def accuracy(self, model: Optional[nn.Module], pictures: Optional[Pairs] = None) -> float:
        """Of unseen classifiers on unseen pictures (or others); model None: as they are."""
        pictures = pictures or self.unseen
        rng = np.random.default_rng(self.seed)
        right = []
        at_once = max(1, TOGETHER // (self.n_test * pictures.pixels[0].size))
        with jt.no_grad():
            for first in range(0, len(self.test), at_once):
                index = self.test[first : first + at_once]
                x, y = pictures.sample(self.pairs[index], self.n_test, rng)
                logits = classify(jt.array(x), *self.adapted(model, index).values())
                right.append(logits.numpy().argmax(2) == y)
        return float(np.concatenate(right).mean())
