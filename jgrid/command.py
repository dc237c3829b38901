"""How a command starts: it reads its flags before Jittor is imported, which may have to be compiled
for minutes. So --help and what is wrong with the flags need no Jittor.

A command is a program that imports `jgrid.cli`. Where Jittor is not compiled yet, or help is asked
for, something stands in for it that is good for being imported, inherited from and named in types.
Once the flags are right, or when the stand-in is used for anything else, the program starts again,
with Jittor."""

import contextlib
import os
import sys
from abc import ABCMeta
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from io import TextIOWrapper
from types import ModuleType
from typing import Any, Callable, NoReturn, Optional

READ = "JGRID_FLAGS_READ"  # in the environment of a program that starts again


class _Named(ABCMeta):
    """The type of classes that can only be named."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn

    def __bool__(cls) -> bool:
        return False

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        start_again()


class _StandIn(metaclass=_Named):
    """Any class, function or number of Jittor's."""


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        return getattr(_StandIn, name)


class _Loader:
    """Of the module that stands in for Jittor."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return


def is_running() -> bool:
    """Whether this program is a command."""
    main = sys.modules.get("__main__")
    return "jgrid.cli" in sys.modules and getattr(main, "__file__", None) is not None


def reads_flags_first(core_is_compiled: Callable[[], bool]) -> bool:
    """Whether Jittor is not to be imported yet."""
    if not is_running() or os.environ.pop(READ, ""):
        return False
    if {"-h", "--help"} & set(sys.argv[1:]):
        return True
    try:
        return not core_is_compiled()
    except Exception:  # whoever imports Jittor then says why it cannot run
        return False


def open_streams() -> None:
    """Where stdin, stdout or stderr are closed, nothing is read or written: else the next file to
    be opened would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", closefd=False))
        elif isinstance(stream, TextIOWrapper):  # a name may have letters that it has not
            stream.reconfigure(errors="backslashreplace")


def stand_in() -> ModuleSpec:
    """What stands in for Jittor."""
    return ModuleSpec("jittor", _Loader())  # type: ignore[arg-type]


def has_stand_in() -> bool:
    """Whether Jittor is not there yet."""
    return isinstance(sys.modules.get("jittor"), _Module)


def start_again() -> NoReturn:
    """Start this program anew, with Jittor."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    arguments = sys.orig_argv[1:] if sys.version_info >= (3, 10) else sys.argv
    os.environ[READ] = "1"
    os.execv(sys.executable, [sys.executable, *arguments])


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """In a command, an ImportError inside the block is one line and exit code 2, and so is a
    signal, with a code of its own."""
    try:
        yield
    except (ImportError, KeyboardInterrupt) as error:
        if not is_running():
            raise
        code: Optional[int] = 2
        message = str(error)
        if isinstance(error, KeyboardInterrupt):
            code = 128 + (error.args or [2])[0]
            message = "interrupted while Jittor was compiled; the same command goes on"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(code) from None
