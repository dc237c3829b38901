"""Cameras, their rays and poses, and the box of the world that a field covers; plain numpy."""

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Optional

from jgrid.config import HUGE, Positive, config

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

NEWTON = 8  # iterations against a lens's distortion
TABLE = 2**12  # radii among which they start
RESIDUAL = 1e-3  # of a pixel, at most, after them

Pixels = Annotated[int, Interval(ge=1, le=2**16)]
Number = Annotated[float, Interval(ge=-HUGE, le=HUGE)]


@config
class Camera:
    """A pinhole with OpenCV's distortion (k1, k2, p1, p2), all lengths in pixels; pixel centres lie
    at halves."""

    width: Pixels
    height: Pixels
    fx: Positive
    fy: Positive
    cx: Number
    cy: Number
    distortion: tuple[Number, Number, Number, Number] = (0.0, 0.0, 0.0, 0.0)

    @property
    def reach(self) -> float:
        """The radius r, tangent of the angle to the axis, up to which the lens's
        r (1 + k1 r^2 + k2 r^4) grows: beyond it the polynomial folds back, which no lens does."""
        k1, k2, _, _ = self.distortion
        # the slope 1 + 3 k1 r^2 + 5 k2 r^4 is 0 first at the largest 1/r^2
        square = 9 * k1 * k1 - 20 * k2
        inverse = (square**0.5 - 3 * k1) / 2 if square >= 0 else 0.0
        return inverse**-0.5 if inverse > 0 else np.inf

    @lru_cache(maxsize=2)  # noqa: B019 - two cameras of numbers stay alive, no more
    def reached(self) -> np.ndarray:
        """The pixels (H, W) onto which the lens maps some direction; not to be written to."""
        shape = (self.height, self.width)
        if not any(self.distortion):
            return np.ones(shape, bool)
        row, column = np.indices(shape)
        return np.isfinite(self.directions(column + 0.5, row + 0.5)).all(-1)

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Directions (N, 3) of length 1 in the camera's axes (right, up, back) through the points
        (u, v) of its picture; not finite where the lens maps none there."""
        point = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], axis=-1)
        if any(self.distortion):
            point = self._undistort(point)
        direction = np.stack([point[..., 0], -point[..., 1], -np.ones_like(point[..., 0])], axis=-1)
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """OpenCV's map d of points (x, y) at depth 1: d_x, d_y and its slopes d_x/dx, d_x/dy =
        d_y/dx, d_y/dy.

            d(p) = p (1 + k1 r^2 + k2 r^4)
                   + (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y)
        """
        k1, k2, p1, p2 = self.distortion
        square = x * x + y * y
        radial = 1 + square * (k1 + k2 * square)
        steeper = 2 * (k1 + 2 * k2 * square)
        return (
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
            radial + x * x * steeper + 2 * p1 * y + 6 * p2 * x,
            x * y * steeper + 2 * p1 * x + 2 * p2 * y,
            radial + y * y * steeper + 6 * p1 * y + 2 * p2 * x,
        )

    def _undistort(self, point: np.ndarray) -> np.ndarray:
        """The points (..., 2) that d maps to these: Newton's method, from where the radial part
        alone would lead; not finite where it does not arrive, or arrives beyond the fold."""
        k1, k2, _, _ = self.distortion
        away = np.linalg.norm(point, axis=-1)
        most = away.max(initial=1.0)
        end = min(most, self.reach)
        while end < self.reach and end * (1 + end**2 * (k1 + k2 * end**2)) < most:
            end = min(2 * end, self.reach)
        radius = np.linspace(0, end, TABLE)
        start = np.interp(away, radius * (1 + radius**2 * (k1 + k2 * radius**2)), radius)
        x, y = np.moveaxis(point * (start / np.maximum(away, 1e-30))[..., None], -1, 0)
        with np.errstate(all="ignore"):
            for _ in range(NEWTON):
                u, v, u_x, u_y, v_y = self._distort(x, y)
                u = u - point[..., 0]
                v = v - point[..., 1]
                det = u_x * v_y - u_y * u_y
                x = x - (v_y * u - u_y * v) / det
                y = y - (u_x * v - u_y * u) / det
            u, v, u_x, u_y, v_y = self._distort(x, y)
            off = np.hypot((u - point[..., 0]) * self.fx, (v - point[..., 1]) * self.fy)
            arrived = (off < RESIDUAL) & self._before_fold(x, y, u_x * v_y - u_y * u_y)
        return np.where(arrived[..., None], np.stack([x, y], axis=-1), np.nan)

    def _before_fold(self, x: np.ndarray, y: np.ndarray, det: np.ndarray) -> np.ndarray:
        """Whether points are within the lens's reach, and d, whose slopes have this determinant,
        mirrors nothing there."""
        return (np.hypot(x, y) < self.reach) & (det > 0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the camera's axes -> (u, v) in its picture, (N, 2); not finite behind
        the camera, and beyond the reach of its lens."""
        with np.errstate(all="ignore"):
            x = points[:, 0] / -points[:, 2]
            y = points[:, 1] / points[:, 2]
            u, v, u_x, u_y, v_y = self._distort(x, y)
            seen = points[:, 2] < 0
            if any(self.distortion):
                seen &= self._before_fold(x, y, u_x * v_y - u_y * u_y)
            return np.where(
                seen[:, None],
                np.stack([u * self.fx + self.cx, v * self.fy + self.cy], axis=1),
                np.nan,
            )

    def smaller(self, pixels: int) -> "Camera":
        """The same camera, with a picture of no more than about so many pixels."""
        shrink = np.sqrt(pixels / (self.width * self.height))
        if shrink >= 1:
            return self
        width = max(1, int(self.width * shrink))
        height = max(1, int(self.height * shrink))
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

    def rays(
        self, pose: np.ndarray, pixel: Optional[np.ndarray] = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Origin (N, 3), as exact as the pose, and direction (N, 3), float32, in world units, of
        pixels by number, row by row (None: of all); directions are not finite where the lens maps
        none to the pixel.

        pose: camera-to-world (4, 4), or (N, 4, 4) one for each pixel.
        """
        pixel = np.arange(self.width * self.height) if pixel is None else pixel
        direction = self.directions(pixel % self.width + 0.5, pixel // self.width + 0.5)
        turned = np.einsum("...ij,...j->...i", pose[..., :3, :3], direction)
        origin = np.broadcast_to(pose[..., :3, 3], turned.shape)
        return origin, turned.astype(np.float32)


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


def look_at(
    eye: ArrayLike, target: ArrayLike = (0.0, 0.0, 0.0), up: ArrayLike = (0.0, 0.0, 1.0)
) -> np.ndarray:
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


def circle_poses(n: int, radius: float, height: float = 0.5) -> np.ndarray:
    """n poses once around the vertical axis at `height` radius, looking at the origin."""
    side = np.sqrt(1 - height * height)
    return np.stack(
        [
            look_at(radius * np.array([side * np.cos(a), side * np.sin(a), height]))
            for a in 2 * np.pi * np.arange(n) / n
        ]
    )
