"""Domain adaptation in one pass: weights of picture classifiers -> weights of classifiers for a corrupted domain."""
from jgrid.tasks.base import AbstractTask
from jgrid.weightspace.baselines import FlatMLP
from jgrid.weightspace.layers import to_weights
from jgrid.weightspace.space import mlp_space
from jgrid.weightspace.tasks import epoch_batch
from jgrid.weightspace.zoo import relu_networks, train

import jittor as jt
import numpy as np
from jittor import nn
from scipy.ndimage import rotate


def corrupt(pixels, rotation, noise, rng):
    """Pictures (n, side, side, C) turned by `rotation` degrees about their middle, with normal noise of this deviation, in [0, 1]."""
    turned = rotate(pixels, rotation, axes=(1, 2), reshape=False, order=1) if rotation else pixels
    return np.clip(turned + noise * rng.standard_normal(turned.shape), 0, 1).astype(np.float32)


class Pairs:
    """Pictures by class, from which two-class problems are drawn: pixels (n, side, side, C), labels (n,)."""

    def __init__(self, pixels, labels):
        self.pixels = pixels.reshape(len(pixels), -1)
        self.members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
        if min(len(found) for found in self.members) < 2 or len(self.members) < 2:
            raise ValueError(f"two-class problems want two classes of two pictures at least, got {[len(m) for m in self.members]}")

    def sample(self, pairs, n, rng):
        """n pictures for each pair of classes (F, 2), half of each class: x (F, n, D) centred, y (F, n) in {0, 1}."""
        y = np.arange(n) % 2
        index = np.stack([[rng.choice(self.members[pair[c]]) for c in y] for pair in pairs])
        return self.pixels[index] - np.float32(0.5), np.broadcast_to(y, index.shape).astype(np.int32)


class Classifiers:
    """Small ReLU MLPs, each trained on `n` pictures of two classes drawn at random; labels (F, 2): the classes; quality: accuracy."""

    activation, quality = "relu", "accuracy"

    def __init__(self, pictures, n=200):
        self.config = {**pictures.config, "kind": "classifiers", "n": n}
        self.n_classes, self.n, self.pairs = int(pictures.labels.max()) + 1, n, Pairs(pictures.pixels, pictures.labels)

    def space(self, config):
        return mlp_space((self.pairs.pixels.shape[1], *config.hidden, 2))

    def fit(self, first, last, config, rng, advance):
        classes = np.stack([rng.choice(self.n_classes, 2, replace=False) for _ in range(first, last)])
        x, y = self.pairs.sample(classes, self.n, rng)
        widths, parameters = [x.shape[2], *config.hidden, 2], []
        for a, b in zip(widths[:-1], widths[1:]):
            start = np.sqrt(2 / a) * rng.standard_normal((last - first, b, a))
            parameters += [jt.array(start.astype(np.float32)), jt.zeros((last - first, b))]
        x, truth = jt.array(x).stop_grad(), jt.array(y.reshape(-1)).stop_grad()

        def errors():  # the mean over all would make the gradient of each smaller the more there are
            return nn.cross_entropy_loss(relu_networks(x, *parameters).reshape(-1, 2), truth) * (last - first)

        train(errors, parameters, config, advance)
        right = (relu_networks(x, *parameters).numpy().argmax(2) == y).mean(1)
        names = [f"{part}{m}" for m in range(1, len(widths)) for part in "Wb"]
        return {name: p.numpy() for name, p in zip(names, parameters)}, classes.astype(np.int32), right.astype(np.float32)


class FlatWeights(nn.Module):
    """The flat MLP from weights to weights: its outputs cut into the tensors of the space. It starts near zero."""

    def __init__(self, space, width=256, depth=2):
        super().__init__()
        self._space, self.mlp = space, FlatMLP(space, space.dim, width, depth)
        last = list(self.mlp.network.layers)[-1]
        last.weight = last.weight * 0.01

    def execute(self, features):
        flat, first, results = self.mlp(features), 0, []
        for value in features:
            n = int(np.prod(value.shape[1:]))
            results.append(flat[:, first:first + n].reshape(value.shape))
            first += n
        return results


class AdaptTask(AbstractTask):
    """v' = v - deviation * model(v), one pass, such that the classifier v' is right on corrupted pictures.

    weights: of the classifiers (`tasks.Weights`); pairs: their classes (F, 2); train, test: classifiers; known, unseen: Pairs of corrupted
    pictures that training sees and that it does not. `accuracy` is that of unseen classifiers on unseen pictures, and
    `accuracy_unadapted` theirs as they are.
    """

    dim, n_out, metric, n_pictures, n_test = 0, 2, "accuracy", 64, 200

    def __init__(self, weights, pairs, train, test, known, unseen, seed=0):
        self.weights, self.pairs, self.train, self.test, self.seed = weights, pairs, train, test, seed
        self.known, self.unseen = known, unseen

    def sample(self, step, n):
        index, rng = epoch_batch(self.train, step, n, self.seed), np.random.default_rng([self.seed, step])
        x, y = self.known.sample(self.pairs[index], self.n_pictures, rng)
        return {"index": index, "x": jt.array(x).stop_grad(), "y": jt.array(y.reshape(-1)).stop_grad()}

    def adapted(self, model, index):
        """The classifiers' adapted weights {name: (F, *sizes)}, as variables."""
        raw = {name: jt.array(value).stop_grad() for name, value in self.weights.raw(index).items()}
        if model is None:
            return raw
        change = to_weights(self.weights.space, model(self.weights.features(index)))
        return {name: value - self.weights.deviation[name] * change[name] for name, value in raw.items()}

    def loss(self, model, batch):
        logits = relu_networks(batch["x"], *self.adapted(model, batch["index"]).values())
        return {"cross_entropy": nn.cross_entropy_loss(logits.reshape(-1, 2), batch["y"])}

    def evaluate(self, model):
        model.eval()
        found = {"accuracy": self.accuracy(model), "accuracy_unadapted": self.accuracy(None)}
        model.train()
        return found

    def accuracy(self, model, pictures=None):
        """Of unseen classifiers on unseen pictures (or others); model None: as they are."""
        x, y = (pictures or self.unseen).sample(self.pairs[self.test], self.n_test, np.random.default_rng(self.seed))
        with jt.no_grad():
            logits = relu_networks(jt.array(x), *self.adapted(model, self.test).values()).numpy()
        return float((logits.argmax(2) == y).mean())

    def export(self, model, out_dir):
        return []
