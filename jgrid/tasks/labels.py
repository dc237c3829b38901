"""Classifying pictures: f(picture) = logits of its class."""
from pathlib import Path

from jgrid.idx import read_idx
from jgrid.tasks.base import AbstractTask

import jittor as jt
import numpy as np
from jittor import nn

CHUNK = 1000  # pictures per forward pass when all are classified


CIFAR = (3, 32, 32)


def load_labelled(folder):
    """((pictures, labels), (pictures, labels)) to train on and to test on: (N, C, H, W) float32 in [0, 1] and (N,) int32.

    The folder holds MNIST's or Fashion-MNIST's four idx files, gzipped or not, or the binary version of CIFAR-10. ValueError, naming the
    file, for what is missing or damaged.
    """
    folder = Path(folder)
    if (folder / "data_batch_1.bin").is_file():
        batches = [_read_cifar(folder / f"data_batch_{n}.bin") for n in range(1, 6)]
        return tuple(np.concatenate(part) for part in zip(*batches)), _read_cifar(folder / "test_batch.bin")
    return _read_mnist(folder, "train"), _read_mnist(folder, "t10k")


def _read_mnist(folder, part):
    names = [f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    paths = [folder / name if (folder / name).is_file() else folder / f"{name}.gz" for name in names]
    pictures, labels = (read_idx(path) for path in paths)
    if pictures.ndim != 3 or pictures.dtype != np.uint8 or labels.shape != pictures.shape[:1]:
        raise ValueError(f"{paths[0]}: {pictures.dtype} {pictures.shape} with labels {labels.shape}, wanted bytes (N, H, W) and (N,)")
    return pictures[:, None].astype(np.float32) / 255, labels.astype(np.int32)


def _read_cifar(path):
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    values, row = np.fromfile(path, np.uint8), 1 + int(np.prod(CIFAR))
    if not len(values) or len(values) % row:
        raise ValueError(f"{path}: {len(values):,} bytes, wanted rows of {row:,}: CIFAR-10's binary version")
    rows = values.reshape(-1, row)
    return rows[:, 1:].reshape(-1, *CIFAR).astype(np.float32) / 255, rows[:, 0].astype(np.int32)


def set_training(model, training):
    """Whether the batch norms of a model normalise by the batch, or by what they have seen (Jittor's eval() would stop gradients)."""
    for module in model.modules():
        module.is_train = training


class LabelTask(AbstractTask):
    """Pictures (N, C, H, W) in [0, 1] with labels (N,) from 0; `test`, pictures and labels likewise, is never trained on.

    Each epoch is a new order of all pictures. shift: they are moved by up to so many pixels each way, at random, as they are sampled;
    flip: half of them are seen in a mirror.
    """

    metric = "test_accuracy"

    def __init__(self, pictures, labels, test, seed=0, shift=0, flip=False):
        for name, values, classes in (("training", pictures, labels), ("test", *test)):
            if len(values) != len(classes) or values.ndim != 4 or not len(values):
                raise ValueError(f"{name} pictures of shape {values.shape} do not go with {len(classes)} labels")
        self.pictures, self.labels, self.test = pictures, labels.astype(np.int32), test
        self.dim, self.n_out = pictures.shape[1], int(max(labels.max(), test[1].max())) + 1
        self.seed, self.shift, self.flip = seed, shift, flip
        self.mean, self.deviation = float(pictures.mean()), float(pictures.std())

    def standardised(self, pictures):
        return jt.array((pictures - self.mean) / self.deviation)

    def sample(self, step, n):
        epoch, begin = divmod(step * n, max(n, len(self.labels) // n * n))
        chosen = np.random.default_rng((self.seed, epoch)).permutation(len(self.labels))[begin:begin + n]
        pictures = self.pictures[chosen]
        if self.shift:
            s = self.shift
            padded = np.pad(pictures, ((0, 0), (0, 0), (s, s), (s, s)))
            height, width = pictures.shape[2:]
            moves = np.random.default_rng((self.seed, 1, step)).integers(0, 2 * s + 1, (len(pictures), 2))
            pictures = np.stack([p[:, y:y + height, x:x + width] for p, (y, x) in zip(padded, moves)])
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
            return np.concatenate([model(self.standardised(pictures[i:i + CHUNK])).numpy().argmax(1)
                                   for i in range(0, len(pictures), CHUNK)])

    def evaluate(self, model):
        pictures, labels = self.test
        return {"test_accuracy": float((self.predict(model, pictures) == labels).mean())}
