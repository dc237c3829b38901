"""Cameras, their rays and poses, and the box of the world that a field covers; plain numpy."""

from typing import Annotated, Optional

from jgrid.config import HUGE, Positive, config

import numpy as np
from annotated_types import Interval
from numpy.typing import ArrayLike

UNDISTORT = 12  # fixed-point iterations against a lens's distortion

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

    def directions(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Directions (N, 3) of length 1 in the camera's axes (right, up, back) through the points
        (u, v) of its picture.

        Distorted points are d(p) = p (1 + k1 r^2 + k2 r^4) + tangential terms; d is inverted by
        fixed-point iteration."""
        distorted = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], axis=-1)
        k1, k2, p1, p2 = self.distortion
        point = distorted
        for _ in range(UNDISTORT if any(self.distortion) else 0):
            x = point[..., 0]
            y = point[..., 1]
            square = x * x + y * y
            shift = np.stack(
                [
                    2 * p1 * x * y + p2 * (square + 2 * x * x),
                    p1 * (square + 2 * y * y) + 2 * p2 * x * y,
                ],
                axis=-1,
            )
            point = (distorted - shift) / (1 + square * (k1 + k2 * square))[..., None]
        direction = np.stack([point[..., 0], -point[..., 1], -np.ones_like(point[..., 0])], axis=-1)
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in the camera's axes -> (u, v) in its picture, (N, 2); not finite behind
        the camera."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x = points[:, 0] / -points[:, 2]
            y = points[:, 1] / points[:, 2]
            k1, k2, p1, p2 = self.distortion
            square = x * x + y * y
            radial = 1 + square * (k1 + k2 * square)
            u = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
            v = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
            return np.where(
                points[:, 2:] < 0,
                np.stack([u * self.fx + self.cx, v * self.fy + self.cy], axis=1),
                np.nan,
            )

    def rays(
        self, pose: np.ndarray, pixel: Optional[np.ndarray] = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Origin (N, 3) and direction (N, 3) in world units, float32, of pixels by number, row by
        row (None: of all).

        pose: camera-to-world (4, 4), or (N, 4, 4) one for each pixel.
        """
        pixel = np.arange(self.width * self.height) if pixel is None else pixel
        direction = self.directions(pixel % self.width + 0.5, pixel // self.width + 0.5)
        turned = np.einsum("...ij,...j->...i", pose[..., :3, :3], direction)
        origin = np.broadcast_to(pose[..., :3, 3], turned.shape)
        return origin.astype(np.float32), turned.astype(np.float32)


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
        centre = np.array(self.centre, np.float32)
        moved = (origin - centre) / np.float32(self.side) + np.float32(0.5)
        return moved.astype(np.float32)


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
