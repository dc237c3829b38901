"""What all apps share: flags from a config, one clear line for a user's mistake, the run folder."""
import contextlib
import dataclasses
import importlib.metadata
import io
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Union

from jgrid import checkpoint, memory
from jgrid.field import FIELDS, field_to_dict
from jgrid.trainer import TrainingStopped

import jittor as jt
import tyro
from typing_extensions import Literal


def any_field(*configs):
    """The type of an app's field flag: any field of the library; `configs` are the defaults of their kinds, where the app has its own."""
    own = {type(config): config for config in configs}
    return Union[tuple(Annotated[cls, tyro.conf.subcommand(name, default=own.get(cls, cls()), prefix_name=False)]
                       for name, cls in FIELDS.items())]


AnyField = any_field()
From = Annotated[Union[Path, None], tyro.conf.arg(name="from")]
Device = Literal["auto", "cpu", "cuda"]


def fail(message, code=2):
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def user_errors():
    """Inside the block, where user data enters, ValueError and OSError are the user's to mend: one line, exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        fail(error)


def parse(config_class, arguments=None):
    """The config from the command line; a wrong one ends with one line and exit code 2."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(config_class, args=arguments)
    except SystemExit as stop:
        if stop.code:
            lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│╭╮╰╯─ ") for line in messages.getvalue().splitlines()]
            text = "; ".join(line for line in lines[1:] if line and "helptext" not in line)
            fail(f"{text}; --help lists all flags")
        raise


def run(config_class, main):
    """Parse the command line, call main(config), and end as a command should."""
    try:
        main(parse(config_class))
    except TrainingStopped as stopped:
        fail(stopped, code=1)
    except (memory.NotEnough, OSError) as error:  # a disk may be full, and memory taken, at any time
        fail(error)
    except MemoryError as error:
        fail(f"out of memory: {error}")
    except KeyboardInterrupt:
        fail("interrupted", code=130)


def start(device, seed):
    """Set Jittor's device and seed: auto takes CUDA where Jittor has it. Returns "cpu" or "cuda"; ValueError without a wanted CUDA."""
    if device == "cuda" and not jt.has_cuda:
        raise ValueError("--device cuda: Jittor has no usable CUDA here; python -m jgrid.runtime says why")
    jt.flags.use_cuda = int(bool(jt.has_cuda) and device != "cpu")
    jt.set_global_seed(seed)
    return "cuda" if jt.flags.use_cuda else "cpu"


def make_folder(path):
    """Make the run's folder and try to write into it, before any work is done; OSError where that fails."""
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        return path


def to_json(config):
    """A config as JSON-able data: paths as strings, fields with their kind."""
    def plain(value):
        if isinstance(value, Path):
            return str(value)
        if type(value) in FIELDS.values():
            return field_to_dict(value)
        if dataclasses.is_dataclass(value):
            return {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return value

    return plain(config)


def versions():
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in ("jittor", "numpy")}}


def save_model(out_dir, model, model_config):
    checkpoint.save(out_dir / "model.safetensors", {k: v.numpy() for k, v in model.state_dict().items()}, model_config)


def write_run(out_dir, config, result):
    """config.json and result.json of a finished run."""
    checkpoint.write_json(out_dir / "config.json", to_json(config))
    checkpoint.write_json(out_dir / "result.json", {**result, "versions": versions()})
