"""Pictures for those who look at a page: coarse while they move, finer and finer when they rest."""

import math
import queue
import time
from collections.abc import Generator, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Optional, Protocol

from jgrid.browser.page import Look, Page
from jgrid.scene.camera import Camera

import numpy as np

PIECE = 0.15  # seconds that a piece of work may take, about
RAYS = (2**10, 2**18)  # of a piece, at least and at most
FINER = 4  # times as many pixels in each next picture
GUESS = 2**14 / PIECE  # rays a second, before any have been measured

Drawing = Generator[None, None, np.ndarray]  # returns a picture (H, W, 3), after some pieces


class Subject(Protocol):
    """What is drawn: `values` of the pixels that a camera at a pose (4, 4) of the page's units
    sees, (H, W, C), in bands, and the `colours` (H, W, 3) of all of them.

    settings: what they depend on besides the camera; most: the pixels of the finest picture.
    """

    @property
    def settings(self) -> Hashable: ...

    @property
    def most(self) -> int: ...

    def values(self, pose: np.ndarray, camera: Camera) -> np.ndarray: ...

    def colours(self, values: np.ndarray) -> np.ndarray: ...


@dataclass
class _Sheet:
    """Somebody's pictures of what they see: the size of the next one, about; of the one that is
    shown; and what draws the next, when it is begun."""

    seen: Hashable
    pixels: int
    done: int = 0
    drawing: Optional[Drawing] = None


class Canvas:
    """Draws a subject for all who look at a page, piece by piece, in the thread that calls `work`.

    live: the subject changes, so that the finest picture is drawn again and again.
    """

    def __init__(self, page: Page, subject: Subject, live: bool = False):
        self.page = page
        self.subject = subject
        self.live = live
        self.jobs: queue.SimpleQueue[Iterator[None]] = queue.SimpleQueue()
        self._job: Optional[Iterator[None]] = None
        self._sheets: dict[int, _Sheet] = {}
        self._rate = GUESS  # rays a second

    @property
    def piece(self) -> int:
        """The rays of a piece, by how long the last ones took."""
        return int(np.clip(self._rate * PIECE, *RAYS))

    def warm(self) -> None:
        """Draw something small that nobody sees: Jittor compiles its kernels at their first use."""
        look = Look((), (), 0.7, 32, 32)
        self.subject.colours(self.subject.values(self.page.begins, camera_of(look, 2**10)))

    def work(self) -> bool:
        """Draw a piece of what is wanted most: first pictures before jobs before finer ones; False
        where nothing is wanted."""
        looks = self.page.looks()
        most = self.subject.most
        settings = self.subject.settings
        self._sheets = {n: sheet for n, sheet in self._sheets.items() if n in looks}
        for n, look in looks.items():
            if n not in self._sheets or self._sheets[n].seen != (look, settings):
                self._sheets[n] = _Sheet((look, settings), min(self.piece, most))
        wanted = [n for n in looks if self._wants(self._sheets[n], looks[n], most)]
        next_one = min(wanted, key=lambda n: self._sheets[n].done, default=None)
        first = next_one is not None and not self._sheets[next_one].done
        if not first and self._go_on_with_job():
            return True
        if next_one is None:
            return False
        self._draw(next_one, looks[next_one])
        return True

    def _wants(self, sheet: _Sheet, look: Look, most: int) -> bool:
        """Whether there is something to add; a picture to come has at most the window's pixels."""
        most = min(most, look.width * look.height)
        if sheet.done >= most and not self.live:
            return False
        if sheet.drawing is None:
            sheet.pixels = min(sheet.done * FINER or sheet.pixels, most)
        return True

    def _go_on_with_job(self) -> bool:
        """A step of the oldest job; False where there is none."""
        if self._job is None:
            try:
                self._job = self.jobs.get_nowait()
            except queue.Empty:
                return False
        try:
            next(self._job)
        except StopIteration:
            self._job = None
        except (OSError, ValueError) as error:
            self._job = None
            self.page.say("This did not work", str(error))
        return True

    def _draw(self, number: int, look: Look) -> None:
        """The next band of a sheet, which is shown when it is whole."""
        sheet = self._sheets[number]
        if sheet.drawing is None:
            sheet.drawing = self.picture(look.pose, camera_of(look, sheet.pixels))
        try:
            next(sheet.drawing)
        except StopIteration as whole:
            self.page.show(number, whole.value)
            sheet.drawing = None
            sheet.done = sheet.pixels

    def picture(self, pose: np.ndarray, camera: Camera) -> Drawing:
        """What a camera at a pose of the page's units sees, (H, W, 3): a band of about a piece at a
        time."""
        bands = []
        row = 0
        while row < camera.height:
            if row:
                yield
            rows = min(max(1, self.piece // camera.width), camera.height - row)
            began = time.perf_counter()
            bands.append(
                self.subject.values(pose, replace(camera, height=rows, cy=camera.cy - row))
            )
            rate = rows * camera.width / max(time.perf_counter() - began, 1e-6)
            self._rate = math.sqrt(self._rate * rate)
            row += rows
        return self.subject.colours(np.concatenate(bands))


def camera_of(look: Look, pixels: int) -> Camera:
    """What somebody looks through, with no more than about so many pixels."""
    focal = look.height / 2 / math.tan(look.angle / 2)
    whole = Camera(look.width, look.height, focal, focal, look.width / 2, look.height / 2)
    return whole.smaller(pixels)
