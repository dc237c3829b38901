"""What a lens does to directions, and back: OpenCV's distortion and fisheye; plain numpy.

    OpenCV   p = (x, y) / z, r = |p|, f = (1 + k1 r^2 + k2 r^4 + k3 r^6)
                                          / (1 + k4 r^2 + k5 r^4 + k6 r^6)
             d = p f + (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y)   (x, y of p)
    fisheye  t = the angle to the axis, d = (x, y) / |(x, y)| t (1 + k1 t^2 + k2 t^4 + k3 t^6
             + k4 t^8)

of directions (x right, y down, z ahead) to points d of the picture, in focal lengths from its
principal point.
"""

from typing import NamedTuple, Union

import numpy as np
from numpy.typing import ArrayLike

NEWTON = 8  # iterations against the distortion
HALVINGS = 12  # of the radii among which they start
DOUBLINGS = 60  # of a radius, of a lens that reaches everywhere
RESIDUAL = 1e-3  # of a pixel, at most, after them


class Lens(NamedTuple):
    """k: coefficients (8,), or (8, N) of as many lenses as there are points, in OpenCV's order k1,
    k2, p1, p2, k3, k4, k5, k6, of a fisheye k1, k2, k3, k4; reach: `reach_of` them, a number or
    (N,)."""

    k: np.ndarray
    reach: Union[float, np.ndarray]
    fisheye: bool = False

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Points d (N, 2) that directions are mapped to; not finite behind the camera, and beyond
        the reach."""
        with np.errstate(all="ignore"):
            if self.fisheye:
                away = np.hypot(x, y)
                angle = np.arctan2(away, z)
                ratio = np.where(away > 0, self._radial(angle)[0] / away, 1 / z)
                point = np.stack([x * ratio, y * ratio], axis=-1)
                seen = angle < self.reach
            else:
                u, v, *slopes = self._distort(x / z, y / z)
                point = np.stack([u, v], axis=-1)
                seen = (z > 0) & self._before_fold(x / z, y / z, *slopes)
        return np.where(seen[..., None], point, np.nan)

    def directions(self, point: np.ndarray, focal: np.ndarray) -> np.ndarray:
        """Directions (N, 3), not of length 1, that are mapped to points d (N, 2) to within RESIDUAL
        pixels, focal (2,) or (N, 2) being the focal lengths in pixels; not finite where there is
        none: Newton's method, from where halving leads."""
        away = np.linalg.norm(point, axis=-1)
        with np.errstate(all="ignore"):
            start = self._invert(away)
            if not self.fisheye:
                x, y = np.moveaxis(point * (start / np.maximum(away, 1e-30))[..., None], -1, 0)
                return self._undistort(point, x, y, focal)
            for _ in range(NEWTON):
                value, slope = self._radial(start)
                start = start - (value - away) / slope
            value, slope = self._radial(start)
            off = np.abs(value - away) * np.max(focal, axis=-1)
            arrived = (off < RESIDUAL) & (start < self.reach) & (slope > 0)
            side = point * (np.sin(start) / np.maximum(away, 1e-30))[..., None]
            direction = np.concatenate([side, np.cos(start)[..., None]], axis=-1)
        return np.where(arrived[..., None], direction, np.nan)

    def _undistort(
        self, point: np.ndarray, x: np.ndarray, y: np.ndarray, focal: np.ndarray
    ) -> np.ndarray:
        """Directions that d maps to points (N, 2), by Newton's method from (x, y)."""
        for _ in range(NEWTON):
            u, v, u_x, u_y, v_y = self._distort(x, y)
            u = u - point[..., 0]
            v = v - point[..., 1]
            det = u_x * v_y - u_y * u_y
            x = x - (v_y * u - u_y * v) / det
            y = y - (u_x * v - u_y * u) / det
        u, v, *slopes = self._distort(x, y)
        off = np.hypot((u - point[..., 0]) * focal[..., 0], (v - point[..., 1]) * focal[..., 1])
        arrived = (off < RESIDUAL) & self._before_fold(x, y, *slopes)
        return np.where(arrived[..., None], np.stack([x, y, np.ones_like(x)], axis=-1), np.nan)

    def _distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        """OpenCV's d of points (x, y) at depth 1: d_x, d_y and its slopes d_x/dx, d_x/dy = d_y/dx,
        d_y/dy."""
        p1, p2 = self.k[2:4]
        square = x * x + y * y
        radial, steeper = self._factor(square)
        steeper = 2 * steeper
        return (
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
            radial + x * x * steeper + 2 * p1 * y + 6 * p2 * x,
            x * y * steeper + 2 * p1 * x + 2 * p2 * y,
            radial + y * y * steeper + 6 * p1 * y + 2 * p2 * x,
        )

    def _before_fold(
        self, x: np.ndarray, y: np.ndarray, u_x: np.ndarray, u_y: np.ndarray, v_y: np.ndarray
    ) -> np.ndarray:
        """Whether points are within the reach, and d, of these slopes, mirrors nothing there."""
        return (np.hypot(x, y) < self.reach) & (u_x * v_y - u_y * u_y > 0)

    def _factor(self, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a radius is multiplied by, and the slope of that over the radius's square."""
        if self.fisheye:
            k1, k2, k3, k4 = self.k[:4]
            factor = 1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
            return factor, k1 + square * (2 * k2 + square * (3 * k3 + square * 4 * k4))
        k1, k2, _, _, k3, k4, k5, k6 = self.k
        over = 1 + square * (k4 + square * (k5 + square * k6))
        factor = (1 + square * (k1 + square * (k2 + square * k3))) / over
        slope = k1 + square * (2 * k2 + square * 3 * k3)
        return factor, (slope - factor * (k4 + square * (2 * k5 + square * 3 * k6))) / over

    def _radial(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the radial part alone maps radii, and its slope."""
        factor, steeper = self._factor(r * r)
        return r * factor, factor + 2 * r * r * steeper

    def _invert(self, away: np.ndarray) -> np.ndarray:
        """Roughly the radii (N,) that the radial part maps to these, no farther than the reach."""
        high = np.where(np.isinf(self.reach), 1.0, self.reach) * np.ones_like(away)
        for _ in range(DOUBLINGS):
            short = np.isinf(self.reach) & (self._radial(high)[0] < away)
            if not short.any():
                break
            high = np.where(short, 2 * high, high)
        low = np.zeros_like(away)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            short = self._radial(middle)[0] < away
            low = np.where(short, middle, low)
            high = np.where(short, high, middle)
        return (low + high) / 2


def reach_of(k: np.ndarray, fisheye: bool) -> float:
    """How far from the axis a lens of coefficients k (8,) maps: the radius r, the tangent of the
    angle to it, of a fisheye the angle itself, at most pi, up to which the radial part grows.

    Beyond that the formula folds back, or has a pole, which no lens does.
    """
    if fisheye:
        # the slope of t (1 + k1 t^2 + ...), over t^2
        return min(_first_root([9 * k[3], 7 * k[2], 5 * k[1], 3 * k[0], 1.0]), np.pi)
    k1, k2, _, _, k3, k4, k5, k6 = k
    top = np.poly1d([k3, k2, k1, 1.0])
    over = np.poly1d([k6, k5, k4, 1.0])
    # the numerator of the slope of r top(r^2) / over(r^2)
    slope = top * over + np.poly1d([2.0, 0.0]) * (top.deriv() * over - top * over.deriv())
    return min(_first_root(slope.coeffs), _first_root(over.coeffs))


def _first_root(polynomial: ArrayLike) -> float:
    """The least r > 0 at which a polynomial in r^2, the highest power first, is 0; inf: none."""
    roots = np.roots(polynomial)
    real = roots.real[(np.abs(roots.imag) < 1e-7 * np.abs(roots)) & (roots.real > 0)]
    return float(np.sqrt(real.min())) if len(real) else np.inf
