"""A field, what it is a function on, and what the configs that build fields share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from jgrid import memory
from jgrid.grid import LOWER, Grid
from jgrid.network import MLP

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
# itself, its gradient, Adam's two moments, and the copies that the trainer keeps of the last two
# evaluations
BYTES_PER_PARAMETER = 24


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


def training_bytes(model, batch):
    """Bytes that training on `batch` points a step takes, roughly: the parameters, Adam's state,
    and what each layer gives, with gradients.

    Behind a grid, where one op computes the decoder, it is less.
    """
    per_point = 64 + sum(
        16 * max(p.shape[-2:])
        for group in model.parameter_groups()
        if group["name"] not in ("features", "kernel")
        for p in group["params"]
        if len(p.shape) > 1
    )
    whole = BYTES_PER_PARAMETER * count_parameters(model)
    for grid in (module for module in model.modules() if isinstance(module, Grid)):
        index = grid.index
        kernel = grid.kernel
        channels = grid.w.shape[1]
        filters = sum(layer.weight.shape[0] for layer in getattr(kernel, "linear", []))
        per_point += 8 * grid.n_out
        if grid.fused and filters:
            whole += 8 * index.n_nodes * (1 + 2 * index.dim * kernel.octaves) * (filters + channels)
        elif not grid.fused:
            nodes = getattr(index, "k", index.n_levels * 2**index.dim)
            per_point += 16 * nodes * (2 * index.dim + kernel.n_kernels * channels + 3 * filters)
    return whole + per_point * batch


def check_memory(model, batch, data=0, lower_data="the size of the data"):
    """Bytes that training a model takes, beside `data` bytes; memory.NotEnough, with that number
    and the flags that lower it, where they are more than there are."""
    sizes = {
        group["name"]: sum(int(np.prod(p.shape)) for p in group["params"])
        for group in model.parameter_groups()
    }
    needed = training_bytes(model, batch) + data
    of_parameters = BYTES_PER_PARAMETER * sum(sizes.values())
    if 2 * data > needed:
        lower = lower_data
    elif 2 * of_parameters < needed:
        lower = "--train.batch"
    elif sizes.get("features", 0) > sum(sizes.values()) / 2:
        lower = LOWER
    else:
        lower = "--field.width or --field.decoder.width"
    memory.require(
        needed, f"training {sum(sizes.values()):,} parameters on {batch:,} points a step", lower
    )
    return needed
