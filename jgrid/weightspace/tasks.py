"""What is learned from weights: labels of fields, embeddings, values of fields. Adaptation of
weights is in adapt.py."""

from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from jittor import nn

CHUNK = 500  # fields per forward pass in evaluations


class Reader(nn.Module):
    """A network on weights as the trainer needs it: one learning rate, and a weight decay."""

    def __init__(self, network, lr, weight_decay=0.0):
        super().__init__()
        self.network = network
        self.lr = lr
        self.weight_decay = weight_decay

    def execute(self, features):
        return self.network(features)

    def parameter_groups(self):
        params = [p for p in self.network.parameters() if not p.is_stop_grad()]
        return [
            {"name": "network", "params": params, "lr": self.lr, "weight_decay": self.weight_decay}
        ]


def split(n, held_out, seed):
    """(fields to train on, held-out fields): sorted numbers below n, `held_out` of them held out at
    random."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def epoch_batch(index, step, n, seed):
    """The n fields of a step, without repetition within an epoch: a function of step and seed
    alone."""
    n = min(n, len(index))
    per_epoch = len(index) // n
    order = np.random.default_rng([seed, step // per_epoch]).permutation(index)
    return order[step % per_epoch * n :][:n]


def outputs(model, weights, index):
    """The model's outputs for fields, in evaluation mode: (F, n_out) array."""
    model.eval()
    with jt.no_grad():
        found = [
            model(weights.features(index[first : first + CHUNK])).numpy()
            for first in range(0, len(index), CHUNK)
        ]
    model.train()
    return np.concatenate(found)


