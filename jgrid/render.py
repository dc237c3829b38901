"""Cameras, their rays, the occupancy grid, and pictures of a radiance field; nothing here knows about networks.

A radiance is any object with `density(x)` (N, 3) -> (N,) per unit of length, and `execute(x, direction, ray)`, the latter of R rays,
-> density (N,) and colour (N, 3); x in the unit cube, direction (R, 3) of length 1, ray (N,) the row of each x's direction.
"""
from dataclasses import dataclass
from typing import NamedTuple, Optional

from jgrid.ops.render import composite, distances, march, marched, pack, visible

import jittor as jt
import numpy as np

LEAST = 1e-3       # transmittance at which a ray ends
RAYS = 2**14       # rays that are rendered at once
FAINTEST = 1e-6    # opacity of a step that may count
UNDISTORT = 12     # fixed-point iterations against a lens's distortion


@dataclass(frozen=True)
class Camera:
    """A pinhole with OpenCV's distortion (k1, k2, p1, p2), all lengths in pixels; pixel centres lie at halves."""
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple = (0.0, 0.0, 0.0, 0.0)

    def directions(self, u, v):
        """Directions (N, 3) of length 1 in the camera's axes (right, up, back) through the points (u, v) of its picture.

        Distorted points are d(p) = p (1 + k1 r^2 + k2 r^4) + tangential terms; d is inverted by fixed-point iteration.
        """
        distorted = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy], axis=-1)
        k1, k2, p1, p2 = self.distortion
        point = distorted
        for _ in range(UNDISTORT if any(self.distortion) else 0):
            x, y = point[..., 0], point[..., 1]
            square = x * x + y * y
            shift = np.stack([2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y], axis=-1)
            point = (distorted - shift) / (1 + square * (k1 + k2 * square))[..., None]
        direction = np.stack([point[..., 0], -point[..., 1], -np.ones_like(point[..., 0])], axis=-1)
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def project(self, points):
        """Points (N, 3) in the camera's axes -> (u, v) in its picture, (N, 2); not finite behind the camera."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = points[:, 0] / -points[:, 2], points[:, 1] / points[:, 2]
            k1, k2, p1, p2 = self.distortion
            square = x * x + y * y
            radial = 1 + square * (k1 + k2 * square)
            u = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
            v = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
            return np.where(points[:, 2:] < 0, np.stack([u * self.fx + self.cx, v * self.fy + self.cy], axis=1), np.nan)

    def rays(self, pose, pixel=None):
        """Origin (N, 3) and direction (N, 3) in world units, float32, of pixels by number, row by row (None: of all).

        pose: camera-to-world (4, 4), or (N, 4, 4) one for each pixel.
        """
        pixel = np.arange(self.width * self.height) if pixel is None else pixel
        direction = self.directions(pixel % self.width + 0.5, pixel // self.width + 0.5)
        turned = np.einsum("...ij,...j->...i", pose[..., :3, :3], direction)
        return np.broadcast_to(pose[..., :3, 3], turned.shape).astype(np.float32), turned.astype(np.float32)


def look_at(eye, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0)):
    """The camera-to-world pose (4, 4) of a camera at `eye` that sees `target` in its middle; OpenGL axes (right, up, back)."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-9:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


@dataclass(frozen=True)
class Box:
    """The cube of the world that is the unit cube of the field: centre (3,), half its side, in world units.

    contracted: it is the middle of the unit cube, half as wide, and the rest of the world, contracted, is around it (`ops.render.march`).
    """
    half: float
    centre: tuple = (0.0, 0.0, 0.0)
    contracted: bool = False

    @property
    def side(self):
        """The length, in world units, that is 1 in the unit cube."""
        return (4 if self.contracted else 2) * self.half

    def to_unit(self, origin):
        return ((origin - np.float32(self.centre)) / np.float32(self.side) + np.float32(0.5)).astype(np.float32)


