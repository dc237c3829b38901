"""What all apps share: flags from a config, one clear line for a user's mistake."""

import contextlib
import io
import os
import re
import signal
import sys
import traceback
import unittest.mock
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Callable, NoReturn, Optional, TypeVar, Union, get_type_hints

from jgrid import command, memory, parallel, runtime
from jgrid.field import FIELDS
from jgrid.interrupt import Interrupted
from jgrid.trainer import TrainingStopped

import docstring_parser
import jittor as jt
import tyro
from typing_extensions import Literal, get_args

T = TypeVar("T")
NAMED: Any = type(tyro.conf.arg())  # what an entry's own flag name stands in
# what CUDA's errors say in the messages of Jittor's, and what is to be said
OF_THE_GPU = {
    r"cudaErrorMemoryAllocation|Unable to alloc cuda|GPU memory is overflow|_ALLOC\w*_FAILED": (
        "out of the GPU's memory: lower the batch or the size of the field, or end other programs"
        " that use it"
    ),
    r"cudaErrorDevicesUnavailable|cudaErrorDeviceAlreadyInUse": (
        "the GPU is busy: another process has it for itself; `device` cpu does without"
    ),
    r"cudaErrorNoDevice|cudaErrorDeviceUninitialized|No device found": (
        "the GPU cannot be found any more; `device` cpu does without"
    ),
}
OF_COMMANDS = r"__tyro-dummy-inner__\."  # before the name of a part of one of several configs


def any_field(*configs: Any) -> Any:
    """The type of an app's field flag: any field of the library; `configs` are the defaults of
    their kinds, where the app has its own."""
    own = {type(config): config for config in configs}
    commands = []
    for name, kind in FIELDS.items():
        command = tyro.conf.subcommand(name, default=own.get(kind, kind()), prefix_name=False)
        commands.append(Annotated[kind, command])
    return Union[tuple(commands)]


AnyField = any_field()
From = Annotated[Union[Path, None], tyro.conf.arg(name="from")]
Device = Literal["auto", "cpu", "cuda"]


def flags(config: Any) -> dict[str, str]:
    """{"train.steps": "--train.steps", ...}: the flag of each entry of an app's config, or of the
    configs that a type of one can hold."""
    if is_dataclass(config):
        return dict(_flags(config, "", "--"))
    return {name: flag for each in _configs(config) for name, flag in _flags(each, "", "--")}


def _flags(config: Any, path: str, prefix: str) -> Iterator[tuple[str, str]]:
    """(path, flag) of each entry, with those of configs among the entries in their place."""
    is_type = isinstance(config, type)
    hints = get_type_hints(config if is_type else type(config), include_extras=True)
    for entry in fields(config):
        name = _flag_name(entry.name, hints[entry.name])
        inner: list[Any] = []
        if is_type:
            inner = list(_configs(hints[entry.name]))
        elif is_dataclass(getattr(config, entry.name)):
            inner = [getattr(config, entry.name)]
        for each in inner:
            yield from _flags(each, f"{path}{entry.name}.", f"{prefix}{name}." if name else prefix)
        if not inner:
            yield path + entry.name, prefix + name


def _flag_name(entry: str, hint: Any) -> str:
    """What an entry adds to a flag: the name its type gives it, which may be none, or its own."""
    for part in get_args(hint)[1:]:
        if isinstance(part, NAMED) and part.name is not None:
            return part.name
    return entry.strip("_").replace("_", "-")


def _configs(kind: Any) -> Iterator[type]:
    """The configs among what a type can hold."""
    if isinstance(kind, type) and is_dataclass(kind):
        yield kind
    for part in get_args(kind):
        yield from _configs(part)


def _join_help(kind: Any) -> None:
    """Give tyro the help of each entry, its docstring, in one line: it would keep the line breaks
    of the source among its own."""
    for each in _configs(kind):
        texts = {p.arg_name: p.description for p in docstring_parser.parse_from_object(each).params}
        for entry in fields(each):
            text = texts.get(entry.name)
            if text:
                entry.metadata = MappingProxyType({"help": " ".join(text.split())})
        for hint in get_type_hints(each, include_extras=True).values():
            _join_help(hint)


def with_flags(message: object, config: Any, within: str = "") -> str:
    """A message whose arguments in backquotes, entries of the config, are flags: `finest`, where
    the field alone has one, is --field.finest. within: the part of the config that speaks.

    What names no entry, or several of which none has the flag of that very name, stays in its
    backquotes.
    """
    known = flags(config)

    def flag(match: re.Match) -> str:
        name = match[1]
        for whole in (f"{within}.{name}", name, f"{name}_"):
            if whole in known:
                return known[whole]
        tails = {flag for path, flag in known.items() if path.endswith(f".{name}")}
        # among the flags a part may have a shorter name than in the config, or none
        for own in (_as_flag(f"{within}.{name}"), _as_flag(name)):
            if own in tails:
                return own
        return tails.pop() if len(tails) == 1 else match[0]

    return re.sub(r"`([a-z][\w.]*)`", flag, str(message))


def _as_flag(path: str) -> str:
    return f"--{path.replace('_', '-')}"


def say(message: object) -> None:
    """An error's one line on stderr."""
    where = (
        f" (process {parallel.rank} of {parallel.n_processes})" if parallel.n_processes > 1 else ""
    )
    print(f"error{where}: " + " ".join(str(message).split()), file=sys.stderr)