class ReadTask(AbstractTask):
    """Labels of fields from their weights: classes (F,) integers, by cross-entropy, or values (F,
    n), by their squared error.

    Values are standardised for the network; `mse` is in their own units.
    """

    dim = 0

    def __init__(self, weights, labels, train, test, seed=0):
        self.weights = weights
        self.labels = labels
        self.train = train
        self.test = test
        self.seed = seed
        self.classes = labels.ndim == 1
        self.n_out = int(labels.max()) + 1 if self.classes else labels.shape[1]
        self.metric = "accuracy" if self.classes else "mse"
        if not self.classes:
            self.mean = labels[train].mean(0)
            self.deviation = labels[train].std(0)
            self.predict_mean = float(((labels[test] - self.mean) ** 2).mean())

    def sample(self, step, n):
        index = epoch_batch(self.train, step, n, self.seed)
        labels = (
            self.labels[index]
            if self.classes
            else (self.labels[index] - self.mean) / self.deviation
        )
        return {
            "features": self.weights.features(index, np.random.default_rng([self.seed, step])),
            "labels": jt.array(labels),
        }

    def loss(self, model, batch):
        found = model(batch["features"])
        if self.classes:
            return {"cross_entropy": nn.cross_entropy_loss(found, batch["labels"])}
        return {"mse": ((found - batch["labels"]) ** 2).mean()}

    def evaluate(self, model):
        # about as many as are held out
        known = self.train[:: max(1, len(self.train) // len(self.test))]
        return {
            self.metric: self._score(model, self.test),
            f"{self.metric}_train": self._score(model, known),
        }

    def _score(self, model, index):
        found = outputs(model, self.weights, index)
        if self.classes:
            return float((found.argmax(1) == self.labels[index]).mean())
        return float(((found * self.deviation + self.mean - self.labels[index]) ** 2).mean())


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

    def __init__(self, weights, labels, train, test, n_out=16, seed=0):
        self.weights = weights
        self.labels = labels
        self.train = train
        self.test = test
        self.n_out = n_out
        self.seed = seed
        self.predict_mean = float(((labels[test] - labels[train].mean(0)) ** 2).mean())

    def sample(self, step, n):
        index = epoch_batch(self.train, step, n, self.seed)
        rng = np.random.default_rng([self.seed, step])
        return {"views": [self.weights.features(index, rng) for _ in range(2)]}

    def loss(self, model, batch):
        z = jt.concat([model.network.project(view) for view in batch["views"]], dim=0)
        z = z / jt.sqrt((z * z).sum(1, keepdims=True) + 1e-8)
        n = z.shape[0]
        itself = jt.array(np.eye(n, dtype=np.float32) * 1e4)
        likeness = nn.matmul_transpose(z, z) / self.temperature - itself
        return {"contrast": nn.cross_entropy_loss(likeness, jt.array((np.arange(n) + n // 2) % n))}

    def evaluate(self, model):
        known, found = (
            np.pad(outputs(model, self.weights, index), ((0, 0), (0, 1)), constant_values=1.0)
            for index in (self.train, self.test)
        )
        probe = np.linalg.lstsq(known, self.labels[self.train], rcond=None)[0]
        return {"mse": float(((found @ probe - self.labels[self.test]) ** 2).mean())}


class Projected(nn.Module):
    """An encoder, whose outputs are the embedding, and the small network behind it that only the
    contrastive loss sees."""

    def __init__(self, encoder, n_out):
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Sequential(nn.Linear(n_out, n_out), nn.ReLU(), nn.Linear(n_out, n_out))

    def execute(self, features):
        return self.encoder(features)

    def project(self, features):
        return self.projection(nn.relu(self.encoder(features)))


class ForwardTask(AbstractTask):
    """The value f_v(x) of a field from its weights v and a point x, which is given as further
    features of every weight.

    values(weights, x) -> the fields' own values. `r2` is 1 - mean squared error / variance, on
    held-out fields at new points."""

    metric = "r2"
    test_points = 8

    def __init__(self, weights, omega, dim, train, test, seed=0):
        self.weights = weights
        self.omega = omega
        self.dim = dim
        self.train = train
        self.test = test
        self.seed = seed
        values = np.concatenate(
            [self._points(index, [seed, n])[1] for n, index in enumerate((train[:1000], test))]
        )
        self.mean = float(values.mean())
        self.deviation = float(values.std())
        self.n_out = values.shape[1]

    def _points(self, index, seed):
        """A point in [-1, 1]^D for each field, and the field's value there."""
        x = np.random.default_rng(seed).uniform(-1, 1, (len(index), self.dim)).astype(np.float32)
        raw = self.weights.raw(index)
        return x, field_values(raw, x, self.omega)

    def _features(self, index, x):
        features = self.weights.features(index)
        point = jt.array(x).stop_grad()
        wide = []
        for value in features:
            beside = point.reshape([len(x)] + [1] * (value.ndim - 1) + [-1]).expand(
                *value.shape, self.dim
            )
            wide.append(
                jt.concat([value.unsqueeze(-1), beside], dim=-1).reshape(value.shape[:-1] + [-1])
            )
        return wide

    def sample(self, step, n):
        index = epoch_batch(self.train, step, n, self.seed)
        x, values = self._points(index, [self.seed, 7, step])
        return {
            "features": self._features(index, x),
            "values": jt.array((values - self.mean) / self.deviation),
        }

    def loss(self, model, batch):
        return {"mse": ((model(batch["features"]) - batch["values"]) ** 2).mean()}

    def evaluate(self, model):
        model.eval()
        errors = []
        values = []
        with jt.no_grad():
            for n in range(self.test_points):
                x, value = self._points(self.test, [self.seed, 11, n])
                found = np.concatenate(
                    [
                        model(self._features(self.test[a : a + CHUNK], x[a : a + CHUNK])).numpy()
                        for a in range(0, len(self.test), CHUNK)
                    ]
                )
                errors.append((found * self.deviation + self.mean - value) ** 2)
                values.append(value)
        model.train()
        return {"r2": float(1 - np.mean(errors) / np.var(values))}


def field_values(weights, x, omega):
    """The value of each SIREN at a point of its own: {name: (F, *sizes)}, x (F, D) -> (F,
    n_out)."""
    z = x[:, :, None]
    layers = len(weights) // 2
    for m in range(1, layers + 1):
        z = weights[f"W{m}"] @ z + weights[f"b{m}"][..., None]
        if m < layers:
            z = np.sin(omega * z)
    return z[..., 0]
