"""Zoos of picture classifiers: MLPs on pixels, and convolutional networks."""

from jgrid.weightspace.fits import Advance, FitConfig, relu_networks, train
from jgrid.weightspace.space import WeightSpace, cnn_space, mlp_space
from jgrid.weightspace.subjects import Pictures
from jgrid.weightspace.zoo import CHUNK, AbstractSubject, Fitted, Zoo

import jittor as jt
import numpy as np
from jittor import nn
from numpy.random import Generator
from typing_extensions import Literal

# of all pixels that the classifiers fitted together see; their layers take some ten times as many
MOST_VALUES = 2**26


class Pairs:
    """Pictures by class, from which two-class problems are drawn: pixels (n, side, side, C), labels
    (n,)."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        self.pixels = pixels
        self.members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
        if min(len(found) for found in self.members) < 2 or len(self.members) < 2:
            raise ValueError(
                "two-class problems need two classes of two pictures at least, got"
                f" {[len(m) for m in self.members]}"
            )

    def sample(self, pairs: np.ndarray, n: int, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """n pictures for each pair of classes (F, 2), half of each class: x (F, n, side, side, C)
        centred, y (F, n) in {0, 1}."""
        y = np.arange(n) % 2
        index = np.stack([[rng.choice(self.members[pair[c]]) for c in y] for pair in pairs])
        x = self.pixels[index] - np.float32(0.5)
        return x, np.broadcast_to(y, index.shape).astype(np.int32)


class Classifiers(AbstractSubject):
    """Small classifiers, each fitted to `n` pictures of two classes drawn at random; labels (F, 2):
    the classes; quality: accuracy.

    kind: mlp, ReLU MLPs on all pixels, or cnn, convolutional networks whose channels are the hidden
    layers."""

    activation = "relu"
    quality = "accuracy"

    def __init__(self, pictures: Pictures, n: int = 200, kind: Literal["mlp", "cnn"] = "mlp"):
        self.config = {**pictures.config, "kind": "classifiers" if kind == "mlp" else kind, "n": n}
        self.n_classes = int(pictures.labels.max()) + 1
        self.n = n
        self.pairs = Pairs(pictures.pixels, pictures.labels)
        self.kind = kind

    @property
    def together(self) -> int:
        values = self.n * int(np.prod(self.pairs.pixels.shape[1:]))
        return max(1, min(CHUNK, MOST_VALUES // values))

    def space(self, config: FitConfig) -> WeightSpace:
        *sides, channels = self.pairs.pixels.shape[1:]
        if self.kind == "cnn":
            return cnn_space((channels, *config.neurons), 2)
        return mlp_space((int(np.prod(sides)) * channels, *config.neurons, 2))

    def fit(
        self, first: int, last: int, config: FitConfig, rng: Generator, advance: Advance
    ) -> Fitted:
        drawn = [rng.choice(self.n_classes, 2, replace=False) for _ in range(first, last)]
        classes = np.stack(drawn)
        x, y = self.pairs.sample(classes, self.n, rng)
        parameters = _start(self.space(config), last - first, rng)
        pictures = jt.array(x).stop_grad()
        truth = jt.array(y.reshape(-1)).stop_grad()

        # the mean over all would make the gradient of each smaller the more there are
        def errors() -> jt.Var:
            logits = classify(pictures, *parameters.values()).reshape(-1, 2)
            return nn.cross_entropy_loss(logits, truth) * (last - first)

        train(errors, list(parameters.values()), config, advance)
        right = (classify(pictures, *parameters.values()).numpy().argmax(2) == y).mean(1)
        weights = {name: p.numpy() for name, p in parameters.items()}
        return weights, classes.astype(np.int32), right.astype(np.float32)


def _start(space: WeightSpace, n: int, rng: Generator) -> dict[str, jt.Var]:
    """The weights of n networks: normal of variance 2 / inputs, biases zero."""
    parameters = {}
    for name, axes in space.tensors:
        shape = [size for _, size in axes]
        start = np.zeros((n, *shape))
        if name.startswith("W"):
            start = np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(start.shape)
        parameters[name] = jt.array(start.astype(np.float32))
    return parameters


def classify(x: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """Logits (F, N, n_out) of F classifiers, each of pictures of its own: x (F, N, H, W, C),
    parameters of `cnn_space` or `mlp_space`.

    Convolutional: z_{l+1} = relu(W_l * z_l + b_l), two pixels apart, and zeros around the pictures,
    then a linear layer of the mean over the pixels. An MLP sees all pixels side by side.
    """
    n = 2 * sum(weight.ndim == 4 for weight in weights_and_biases[::2])
    for i in range(0, n, 2):
        x = nn.relu(convolve(x, *weights_and_biases[i : i + 2]))
    flat = x.mean(3).mean(2) if n else x.reshape(x.shape[0], x.shape[1], -1)
    return relu_networks(flat, *weights_and_biases[n:])


def convolve(x: jt.Var, weight: jt.Var, bias: jt.Var) -> jt.Var:
    """3 x 3 convolutions of stride 2, one for each of F batches of pictures, which zeros surround.

    x (F, N, H, W, C), weight (F, c, C, 9), bias (F, c) -> (F, N, H/2, W/2, c), halves rounded up.
    """
    fields, n, height, width, channels = x.shape
    height = (height + 1) // 2
    width = (width + 1) // 2
    shape = [fields, n, height, width, channels, 3, 3]
    patches = x.reindex(shape, ["i0", "i1", "i2*2+i5-1", "i3*2+i6-1", "i4"])
    patches = patches.reshape(fields, n * height * width, channels * 9)
    taps = weight.reshape(fields, weight.shape[1], -1).transpose(0, 2, 1)
    z = jt.matmul(patches, taps) + bias.unsqueeze(1)
    return z.reshape(fields, n, height, width, -1)


def require_same_pictures(zoo: Zoo, *pictures: Pairs) -> None:
    """ValueError where a zoo of classifiers is none of pictures like these: of their size, and of
    no class that they lack."""
    first = zoo.weights["W1"]
    inputs = first.shape[2]
    for pairs in pictures:
        side, _, channels = pairs.pixels.shape[1:]
        if inputs != (channels if first.ndim == 4 else side * side * channels):
            raise ValueError(
                f"its classifiers have {inputs} inputs, which do not go with pictures of {side} x"
                f" {side} pixels and {channels} channels"
            )
        classes = len(pairs.members)
        if zoo.labels.max() >= classes:
            raise ValueError(
                f"its classifiers know {zoo.labels.max() + 1} classes, the pictures have {classes}"
            )
