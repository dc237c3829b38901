"""A field, what it is a function on, and what the configs that build fields share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Callable, Optional, Protocol

from jgrid import interrupt
from jgrid.grid import Grid
from jgrid.network import MLP

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn

CHUNK = 2**17  # points per forward pass where many are evaluated

# what several configs have, and its limits, where a mistyped one would build for ever or overflow
Levels = Annotated[int, Interval(ge=1, le=64)]
Depth = Annotated[int, Interval(ge=1, le=64)]
Octaves = Annotated[int, Interval(ge=1, le=16)]
OctavesOrZero = Annotated[int, Interval(ge=0, le=16)]
Channels = Annotated[int, Interval(ge=1, le=2**10)]
Width = Annotated[int, Interval(ge=1, le=2**14)]
Features = Annotated[int, Interval(ge=1, le=2**16)]


class AbstractDomain(Protocol):
    """What a field is a function on and of. Every task has these attributes, so it is one.

    dim: D; n_out: values per point; aspect: (D,), how long the domain is along each axis relative
    to the others, so that cells come out square, and as many as in a square of the same resolution
    (None: alike); place: n -> nodes (n, D) in [0, 1] where the subject needs scattered ones (None:
    evenly); start: the value about which the outputs of an MLP begin.
    """

    @property
    def dim(self) -> int: ...

    @property
    def n_out(self) -> int: ...

    @property
    def aspect(self) -> Optional[Sequence[float]]: ...

    @property
    def place(self) -> Optional[Callable[[int], np.ndarray]]: ...

    @property
    def start(self) -> float: ...


@dataclass(frozen=True)
class Domain:
    """A domain without a task: see AbstractDomain."""

    dim: int
    n_out: int
    aspect: Optional[Sequence[float]] = None
    place: Optional[Callable[[int], np.ndarray]] = None
    start: float = 0.5


class AbstractFieldConfig(Protocol):
    """What builds a field: any config of this package, or one's own."""

    def build(self, domain: AbstractDomain) -> "Field":
        """The field on a domain, with its random initial weights."""


class Field(nn.Module):
    """f(x) = network(grid(x)), either of which may be None: x (N, D) in [0, 1] -> (N, n_out).

    rates: the learning rate of each part, any of "features", "kernel", "network".
    """

    def __init__(
        self, grid: Optional[nn.Module], network: Optional[nn.Module], rates: dict[str, float]
    ):
        super().__init__()
        self.grid = grid
        self.network = network
        self.rates = rates

    def execute(self, x: jt.Var) -> jt.Var:
        if self.grid is not None:
            x = self.grid(x)
        return self.network(x) if self.network is not None else x

    def values(self, points: np.ndarray) -> np.ndarray:
        """f at many points, (N, D) in [0, 1], which are clamped -> (N, n_out), not clipped to what
        colours can be; without gradients and in chunks. ValueError for points of another shape."""
        return in_chunks(self, points)

    def use_plain_ops(self) -> None:
        """Compute by the plain twins of the fused ops from now on."""
        for module in self.modules():
            if isinstance(module, Grid):
                module.fused = None
            elif isinstance(module, MLP):
                module.fused = False

    def squared_error(self, x: jt.Var, target: jt.Var) -> jt.Var:
        """mean((f(x) - target)^2), with an MLP behind the grid computed in one op: x (N, D), target
        (N, n_out) -> scalar."""
        if not isinstance(self.network, MLP):
            return ((self(x) - target) ** 2).mean()
        z = x if self.grid is None else self.grid(x)
        return self.network.squared_error(z, target)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """[{"name", "params", "lr", "lazy"}] for the optimiser: features, the kernel's parameters,
        the network's; no fixed arrays."""
        grids = [module for module in self.modules() if isinstance(module, Grid)]
        parts = {
            "features": [grid.w for grid in grids],
            "kernel": [p for grid in grids for p in grid.kernel.parameters()],
            "network": [] if self.network is None else _trained(self.network),
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
    parts = []
    with jt.no_grad():
        for start in range(0, len(points), size):
            interrupt.look()
            parts.append(function(jt.array(points[start : start + size])).numpy())
    return np.concatenate(parts)


def _trained(module: nn.Module) -> list[jt.Var]:
    """A module's parameters whose gradient is not stopped."""
    return [p for p in module.parameters() if not p.is_stop_grad()]


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for group in model.parameter_groups() for p in group["params"])
