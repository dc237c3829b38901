"""A radiance without what lies outside a box."""

from jgrid.scene.render import Radiance

import jittor as jt
import numpy as np
from numpy.typing import ArrayLike


class Cropped:
    """A radiance whose density is 0 outside the box from `low` to `high`, (3,) each, of the unit
    cube; in a contracted one the box lies in its middle, from 1/4 to 3/4, where nothing is bent."""

    enclosed = False

    def __init__(self, radiance: Radiance, low: ArrayLike, high: ArrayLike):
        self.radiance = radiance
        self.low = np.asarray(low, np.float32)
        self.high = np.asarray(high, np.float32)

    def density(self, x: jt.Var) -> jt.Var:
        """x (N, 3) -> (N,)."""
        return self.radiance.density(x) * self._inside(x)

    def __call__(self, x: jt.Var, direction: jt.Var, ray: jt.Var) -> tuple[jt.Var, jt.Var]:
        density, colour = self.radiance(x, direction, ray)
        return density * self._inside(x), colour

    def _inside(self, x: jt.Var) -> jt.Var:
        """1 inside, 0 outside, (N,)."""
        middle = jt.array((self.low + self.high) / 2)
        half = jt.array((self.high - self.low) / 2)
        return ((x - middle).abs() <= half).float32().min(1)
