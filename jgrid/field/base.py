"""A field, and what the configs that build fields share."""
from jgrid.grid import Grid
from jgrid.network import MLP

import jittor as jt
import numpy as np
from jittor import nn


class Field(nn.Module):
    """f(x) = network(grid(x)), either of which may be None: x (N, D) in [0, 1] -> (N, n_out).

    rates: the learning rate of each part, any of "features", "kernel", "network".
    """

    def __init__(self, grid, network, rates):
        super().__init__()
        self.grid, self.network, self.rates = grid, network, rates

    def execute(self, x):
        if self.grid is not None:
            x = self.grid(x)
        return self.network(x) if self.network is not None else x

    def start_at(self, value):
        """Move an MLP's last bias, about which the outputs start, to `value`; other networks are left as they are."""
        for module in self.modules():
            if isinstance(module, MLP):
                bias = module.layers[-1].bias
                bias.update(jt.zeros(bias.shape) + value)
        return self

    def use_plain_ops(self):
        """Compute by the plain twins of the fused ops from now on."""
        for module in self.modules():
            if isinstance(module, (Grid, MLP)):
                module.fused = None

    def squared_error(self, x, target):
        """mean((f(x) - target)^2), with an MLP behind the grid computed in one op: x (N, D), target (N, n_out) -> scalar."""
        if isinstance(self.network, MLP):
            return self.network.squared_error(self.grid(x) if self.grid is not None else x, target)
        return ((self(x) - target) ** 2).mean()

    def parameter_groups(self):
        """[{"name", "params", "lr", "lazy"}] for the optimiser: features, the kernel's parameters, the network's; no fixed arrays."""
        grids = [module for module in self.modules() if isinstance(module, Grid)]
        parts = {"features": [grid.w for grid in grids],
                 "kernel": [p for grid in grids for p in grid.kernel.parameters()],
                 "network": [p for p in self.network.parameters() if not p.is_stop_grad()] if self.network is not None else []}
        return [{"name": name, "params": params, "lr": self.rates[name], "lazy": name == "features"}
                for name, params in parts.items() if params]


def count_parameters(model):
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for group in model.parameter_groups() for p in group["params"])


def positive(config, *names, prefix="--field."):
    """ValueError, with the flag's name, where an entry of a config is not positive and finite."""
    for name in names:
        if not 0 < getattr(config, name) < float("inf"):
            raise ValueError(f"{prefix}{name.replace('_', '-')} must be positive, got {getattr(config, name)}")
