"""Checkpoints from which a run goes on: everything that its next step depends on, in
DIR/resume.safetensors."""

import sys
from pathlib import Path

from jgrid import checkpoint, parallel
from jgrid.trainer import CHECKPOINT

FREE = ("out", "resume", "train.save_every")  # flags that change no weight, so that they may differ


def flat(values, prefix=""):
    """{"train.steps": 3} of {"train": {"steps": 3}}."""
    entries = {}
    for name, value in values.items():
        entries.update(
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return entries


def differences(saved, run):
    """The flags, but FREE ones, in which two configs differ: a text for each."""
    saved = flat(saved)
    run = flat(run)
    return [
        f"`{name}` {run.get(name)}, not {saved.get(name)}"
        for name in sorted(saved.keys() | run.keys())
        if name not in FREE and saved.get(name) != run.get(name)
    ]


def find(folder, run, wanted):
    """(tensors, progress) from which the run of this config goes on in its folder; None where it
    begins.

    run: the config as JSON-able data; wanted: whether the user asks to resume. Raises ValueError
    where the folder's checkpoint is damaged or of another config, or the run is finished, and where
    the user does not ask but would lose it."""
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        if wanted and (Path(folder) / "result.json").exists():
            raise ValueError(
                f"{folder} holds the results of a finished run: there is nothing to resume"
            )
        if wanted and parallel.is_first:
            print(f"no checkpoint in {folder}: beginning anew", file=sys.stderr)
        return None
    if not wanted:
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
    changed = differences(progress["run"], run)
    if changed:
        raise ValueError(f"{path} is of a run of another config: this one has {'; '.join(changed)}")
    return tensors, progress


def finish(folder):
    """Forget the checkpoint: the run has left its results."""
    (Path(folder) / CHECKPOINT).unlink(missing_ok=True)
