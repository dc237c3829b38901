"""Classifying pictures: f(picture) = logits of its class."""

from dataclasses import asdict
from typing import Any, NamedTuple

from jgrid import checkpoint
from jgrid.checkpoint import AnyPath
from jgrid.config import config_from_dict
from jgrid.field import Field, check_memory, count_parameters, in_chunks
from jgrid.optdnn.classifier import ClassifierConfig, activation_bytes, multiply_adds
from jgrid.task import AbstractTask, Epochs
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from jittor import nn
from numpy.random import default_rng

CHUNK = 1000  # pictures per forward pass when all are classified


class LabelTask(AbstractTask):
    """Pictures (N, C, H, W) in [0, 1] with labels (N,) from 0; `test`, pictures and labels
    likewise, is never trained on.

    Each epoch is a new order of all pictures. shift: they are moved by up to so many pixels each
    way, at random, as they are sampled; flip: half of them are seen in a mirror. ValueError where
    pictures and labels do not go together.
    """

    metric = "test_accuracy"

    def __init__(
        self,
        pictures: np.ndarray,
        labels: np.ndarray,
        test: tuple[np.ndarray, np.ndarray],
        seed: int = 0,
        shift: int = 0,
        flip: bool = False,
    ):
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
        self._epochs = Epochs(len(labels), seed)

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        chosen = self._epochs.rows(step, n)
        pictures = self.pictures[chosen]
        if self.shift:
            moves = default_rng((self.seed, 1, step)).integers(
                0, 2 * self.shift + 1, (len(pictures), 2)
            )
            pictures = _moved(pictures, moves, self.shift)
        if self.flip:
            mirrored = default_rng((self.seed, 2, step)).random(len(pictures)) < 0.5
            pictures = np.where(mirrored[:, None, None, None], pictures[..., ::-1], pictures)
        return {"x": jt.array(self.standardised(pictures)), "y": jt.array(self.labels[chosen])}

    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        set_training(model, True)
        return {"cross_entropy": nn.cross_entropy_loss(model(batch["x"]), batch["y"])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        pictures, labels = self.test
        return {"test_accuracy": float((self.predict(model, pictures) == labels).mean())}

    def standardised(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures as networks see them: with the mean and deviation of all of training."""
        return (pictures - self.mean) / self.deviation

    def predict(self, model: nn.Module, pictures: np.ndarray) -> np.ndarray:
        """The classes (N,) a model sees in pictures."""
        return self.classifier(model).logits(pictures).argmax(1)

    def classifier(self, network: nn.Module) -> "Classifier":
        """A trained network with what it has to know of its training pictures."""
        return Classifier(network, self.mean, self.deviation)


class Classifier(NamedTuple):
    """A trained network; mean and deviation: of the pictures it was trained on, by which it sees
    others."""

    network: nn.Module
    mean: float
    deviation: float

    def logits(self, pictures: np.ndarray) -> np.ndarray:
        """Of pictures (N, C, H, W) in [0, 1]: (N, classes), the largest that of the class it
        sees."""
        set_training(self.network, False)
        return in_chunks(self.network, (pictures - self.mean) / self.deviation, CHUNK)

    def save(self, path: AnyPath, built: ClassifierConfig) -> None:
        """Write it for `load_classifier`; built: what its network was built of."""
        tensors = {name: value.numpy() for name, value in self.network.state_dict().items()}
        seen = {"mean": self.mean, "deviation": self.deviation}
        checkpoint.save(path, tensors, {"classifier": asdict(built), **seen})


def load_classifier(path: AnyPath) -> Classifier:
    """The classifier that `Classifier.save` wrote; ValueError, naming the file, where it is damaged
    or something else."""
    tensors, saved = checkpoint.read(path)
    try:
        built = config_from_dict(ClassifierConfig, saved["classifier"], "classifier")
        classifier = Classifier(built.build(), float(saved["mean"]), float(saved["deviation"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no classifier of this version of jgrid ({error})") from None
    checkpoint.assign(classifier.network, tensors, str(path))
    # else single numbers become constants of other kernels, which round otherwise than training's
    jt.sync_all()
    return classifier


def train_classifier(
    task: LabelTask, network: nn.Module, lr: float, config: TrainConfig
) -> dict[str, Any]:
    """A network's accuracy, what it costs, and how its training went; memory.NotEnough."""
    model = Field(None, network, {"network": lr})
    some = jt.array(task.standardised(task.test[0][:16]))
    kept = activation_bytes(network, some[:1], config.batch)
    lower = "`train.batch`, `channels` or `layers`"
    check_memory(model, config.batch, kept, lower, data_on_host=False)
    result = Trainer(task, model, config).fit()
    return {
        "test_accuracy": result["test_accuracy"],
        "parameters": count_parameters(model),
        "multiply_adds": multiply_adds(network, some) / 16,
        "seconds_train": result["seconds_train"],
        "loss": result["loss"],
    }


def set_training(model: nn.Module, training: bool) -> None:
    """Whether the batch norms of a model normalise by the batch, or by what they have seen
    (Jittor's eval() would stop gradients)."""
    for module in model.modules():
        module.is_train = training


def _moved(pictures: np.ndarray, moves: np.ndarray, shift: int) -> np.ndarray:
    """Each picture's window of a frame of `shift` zeros around it: moves (N, 2), rows and columns
    from 0 to 2 shift."""
    height, width = pictures.shape[2:]
    padded = np.pad(pictures, ((0, 0), (0, 0), (shift, shift), (shift, shift)))
    windows = [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, moves)]
    return np.stack(windows)
