"""Cameras, their rays, the occupancy grid, and pictures of a radiance field; nothing here knows
about networks.

A radiance is any object with `density(x)` (N, 3) -> (N,) per unit of length, and `execute(x,
direction, ray)`, the latter of R rays,
-> density (N,) and colour (N, 3); x in the unit cube, direction (R, 3) of length 1, ray (N,) the
row of each x's direction."""

from typing import NamedTuple, Optional

from jgrid.ops.render import composite, pack, visible

import jittor as jt
import numpy as np

LEAST = 1e-3  # transmittance at which a ray ends
RAYS = 2**14  # rays that are rendered at once


class Samples(NamedTuple):
    """What light reaches: first (R + 1,) numpy, density (S,) and t (S,) of the samples; the latter
    None where there are none."""

    first: np.ndarray
    density: Optional[jt.Var] = None
    t: Optional[jt.Var] = None


def render_rays(radiance, occupancy, origin, direction, jitter, with_depth=False):
    """Colour along rays before any background, opacity, and the samples: [colour, opacity] (R, 4),
    Samples.

    Unit-cube origin (R, 3), direction (R, 3), jitter (R,): Jittor variables. Samples light does not
    reach are found by the density alone and then left out. with_depth: [colour, t, opacity] (R, 5),
    t the expected length times the opacity."""
    first, samples = occupancy.march(origin, direction, jitter)
    with jt.no_grad():
        if first[-1]:
            density = radiance.density(samples(first)[0])
            first = pack(
                visible(density, jt.full_like(density, occupancy.step), first, LEAST).numpy()
            )
    if not first[-1]:
        return jt.zeros((origin.shape[0], 5 if with_depth else 4)), Samples(first)
    x, t, ray = samples(first)
    density, value = radiance(x.stop_grad(), direction, ray.stop_grad())
    if with_depth:
        value = jt.concat([value, t.unsqueeze(1)], dim=1)
    return composite(
        density, value, jt.full_like(density, occupancy.step).stop_grad(), first
    ), Samples(first, density, t)


def picture(radiance, occupancy, camera, pose, box, background):
    """What a camera sees: colours (H, W, 3), expected depth (H, W) in world units (inf where
    nothing is), opacity (H, W)."""
    origin, direction = camera.rays(pose)
    parts = []
    with jt.no_grad():
        for i in range(0, len(origin), RAYS):
            rays = [
                jt.array(a) for a in (box.to_unit(origin[i : i + RAYS]), direction[i : i + RAYS])
            ]
            jitter = jt.full((rays[0].shape[0],), 0.5)
            parts.append(
                render_rays(radiance, occupancy, *rays, jitter, with_depth=True)[0].numpy()
            )
    values = np.concatenate(parts).reshape(camera.height, camera.width, 5)
    colour = values[..., :3]
    t = values[..., 3]
    opacity = values[..., 4]
    depth = np.where(opacity > 0.5, t / np.maximum(opacity, 1e-6), np.inf) * box.side
    return np.clip(colour + (1 - opacity[..., None]) * np.float32(background), 0, 1), depth, opacity
