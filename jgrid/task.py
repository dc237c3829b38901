"""What the trainer asks of a task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Callable, Optional

import numpy as np


class AbstractTask(ABC):
    """A thing to fit. It can stand for the Domain of a field, whose attributes it has: dim (D),
    n_out, aspect, place, start. metric: the name, in `evaluate`, to show and plot."""

    dim: int
    n_out: int
    metric: str
    aspect: Optional[Sequence[float]] = None
    place: Optional[Callable[[int], np.ndarray]] = None
    start: float = 0.5

    @abstractmethod
    def sample(self, step, n):
        """The batch of a step, about n points, as a dict of Jittor variables, a row for each; the
        same for the same step in every run."""

    @abstractmethod
    def loss(self, model, batch):
        """{name: scalar}, means over the batch's rows, which may be a share of them; the optimiser
        minimises their sum."""

    def state(self):
        """{name: array} of what later steps depend on besides their number and the model; most
        tasks have nothing of the kind."""
        return {}

    def restore(self, state, name):
        """Take over a `state`, which has the entries of the task's own; ValueError, naming the
        entry, where one does not fit.

        name: of the file, for messages.
        """
        return

    def prepare(self, model, progress):
        """Called before each step of a fit, with how much of the training lies before it, from 0 to
        1; most tasks do nothing."""
        return

    def status(self):
        """{name: text} of what the progress bar shows besides the loss."""
        return {}

    @abstractmethod
    def evaluate(self, model):
        """{name: float} of metrics on the whole task."""

    def export(self, model, out_dir):
        """Write what people look at into out_dir; returns the paths. Most tasks have nothing of the
        kind."""
        return []
