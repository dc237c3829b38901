"""The theory's toy problems, for many independent copies of a network at once: nested rings,
parity, Telgarsky's saw-tooth."""

from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from jittor import nn
from scipy.ndimage import distance_transform_edt


def nested_rings(n, rings=4, seed=0):
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


def parity(n_bits=8):
    """All of {-1, 1}^n_bits (2^n, n) and whether the product of the bits is 1 (2^n,)."""
    bits = (np.arange(2**n_bits)[:, None] >> np.arange(n_bits)) % 2 * 2 - 1
    return bits.astype(np.float32), (bits.prod(1) > 0).astype(np.int32)


def telgarsky(n=512, folds=3):
    """x (n, 1) on [0, 1] and the tent map 1 - |2 x - 1| applied `folds` times, 2^(folds - 1) teeth
    (Telgarsky 2016)."""
    x = np.linspace(0, 1, n)[:, None]
    y = x
    for _ in range(folds):
        y = 1 - np.abs(2 * y - 1)
    return x.astype(np.float32), y.astype(np.float32)


class CopiesTask(AbstractTask):
    """Training of K copies of a network side by side: x (K, N, n), y (K, N) labels or (K, N, 1)
    numbers, `test` likewise.

    Each step takes the same n of every copy's points, all of them where there are no more. The loss
    is summed over the copies, so that none feels the others. After `evaluate`, `scores` (K,) holds
    each copy's accuracy or mean squared error on `test`.
    """

    def __init__(self, x, y, test):
        self.x = x
        self.y = y
        self.test = test
        self.dim = x.shape[2]
        self.classify = y.ndim == 2
        self.n_out, self.metric = (int(y.max()) + 1, "accuracy") if self.classify else (1, "mse")

    def sample(self, step, n):
        chosen = slice(None)
        if n < self.x.shape[1]:
            chosen = np.random.default_rng(step).choice(self.x.shape[1], n, replace=False)
        return {"x": jt.array(self.x[:, chosen]), "y": jt.array(self.y[:, chosen])}

    def loss(self, model, batch):
        output = model(batch["x"])
        y = batch["y"]
        if self.classify:
            return {
                "cross_entropy": (
                    nn.cross_entropy_loss(output.reshape(-1, self.n_out), y.reshape(-1))
                    * float(len(y))
                )
            }
        return {"squared_error": ((output - y) ** 2).mean() * float(len(y))}

    def evaluate(self, model):
        x, y = self.test
        output = outputs(model, x)
        self.scores = (
            (output.argmax(2) == y).mean(1) if self.classify else np.square(output - y).mean((1, 2))
        )
        return {self.metric: float(self.scores.mean())}


def outputs(model, x):
    """Of every copy, what it puts out at its points: x (K, N, n) -> (K, N, n_out) numpy."""
    with jt.no_grad():
        return model(jt.array(x)).numpy()


def logit_margins(model, x, y):
    """Of every copy, the median over points of the true class's logit minus the other's: x (K, N,
    2), y (K, N) -> (K,)."""
    logits = outputs(model, x)
    return np.median((logits[..., 1] - logits[..., 0]) * (2 * y - 1), axis=1)


def decision_values(model, copies, reach, n=400):
    """Logit of class 1 minus that of class 0 at the points of an n x n raster over [-reach,
    reach]^2, (copies, n, n), rows along y."""
    line = np.linspace(-reach, reach, n, dtype=np.float32)
    x = np.stack(np.meshgrid(line, line), axis=2).reshape(-1, 2)
    logits = outputs(model, np.repeat(x[None], copies, axis=0))
    return (logits[..., 1] - logits[..., 0]).reshape(copies, n, n)


def input_margins(values, x, y, reach):
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
