"""Where a scene is worth sampling: the occupancy grid."""

from typing import Callable

from jgrid.field import in_chunks
from jgrid.ops.render import distances, march, marched, pack

import jittor as jt
import numpy as np
from numpy.typing import ArrayLike

FAINTEST = 1e-6  # opacity of a step that may count


class Occupancy:
    """Where the density is worth sampling: per cell a decaying maximum of the densities seen there
    (Instant-NGP, section E.1).

        density_c <- max(decay density_c, density(a random point of c));   occupied: density_c step
        > max(1e-6, min(least, its mean)).

    cells: along an axis; step: between samples, in sides of the cube; fraction: of the cells that
    an update looks at, half of them occupied ones; least: the opacity of a step from which a cell
    counts; contracted: the cube holds all of space, as a Box says; enclosed: the cells within two
    steps of its faces are always occupied, so that each ray has a last sample there.
    """

    def __init__(
        self,
        cells: int,
        step: float,
        fraction: float = 0.25,
        decay: float = 0.9,
        least: float = 0.01,
        seed: int = 0,
        contracted: bool = False,
        enclosed: bool = False,
    ):
        if cells < 1 or not 0 < step < 1:
            raise ValueError(
                "an occupancy grid needs `cells` of at least 1 and a `step` between 0 and 1, got"
                f" {cells} and {step}"
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
        self._faces = np.zeros([cells] * 3, bool)
        if enclosed:
            shell = int(np.ceil(2 * step * cells))
            self._faces[...] = True
            self._faces[(slice(shell, max(cells - shell, shell)),) * 3] = False
        self.density = np.full(cells**3, np.inf, np.float32)
        self._set(self._keep)

    def march(
        self, origin: jt.Var, direction: jt.Var, jitter: jt.Var
    ) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[jt.Var, jt.Var, jt.Var]]]:
        """The rays' samples: offsets (R + 1,) numpy, and a function of such offsets that gives x,
        t, ray of the first samples of each ray."""
        rays = (origin, direction, jitter, self._distance, self.step)
        offsets = pack(march(*rays, contracted=self.contracted).numpy())
        return offsets, lambda kept: marched(*rays, kept, contracted=self.contracted)

    def update(
        self,
        density: Callable[[jt.Var], jt.Var],
        everything: bool = False,
        carved: bool = False,
    ) -> None:
        """Look at the density of some cells, or at everything, once more; the seed and the number
        of updates say which. carved: also at cells that were carved; else of those only at the ones
        that are occupied again."""
        rng = np.random.default_rng((self.seed, self.updates))
        self.updates += 1
        chosen = np.arange(len(self.density)) if everything else self._some(rng)
        if not carved:
            chosen = chosen[(self._keep | self.occupied)[chosen]]
        points = self._points(chosen, rng.uniform(size=(len(chosen), 3)))
        new = in_chunks(density, points)
        old = self.density[chosen]
        self.density[chosen] = np.where(np.isfinite(old), np.maximum(self.decay * old, new), new)
        self._judge()

    def _some(self, rng: np.random.Generator) -> np.ndarray:
        """The cells of an update: half of them anywhere, half occupied ones."""
        half = max(1, int(self.fraction * len(self.density))) // 2
        occupied = np.flatnonzero(self.occupied)
        if len(occupied):
            occupied = occupied[rng.integers(0, len(occupied), min(half, len(occupied)))]
        anywhere = rng.integers(0, len(self.density), half)
        return np.unique(np.concatenate([anywhere, occupied]))

    def _judge(self) -> None:
        """Which cells are occupied, by their densities."""
        opacity = self.density * np.float32(self.step)
        mean = float(opacity[self._keep & np.isfinite(opacity)].mean())
        self._set(opacity > max(FAINTEST, min(self.least, mean)))

    def _set(self, occupied: np.ndarray) -> None:
        self.occupied = occupied | self._faces.ravel()
        self._distance = jt.array(distances(self.occupied.reshape((self.cells,) * 3))).stop_grad()

    def carve(self, keep: np.ndarray) -> None:
        """Empty all cells but those in `keep` (cells^3,) bool, axis 0 fastest, until an `update`
        that looks at carved ones finds something there."""
        self.density[~keep] = 0
        self._keep = keep
        self._set(self.occupied & keep)

    def restore(self, density: np.ndarray, updates: int) -> None:
        """Take over the densities (cells^3,) and the number of updates of a grid of the same size,
        carved alike."""
        self.density = density
        self.updates = updates
        if updates:
            self._judge()

    def centres(self) -> np.ndarray:
        """(cells^3, 3) in the unit cube, axis 0 fastest."""
        return self._points(np.arange(self.cells**3), 0.5)

    def random_points(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n points (n, 3) of the unit cube in occupied cells, of which there must be some."""
        return self._points(rng.choice(np.flatnonzero(self.occupied), n), rng.uniform(size=(n, 3)))

    def _points(self, chosen: np.ndarray, inside: ArrayLike) -> np.ndarray:
        cell = np.stack(
            [chosen % self.cells, chosen // self.cells % self.cells, chosen // self.cells**2],
            axis=1,
        )
        return ((cell + np.asarray(inside)) / self.cells).astype(np.float32)
