"""Cameras, their rays and poses, and the box of the world that a field covers; plain numpy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Annotated, Optional

from jgrid.config import HUGE, ArgumentError, Positive, config
from jgrid.scene.lens import Lens, reach_of

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

LATTICE = 16  # pixels between those that tell whether a lens reaches a picture
WIDEST = 1.2  # half an angle, in radians, of which a tangent is of use

Z = (0.0, 0.0, 1.0)
SKEWED = 1e-2  # a rotation may be, each product of its axes
AGREED = 0.3  # length of the mean of directions that have one in common

Pixels = Annotated[int, Interval(ge=1, le=2**16)]
Number = Annotated[float, Interval(ge=-HUGE, le=HUGE)]


@config
class Camera:
    """A pinhole behind a lens, all lengths in pixels; pixel centres lie at halves.

    distortion: OpenCV's (k1, k2, p1, p2), or these and k3, k4, k5, k6; of a fisheye (k1, k2, k3,
    k4): see `jgrid.scene.lens`."""

    width: Pixels
    height: Pixels
    fx: Positive
    fy: Positive
    cx: Number
    cy: Number
    distortion: tuple[Number, ...] = (0.0, 0.0, 0.0, 0.0)
    fisheye: bool = False

    def check(self) -> None:
        if len(self.distortion) not in ((4,) if self.fisheye else (4, 8)):
            raise ArgumentError("distortion", f"has {len(self.distortion)} numbers, wanted 4 or 8")

    @cached_property
    def lens(self) -> Lens:
        """What bends its rays."""
        k = np.zeros(8)
        k[: len(self.distortion)] = self.distortion
        return Lens(k, reach_of(k, self.fisheye), self.fisheye)

    @property
    def bent(self) -> bool:
        """Whether its lens is no mere pinhole."""
        return self.fisheye or any(self.distortion)

    @property
    def tangent(self) -> float:
        """Of half the angle that it sees along the shorter side of its picture, about."""
        half = min(self.width / self.fx, self.height / self.fy) / 2
        return float(np.tan(min(half, WIDEST))) if self.fisheye else half

    @cached_property
    def reaches_all(self) -> bool:
        """Whether the lens maps some direction to each pixel."""
        if not self.bent:
            return True
        # what it reaches has no holes: a lattice to the picture's edges tells
        lattice = [np.append(np.arange(0, n, LATTICE), n - 1) for n in (self.height, self.width)]
        row, column = np.meshgrid(*lattice, indexing="ij")
        return bool(np.isfinite(self.directions(column + 0.5, row + 0.5)).all())

    @lru_cache(maxsize=2)  # noqa: B019 - two cameras of numbers stay alive, no more
    def reached(self) -> np.ndarray:
        """The pixels (H, W) onto which the lens maps some direction; not to be written to."""
        if self.reaches_all:
            return np.ones((self.height, self.width), bool)
        row, column = np.indices((self.height, self.width))
        return np.isfinite(self.directions(column + 0.5, row + 0.5)).all(-1)

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Directions (N, 3) of length 1 in the camera's axes (right, up, back) through the points
        (u, v) of its picture; not finite where the lens maps none there."""
        point = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], axis=-1)
        if not self.bent:
            return _unit(point[..., 0], point[..., 1], np.ones_like(point[..., 0]))
        ahead = self.lens.directions(point.reshape(-1, 2), np.array([self.fx, self.fy]))
        return _unit(*np.moveaxis(ahead.reshape(*point.shape[:-1], 3), -1, 0))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the camera's axes -> (u, v) in its picture, (N, 2); not finite behind
        the camera (a fisheye may see them), and beyond the reach of its lens."""
        point = self.lens.project(points[:, 0], -points[:, 1], -points[:, 2])
        return point * [self.fx, self.fy] + [self.cx, self.cy]

    def magnification(self, points: np.ndarray) -> np.ndarray:
        """Pixels (N,) in which a short length at points (N, 3) in the camera's axes, that it sees,
        appears, by the length: at most, but for the distortion."""
        if not self.fisheye:
            return max(self.fx, self.fy) / -points[:, 2]
        away = np.hypot(points[:, 0], points[:, 1])
        wider = np.arctan2(away, -points[:, 2]) / np.maximum(away, 1e-30)  # around the axis
        along = 1 / np.linalg.norm(points, axis=1)
        return max(self.fx, self.fy) * np.maximum(wider, along)

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera, with a picture of this size."""
        x = width / self.width
        y = height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
        )

    def shrunk(self, by: int) -> "Camera":
        """The same camera, with pixels `by` times as wide; those that do not fill one at the right
        and the bottom are left out."""
        whole = replace(self, width=self.width // by * by, height=self.height // by * by)
        return whole.resized(self.width // by, self.height // by)

    def smaller(self, pixels: int) -> "Camera":
        """The same camera, with a picture of no more than about so many pixels."""
        shrink = np.sqrt(pixels / (self.width * self.height))
        if shrink >= 1:
            return self
        return self.resized(max(1, int(self.width * shrink)), max(1, int(self.height * shrink)))

    def rays(
        self, pose: np.ndarray, pixel: Optional[np.ndarray] = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Origin (N, 3), as exact as the pose, and direction (N, 3), float32, in world units, of
        pixels by number, row by row (None: of all); directions are not finite where the lens maps
        none to the pixel.

        pose: camera-to-world (4, 4), or (N, 4, 4) one for each pixel.
        """
        pixel = np.arange(self.width * self.height) if pixel is None else pixel
        return posed(pose, self.directions(pixel % self.width + 0.5, pixel // self.width + 0.5))


class Cameras:
    """Some cameras side by side, for rays of many at once: one for each picture."""

    def __init__(self, cameras: Sequence[Camera]):
        distinct = list(dict.fromkeys(cameras))
        number = {camera: n for n, camera in enumerate(distinct)}
        self._only = distinct[0] if len(distinct) == 1 else None
        self._of = np.array([number[camera] for camera in cameras])
        self._width = np.array([camera.width for camera in distinct])
        self._focal = np.array([(camera.fx, camera.fy) for camera in distinct])
        self._centre = np.array([(camera.cx, camera.cy) for camera in distinct])
        self._k = np.stack([camera.lens.k for camera in distinct], axis=1)
        self._reach = np.array([camera.lens.reach for camera in distinct])
        self._kind = np.array([camera.bent + camera.fisheye for camera in distinct])

    def rays(
        self, which: np.ndarray, poses: np.ndarray, pixel: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`Camera.rays` of pixels (N,) of pictures (N,), both by number, from poses (N, 4, 4)."""
        if self._only:
            return self._only.rays(poses, pixel)
        camera = self._of[which]
        row, column = np.divmod(pixel, self._width[camera])
        point = np.stack([column, row], axis=1) + 0.5
        point = (point - self._centre[camera]) / self._focal[camera]
        ahead = np.concatenate([point, np.ones_like(point[:, :1])], axis=1)
        for kind in (1, 2):  # a bent one, a fisheye
            these = np.flatnonzero(self._kind[camera] == kind)
            if len(these):
                own = camera[these]
                lens = Lens(self._k[:, own], self._reach[own], kind == 2)
                ahead[these] = lens.directions(point[these], self._focal[own])
        return posed(poses, _unit(*ahead.T))


def posed(pose: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (N, 3), as exact as the pose, and direction (N, 3), float32, in the world, of
    directions in the axes of cameras at a pose (4, 4), or one for each (N, 4, 4)."""
    turned = np.einsum("...ij,...j->...i", pose[..., :3, :3], direction)
    origin = np.broadcast_to(pose[..., :3, 3], turned.shape)
    return origin, turned.astype(np.float32)


def _unit(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Directions (right, down, ahead) as ones of length 1 (right, up, back): (..., 3)."""
    direction = np.stack([x, -y, -z], axis=-1)
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True)


@config
class Box:
    """The cube of the world that is the unit cube of the field: centre (3,), half its side, in
    world units.

    contracted: it is the middle of the unit cube, half as wide, and the rest of the world,
    contracted, is around it (`ops.render.march`)."""

    half: Positive
    centre: tuple[Number, Number, Number] = (0.0, 0.0, 0.0)
    contracted: bool = False

    @property
    def side(self) -> float:
        """The length, in world units, that is 1 in the unit cube."""
        return (4 if self.contracted else 2) * self.half

    def to_unit(self, origin: np.ndarray) -> np.ndarray:
        """Points (N, 3) of the world in the unit cube, float32."""
        # first, in the precision of the points: the world's coordinates may be large
        moved = (origin - np.asarray(self.centre)).astype(np.float32)
        return moved / np.float32(self.side) + np.float32(0.5)

    def to_world(self, x: np.ndarray) -> np.ndarray:
        """Where points (N, 3) inside the unit cube, or those that are contracted there, are in the
        world."""
        x = np.asarray(x, float) - 0.5
        if self.contracted:
            # 2 - 1/r, at r half sides from the middle
            reach = 4 * np.abs(x).max(axis=1, keepdims=True)
            x = np.where(reach > 1, x / np.maximum(reach, 1) / (2 - reach), x)
        return x * self.side + np.asarray(self.centre)


def look_at(eye: ArrayLike, target: ArrayLike = (0.0, 0.0, 0.0), up: ArrayLike = Z) -> np.ndarray:
    """The camera-to-world pose (4, 4) of a camera at `eye` that sees `target` in its middle; OpenGL
    axes (right, up, back)."""
    eye = np.asarray(eye, float)
    target = np.asarray(target, float)
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross(np.asarray(up, float), back)
    if np.linalg.norm(right) < 1e-9:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def sphere_poses(n: int, radius: float, lowest: float = -0.2, turn: float = 0.0) -> np.ndarray:
    """n poses on a sphere that look at its centre, spread evenly (Fibonacci's spiral) from the
    height `lowest` radius upwards."""
    z = lowest + (0.95 - lowest) * (np.arange(n) + 0.5) / n
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(n) + turn
    side = np.sqrt(1 - z * z)
    return np.stack(
        [
            look_at(radius * np.array([s * np.cos(a), s * np.sin(a), h]))
            for s, a, h in zip(side, angle, z)
        ]
    )


def circle_poses(n: int, radius: float, height: float = 0.5, up: ArrayLike = Z) -> np.ndarray:
    """n poses once around the axis `up`, of length 1, at `height` radius along it, looking at the
    origin."""
    side = np.sqrt(1 - height * height)
    to_up = standing(up).T
    return np.stack(
        [
            look_at(radius * to_up @ [side * np.cos(a), side * np.sin(a), height], up=up)
            for a in 2 * np.pi * np.arange(n) / n
        ]
    )


def standing(up: ArrayLike) -> np.ndarray:
    """A rotation (3, 3) that turns `up`, of length 1, to the z axis, and the x axis, where it can,
    to where it was."""
    z = np.asarray(up, float)
    x = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, -1.0, 0.0])
    x -= (x @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def are_rotations(turns: np.ndarray) -> np.ndarray:
    """Whether matrices (..., 3, 3) turn, nearly, without scaling or mirroring: (...), bool."""
    skew = np.abs(np.swapaxes(turns, -1, -2) @ turns - np.eye(3)).max((-1, -2))
    return (skew <= SKEWED) & (np.linalg.det(turns) > 0)


def upwards(poses: np.ndarray) -> tuple[float, float, float]:
    """What is up to the cameras of these poses (N, 4, 4): the z axis, where it is within 45 degrees
    of the mean of theirs or these have none in common; else that mean, of length 1."""
    mean = poses[:, :3, 1].mean(0)
    length = np.linalg.norm(mean)
    if length < AGREED or mean[2] > np.sqrt(0.5) * length:
        return Z
    x, y, z = mean / length
    return float(x), float(y), float(z)
