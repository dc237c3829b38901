"""Classifying pictures: f(picture) = logits of its class."""

from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from jittor import nn

CHUNK = 1000  # pictures per forward pass when all are classified


def set_training(model, training):
    """Whether the batch norms of a model normalise by the batch, or by what they have seen
    (Jittor's eval() would stop gradients)."""
    for module in model.modules():
        module.is_train = training


class LabelTask(AbstractTask):
    """Pictures (N, C, H, W) in [0, 1] with labels (N,) from 0; `test`, pictures and labels
    likewise, is never trained on.

    Each epoch is a new order of all pictures. shift: they are moved by up to so many pixels each
    way, at random, as they are sampled; flip: half of them are seen in a mirror.
    """

    metric = "test_accuracy"

    def __init__(self, pictures, labels, test, seed=0, shift=0, flip=False):
        for name, values, classes in (("training", pictures, labels), ("test", *test)):
            if len(values) != len(classes) or values.ndim != 4 or not len(values):
                raise ValueError(
                    f"{name} pictures of shape {values.shape} do not go with {len(classes)} labels"
                )
        self.pictures = pictures
        self.labels = labels.astype(np.int32)
        self.test = test
        self.dim = pictures.shape[1]
        self.n_out = int(max(labels.max(), test[1].max())) + 1
        self.seed = seed
        self.shift = shift
        self.flip = flip
        self.mean = float(pictures.mean())
        self.deviation = float(pictures.std())

    def standardised(self, pictures):
        return jt.array((pictures - self.mean) / self.deviation)

    def sample(self, step, n):
        epoch, begin = divmod(step * n, max(n, len(self.labels) // n * n))
        chosen = np.random.default_rng((self.seed, epoch)).permutation(len(self.labels))[
            begin : begin + n
        ]
        pictures = self.pictures[chosen]
        if self.shift:
            s = self.shift
            padded = np.pad(pictures, ((0, 0), (0, 0), (s, s), (s, s)))
            height, width = pictures.shape[2:]
            moves = np.random.default_rng((self.seed, 1, step)).integers(
                0, 2 * s + 1, (len(pictures), 2)
            )
            pictures = np.stack(
                [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, moves)]
            )
        if self.flip:
            mirrored = np.random.default_rng((self.seed, 2, step)).random(len(pictures)) < 0.5
            pictures = np.where(mirrored[:, None, None, None], pictures[..., ::-1], pictures)
        return {"x": self.standardised(pictures), "y": jt.array(self.labels[chosen])}

    def loss(self, model, batch):
        set_training(model, True)
        return {"cross_entropy": nn.cross_entropy_loss(model(batch["x"]), batch["y"])}

    def predict(self, model, pictures):
        """The classes (N,) a model sees in pictures."""
        set_training(model, False)
        with jt.no_grad():
            return np.concatenate(
                [
                    model(self.standardised(pictures[i : i + CHUNK])).numpy().argmax(1)
                    for i in range(0, len(pictures), CHUNK)
                ]
            )

    def evaluate(self, model):
        pictures, labels = self.test
        return {"test_accuracy": float((self.predict(model, pictures) == labels).mean())}
