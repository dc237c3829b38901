"""What the trainer asks of a task, and the order in which an epoch's rows come."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

import jittor as jt
import numpy as np
from jittor import nn


class AbstractTask(ABC):
    """A thing to fit, a function from D numbers to others.

    It can stand for the Domain of a field, whose attributes it has:

    dim: D; n_out: values per point; aspect: (D,), how long the domain is along each axis relative
    to the others (None: alike); place: n -> nodes (n, D) in [0, 1] where the subject needs
    scattered ones (None: evenly); start: the value about which the outputs of an MLP begin.

    metric: the name, in `evaluate`, to show and plot.

    learned: what is optimised beside the model and kept in checkpoints, but no part of the model:
    a module with `parameter_groups`; None: nothing.

    A task has to have sample, loss and evaluate; all else has a default, that of most tasks.
    """

    dim: int
    n_out: int
    metric: str
    aspect: Optional[Sequence[float]] = None
    place: Optional[Callable[[int], np.ndarray]] = None
    start: float = 0.5
    learned: Optional[nn.Module] = None

    def build(self, config: Any) -> nn.Module:
        """The model for this task of a field's config, with its random initial weights."""
        return config.build(self)

    @abstractmethod
    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        """The batch of a step, about n points, as a dict of Jittor variables, a row for each.

        Every run gets the same for the same step, in whatever order it asks.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        """{name: scalar}, means over the batch's rows, which may be a share of what `sample` gave;
        the optimiser minimises their sum."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """{name: value} of metrics on the whole task, `metric` among them. It changes neither the
        model nor what later steps see."""

    def glance(self, model: nn.Module) -> dict[str, float]:
        """What is evaluated during training, but for its end: `evaluate`, or metrics of a part of
        the task where the whole would take long."""
        return self.evaluate(model)

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """All points that training sees and their values, (N, D) and (N, n_out), for solvers.

        ValueError where a task has no such list.
        """
        raise ValueError(f"{type(self).__name__} has no list of all its points and their values")

    def prepare(self, model: nn.Module, progress: float) -> None:
        """Called before each step, with how much of the training lies before it, from 0 to 1."""
        return

    def status(self) -> dict[str, str]:
        """{name: text} of what the progress bar shows besides the loss."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """What later steps depend on besides their number and the model, for checkpoints."""
        return {}

    def restore(self, state: dict[str, np.ndarray], name: str) -> None:
        """Take over a `state` with the entries of the task's own; ValueError, naming the entry,
        where one does not fit. name: of the file, for messages."""
        return

    def export(self, model: nn.Module, out_dir: Union[str, os.PathLike]) -> list[Path]:
        """Write what people look at into a folder that exists; returns the paths."""
        return []


def shuffled(rows: Union[int, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Rows, or 0 to rows - 1, in random order, in half of the memory where there are fewer than
    2^32."""
    order = np.arange(rows) if isinstance(rows, int) else rows
    order = order.astype(np.uint32 if len(order) < 2**32 else np.int64)
    rng.shuffle(order)
    return order


class Epochs:
    """Rows in random order, without repetition within an epoch: each epoch has an order of its own,
    by the seed and its number alone.

    rows: N for 0 to N - 1, or the (N,) numbers themselves. Attribute epoch: of the last rows.
    """

    def __init__(self, rows: Union[int, np.ndarray], seed: int):
        self._rows = rows
        self._seed = seed
        self.epoch = -1
        self._order = np.empty(0, int)

    def rows(self, step: int, n: int) -> np.ndarray:
        """The rows of a step, n of them or all where there are fewer; an epoch leaves out the rest
        of its rows that n does not divide."""
        total = self._rows if isinstance(self._rows, int) else len(self._rows)
        n = min(n, total)
        epoch, batch = divmod(step, total // n)
        if epoch != self.epoch:
            self.epoch = epoch
            self._order = shuffled(self._rows, np.random.default_rng((self._seed, epoch)))
        return self._order[batch * n :][:n]
