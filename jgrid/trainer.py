"""The one training loop."""

import contextlib
import math
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

from jgrid import checkpoint, parallel, resume
from jgrid.config import MOST, Count, Share, Weight, config
from jgrid.field import count_parameters
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
from annotated_types import Interval
from tqdm import tqdm

COMPILING_STEPS = 2  # the first steps compile kernels; they are left out of seconds_train


class TrainingStopped(RuntimeError):
    """Training could not go on; the message says why, and the model holds its last good weights."""


class Interrupted(KeyboardInterrupt):
    """A signal ended training after a whole step; `signal` is its number, and the message says how
    to go on."""

    def __init__(self, number, step, folder):
        super().__init__(
            f"interrupted by {signal.Signals(number).name} after step {step}"
            + (f"; saved in {folder}, the same command with `resume` goes on" if folder else "")
        )
        self.signal = number


@contextlib.contextmanager
def signals():
    """A list that SIGINT and SIGTERM append themselves to inside the block, the second time with
    their usual effect."""
    received = []
    # only the main thread may handle signals
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number, frame):
        received.append(number)
        signal.signal(number, usual[number])

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    except RuntimeError:  # a signal to the whole group ends the compiler as well
        for number in received:
            signal.raise_signal(number)
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@config
class TrainConfig:
    """How a field is trained: Adam, warm-up, then a cosine decay."""

    steps: Count = 1500
    """Optimiser steps."""
    batch: Count = 2**16
    """Points per step."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 0
    """Of the weights and of the order of the samples: the apps set it before they build either; a
    Trainer does not."""
    warmup: Annotated[int, Interval(ge=0, le=MOST)] = 20
    """Steps over which the learning rates rise to their value."""
    decay: Annotated[float, Interval(gt=0, le=1)] = 0.03
    """What is left of the learning rates at the last step."""
    eval_every: Count = 250
    """Steps between evaluations."""
    ema: Share = 0.0
    """Evaluate and keep the exponential moving average of the weights with this decay per step; 0:
    the weights themselves."""
    clip: Weight = 0.0
    """Largest norm of the gradient; 0: no clipping."""
    minutes: Weight = 0.0
    """Train for this many minutes, without compilation and evaluations, however many steps that
    are; 0: `steps` decide."""
    save_every: Weight = 60.0
    """Seconds between checkpoints from which --resume goes on; 0: one only where a signal
    interrupts the run."""

    def elapsed(self, step: int, seconds: float) -> float:
        """How much of the training lies before a step that begins after `seconds` of it: from 0 to
        1."""
        return (
            min(1.0, seconds / (60 * self.minutes))
            if self.minutes
            else step / max(1, self.steps - 1)
        )

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """The factor on every learning rate at a step, which begins after `seconds` of training."""
        elapsed = self.elapsed(step, seconds)
        cosine = self.decay + (1 - self.decay) * 0.5 * (1 + math.cos(math.pi * elapsed))
        return cosine * min(1.0, (step + 1) / (self.warmup + 1))


class Trainer:
    """Fits `model` to `task`; metrics go to out_dir/metrics.jsonl, one line per evaluation. out_dir
    None: no files.

    run: the config of the run as JSON-able data; with it, checkpoints go to
    out_dir/resume.safetensors, and a run that was killed goes on from there (`resume`) to the same
    weights, bit for bit, as one that was not: all that is random in it depends on the seed and the
    step alone. Not so with `minutes`, which the clock decides, and only up to rounding with another
    number of threads."""

    def __init__(self, task, model, config, out_dir=None, progress=True, run=None):
        self.task = task
        self.model = model
        self.config = config
        self.progress = progress and parallel.first
        self.run = run
        self.out_dir = Path(out_dir) if out_dir is not None else None
        parallel.broadcast(list(model.state_dict().values()))
        self.optimizer = Adam(model.parameter_groups(), clip=config.clip, reduce=parallel.add)
        self.parameters = self.optimizer.parameters
        self.average = [p.copy().stop_grad() for p in self.parameters] if config.ema else []
        self.step = 0
        self.seconds = 0.0
        self.loss = None
        self.history = []
        self.advanced = 0

    def fit(self):
        """Train; returns the result: last metrics, loss, steps, parameters, seconds_train,
        seconds_total (of this process).

        Raises TrainingStopped where the loss or a weight is no longer finite, and Interrupted after
        SIGINT or SIGTERM."""
        config = self.config
        started = time.time()
        first = self.step
        metrics = self.history[-1] if self.history else {}
        self.good = self._weights()
        mark = started
        saved = started
        bar = tqdm(
            total=None if config.minutes else config.steps,
            initial=first,
            disable=not self.progress,
            unit="step",
            dynamic_ncols=True,
        )
        with bar, self._log() as log, signals() as received:
            while True:
                compiling = self.step - first < COMPILING_STEPS
                clock = self.seconds + (0.0 if compiling else time.time() - mark)
                saving = time.time() - saved >= config.save_every > 0
                clock, saving, stopping = parallel.agree(clock, saving, bool(received))
                last = clock >= 60 * config.minutes if config.minutes else self.step == config.steps
                if self.run and self.step > first and (saving or stopping):
                    self._check()
                    self.seconds += time.time() - mark
                    self.save()
                    mark = saved = time.time()
                if stopping:
                    raise Interrupted(
                        (received or [signal.SIGTERM])[0],
                        self.step,
                        self.run and self.step and self.out_dir,
                    )
                if (
                    self.step
                    and (last or self.step % config.eval_every == 0)
                    and not self._evaluated()
                ):
                    self._check()
                    self.seconds += time.time() - mark
                    with self._averaged():
                        metrics = self.task.evaluate(self.model) if parallel.first else {}
                    self.history.append(
                        {
                            "step": self.step,
                            "seconds": round(self.seconds, 3),
                            "loss": self.loss.item(),
                            **metrics,
                        }
                    )
                    if log:
                        log.write(checkpoint.to_json(self.history[-1]) + "\n")
                        log.flush()
                    mark = time.time()
                # or else a signal came while it was evaluated
                if last and not parallel.agree(0.0, False, bool(received))[2]:
                    break
                if last:
                    continue
                self.task.prepare(self.model, config.elapsed(self.step, clock))
                self.loss = self._step(self.step, clock)
                self.step += 1
                bar.update()
                if self.step % 20 == 1:
                    self._check_loss()
                    bar.set_postfix(
                        {
                            "loss": f"{self.loss.item():.3g}",
                            **self.task.status(),
                            **{k: f"{v:.2f}" for k, v in metrics.items() if k == self.task.metric},
                        }
                    )
                if self.step - first == COMPILING_STEPS and (
                    config.minutes or self.step != config.steps
                ):
                    jt.sync_all()
                    mark = time.time()
        if self.average:
            self._restore([a.numpy() for a in self.average])
        line = {
            name: value
            for name, value in self.history[-1].items()
            if name not in ("step", "seconds")
        }
        return {
            **line,
            "steps": self.step,
            "parameters": count_parameters(self.model),
            "seconds_train": round(self.seconds, 3),
            "seconds_total": round(time.time() - started, 3),
        }

    def state_dict(self):
        """All variables that the next step depends on, but for the task's: the model's, Adam's
        moments, the average."""
        names = {id(value): name for name, value in self.model.state_dict().items()}
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for kind, values in (
            ("m", self.optimizer.m),
            ("v", self.optimizer.v),
            ("average", self.average),
        ):
            state.update(
                {f"{kind}.{names[id(p)]}": value for p, value in zip(self.parameters, values)}
            )
        return state

    def save(self):
        """Write the checkpoint; all processes wait until it is written."""
        if parallel.first:
            self._save()
        parallel.total(0)

    def _save(self):
        tensors = {name: value.numpy() for name, value in self.state_dict().items()}
        tensors.update({f"task.{name}": value for name, value in self.task.state().items()})
        checkpoint.save(
            self.out_dir / resume.NAME,
            tensors,
            {
                "run": self.run,
                "step": self.step,
                "seconds": self.seconds,
                "loss": self.loss.item(),
                "history": self.history,
            },
        )

    def resume(self, tensors, progress):
        """Go on from what `resume.find` returned; ValueError, naming the entry, where it does not
        fit."""
        name = str(self.out_dir / resume.NAME)
        own = {entry: value for entry, value in tensors.items() if not entry.startswith("task.")}
        fixed = [value for value in self.state_dict().values() if value.is_stop_grad()]
        checkpoint.require_entries(
            {f"task.{entry}" for entry in self.task.state()}, tensors.keys() - own.keys(), name
        )
        checkpoint.assign(self, own, name)
        for value in fixed:
            value.stop_grad()
        for value in self.parameters:
            value.start_grad()
        self.task.restore(
            {entry[len("task.") :]: value for entry, value in tensors.items() if entry not in own},
            name,
        )
        self.optimizer.steps = self.step = progress["step"]
        self.seconds = progress["seconds"]
        self.history = progress["history"]
        self.loss = jt.array([np.float32(progress["loss"])])
        jt.sync_all()

    def advance(self, steps):
        """Some steps more, at the schedule's start, and wait for them: for timings."""
        for _ in range(steps):
            self._step(self.advanced)
            self.advanced += 1
        jt.sync_all(True)

    def _step(self, step, seconds=0.0):
        batch, fraction = parallel.share(self.task.sample(step, self.config.batch))
        loss = sum(self.task.loss(self.model, batch).values())
        loss = self.optimizer.step(
            loss if fraction == 1 else loss * fraction, self.config.rate(step, seconds)
        )
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

    def _evaluated(self):
        return bool(self.history) and self.history[-1]["step"] == self.step

    @contextlib.contextmanager
    def _log(self):
        """metrics.jsonl, holding the lines so far, to write more; None without a folder."""
        if self.out_dir is None or not parallel.first:
            yield None
            return
        path = self.out_dir / "metrics.jsonl"
        with checkpoint.atomic_path(path) as temporary:
            temporary.write_text("".join(checkpoint.to_json(line) + "\n" for line in self.history))
        with open(path, "a") as log:
            yield log

    def _check_loss(self):
        if not math.isfinite(self.loss.item()):
            self._stop("the loss")

    def _check(self):
        """Wait for the steps so far; note the weights, if they and the loss are finite."""
        jt.sync_all()
        self._check_loss()
        weights = self._weights()
        if not all(np.isfinite(w).all() for w in weights):
            self._stop("a weight")
        self.good = weights

    def _stop(self, what):
        self._restore(self.good)
        if self.run and parallel.first:
            resume.finish(self.out_dir)  # it would only come to the same end
        rates = ", ".join(
            f"{g.get('name', 'all')} {g['lr']:.3g}" for g in self.optimizer.param_groups
        )
        raise TrainingStopped(
            f"{what} is not finite at step {self.step} (learning rates: {rates}); kept the weights"
            " of the last evaluation or checkpoint; lower the learning rates"
        )
