"""Runs of the apps: their folders, and the protocol of a fit.

    run = Run("fit_image", "astronaut", {"pixels": pixels}, config)  # harms no other run
    run.make_folder()
    trainer = run.trainer(task, model)               # goes on where the run was interrupted
    result = run.fit(trainer, save)                  # saves what there is, also when it is stopped
    run.finish(result)                               # says, last, that all is there

While it trains, DIR/resume.safetensors holds all that its next step depends on.
"""

import dataclasses
import importlib.metadata
import itertools
import json
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, Union

from jgrid import checkpoint, parallel, picture
from jgrid.field import FIELDS, field_to_dict
from jgrid.solver import LeastSquares
from jgrid.task import AbstractTask
from jgrid.trainer import CHECKPOINT, Trainer, TrainingStopped

import numpy as np
from jittor import nn
from typing_extensions import Literal

# entries that change no weight may differ; the subject is no entry of the user's
FREE = ("out", "resume", "log", "train.save_every", "subject", "view", "view_port")

MODEL = "model.safetensors"  # of a run, what it fitted
Log = Literal["jsonl", "tensorboard"]
Saved = tuple[dict[str, np.ndarray], dict[str, Any]]  # a checkpoint's tensors, and how far it was


class Run:
    """A fit of an app: `folder`, the config's `out` or out/APP-SUBJECT-FIELD, and what happens with
    it.

    name: of the subject, which `arrays` hold; config: of the app, with entries out, resume, train
    and field. Of several subjects of one name each has a folder of its own, out/APP-SUBJECT-FIELD-2
    and so on; the same subject again replaces its results.

    ValueError as of `find`, and where `out` holds results of another subject.
    """

    def __init__(self, app: str, name: str, arrays: Mapping[str, np.ndarray], config: Any):
        kind = field_to_dict(config.field)["kind"].replace(":", "-")
        self.config = config
        self._entries = {**to_json(config), "subject": checkpoint.digest(arrays)}
        usual = Path("out") / f"{app}-{name}-{kind}"
        self.folder: Path = config.out or _own_folder(usual, self._entries, config.resume)
        self._saved = find(self.folder, self._entries, config.resume)

    def make_folder(self) -> None:
        """As `make_folder`."""
        make_folder(self.folder)

    def trainer(self, task: AbstractTask, model: nn.Module, log: Log = "jsonl") -> Trainer:
        """A trainer with the files of this run, which goes on from its checkpoint, if it has one;
        ValueError where that does not fit.

        log: metrics.jsonl is always written, for TensorBoard its folder `tensorboard` too."""
        scalars = None
        if log == "tensorboard":
            scalars = TensorBoard(self.folder / "tensorboard", anew=not self._saved)
        train = self.config.train
        trainer = Trainer(task, model, train, self.folder, run=self._entries, scalars=scalars)
        if self._saved:
            trainer.resume(*self._saved)
        return trainer

    def fit(
        self, trainer: Union[Trainer, LeastSquares], save: Callable[[], object]
    ) -> dict[str, Any]:
        """The trainer's result. save: called by the first process to save the model, at the end or
        where training stops: with its last good weights, or those of the last step."""
        try:
            result = trainer.fit()
        except (TrainingStopped, KeyboardInterrupt):
            if parallel.is_first:
                save()
            raise
        if parallel.is_first:
            save()
        return result

    def curve(self, trainer: Union[Trainer, LeastSquares], metric: str, label: str) -> Path:
        """METRIC.png: a metric over the seconds of training; returns the path."""
        seconds = [line["seconds"] for line in trainer.history]
        values = [line[metric] for line in trainer.history]
        path = self.folder / f"{metric}.png"
        return picture.curve(path, seconds, values, "seconds of training", label)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write config.json and result.json, which say that all is there, and forget the
        checkpoint."""
        write_run(self.folder, self._entries, result)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def show(self, summary: str, paths: Iterable[Path]) -> None:
        """Print a summary, and where the results are, but for those in folders of their own."""
        print("\n".join([summary, *(str(path) for path in paths if path.parent == self.folder)]))


class TensorBoard:
    """Scalars over steps, in a folder that TensorBoard reads; anew: what an earlier run left there
    goes. ValueError without tensorboardX."""

    def __init__(self, folder: Path, anew: bool):
        try:
            # its SummaryWriter would write in a thread, which an interrupt would cut short
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2
        except ImportError:
            raise ValueError(
                "`log` tensorboard needs tensorboardX: pip install tensorboardX"
            ) from None
        self._open = partial(event_file_writer.EventsWriter, str(folder / "events"))
        self._scalar = summary.scalar
        self._proto = event_pb2
        self._folder = folder
        self._anew = anew
        self._writer: Any = None

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if self._writer is None:
            self._begin(step)
        for name, value in values.items():
            self._write(step, summary=self._scalar(name, value))
        self._writer.flush()

    def _begin(self, step: int) -> None:
        self._folder.mkdir(exist_ok=True)
        for old in self._folder.glob("events.out.tfevents.*") if self._anew else []:
            old.unlink()
        self._writer = self._open()
        # TensorBoard then leaves out what an interrupted session wrote after its checkpoint
        start = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(step, session_log=start)

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._proto.Event(wall_time=time.time(), step=step, **content))


def cost(result: Mapping[str, Any]) -> str:
    """What a fit took, in words."""
    return (
        f"{result['parameters']:,} parameters, {result['seconds_train']:.1f} s of training on"
        f" {result['device']}"
    )


def _own_folder(usual: Path, run: dict[str, Any], resume: bool) -> Path:
    """The folder `usual`, or the first of it with a number, that holds nothing of another subject
    than this run's, but rather one that holds this subject's; where the user asks to go on but only
    others could, the first of theirs."""
    others = []
    folder = usual
    for n in itertools.count(2):
        if not _is_of_another(folder, run):
            break
        others.append(folder)
        folder = usual.with_name(f"{usual.name}-{n}")
    if not folder.exists():  # of those with numbers some may have been deleted
        numbered = sorted(usual.parent.glob(f"{usual.name}-[0-9]*"))
        mine = [other for other in numbered if _subject_in(other) == run.get("subject")]
        folder = mine[0] if mine and "subject" in run else folder
    unfinished = [other for other in others if (other / CHECKPOINT).exists()]
    if resume and unfinished and not folder.exists():
        return unfinished[0]
    if others:
        warnings.warn(
            f"{others[-1]} holds results of another subject of that name; those of this one go to"
            f" {folder}",
            stacklevel=3,
        )
    return folder


def _is_of_another(folder: Path, run: dict[str, Any]) -> bool:
    """Whether a folder's results, or its checkpoint, are known to be of another subject."""
    subject = _subject_in(folder)
    return None not in (subject, run.get("subject")) and subject != run["subject"]