class Occupancy:
    """Where the density is worth sampling: per cell a decaying maximum of the densities seen there (Instant-NGP, section E.1).

        density_c <- max(decay density_c, density(a random point of c));   occupied: density_c step > max(1e-6, min(least, its mean)).

    cells: along an axis; step: between samples, in sides of the cube; fraction: of the cells that an update looks at, half of them
    occupied ones; least: the opacity of a step from which a cell counts; contracted: the cube holds all of space, as a Box says.
    """

    def __init__(self, cells, step, fraction=0.25, decay=0.9, least=0.01, seed=0, contracted=False):
        if cells < 1 or not 0 < step < 1:
            raise ValueError(f"an occupancy grid wants cells >= 1 and a step between 0 and 1, got {cells} and {step}")
        self.cells, self.step, self.fraction, self.decay, self.least, self.contracted = cells, step, fraction, decay, least, contracted
        self.seed, self.updates, self._keep = seed, 0, np.ones(cells**3, bool)
        self.density = np.full(cells**3, np.inf, np.float32)
        self._set(self._keep)

    def _set(self, occupied):
        self.occupied = occupied
        self._distance = jt.array(distances(occupied.reshape((self.cells,) * 3))).stop_grad()

    def carve(self, keep):
        """Empty for good all cells but those in `keep` (cells^3,) bool, axis 0 fastest."""
        self.density[~keep], self._keep = 0, keep
        self._set(self.occupied & keep)

    def centres(self):
        """(cells^3, 3) in the unit cube, axis 0 fastest."""
        return self._points(np.arange(self.cells**3), 0.5)

    def _points(self, chosen, inside):
        cell = np.stack([chosen % self.cells, chosen // self.cells % self.cells, chosen // self.cells**2], axis=1)
        return ((cell + inside) / self.cells).astype(np.float32)

    def random_points(self, n, rng):
        """n points (n, 3) of the unit cube in occupied cells, of which there must be some."""
        return self._points(rng.choice(np.flatnonzero(self.occupied), n), rng.uniform(size=(n, 3)))

    def update(self, density, everything=False):
        """Look at the density of some cells, or at everything, once more; the seed and the number of updates say which."""
        rng, self.updates = np.random.default_rng((self.seed, self.updates)), self.updates + 1
        n = max(1, int(self.fraction * len(self.density)))
        if everything:
            chosen = np.arange(len(self.density))
        else:
            alive = np.flatnonzero(self.occupied)
            again = alive[rng.integers(0, len(alive), min(n // 2, len(alive)))] if len(alive) else alive
            chosen = np.unique(np.concatenate([rng.integers(0, len(self.density), n // 2), again]))
        chosen = chosen[self._keep[chosen]]
        points = self._points(chosen, rng.uniform(size=(len(chosen), 3)))
        with jt.no_grad():
            seen = np.concatenate([np.zeros(0, np.float32), *(density(jt.array(points[i:i + 2**17])).numpy()
                                                              for i in range(0, len(points), 2**17))])
        old = self.density[chosen]
        self.density[chosen] = np.where(np.isfinite(old), np.maximum(self.decay * old, seen), seen)
        self._judge()

    def restore(self, density, updates):
        """Take over the densities (cells^3,) and the number of updates of a grid of the same size, carved alike."""
        self.density, self.updates = density, updates
        if updates:
            self._judge()

    def _judge(self):
        """Which cells are occupied, by their densities."""
        opacity = self.density * np.float32(self.step)
        self._set(opacity > max(FAINTEST, min(self.least, float(opacity[self._keep & np.isfinite(opacity)].mean()))))

    def march(self, origin, direction, jitter):
        """The rays' samples: first (R + 1,) numpy, and a function of it that gives x, t, ray of the first samples of each ray."""
        rays = [origin, direction, jitter, self._distance]
        return (pack(march(*rays, self.step, self.contracted).numpy()),
                lambda first: marched(*rays, self.step, first, self.contracted))


class Samples(NamedTuple):
    """What light reaches: first (R + 1,) numpy, density (S,) and t (S,) of the samples; the latter None where there are none."""
    first: np.ndarray
    density: Optional[jt.Var] = None
    t: Optional[jt.Var] = None


def render_rays(radiance, occupancy, origin, direction, jitter, with_depth=False):
    """Colour along rays before any background, opacity, and the samples: [colour, opacity] (R, 4), Samples.

    Unit-cube origin (R, 3), direction (R, 3), jitter (R,): Jittor variables. Samples light does not reach are found by the density
    alone and then left out. with_depth: [colour, t, opacity] (R, 5), t the expected length times the opacity.
    """
    first, samples = occupancy.march(origin, direction, jitter)
    with jt.no_grad():
        if first[-1]:
            density = radiance.density(samples(first)[0])
            first = pack(visible(density, jt.full_like(density, occupancy.step), first, LEAST).numpy())
    if not first[-1]:
        return jt.zeros((origin.shape[0], 5 if with_depth else 4)), Samples(first)
    x, t, ray = samples(first)
    density, value = radiance(x.stop_grad(), direction, ray.stop_grad())
    if with_depth:
        value = jt.concat([value, t.unsqueeze(1)], dim=1)
    return composite(density, value, jt.full_like(density, occupancy.step).stop_grad(), first), Samples(first, density, t)


def picture(radiance, occupancy, camera, pose, box, background):
    """What a camera sees: colours (H, W, 3), expected depth (H, W) in world units (inf where nothing is), opacity (H, W)."""
    origin, direction = camera.rays(pose)
    parts = []
    with jt.no_grad():
        for i in range(0, len(origin), RAYS):
            rays = [jt.array(a) for a in (box.to_unit(origin[i:i + RAYS]), direction[i:i + RAYS])]
            jitter = jt.full((rays[0].shape[0],), 0.5)
            parts.append(render_rays(radiance, occupancy, *rays, jitter, with_depth=True)[0].numpy())
    values = np.concatenate(parts).reshape(camera.height, camera.width, 5)
    colour, t, opacity = values[..., :3], values[..., 3], values[..., 4]
    depth = np.where(opacity > 0.5, t / np.maximum(opacity, 1e-6), np.inf) * box.side
    return np.clip(colour + (1 - opacity[..., None]) * np.float32(background), 0, 1), depth, opacity
