"""Seconds of training, without what is done in between."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts the seconds from `start` to each pause. seconds: those up to the last pause."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.time()

    def start(self) -> None:
        """Count from now on, whatever has passed since the last pause."""
        self._since = time.time()

    def read(self) -> float:
        """The seconds until now."""
        return self.seconds + time.time() - self._since

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside the block does not count."""
        self.seconds = self.read()
        try:
            yield
        finally:
            self.start()
