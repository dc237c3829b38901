"""A field, what it is a function on, and what the configs that build fields share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from jgrid.grid import Grid
from jgrid.network import MLP

import jittor as jt
import numpy as np
from jittor import nn

# The most that entries of configs may be, where a mistyped one would build for ever or overflow
MOST = {
    "levels": 64,
    "depth": 64,
    "octaves": 16,
    "kernels": 16,
    "channels": 2**10,
    "width": 2**14,
    "hidden": 2**14,
    "rank": 2**14,
    "features": 2**16,
    "neighbours": 2**8,
}
CHUNK = 2**17  # points per forward pass where many are evaluated


@dataclass(frozen=True)
class Domain:
    """What a field is a function on and of; every task has these attributes, so it can stand here.

    dim: D; n_out: values per point; aspect: (D,), how long the domain is along each axis relative
    to the others, so that cells come out square, and as many as in a square of the same resolution
    (None: alike); place: n -> nodes (n, D) in [0, 1] where the subject needs scattered ones (None:
    evenly); start: the value about which the outputs of an MLP begin.
    """

    dim: int
    n_out: int
    aspect: Optional[Sequence[float]] = None
    place: Optional[Callable[[int], np.ndarray]] = None
    start: float = 0.5


class Field(nn.Module):
    """f(x) = network(grid(x)), either of which may be None: x (N, D) in [0, 1] -> (N, n_out).

    rates: the learning rate of each part, any of "features", "kernel", "network".
    """

    def __init__(self, grid, network, rates):
        super().__init__()
        self.grid = grid
        self.network = network
        self.rates = rates

    def execute(self, x):
        if self.grid is not None:
            x = self.grid(x)
        return self.network(x) if self.network is not None else x

    def values(self, points: np.ndarray) -> np.ndarray:
        """f at many points, (N, D) -> (N, n_out), without gradients and in chunks."""
        return in_chunks(self, points)

    def use_plain_ops(self):
        """Compute by the plain twins of the fused ops from now on."""
        for module in self.modules():
            if isinstance(module, (Grid, MLP)):
                module.fused = None

    def squared_error(self, x, target):
        """mean((f(x) - target)^2), with an MLP behind the grid computed in one op: x (N, D), target
        (N, n_out) -> scalar."""
        if isinstance(self.network, MLP):
            return self.network.squared_error(self.grid(x) if self.grid is not None else x, target)
        return ((self(x) - target) ** 2).mean()

    def parameter_groups(self):
        """[{"name", "params", "lr", "lazy"}] for the optimiser: features, the kernel's parameters,
        the network's; no fixed arrays."""
        grids = [module for module in self.modules() if isinstance(module, Grid)]
        parts = {
            "features": [grid.w for grid in grids],
            "kernel": [p for grid in grids for p in grid.kernel.parameters()],
            "network": (
                [p for p in self.network.parameters() if not p.is_stop_grad()]
                if self.network is not None
                else []
            ),
        }
        return [
            {"name": name, "params": params, "lr": self.rates[name], "lazy": name == "features"}
            for name, params in parts.items()
            if params
        ]


def in_chunks(
    function: Callable[[jt.Var], jt.Var], points: np.ndarray, size: int = CHUNK
) -> np.ndarray:
    """A function of points (N, D) at all of them, `size` at a time and without gradients."""
    points = np.ascontiguousarray(points, np.float32)
    if not len(points):  # a point, though nobody asked for it, tells the values' shape
        return in_chunks(function, np.zeros((1, *points.shape[1:])))[:0]
    with jt.no_grad():
        parts = [
            function(jt.array(points[start : start + size])).numpy()
            for start in range(0, len(points), size)
        ]
    return np.concatenate(parts)


def count_parameters(model):
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for group in model.parameter_groups() for p in group["params"])


def positive(config, *names, prefix="--field."):
    """ValueError, with the flag's name, where an entry of a config is not positive or, as `MOST`
    has it, out of all proportion."""
    for name in names:
        value = getattr(config, name)
        most = MOST.get(name, 2**31 - 1 if isinstance(value, int) else 1e30)
        if not 0 < value <= most:
            wanted = "positive" if not value > most else f"at most {most:,}"
            raise ValueError(f"{prefix}{name.replace('_', '-')} must be {wanted}, got {value}")
