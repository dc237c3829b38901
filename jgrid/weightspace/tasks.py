"""What is learned from weights: labels of fields, embeddings, values of fields. Adaptation of
weights is in adapt.py."""

from typing import Any, Callable

from jgrid.task import AbstractTask, Epochs
from jgrid.weightspace.weights import Weights

import jittor as jt
import numpy as np
from jittor import nn

CHUNK = 500  # fields per forward pass in evaluations


class ReadTask(AbstractTask):
    """Labels of fields from their weights: classes (F,) integers, by cross-entropy, or values (F,
    n), by their squared error.

    Values are standardised for the network; `mse` is in their own units.
    """

    dim = 0

    def __init__(
        self,
        weights: Weights,
        labels: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        seed: int = 0,
    ):
        self.weights = weights
        self.labels = labels
        self.train = train
        self.test = test
        self.seed = seed
        self.classes = labels.ndim == 1
        self.n_out = int(labels.max()) + 1 if self.classes else labels.shape[1]
        self.metric = "accuracy" if self.classes else "mse"
        self._epochs = Epochs(train, seed)
        if not self.classes:
            self.mean = labels[train].mean(0)
            self.deviation = labels[train].std(0)
            self.predict_mean = float(((labels[test] - self.mean) ** 2).mean())

    def sample(self, step: int, n: int) -> dict[str, Any]:
        index = self._epochs.rows(step, n)
        labels = self.labels[index]
        if not self.classes:
            labels = (labels - self.mean) / self.deviation
        rng = np.random.default_rng([self.seed, step])
        return {"features": self.weights.features(index, rng), "labels": jt.array(labels)}

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, jt.Var]:
        found = model(batch["features"])
        if self.classes:
            return {"cross_entropy": nn.cross_entropy_loss(found, batch["labels"])}
        return {"mse": ((found - batch["labels"]) ** 2).mean()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        # about as many as are held out
        known = self.train[:: max(1, len(self.train) // len(self.test))]
        return {
            self.metric: self._score(model, self.test),
            f"{self.metric}_train": self._score(model, known),
        }

    def predicted(self, model: nn.Module, index: np.ndarray) -> np.ndarray:
        """What a model makes of fields: logits of classes, or values in their own units."""
        found = outputs(model, self.weights.features, index)
        return found if self.classes else found * self.deviation + self.mean

    def _score(self, model: nn.Module, index: np.ndarray) -> float:
        found = self.predicted(model, index)
        if self.classes:
            return float((found.argmax(1) == self.labels[index]).mean())
        return float(((found - self.labels[index]) ** 2).mean())


class EmbedTask(AbstractTask):
    """Embeddings without labels: two views of a field shall be near, views of others far (SimCLR's
    loss, temperature 0.1).

        loss = mean over views i of -log( exp(<z_i, z_j> / t) / sum_{k != i} exp(<z_i, z_k> / t) ),
        j the other view of i's field

    z are normalised projections of the embedding. Views are the fields, varied as `weights` says.
    `mse` is that of a linear regression from the embedding to the labels, fitted on the training
    fields, over the held-out ones."""

    dim = 0
    metric = "mse"
    temperature = 0.1

    def __init__(
        self,
        weights: Weights,
        labels: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        n_out: int = 16,
        seed: int = 0,
    ):
        self.weights = weights
        self.labels = labels
        self.train = train
        self.test = test
        self.n_out = n_out
        self.seed = seed
        self.predict_mean = float(((labels[test] - labels[train].mean(0)) ** 2).mean())
        self._epochs = Epochs(train, seed)

    def sample(self, step: int, n: int) -> dict[str, Any]:
        index = self._epochs.rows(step, n)
        rng = np.random.default_rng([self.seed, step])
        return {"views": [self.weights.features(index, rng) for _ in range(2)]}

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, jt.Var]:
        """model: a `study.Learner` of a `Projected` encoder."""
        z = jt.concat([model.network.project(view) for view in batch["views"]], dim=0)
        z = z / jt.sqrt((z * z).sum(1, keepdims=True) + 1e-8)
        n = z.shape[0]
        itself = jt.array(np.eye(n, dtype=np.float32) * 1e4)
        likeness = nn.matmul_transpose(z, z) / self.temperature - itself
        other_view = jt.array((np.arange(n) + n // 2) % n)
        return {"contrast": nn.cross_entropy_loss(likeness, other_view)}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        known, found = (
            np.pad(self.embedded(model, index), ((0, 0), (0, 1)), constant_values=1.0)
            for index in (self.train, self.test)
        )
        probe = np.linalg.lstsq(known, self.labels[self.train], rcond=None)[0]
        return {"mse": float(((found @ probe - self.labels[self.test]) ** 2).mean())}

    def embedded(self, model: nn.Module, index: np.ndarray) -> np.ndarray:
        """The embeddings (F, n_out) of fields."""
        return outputs(model, self.weights.features, index)


class Projected(nn.Module):
    """An encoder, whose outputs are the embedding, and the small network behind it that only the
    contrastive loss sees."""

    def __init__(self, encoder: nn.Module, n_out: int):
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Sequential(nn.Linear(n_out, n_out), nn.ReLU(), nn.Linear(n_out, n_out))

    def execute(self, features: list[jt.Var]) -> jt.Var:
        return self.encoder(features)

    def project(self, features: list[jt.Var]) -> jt.Var:
        return self.projection(nn.relu(self.encoder(features)))


class ForwardTask(AbstractTask):
    """The value f_v(x) of a SIREN from its weights v and a point x, which is given as further
    features of every weight.

    omega: the SIRENs' own; dim: D. `r2` is 1 - mean squared error / variance, on held-out fields at
    new points."""

    metric = "r2"
    test_points = 8

    def __init__(
        self,
        weights: Weights,
        omega: float,
        dim: int,
        train: np.ndarray,
        test: np.ndarray,
        seed: int = 0,
    ):
        self.weights = weights
        self.omega = omega
        self.dim = dim
        self.test = test
        self.seed = seed
        self._epochs = Epochs(train, seed)
        some = [self._points(index, [seed, n])[1] for n, index in enumerate((train[:1000], test))]
        values = np.concatenate(some)
        self.mean = float(values.mean())
        self.deviation = float(values.std())
        self.n_out = values.shape[1]

    def sample(self, step: int, n: int) -> dict[str, Any]:
        index = self._epochs.rows(step, n)
        x, values = self._points(index, [self.seed, 7, step])
        return {
            "features": self._features(index, x),
            "values": jt.array((values - self.mean) / self.deviation),
        }

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, jt.Var]:
        return {"mse": ((model(batch["features"]) - batch["values"]) ** 2).mean()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        errors = []
        values = []
        for n in range(self.test_points):
            x, value = self._points(self.test, [self.seed, 11, n])
            found = self._values(model, x)
            errors.append((found * self.deviation + self.mean - value) ** 2)
            values.append(value)
        return {"r2": float(1 - np.mean(errors) / np.var(values))}

    def _points(self, index: np.ndarray, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """A point in [-1, 1]^D for each field, and the field's value there."""
        x = np.random.default_rng(seed).uniform(-1, 1, (len(index), self.dim)).astype(np.float32)
        raw = self.weights.raw(index)
        return x, field_values(raw, x, self.omega)

    def _features(self, index: np.ndarray, x: np.ndarray) -> list[jt.Var]:
        """The features of fields, with the point of each beside every weight."""
        features = self.weights.features(index)
        point = jt.array(x).stop_grad()
        wide = []
        for value in features:
            shape = value.shape
            beside = point.reshape([len(x)] + [1] * (value.ndim - 1) + [-1])
            beside = beside.expand(*shape, self.dim)
            both = jt.concat([value.unsqueeze(-1), beside], dim=-1)
            wide.append(both.reshape(shape[:-1] + [-1]))
        return wide

    def _values(self, model: nn.Module, x: np.ndarray) -> np.ndarray:
        """The model's values, standardised, of all held-out fields, at a point of each."""

        def features(at: np.ndarray) -> list[jt.Var]:
            return self._features(self.test[at], x[at])

        return outputs(model, features, np.arange(len(self.test)))


def field_values(weights: dict[str, np.ndarray], x: np.ndarray, omega: float) -> np.ndarray:
    """The value of each SIREN at a point of its own: {name: (F, *sizes)}, x (F, D) -> (F,
    n_out)."""
    z = x[:, :, None]
    layers = len(weights) // 2
    for m in range(1, layers + 1):
        z = weights[f"W{m}"] @ z + weights[f"b{m}"][..., None]
        if m < layers:
            z = np.sin(omega * z)
    return z[..., 0]


def outputs(
    model: nn.Module, features: Callable[[np.ndarray], list[jt.Var]], index: np.ndarray
) -> np.ndarray:
    """The model's outputs for the features of fields, in evaluation mode and in chunks: (F,
    n_out)."""
    model.eval()
    with jt.no_grad():
        found = [
            model(features(index[first : first + CHUNK])).numpy()
            for first in range(0, len(index), CHUNK)
        ]
    model.train()
    return np.concatenate(found)
