"""A training on a page: the scene as it is now, drawn between steps."""

import time
from typing import Any

from jgrid.browser.canvas import Canvas
from jgrid.trainer import Trainer

SHARE = 0.2  # of the time, at most, that drawing takes
TOLD_EVERY = 1.0  # seconds


class Watch:
    """What a Trainer calls after each step: it draws a piece, if somebody looks and drawing has
    taken no more than SHARE of the time, and tells the step and the last metric."""

    def __init__(self, canvas: Canvas, status: Any, label: str):
        self.canvas = canvas
        self.status = status
        self.label = label
        self._next = 0.0  # when drawing may go on
        self._told = 0.0

    def __call__(self, trainer: Trainer) -> None:
        if time.perf_counter() < self._next or not self.canvas.page.looks():
            return
        with trainer.paused():
            began = time.perf_counter()
            if began - self._told > TOLD_EVERY:
                self.tell(trainer)
                self._told = began
            self.canvas.work()
            now = time.perf_counter()
        self._next = now + (now - began) * (1 / SHARE - 1)

    def tell(self, trainer: Trainer) -> None:
        """The step, and the last evaluation, on the page."""
        text = f"Step {trainer.step:,}"
        if not trainer.config.minutes:
            text += f" of {trainer.config.steps:,}"
        if trainer.history:
            last = trainer.history[-1]
            text += f"; {self.label} {last[trainer.task.metric]:.2f} dB at {last['step']:,}"
        self.status.content = text