def _subject_in(folder: Path) -> Optional[str]:
    """The digest of what the results, or the checkpoint, of a folder are of; None if unknown."""
    if (folder / CHECKPOINT).exists():
        found = checkpoint.read(folder / CHECKPOINT)[1].get("run")
    else:
        try:
            found = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError):
            return None
    return found.get("subject") if isinstance(found, dict) else None


def find(folder: Path, run: dict[str, Any], resume: bool) -> Optional[Saved]:
    """The checkpoint from which the run of this config goes on in its folder; None where it begins.

    run: the config as JSON-able data, and "subject", the digest of what is fitted, if it is known;
    resume: whether the user asks to go on. Raises ValueError where the folder's checkpoint is
    damaged or of another config or subject, or the run is finished, and where the user does not ask
    but would lose it."""
    path = folder / CHECKPOINT
    if _is_of_another(folder, run):
        raise ValueError(
            f"{folder} holds a run of another subject: what is fitted has changed since, or is a"
            " namesake; choose another `out`, or delete that folder"
        )
    if not path.exists():
        if resume and (folder / "result.json").exists():
            raise ValueError(
                f"{folder} holds the results of a finished run: there is nothing to resume"
            )
        if resume and parallel.is_first:
            print(f"no checkpoint in {folder}: beginning anew", file=sys.stderr)
        return None
    if not resume:
        raise ValueError(
            f"{folder} holds a run that is not finished: `resume` goes on with it; to begin anew,"
            f" delete {path}"
        )
    tensors, progress = checkpoint.read(path)
    types = {"run": dict, "step": int, "seconds": float, "loss": float, "history": list}
    if (
        not isinstance(progress, dict)
        or {name: type(value) for name, value in progress.items()} != types
    ):
        raise ValueError(f"{path}: not a checkpoint to resume from; delete it to begin anew")
    changed = _differences(progress["run"], run)
    if changed:
        raise ValueError(f"{path} is of a run of another config: this one has {'; '.join(changed)}")
    return tensors, progress


def _differences(saved: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """The entries, but FREE ones, in which two configs differ: a text for each."""
    saved = _flat(saved)
    run = _flat(run)
    return [
        f"`{name}` {run.get(name)}, not {saved.get(name)}"
        for name in sorted(saved.keys() | run.keys())
        if name not in FREE and saved.get(name) != run.get(name)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.steps": 3} of {"train": {"steps": 3}}."""
    entries = {}
    for name, value in values.items():
        if isinstance(value, dict):
            entries.update(_flat(value, f"{prefix}{name}."))
        else:
            entries[prefix + name] = value
    return entries


def make_folder(path: Path) -> Path:
    """Make a run's folder and try to write into it, before any work is done; OSError where that
    fails."""
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path


def again_folder(app: str, path: Path, what: str) -> Path:
    """Where an app puts what it makes of a saved model: the name of the run's folder, or the file's
    where it has one of its own."""
    name = path.resolve().parent.name if path.stem == "model" else f"{app}-{path.stem}"
    return Path("out") / f"{name}-{what}"


def to_json(value: Any) -> Any:
    """A config as JSON-able data: paths as strings, fields with their kind."""
    if isinstance(value, Path):
        return str(value)
    if type(value) in FIELDS.values():
        return field_to_dict(value)
    if dataclasses.is_dataclass(value):
        entries = dataclasses.fields(value)
        return {entry.name.rstrip("_"): to_json(getattr(value, entry.name)) for entry in entries}
    return value


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in ("jittor", "numpy")}
    return {"python": platform.python_version(), **packages}


def save_model(folder: Path, model: nn.Module, model_config: dict[str, Any]) -> None:
    """Write MODEL: the weights, and what a model is built of."""
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    checkpoint.save(folder / MODEL, tensors, model_config)


def model_of(run: Path) -> Path:
    """The model of a run: of its folder, or the file itself; ValueError where there is none."""
    path = run / MODEL if run.is_dir() else run
    if not path.is_file():
        what = f"no {MODEL} in it" if run.is_dir() else "no such file or folder"
        raise ValueError(f"{run}: {what}; wanted is what fit_image, fit_sdf or fit_views left")
    return path


def write_run(folder: Path, config: Any, result: Mapping[str, Any]) -> None:
    """Write config.json and result.json of a finished run."""
    checkpoint.write_json(folder / "config.json", to_json(config))
    checkpoint.write_json(folder / "result.json", {**result, "versions": versions()})
