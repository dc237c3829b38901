"""Networks on coordinates or features: MLP and SIREN."""
from jgrid.ops.mlp import fused_mlp, mlp

import jittor as jt
import numpy as np
from jittor import nn


def _uniform(shape, bound):
    return jt.array(np.random.uniform(-bound, bound, shape).astype(np.float32))


class MLP(nn.Module):
    """z_{l+1} = relu(W_l z_l + b_l), `depth` hidden layers of `width`, last layer linear; (N, n_in) -> (N, n_out).

    Weights are He-uniform, biases zero; the last bias starts at `bias`.
    """

    def __init__(self, n_in, n_out, width=64, depth=2, bias=0.0, fused=True):
        super().__init__()
        self.fused = fused
        sizes = [n_in] + [width] * depth + [n_out]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])])
        for layer, a, last in zip(self.layers, sizes, [False] * depth + [True]):
            layer.weight = _uniform(layer.weight.shape, np.sqrt((3.0 if last else 6.0) / a))
            layer.bias = jt.zeros(layer.bias.shape) + (bias if last else 0.0)

    def execute(self, z):
        run = fused_mlp if self.fused else mlp
        return run(z, *(p for layer in self.layers for p in (layer.weight, layer.bias)))


class Siren(nn.Module):
    """z_{l+1} = sin(omega (W_l z_l + b_l)), last layer linear (Sitzmann et al. 2020); x (N, D) in [0, 1] -> (N, n_out).

    Coordinates are mapped to [-1, 1]. First weights are uniform in +-1/D, the others in +-sqrt(6/width)/omega.
    """

    def __init__(self, dim, n_out, width=256, depth=3, omega=30.0):
        super().__init__()
        self.omega = omega
        sizes = [dim] + [width] * depth + [n_out]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])])
        for n, (layer, a) in enumerate(zip(self.layers, sizes)):
            layer.weight = _uniform(layer.weight.shape, 1.0 / a if n == 0 else np.sqrt(6.0 / a) / omega)
            layer.bias = _uniform(layer.bias.shape, 1.0 / np.sqrt(a))

    def execute(self, x):
        layers = list(self.layers)
        z = x * 2.0 - 1.0
        for layer in layers[:-1]:
            z = jt.sin(self.omega * layer(z))
        return layers[-1](z)
