"""Signals that end a training after a whole step, and an evaluation at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Optional, Union


class Interrupted(KeyboardInterrupt):
    """A signal ended training after a whole step; `signal` is its number, and the message says how
    to go on. folder: where the checkpoint is, if there is one."""

    def __init__(self, number: int, step: int, folder: Optional[Union[str, os.PathLike]]):
        super().__init__(
            f"interrupted by {signal.Signals(number).name} after step {step}"
            + (f"; saved in {folder}, the same command with `resume` goes on" if folder else "")
        )
        self.signal = number


class Ended(Exception):
    """A signal ended work that changes nothing, which can be done again."""


_watched: list[list[int]] = []  # lists of `signals`, the innermost last, that end such work


@contextlib.contextmanager
def ended_by(received: list[int]) -> Iterator[None]:
    """Inside the block `look` raises Ended where a signal has been received."""
    _watched.append(received)
    try:
        yield
    finally:
        _watched.pop()


def look() -> None:
    """Called now and then by what may take long: Ended where it is not to go on."""
    if _watched and _watched[-1]:
        raise Ended


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM append themselves to inside the block, the second time with
    their usual effect."""
    received: list[int] = []
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
