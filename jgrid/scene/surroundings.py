"""What is around a made scene, to infinity and exact: ground, balls at growing distances, hills and
sky."""

import numpy as np

GROUND = -1.0  # its height; the scene's mesh is in the unit sphere
BALLS = 10
DISTANCE = 5.0 * 1.25 ** np.arange(BALLS)  # of the balls' centres from the origin, seen from above
RADIUS = 0.22 * DISTANCE
ANGLE = 2.4 * np.arange(BALLS)  # nearly the golden one: no ball hides the next
CENTRE = np.stack(
    [DISTANCE * np.cos(ANGLE), DISTANCE * np.sin(ANGLE), GROUND + 0.8 * RADIUS], axis=1
)
COLOUR = 0.55 + 0.4 * np.sin(1.9 * np.arange(BALLS)[:, None] + [0.0, 2.1, 4.2])
LAMP = np.array([0.48, 0.36, 0.8])
HAZE = 60.0  # distance at which a ball or the ground has 1/e of its own colour
HORIZON = np.array([0.93, 0.9, 0.84])


def surroundings(origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Colours (N, 3) of rays from above the ground that meet nothing else: origin (N, 3), direction
    (N, 3) of length 1."""
    nearest = np.full(len(origin), np.inf)
    colour = _sky(direction)
    down = np.flatnonzero(direction[:, 2] < 0)
    nearest[down] = (GROUND - origin[down, 2]) / direction[down, 2]
    met = origin[down] + nearest[down, None] * direction[down]
    colour[down] = _hazy(_ground(met), nearest[down])
    for centre, radius, own in zip(CENTRE, RADIUS, COLOUR):
        away = origin - centre
        half = (away * direction).sum(1)
        square = half**2 - (away * away).sum(1) + radius**2
        t = -half - np.sqrt(np.maximum(square, 0))
        hit = (square > 0) & (t > 0) & (t < nearest)
        normal = (away + t[:, None] * direction)[hit] / radius
        light = 0.4 + 0.6 * np.maximum(0, normal @ (LAMP / np.linalg.norm(LAMP)))
        bands = 0.75 + 0.25 * np.tanh(
            4 * np.sin(9 * normal[:, 2] + 4 * np.arctan2(normal[:, 1], normal[:, 0]))
        )
        colour[hit] = _hazy((light * bands)[:, None] * own, t[hit])
        nearest[hit] = t[hit]
    return np.clip(colour, 0, 1)


def _ground(points):
    """Rings and rays that look alike at all scales, so that no distance is finer than a pixel where
    haze does not hide it."""
    distance = np.hypot(points[:, 0], points[:, 1])
    angle = np.arctan2(points[:, 1], points[:, 0])
    pattern = 0.5 + 0.5 * np.tanh(3 * np.sin(8 * np.log1p(distance)) * np.sin(8 * angle))
    return np.array([0.36, 0.42, 0.3]) + pattern[:, None] * np.array([0.42, 0.34, 0.22])


def _sky(direction):
    """Hills against a sky, at infinity: they depend on the direction alone."""
    angle = np.arctan2(direction[:, 1], direction[:, 0])
    height = direction[:, 2]
    blue = HORIZON + np.clip(height, 0, 1)[:, None] ** 0.6 * (np.array([0.28, 0.5, 0.82]) - HORIZON)
    skyline = 0.1 + 0.05 * np.sin(3 * angle) + 0.03 * np.sin(7 * angle + 1)
    hills = np.array([0.45, 0.5, 0.62]) + 0.1 * np.sin(24 * angle)[:, None]
    return np.where((height < skyline)[:, None], hills, blue)


def _hazy(colour, t):
    """Colours seen from t away."""
    left = np.exp(-t / HAZE)[:, None]
    return left * colour + (1 - left) * HORIZON