def leave(code: int) -> NoReturn:
    """End at once. An ordinary exit waits for children, which a signal may have ended in the wrong
    moment, and for MPI's other processes, which may be waiting for this one; mpirun ends those."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def fail(message: object, code: int = 2) -> NoReturn:
    """Say what is wrong, and end."""
    say(message)
    if parallel.n_processes > 1:
        leave(code)
    raise SystemExit(code)


@contextlib.contextmanager
def user_errors(config: Any = None) -> Iterator[None]:
    """Inside the block, where user data enters, ValueError and OSError are the user's to mend: one
    line, with the flags of the app's config, and exit code 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        fail(with_flags(error, config))


def parse(config_class: type[T], arguments: Optional[Sequence[str]] = None) -> T:
    """The config from the command line; a wrong one ends with one line and exit code 2."""
    _join_help(config_class)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(config_class, args=arguments)
    except ValueError as error:  # of a config without a name of its own among the flags
        message = str(error)
    except SystemExit as stop:
        if not stop.code:
            raise
        message = _what_is_wrong(config_class, arguments)
    # a config's own message is about one of its entries; else tyro has named the flag
    own = re.match(rf"Error parsing (?:{OF_COMMANDS})?([A-Za-z][\w.-]*): (.*)", message)
    if own:
        message = with_flags(own[2], config_class, within=own[1].replace("-", "_"))
    fail(f"{with_flags(message, config_class)}; --help lists all flags")


def _what_is_wrong(config_class: type, arguments: Optional[Sequence[str]]) -> str:
    """What tyro says of these arguments, in one line."""
    messages = io.StringIO()
    with (
        contextlib.redirect_stderr(messages),
        # a terminal so wide that no line of the message is broken
        unittest.mock.patch.dict(os.environ, COLUMNS="10000"),
        contextlib.suppress(SystemExit),
    ):
        tyro.cli(config_class, args=arguments)
    lines = [
        re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│╭╮╰╯─ ")
        for line in messages.getvalue().splitlines()
    ]
    return "; ".join(line for line in lines[1:] if line and "helptext" not in line)


def handle_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt, where Jittor would quit at once: so temporary
    files go, and training ends with a step."""

    def interrupt(number, frame):
        raise KeyboardInterrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    # a Ctrl-C ends Jittor's compiling children too, and Jittor would quit for that
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def show_warnings() -> None:
    """From now on a warning to users is one line on stderr, and is said once."""
    others = warnings.showwarning
    said = set()

    def show(message, category, *place):
        if not issubclass(category, UserWarning):
            others(message, category, *place)
        elif str(message) not in said and parallel.is_first:
            said.add(str(message))
            print("warning: " + " ".join(str(message).split()), file=sys.stderr)

    warnings.showwarning = show


def run(config_class: type[T], main: Callable[[T], Any]) -> None:
    """Parse the command line, call main(config), and end as a command should."""
    handle_signals()
    show_warnings()
    config = None
    try:
        config = parse(config_class)
        if command.has_stand_in():
            command.start_again()
        main(config)
    # all processes come here alike, so that one speaks for them
    except (TrainingStopped, Interrupted) as ended:
        if parallel.is_first:
            say(with_flags(ended, config))
        parallel.wait()  # the others wait until it has written what there is
        if isinstance(ended, Interrupted):
            leave(128 + ended.signal)
        sys.exit(1)
    except KeyboardInterrupt as interrupted:
        say("interrupted")
        leave(128 + (interrupted.args or [signal.SIGINT])[0])
    # a disk may be full, and memory taken, at any time
    except (memory.NotEnough, MemoryError, OSError) as error:
        kind = "out of memory: " if isinstance(error, MemoryError) else ""
        say(kind + with_flags(error, config))
        if parallel.n_processes > 1:
            leave(2)
        sys.exit(2)
    except Exception as error:
        for words, message in OF_THE_GPU.items():
            if isinstance(error, RuntimeError) and re.search(words, str(error)):
                fail(with_flags(message, config))
        if parallel.n_processes > 1:
            traceback.print_exc()
            leave(1)
        raise


def start(device: str, seed: int, several: bool = False) -> str:
    """Set Jittor's device and seed: auto takes CUDA where Jittor has it. Returns "cpu" or "cuda";
    ValueError without a wanted CUDA, or for several processes on GPUs without NCCL.

    several: whether what follows can be shared by several processes, of which the first alone
    prints; ValueError where it cannot."""
    if parallel.n_processes > 1 and not several:
        raise ValueError(
            "this runs in one process, without mpirun; several share the training of fit_image,"
            " fit_sdf and fit_views"
        )
    if not parallel.is_first:
        sys.stdout = open(os.devnull, "w")
    elif parallel.n_processes > 1:
        print(
            f"{parallel.n_processes} processes share every batch; should one die, mpirun ends them"
            " all, and the same command with --resume goes on from the last checkpoint",
            file=sys.stderr,
        )
    if device == "cuda" and not jt.has_cuda:
        trouble = runtime.gpu_trouble() or "Jittor has no usable CUDA here"
        raise ValueError(f"`device` cuda: {trouble}; python -m jgrid.runtime says more")
    wants_cuda = bool(jt.has_cuda) and device != "cpu"
    if wants_cuda and parallel.n_processes > 1 and os.environ.get("use_nccl") == "0":
        raise ValueError(f"{runtime.NO_NCCL}, or `device` cpu")
    jt.flags.use_cuda = int(wants_cuda)
    jt.set_global_seed(seed, different_seed_for_mpi=False)
    return "cuda" if jt.flags.use_cuda else "cpu"
