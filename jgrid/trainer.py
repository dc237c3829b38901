"""The one training loop."""
import contextlib
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

from jgrid import checkpoint
from jgrid.field import count_parameters
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
from tqdm import tqdm

COMPILING_STEPS = 2  # the first steps compile kernels; they are left out of seconds_train


class TrainingStopped(RuntimeError):
    """Training could not go on; the message says why, and the model holds its last good weights."""


@dataclass(frozen=True)
class TrainConfig:
    """How a field is trained: Adam, warm-up, then a cosine decay."""
    steps: int = 1500
    """Optimiser steps."""
    batch: int = 2**16
    """Points per step."""
    seed: int = 0
    """Of the weights and of the order of the samples."""
    warmup: int = 20
    """Steps over which the learning rates rise to their value."""
    decay: float = 0.03
    """What is left of the learning rates at the last step."""
    eval_every: int = 250
    """Steps between evaluations."""
    ema: float = 0.0
    """Evaluate and keep the exponential moving average of the weights with this decay per step; 0: the weights themselves."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: no clipping."""
    minutes: float = 0.0
    """Train for this many minutes, without compilation and evaluations, however many steps that are; 0: `steps` decide."""

    def __post_init__(self):
        for name in ("steps", "batch", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--train.{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.minutes < math.inf:
            raise ValueError(f"--train.minutes must not be negative, got {self.minutes}")
        if not (self.warmup >= 0 and 0 < self.decay <= 1 and 0 <= self.ema < 1 and self.clip >= 0 and self.seed >= 0):
            raise ValueError("--train wants warmup >= 0, 0 < decay <= 1, 0 <= ema < 1, clip >= 0 and seed >= 0, got "
                             f"{self.warmup}, {self.decay}, {self.ema}, {self.clip} and {self.seed}")

    def progress(self, step, seconds):
        """How much of the training lies before a step that begins after `seconds` of it: from 0 to 1."""
        return min(1.0, seconds / (60 * self.minutes)) if self.minutes else step / max(1, self.steps - 1)

    def rate(self, step, seconds=0.0):
        """The factor on every learning rate at a step, which begins after `seconds` of training."""
        progress = self.progress(step, seconds)
        cosine = self.decay + (1 - self.decay) * 0.5 * (1 + math.cos(math.pi * progress))
        return cosine * min(1.0, (step + 1) / (self.warmup + 1))


class Trainer:
    """Fits `model` to `task`; metrics go to out_dir/metrics.jsonl, one line per evaluation. out_dir None: no files."""

    def __init__(self, task, model, config, out_dir=None, progress=True):
        self.task, self.model, self.config, self.progress = task, model, config, progress
        self.out_dir = Path(out_dir) if out_dir is not None else None
        self.optimizer = Adam(model.parameter_groups(), clip=config.clip)
        self.parameters = self.optimizer.parameters
        self.average = [p.copy().stop_grad() for p in self.parameters] if config.ema else None
        self.history, self.advanced = [], 0

    def fit(self):
        """Train; returns the result: last metrics, loss, steps, parameters, seconds_train, seconds_total.

        Raises TrainingStopped where the loss or a weight is no longer finite.
        """
        config, started, seconds, mark = self.config, time.time(), 0.0, time.time()
        metrics, good = {}, self._weights()
        log = open(self.out_dir / "metrics.jsonl", "w") if self.out_dir else None
        bar = tqdm(total=None if config.minutes else config.steps, disable=not self.progress, unit="step", dynamic_ncols=True)
        try:
            for step in itertools.count():
                compiling = step < COMPILING_STEPS
                loss = self._step(step, 0.0 if compiling else seconds + time.time() - mark)
                if config.minutes:
                    last = not compiling and seconds + time.time() - mark >= 60 * config.minutes
                else:
                    last = step == config.steps - 1
                if step + 1 == COMPILING_STEPS and not last:
                    jt.sync_all()
                    mark = time.time()
                evaluating = last or (step + 1) % config.eval_every == 0
                if step % 20 == 0 or evaluating:
                    value = loss.item()
                    if not math.isfinite(value):
                        self._restore(good)
                        raise TrainingStopped(self._not_finite("the loss", step))
                    bar.set_postfix({"loss": f"{value:.3g}", **self.task.status(),
                                     **{k: f"{v:.2f}" for k, v in metrics.items() if k == self.task.metric}})
                bar.update()
                if evaluating:
                    jt.sync_all()
                    seconds += time.time() - mark
                    weights = self._weights()
                    if not all(np.isfinite(w).all() for w in weights):
                        self._restore(good)
                        raise TrainingStopped(self._not_finite("a weight", step))
                    good = weights
                    with self._averaged():
                        metrics = self.task.evaluate(self.model)
                    self.history.append({"step": step + 1, "seconds": round(seconds, 3), "loss": value, **metrics})
                    if log:
                        log.write(checkpoint.to_json(self.history[-1]) + "\n")
                        log.flush()
                    mark = time.time()
                if last:
                    break
        finally:
            bar.close()
            if log:
                log.close()
        if self.average:
            self._restore([a.numpy() for a in self.average])
        return {**metrics, "loss": value, "steps": step + 1, "parameters": count_parameters(self.model),
                "seconds_train": round(seconds, 3), "seconds_total": round(time.time() - started, 3)}

    def advance(self, steps):
        """Some steps more, at the schedule's start, and wait for them: for timings."""
        for _ in range(steps):
            self._step(self.advanced)
            self.advanced += 1
        jt.sync_all(True)

    def _step(self, step, seconds=0.0):
        self.task.prepare(self.model, self.config.progress(step, seconds))
        losses = self.task.loss(self.model, self.task.sample(step, self.config.batch))
        loss = sum(losses.values())
        self.optimizer.step(loss, self.config.rate(step, seconds))
        if self.average:
            for a, p in zip(self.average, self.parameters):
                a.update(a * self.config.ema + p.detach() * (1 - self.config.ema))
            jt.sync(self.average)  # the next step changes the parameters in place
        return loss

    def _weights(self):
        return [p.numpy() for p in self.parameters]

    def _restore(self, weights):
        for parameter, value in zip(self.parameters, weights):
            parameter.update(jt.array(value))

    @contextlib.contextmanager
    def _averaged(self):
        """The model holds the averaged weights inside the block."""
        if not self.average:
            yield
            return
        current = self._weights()
        self._restore([a.numpy() for a in self.average])
        try:
            yield
        finally:
            self._restore(current)

    def _not_finite(self, what, step):
        rates = ", ".join(f"{g.get('name', 'all')} {g['lr']:.3g}" for g in self.optimizer.param_groups)
        return (f"{what} is not finite at step {step + 1} (learning rates: {rates}); kept the weights of the last evaluation; "
                "lower the learning rates")
