"""Colour, opacity and depth along rays, and what a camera sees of a radiance.

A radiance is any object with `density(x)` (N, 3) -> (N,) per unit of length, and `execute(x,
direction, ray)`, the latter of R rays, -> density (N,) and colour (N, 3); x in the unit cube,
direction (R, 3) of length 1, ray (N,) the row of each x's direction. One that is `enclosed` has
something in every direction: behind a ray's samples is the colour of the last one, in a contracted
cube at infinity (mip-NeRF 360). Nothing here knows about networks.
"""

from typing import NamedTuple, Optional, Protocol, Union

from jgrid.field import in_chunks
from jgrid.ops.render import composite, pack, visible
from jgrid.scene.camera import Box, Camera
from jgrid.scene.occupancy import Occupancy

import jittor as jt
import numpy as np

LEAST = 1e-3  # transmittance at which a ray ends
RAYS = 2**14  # rays that are rendered at once


class Radiance(Protocol):
    """Density and colour of points, as the head of this file says."""

    enclosed: bool

    def density(self, x: jt.Var) -> jt.Var: ...

    def __call__(self, x: jt.Var, direction: jt.Var, ray: jt.Var) -> tuple[jt.Var, jt.Var]: ...


class Samples(NamedTuple):
    """What light reaches: offsets (R + 1,) numpy of each ray's samples, their density (S,) and
    t (S,); behind (R, 3): of what is enclosed the colours behind them, 0 of rays without. All but
    the first None where there are none."""

    offsets: np.ndarray
    density: Optional[jt.Var] = None
    t: Optional[jt.Var] = None
    behind: Optional[jt.Var] = None


def render_view(
    radiance: Radiance,
    occupancy: Occupancy,
    camera: Camera,
    pose: np.ndarray,
    box: Box,
    background: Union[float, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a camera sees: colours (H, W, 3), expected depth (H, W) in world units (inf where
    nothing is, or only what is behind all samples), opacity (H, W); nothing where its lens does not
    reach."""
    origin, direction = camera.rays(pose)
    unreached = ~np.isfinite(direction).all(1)
    direction[unreached] = [0.0, 0.0, 1.0]

    def seen(rays: jt.Var) -> jt.Var:
        jitter = jt.full((rays.shape[0],), 0.5)
        values, samples = render_rays(
            radiance, occupancy, rays[:, :3], rays[:, 3:], jitter, with_depth=True
        )
        behind = samples.behind
        if behind is None:
            behind = jt.array(np.broadcast_to(np.float32(background), (1, 3)))
        return jt.concat([values[:, :3] + (1.0 - values[:, 4:]) * behind, values[:, 3:]], dim=1)

    rays = np.concatenate([box.to_unit(origin), direction], axis=1)
    values = in_chunks(seen, rays, RAYS)
    if unreached.any():
        nothing = np.append(np.broadcast_to(np.float32(background), 3), [0, 0]).astype(np.float32)
        values = np.where(unreached[:, None], nothing, values)
    values = values.reshape(camera.height, camera.width, 5)
    colour = values[..., :3]
    t = values[..., 3]
    opacity = values[..., 4]
    depth = np.where(opacity > 0.5, t / np.maximum(opacity, 1e-6), np.inf) * box.side
    return np.clip(colour, 0, 1), depth, opacity


def render_rays(
    radiance: Radiance,
    occupancy: Occupancy,
    origin: jt.Var,
    direction: jt.Var,
    jitter: jt.Var,
    with_depth: bool = False,
    of_rays: bool = False,
) -> tuple[jt.Var, Samples]:
    """Colour along rays before any background, opacity, and the samples: [colour, opacity] (R, 4),
    Samples.

    Unit-cube origin (R, 3), direction (R, 3), jitter (R,): Jittor variables. Samples light does not
    reach are found by the density alone and then left out. with_depth: [colour, t, opacity] (R, 5),
    t the expected length times the opacity. of_rays: differentiable for origin and direction too,
    at fixed t.
    """
    rays = (origin.detach(), direction.detach()) if of_rays else (origin, direction)
    offsets, samples = occupancy.march(*rays, jitter)
    with jt.no_grad():
        if offsets[-1]:
            density = radiance.density(samples(offsets)[0])
            step = jt.full_like(density, occupancy.step)
            offsets = pack(visible(density, step, offsets, LEAST).numpy())
    if not offsets[-1]:
        return jt.zeros((origin.shape[0], 5 if with_depth else 4)), Samples(offsets)
    x, t, ray = samples(offsets)
    x = x.stop_grad()
    ray = ray.stop_grad()
    if of_rays:
        x = origin[ray] + t.stop_grad().unsqueeze(1) * direction[ray]
        x = contract(x) if occupancy.contracted else x
    density, value = radiance(x, direction, ray)
    if with_depth:
        value = jt.concat([value, t.unsqueeze(1)], dim=1)
    step = jt.full_like(density, occupancy.step).stop_grad()
    behind = _last(value[:, :3], offsets) if radiance.enclosed else None
    return composite(density, value, step, offsets), Samples(offsets, density, t, behind)


def _last(colour: jt.Var, offsets: np.ndarray) -> jt.Var:
    """The colour (S, 3) of each ray's last sample, 0 of rays without: (R, 3)."""
    some = np.diff(offsets) > 0
    last = jt.array(np.maximum(offsets[1:] - 1, 0).astype(np.int32))
    return colour[last] * jt.array(some[:, None].astype(np.float32)).stop_grad()


def contract(points: jt.Var) -> jt.Var:
    """c(p) of `ops.render.march`: (N, 3) anywhere, the box being [1/4, 3/4]^3 -> (N, 3) in the unit
    cube."""
    q = points - 0.5
    r = jt.maximum(4.0 * jt.abs(q).max(1, keepdims=True), 1.0)
    return 0.5 + (2.0 - 1.0 / r) / r * q
