"""Where a scene is worth sampling: the occupancy grid."""

from jgrid.field import in_chunks
from jgrid.ops.render import distances, march, marched, pack

import jittor as jt
import numpy as np

FAINTEST = 1e-6  # opacity of a step that may count


class Occupancy:
    """Where the density is worth sampling: per cell a decaying maximum of the densities seen there
    (Instant-NGP, section E.1).

        density_c <- max(decay density_c, density(a random point of c));   occupied: density_c step
        > max(1e-6, min(least, its mean)).

    cells: along an axis; step: between samples, in sides of the cube; fraction: of the cells that
    an update looks at, half of them occupied ones; least: the opacity of a step from which a cell
    counts; contracted: the cube holds all of space, as a Box says."""

    def __init__(self, cells, step, fraction=0.25, decay=0.9, least=0.01, seed=0, contracted=False):
        if cells < 1 or not 0 < step < 1:
            raise ValueError(
                f"an occupancy grid needs cells >= 1 and a step between 0 and 1, got {cells} and"
                f" {step}"
            )
        self.cells = cells
        self.step = step
        self.fraction = fraction
        self.decay = decay
        self.least = least
        self.contracted = contracted
        self.seed = seed
        self.updates = 0
        self._keep = np.ones(cells**3, bool)
        self.density = np.full(cells**3, np.inf, np.float32)
        self._set(self._keep)

    def _set(self, occupied):
        self.occupied = occupied
        self._distance = jt.array(distances(occupied.reshape((self.cells,) * 3))).stop_grad()

    def carve(self, keep):
        """Empty for good all cells but those in `keep` (cells^3,) bool, axis 0 fastest."""
        self.density[~keep] = 0
        self._keep = keep
        self._set(self.occupied & keep)

    def centres(self):
        """(cells^3, 3) in the unit cube, axis 0 fastest."""
        return self._points(np.arange(self.cells**3), 0.5)

    def _points(self, chosen, inside):
        cell = np.stack(
            [chosen % self.cells, chosen // self.cells % self.cells, chosen // self.cells**2],
            axis=1,
        )
        return ((cell + inside) / self.cells).astype(np.float32)

    def random_points(self, n, rng):
        """n points (n, 3) of the unit cube in occupied cells, of which there must be some."""
        return self._points(rng.choice(np.flatnonzero(self.occupied), n), rng.uniform(size=(n, 3)))

    def update(self, density, everything=False):
        """Look at the density of some cells, or at everything, once more; the seed and the number
        of updates say which."""
        rng = np.random.default_rng((self.seed, self.updates))
        self.updates = self.updates + 1
        n = max(1, int(self.fraction * len(self.density)))
        if everything:
            chosen = np.arange(len(self.density))
        else:
            alive = np.flatnonzero(self.occupied)
            again = (
                alive[rng.integers(0, len(alive), min(n // 2, len(alive)))] if len(alive) else alive
            )
            chosen = np.unique(np.concatenate([rng.integers(0, len(self.density), n // 2), again]))
        chosen = chosen[self._keep[chosen]]
        points = self._points(chosen, rng.uniform(size=(len(chosen), 3)))
        seen = in_chunks(density, points)
        old = self.density[chosen]
        self.density[chosen] = np.where(np.isfinite(old), np.maximum(self.decay * old, seen), seen)
        self._judge()

    def restore(self, density, updates):
        """Take over the densities (cells^3,) and the number of updates of a grid of the same size,
        carved alike."""
        self.density = density
        self.updates = updates
        if updates:
            self._judge()

    def _judge(self):
        """Which cells are occupied, by their densities."""
        opacity = self.density * np.float32(self.step)
        self._set(
            opacity
            > max(
                FAINTEST, min(self.least, float(opacity[self._keep & np.isfinite(opacity)].mean()))
            )
        )

    def march(self, origin, direction, jitter):
        """The rays' samples: first (R + 1,) numpy, and a function of it that gives x, t, ray of the
        first samples of each ray."""
        rays = [origin, direction, jitter, self._distance]
        return (
            pack(march(*rays, self.step, self.contracted).numpy()),
            lambda first: marched(*rays, self.step, first, self.contracted),
        )
