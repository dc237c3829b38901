"""Photographs with their cameras."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional, Union

from jgrid.scene.camera import Box, Camera, Cameras

import numpy as np

# N pictures (H, W, ...): an array (N, H, W, ...), or a tuple where they are of several sizes
Pictures = Union[np.ndarray, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Views:
    """N pictures and where they were taken.

    pixels: (H, W, 4) uint8 each, straight alpha; poses (N, 4, 4), camera-to-world; cameras: of each
    picture; kept: the pixels (H, W) bool of each that masks keep, None without masks; names: of the
    pictures, as the scene's files have them, for messages; stated: the box that these files say
    holds the scene; points (P, 3): some of the scene, in the world, that they bring; kind: what the
    files are, in words; model: of the cameras, as the files have it;
    depths: (H, W) float32 of each picture, along the camera's axis in units of the poses, 0 where
    it is not known.
    """

    pixels: Pictures
    poses: np.ndarray
    cameras: Sequence[Camera]
    kept: Optional[Pictures] = None
    names: tuple[str, ...] = ()
    stated: Optional[Box] = None
    points: Optional[np.ndarray] = None
    kind: str = ""
    model: str = ""
    depths: Optional[Pictures] = None

    @property
    def camera(self) -> Camera:
        """The camera that took most of the pictures."""
        return Counter(self.cameras).most_common(1)[0][0]

    @property
    def tangent(self) -> float:
        """`Camera.tangent`, the median of the cameras'."""
        return float(np.median([camera.tangent for camera in self.cameras]))

    def name(self, n: int) -> str:
        """What picture n is called in messages."""
        return self.names[n] if self.names else f"picture {n}"

    def chosen(self, numbers: np.ndarray) -> "Views":
        """The views of these numbers."""
        return replace(
            self,
            pixels=_chosen(self.pixels, numbers),
            poses=self.poses[numbers],
            cameras=[self.cameras[n] for n in numbers],
            kept=None if self.kept is None else _chosen(self.kept, numbers),
            depths=None if self.depths is None else _chosen(self.depths, numbers),
            names=tuple(self.names[n] for n in numbers) if self.names else (),
        )

    def without(self, lost: np.ndarray) -> "Views":
        """The views but those of these numbers."""
        return self.chosen(np.setdiff1d(np.arange(len(self.poses)), lost)) if len(lost) else self

    @cached_property
    def counted(self) -> Optional[Pictures]:
        """The pixels (H, W) bool of each picture that are learnt and scored: those that masks keep
        and the lens reaches; None where these are all."""
        cameras = dict.fromkeys(self.cameras)
        if all(camera.reaches_all for camera in cameras):
            return self.kept
        reached = {camera: camera.reached() for camera in cameras}
        if self.kept is not None:
            return tuple(kept & reached[camera] for kept, camera in zip(self.kept, self.cameras))
        if len(reached) == 1:
            return np.broadcast_to(reached[self.camera], np.shape(self.pixels)[:3])
        return tuple(reached[camera] for camera in self.cameras)

    def empty(self, n: int) -> np.ndarray:
        """Where picture n says that nothing is: transparent pixels that count, (H, W) bool."""
        transparent = self.pixels[n][..., 3] == 0
        return transparent if self.counted is None else transparent & self.counted[n]

    def opaque(self, n: int) -> np.ndarray:
        """What picture n shows: pixels that count and are more opaque than not, (H, W) bool."""
        opaque = self.pixels[n][..., 3] > 127
        return opaque if self.counted is None else opaque & self.counted[n]

    @property
    def transparent(self) -> bool:
        """Whether a pixel is not opaque."""
        return any((picture[..., 3] < 255).any() for picture in self.pixels)

    def on(self, n: int, background: Union[float, np.ndarray]) -> np.ndarray:
        """Picture n laid over a background: (H, W, 3) float32 in [0, 1]."""
        rgba = self.pixels[n].astype(np.float32) / 255
        return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * np.float32(background)

    @property
    def size(self) -> str:
        """The pictures' width x height, in words."""
        sizes = sorted({(camera.width, camera.height) for camera in self.cameras})
        ends = dict.fromkeys((sizes[0], sizes[-1]))
        return " to ".join(f"{width} x {height}" for width, height in ends)

    @cached_property
    def _first(self) -> np.ndarray:
        """Of all pixels, the number of each picture's first, and how many there are: (N + 1,)."""
        return np.cumsum([0, *(camera.width * camera.height for camera in self.cameras)])

    @property
    def n_pixels(self) -> int:
        """How many pixels all pictures have together."""
        return int(self._first[-1])

    @property
    def n_bytes(self) -> int:
        """How many bytes of memory they take, without those kept in a file."""
        kinds = (self.pixels, self.kept, self.depths)
        return sum(
            one.nbytes
            for pictures in kinds
            if pictures is not None
            for one in pictures
            if not isinstance(one, np.memmap)
        )

    def which(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels by number, picture after picture, row by row (M,) -> the pictures (M,), and the
        pixels of these (M,)."""
        view = np.searchsorted(self._first, numbers, side="right") - 1
        return view, numbers - self._first[view]

    def rays(self, view: np.ndarray, pixel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`Camera.rays` of pixels (M,) of pictures (M,), both by number."""
        return self._cameras.rays(view, self.poses[view], pixel)

    def lengths(self, view: np.ndarray, pixel: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """How long the rays of pixels (M,) of pictures (M,) with directions (M, 3) are to what they
        show, by the depth maps, of which there must be some: (M,), 0 where it is not known."""
        assert self.depths is not None
        ahead = -(direction * self.poses[view, :3, 2]).sum(1)
        depth = values_at(self.depths, view, pixel)
        return np.where(ahead > 0, depth / np.maximum(ahead, 1e-3), 0.0)

    @cached_property
    def _cameras(self) -> Cameras:
        return Cameras(self.cameras)


def values_at(pictures: Pictures, view: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """What pixels (M,) of pictures (M,), both by number, hold: (M, ...)."""
    if isinstance(pictures, np.ndarray):
        return pictures.reshape(len(pictures), -1, *pictures.shape[3:])[view, pixel]
    values = np.empty((len(view), *pictures[0].shape[2:]), pictures[0].dtype)
    for n in np.unique(view):
        these = view == n
        values[these] = pictures[n].reshape(-1, *pictures[n].shape[2:])[pixel[these]]
    return values


def edges(picture: np.ndarray) -> np.ndarray:
    """What the pixels along the edges of a picture (H, W, ...) hold, those of corners twice."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def described(train: Views, test: Views) -> str:
    """Both splits of a scene in a line."""
    pictures = len(train.poses) + len(test.poses)
    both = replace(train, cameras=[*train.cameras, *test.cameras])
    n = len(set(both.cameras))
    return (
        f"{train.kind}, {pictures} pictures by {n} camera{'s' * (n > 1)} ({train.model}) of"
        f" {both.size}; {len(test.poses)} to test with"
    )


def _chosen(pictures: Pictures, numbers: np.ndarray) -> Pictures:
    # those kept in a file would be read whole
    if isinstance(pictures, np.ndarray) and not isinstance(pictures, np.memmap):
        return pictures[numbers]
    return tuple(pictures[n] for n in numbers)
