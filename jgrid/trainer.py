"""The one training loop."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import IO, Annotated, Any, Callable, NamedTuple, NoReturn, Optional, Union

from jgrid import checkpoint, parallel
from jgrid.clock import Clock
from jgrid.config import MOST, ArgumentError, Count, Share, Weight, config
from jgrid.field import count_parameters
from jgrid.interrupt import Ended, Interrupted, ended_by, signals
from jgrid.optimizer import Adam
from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from tqdm import tqdm

COMPILING_STEPS = 2  # the first steps compile kernels; they are left out of seconds_train
CHECK_EVERY = 20  # steps between looks at the loss
CHECKPOINT = "resume.safetensors"  # in the folder of a run

Scalars = Callable[[int, dict[str, float]], object]  # of a step: {name: value}


class TrainingStopped(RuntimeError):
    """Training could not go on; the message says why, and the model holds its last good weights."""


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
    None: no files. progress: whether a bar is shown. scalars: is given the loss of every 20th step
    or so, "train/loss", and each evaluation, "evaluation/psnr" and the like.

    run: the config of the run as JSON-able data; with it, checkpoints go to
    out_dir/resume.safetensors, and a run that was killed goes on from there (`resume`) to the same
    weights, bit for bit, as one that was not: all that is random in it depends on the seed and the
    step alone. Not so with `minutes`, which the clock decides, and only up to rounding under CUDA,
    where the order of atomic sums is not fixed, or with another number of threads."""

    def __init__(
        self,
        task: AbstractTask,
        model: nn.Module,
        config: TrainConfig,
        out_dir: Optional[Union[str, os.PathLike]] = None,
        progress: bool = True,
        run: Optional[dict[str, Any]] = None,
        scalars: Optional[Scalars] = None,
    ):
        self.task = task
        self.model = model
        self.config = config
        self.scalars = scalars if parallel.is_first else None
        self.progress = progress and parallel.is_first
        if run is not None and out_dir is None:
            raise ValueError("`run` needs `out_dir`, the folder of its checkpoints")
        self.run = run
        self.out_dir = Path(out_dir) if out_dir is not None else None
        beside = {} if task.learned is None else {"learned": task.learned}
        self._modules = {"model": model, **beside}
        parallel.broadcast(list(self._variables().values()))
        groups = [g for module in self._modules.values() for g in module.parameter_groups()]
        self.optimizer = Adam(groups, clip=config.clip, reduce=parallel.add)
        self.parameters = self.optimizer.parameters
        self.average = [p.copy().stop_grad() for p in self.parameters] if config.ema else []
        self.step = 0
        self.loss: jt.Var = None  # of the last step
        self.history: list[dict[str, float]] = []
        self.advanced = 0
        self.watch: Optional[Callable[[Trainer], None]] = None  # called after each step
        self._clock = Clock()
        self._good: list[np.ndarray] = []  # weights, where the loss was finite
        self._began = 0  # the step with which this process began, or begins
        self._saved = 0  # the step of the last checkpoint, and when it was written
        self._saved_at = 0.0

    def fit(self) -> dict[str, Any]:
        """Train; returns the result: last metrics, loss, steps, parameters, seconds_train,
        seconds_total (of this process).

        Raises TrainingStopped where the loss or a weight is no longer finite, and Interrupted after
        SIGINT or SIGTERM."""
        started = time.time()
        self._begin(started)
        with self._bar() as bar, self._log() as log, signals() as received:
            while True:
                seconds, saving, stopping = parallel.agree(
                    self._seconds(), self._is_checkpoint_due(), bool(received)
                )
                if self.run and self.step > self._saved and (saving or stopping):
                    self._checkpoint()
                if stopping:
                    folder = self.out_dir if self.run and self.step else None
                    raise Interrupted((received or [signal.SIGTERM])[0], self.step, folder)
                last = self._is_last(seconds)
                if self._is_evaluation_due(last):
                    self._evaluate(log, last, received)
                    continue  # a signal may have come meanwhile, and ended it
                if last:
                    break
                self.task.prepare(self.model, self.config.elapsed(self.step, seconds))
                self.loss = self._step(self.step, seconds)
                self.step += 1
                self._show(bar)
                if self.step - self._began == COMPILING_STEPS and not self._is_last(0.0):
                    jt.sync_all()
                    self._clock.start()  # compiling does not count
                if self.watch and self.step - self._began >= COMPILING_STEPS:
                    self.watch(self)
        if self.average:
            self._restore([a.numpy() for a in self.average])
        return {
            **{k: v for k, v in self.history[-1].items() if k not in ("step", "seconds")},
            "steps": self.step,
            "parameters": count_parameters(self.model),
            "seconds_train": round(self._clock.seconds, 3),
            "seconds_total": round(time.time() - started, 3),
        }

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside the block, once all steps so far are done, is no training: its time
        does not count."""
        jt.sync_all()
        with self._clock.paused():
            yield

    def _begin(self, now: float) -> None:
        self._good = self._weights()
        self._began = self.step
        self._saved = self.step
        self._saved_at = now
        self._clock.start()

    def _seconds(self) -> float:
        """How long this has been training: while it compiles, the clock stands still."""
        compiling = self.step - self._began < COMPILING_STEPS
        return self._clock.seconds if compiling else self._clock.read()

    def _is_last(self, seconds: float) -> bool:
        """Whether there is no step after these."""
        if self.config.minutes:
            return seconds >= 60 * self.config.minutes
        return self.step == self.config.steps

    def _is_evaluation_due(self, last: bool) -> bool:
        if self.step == 0 or (self.history and self.history[-1]["step"] == self.step):
            return False
        return last or self.step % self.config.eval_every == 0

    def _is_checkpoint_due(self) -> bool:
        return time.time() - self._saved_at >= self.config.save_every > 0

    def _checkpoint(self) -> None:
        self._check()
        with self._clock.paused():
            self.save()
        self._saved = self.step
        self._saved_at = time.time()

    def _evaluate(self, log: Optional[IO[str]], last: bool, received: list[int]) -> None:
        """A line more in the history, and in the log; none where a signal ends it."""
        self._check()
        evaluate = self.task.evaluate if last else self.task.glance
        with self._clock.paused():
            try:
                with self._averaged(), ended_by(received):
                    metrics = evaluate(self.model) if parallel.is_first else {}
            except Ended:
                return
            line = {
                "step": self.step,
                "seconds": round(self._clock.seconds, 3),
                "loss": self.loss.item(),
                **metrics,
            }
            self.history.append(line)
            if log:
                log.write(checkpoint.to_json(line) + "\n")
                log.flush()
            if self.scalars:
                self.scalars(self.step, {f"evaluation/{k}": v for k, v in metrics.items()})

    def _bar(self) -> tqdm:
        return tqdm(
            total=None if self.config.minutes else self.config.steps,
            initial=self.step,
            disable=not self.progress,
            unit="step",
            dynamic_ncols=True,
        )

    def _show(self, bar: tqdm) -> None:
        """The step on the bar; now and then the loss, which has to be finite."""
        bar.update()
        if self.step % CHECK_EVERY != 1:
            return
        self._check_loss()
        if self.scalars:
            self.scalars(self.step, {"train/loss": self.loss.item()})
        shown = {"loss": f"{self.loss.item():.3g}", **self.task.status()}
        if self.history and self.task.metric in self.history[-1]:
            shown[self.task.metric] = f"{self.history[-1][self.task.metric]:.2f}"
        bar.set_postfix(shown)

    def _variables(self) -> dict[str, jt.Var]:
        """Those of the model, and of what is learned beside it."""
        return {
            f"{kind}.{name}": value
            for kind, module in self._modules.items()
            for name, value in module.state_dict().items()
        }

    def state_dict(self) -> dict[str, jt.Var]:
        """All variables that the next step depends on, but for the task's state: the model's, what
        is learned beside it, Adam's moments, the average."""
        state = self._variables()
        names = {id(value): name.removeprefix("model.") for name, value in state.items()}
        for kind, values in (
            ("m", self.optimizer.m),
            ("v", self.optimizer.v),
            ("average", self.average),
        ):
            state.update(
                {f"{kind}.{names[id(p)]}": value for p, value in zip(self.parameters, values)}
            )
        return state

    @property
    def _checkpoint_path(self) -> Path:
        assert self.out_dir is not None  # a run has a folder
        return self.out_dir / CHECKPOINT

    def save(self) -> None:
        """Write the checkpoint; all processes wait until it is written."""
        if parallel.is_first:
            self._save()
        parallel.wait()

    def _save(self) -> None:
        tensors = {name: value.numpy() for name, value in self.state_dict().items()}
        tensors.update({f"task.{name}": value for name, value in self.task.state().items()})
        checkpoint.save(
            self._checkpoint_path,
            tensors,
            {
                "run": self.run,
                "step": self.step,
                "seconds": self._clock.seconds,
                "loss": self.loss.item(),
                "history": self.history,
            },
        )

    def resume(self, tensors: dict[str, np.ndarray], progress: dict[str, Any]) -> None:
        """Go on from what `run.find` returned; ValueError, naming the entry, where it does not
        fit."""
        name = str(self._checkpoint_path)
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
        self._clock.seconds = progress["seconds"]
        self.history = progress["history"]
        self.loss = jt.array([np.float32(progress["loss"])])
        jt.sync_all()

    def advance(self, steps: int) -> None:
        """Some steps more, at the schedule's start, and wait for them: for timings."""
        for _ in range(steps):
            self._step(self.advanced)
            self.advanced += 1
        jt.sync_all(True)

    def _step(self, step: int, seconds: float = 0.0) -> jt.Var:
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

    def _weights(self) -> list[np.ndarray]:
        return [p.numpy() for p in self.parameters]

    def _restore(self, weights: list[np.ndarray]) -> None:
        for parameter, value in zip(self.parameters, weights):
            parameter.update(jt.array(value))

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
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

    @contextlib.contextmanager
    def _log(self) -> Iterator[Optional[IO[str]]]:
        """metrics.jsonl, holding the lines so far, to write more; None without a folder."""
        if self.out_dir is None or not parallel.is_first:
            yield None
            return
        path = self.out_dir / "metrics.jsonl"
        with checkpoint.atomic_path(path) as temporary:
            temporary.write_text("".join(checkpoint.to_json(line) + "\n" for line in self.history))
        with open(path, "a") as log:
            yield log

    def _check_loss(self) -> None:
        if not math.isfinite(self.loss.item()):
            self._stop("the loss")

    def _check(self) -> None:
        """Wait for the steps so far; note the weights, if they and the loss are finite."""
        jt.sync_all()
        self._check_loss()
        weights = self._weights()
        if not all(np.isfinite(w).all() for w in weights):
            self._stop("a weight")
        self._good = weights

    def _stop(self, what: str) -> NoReturn:
        self._restore(self._good)
        if self.run and parallel.is_first:
            self._checkpoint_path.unlink(missing_ok=True)  # it would only come to the same end
        rates = ", ".join(
            f"{g.get('name', 'all')} {g['lr']:.3g}" for g in self.optimizer.param_groups
        )
        raise TrainingStopped(
            f"{what} is not finite at step {self.step} (learning rates: {rates}); kept the weights"
            " of the last evaluation or checkpoint; lower the learning rates"
        )


class Fit(NamedTuple):
    """The fitted model, its result (`Trainer.fit`), and a dict for each evaluation."""

    model: nn.Module
    result: dict[str, Any]
    history: list[dict[str, float]]


def fit(task: AbstractTask, config: Any, steps: int = 500, **train: Any) -> Fit:
    """Fit a field to a task: `fit(ImageTask(pixels), HashGridConfig()).result["psnr"]`.

    config: of the field; train: entries of TrainConfig. The seed among them sets the random numbers
    of Jittor, numpy and Python, as the apps do: their weights come out with their options.
    ArgumentError where TrainConfig has no room for a value; else as `Trainer.fit`.
    """
    known = [entry.name for entry in fields(TrainConfig)]  # type: ignore[arg-type]
    for name in train:
        if name not in known:
            raise ArgumentError(name, f"is no entry of TrainConfig; there are {', '.join(known)}")
    train_config = TrainConfig(steps=steps, **train)
    jt.set_global_seed(train_config.seed, different_seed_for_mpi=False)
    model = task.build(config)
    trainer = Trainer(task, model, train_config)
    result = trainer.fit()
    return Fit(model, result, trainer.history)
