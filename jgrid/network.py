"""Networks on coordinates or features: MLP, SIREN, multiplicative filter networks, WIRE."""

from collections.abc import Sequence

from jgrid import memory
from jgrid.ops.mlp import fused_mlp, fused_squared_error, mlp, squared_error

import jittor as jt
import numpy as np
from jittor import nn

# of Gaussians: less than float32 sees beside 1; subnormal numbers would slow the matrix products
LEAST_EXPONENT = -20.0
GATE = 0.01  # bound of a gate's weights at the start, over the root of its inputs


def weights_between(sizes: Sequence[int]) -> int:
    """How many weights join layers of these sizes, in the order of the network."""
    return sum(a * b for a, b in zip(sizes[:-1], sizes[1:]))


def require_memory(
    weights: int, lower: str = "its width (`width`, `decoder.width`) or its depth"
) -> None:
    """memory.NotEnough where a network of so many weights would not fit with what training it
    takes; lower: what makes it smaller."""
    memory.require_of_jittor(24 * weights, f"a network of {weights:,} weights", lower)


def _uniform(shape: Sequence[int], bound: float) -> jt.Var:
    return jt.array(np.random.uniform(-bound, bound, shape).astype(np.float32))


def _layers(sizes: Sequence[int]) -> nn.ModuleList:
    """Linear layers of these sizes, in the order of the network."""
    require_memory(weights_between(sizes))
    return nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])])


class MLP(nn.Module):
    """z_{l+1} = relu(W_l z_l + b_l), `depth` hidden layers of `width`, last layer linear; (N, n_in)
    -> (N, n_out).

    gated: a multiplicative network, in which each layer is an affine function times a filter (the
    paper's eq. 7), the filters being the input itself and the hidden layers,

        z_1 = (A z_0 + a) * z_0,   z_{l+1} = (M_l z_l + m_l) * relu(W_l z_l + b_l).

    Weights are He-uniform, biases zero; the last bias starts at `bias`; A and M are small, a and m
    one, so that a gated network starts near the other."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int = 64,
        depth: int = 2,
        bias: float = 0.0,
        gated: bool = False,
        fused: bool = True,
    ):
        super().__init__()
        self.gated = gated
        self.fused = fused
        sizes = [n_in] + [width] * depth + [n_out]
        if gated:
            inputs = "its inputs (`channels`, `levels`, `kernels` or `rank`)"
            require_memory(n_in * n_in, inputs)
        require_memory((2 if gated else 1) * weights_between(sizes))
        # (inputs, outputs, bound of the weights, bias) of each matrix
        matrices = [(n_in, n_in, GATE / n_in**0.5, 1.0)] if gated else []
        for a in sizes[:-2]:
            matrices.append((a, width, (6.0 / a) ** 0.5, 0.0))
            if gated:
                matrices.append((a, width, GATE / a**0.5, 1.0))
        matrices.append((sizes[-2], n_out, (3.0 / sizes[-2]) ** 0.5, bias))
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b, _, _ in matrices])
        for layer, (_, _, bound, start) in zip(self.layers, matrices):
            layer.weight = _uniform(layer.weight.shape, bound)
            layer.bias = jt.zeros(layer.bias.shape) + start

    def execute(self, z: jt.Var) -> jt.Var:
        return (fused_mlp if self.fused else mlp)(z, *self._parameters(), gated=self.gated)

    def squared_error(self, z: jt.Var, target: jt.Var) -> jt.Var:
        """mean((self(z) - target)^2), in one op with its derivatives where it is fused; target (N,
        n_out)."""
        error = fused_squared_error if self.fused else squared_error
        return error(z, target, *self._parameters(), gated=self.gated)

    @property
    def path(self) -> list[nn.Linear]:
        """W of each hidden layer, and the last."""
        return [*self.layers[1:-1:2], self.layers[-1]] if self.gated else list(self.layers)

    @property
    def gates(self) -> list[nn.Linear]:
        """A, and M of each hidden layer; none where nothing is gated."""
        return [self.layers[0], *self.layers[2:-1:2]] if self.gated else []

    def _parameters(self) -> list[jt.Var]:
        return [p for layer in self.layers for p in (layer.weight, layer.bias)]


class Siren(nn.Module):
    """z_{l+1} = sin(omega (W_l z_l + b_l)), last layer linear (Sitzmann et al. 2020); x (N, D) in
    [0, 1] -> (N, n_out).

    Coordinates are mapped to [-1, 1]. First weights are uniform in +-1/D, the others in
    +-sqrt(6/width)/omega."""

    def __init__(self, dim: int, n_out: int, width: int = 256, depth: int = 3, omega: float = 30.0):
        super().__init__()
        self.omega = omega
        sizes = [dim] + [width] * depth + [n_out]
        self.layers = _layers(sizes)
        for n, (layer, a) in enumerate(zip(self.layers, sizes)):
            bound = 1.0 / a if n == 0 else np.sqrt(6.0 / a) / omega
            layer.weight = _uniform(layer.weight.shape, bound)
            layer.bias = _uniform(layer.bias.shape, 1.0 / np.sqrt(a))

    def execute(self, x: jt.Var) -> jt.Var:
        layers = list(self.layers)
        z = x * 2.0 - 1.0
        for layer in layers[:-1]:
            z = jt.sin(self.omega * layer(z))
        return layers[-1](z)


class FourierFilter(nn.Module):
    """s(x) = sin(Omega x + phi), x (N, D) in [-1, 1] -> (N, width); Omega uniform in
    +-scale/sqrt(D), phi in +-pi."""

    def __init__(self, dim: int, width: int, scale: float):
        super().__init__()
        self.width = width
        self.linear = nn.Linear(dim, width)
        self.linear.weight = _uniform((width, dim), scale / np.sqrt(dim))
        self.linear.bias = _uniform((width,), np.pi)

    def execute(self, x: jt.Var) -> jt.Var:
        return jt.sin(self.linear(x))


class GaborFilter(nn.Module):
    """s_j(x) = sin(Omega_j x + phi_j) exp(-gamma_j |x - mu_j|^2 / 2), x (N, D) in [-1, 1] -> (N,
    width).

    mu is uniform in [-1, 1], gamma ~ Gamma(alpha, rate beta), Omega_j uniform in +-scale
    sqrt(gamma_j / D), phi in +-pi."""

    def __init__(self, dim: int, width: int, scale: float, alpha: float, beta: float):
        super().__init__()
        self.width = width
        gamma = np.random.gamma(alpha, 1.0 / beta, (width, 1)).astype(np.float32)
        self.linear = nn.Linear(dim, width)
        self.linear.weight = _uniform((width, dim), scale / np.sqrt(dim)) * jt.array(np.sqrt(gamma))
        self.linear.bias = _uniform((width,), np.pi)
        self.mu = _uniform((width, dim), 1.0)
        self.gamma = jt.array(gamma[:, 0])

    def execute(self, x: jt.Var) -> jt.Var:
        # |x - mu|^2 multiplied out: the difference itself would be an array of N x width x D
        distance = (
            (x * x).sum(-1, keepdims=True)
            + (self.mu * self.mu).sum(-1)
            - 2.0 * nn.matmul_transpose(x, self.mu)
        )
        exponent = jt.maximum(-0.5 * self.gamma * distance, LEAST_EXPONENT)
        return jt.sin(self.linear(x)) * jt.exp(exponent)


class MFN(nn.Module):
    """z_0 = s_0(x), z_{l+1} = (W_l z_l + b_l) * s_{l+1}(x), last layer linear (Fathony et al.
    2021); x (N, D) in [0, 1] -> (N, n_out).

    filters: modules s_0 ... s_L of one width; they see coordinates mapped to [-1, 1]. All W are
    uniform in +-sqrt(1/width)."""

    def __init__(self, filters: Sequence[nn.Module], n_out: int):
        super().__init__()
        self.filters = nn.ModuleList(filters)
        width = filters[0].width
        bound = np.sqrt(1.0 / width)
        self.layers = _layers([width] * len(filters) + [n_out])
        for layer in self.layers:
            layer.weight = _uniform(layer.weight.shape, bound)
            layer.bias = _uniform(layer.bias.shape, bound)

    def execute(self, x: jt.Var) -> jt.Var:
        first, *filters = self.filters
        *layers, last = self.layers
        x = x * 2.0 - 1.0
        z = first(x)
        for layer, s in zip(layers, filters):
            z = layer(z) * s(x)
        return last(z)


class Wire(nn.Module):
    """z_{l+1} = exp(i omega v - |scale v|^2), v = W_l z_l + b_l complex, last layer the real part
    of v (Saragadam et al. 2023).

    x (N, D) in [0, 1], mapped to [-1, 1] -> (N, n_out). `depth` wavelet layers of `width` complex
    numbers; the first W is real. Complex arrays are [real, imaginary] side by side, since Jittor
    has none; all parts start uniform in +-1/sqrt(inputs)."""

    def __init__(
        self,
        dim: int,
        n_out: int,
        width: int = 181,
        depth: int = 3,
        omega: float = 20.0,
        scale: float = 30.0,
    ):
        super().__init__()
        self.omega = omega
        self.scale = scale
        sizes = [dim] + [width] * depth + [n_out]
        require_memory(2 * weights_between(sizes))
        # [real, imaginary] rows of W, and b; the input has no imaginary part, and none of the first
        # W and the output is used
        rows = [width] + [2 * n for n in sizes[2:-1]] + [2 * n_out]
        self.weight = nn.ParameterList(
            [_uniform((n, a), 1.0 / np.sqrt(a)) for n, a in zip(rows, sizes)]
        )
        rows[-1] = n_out
        self.bias = nn.ParameterList(
            [_uniform((n,), 1.0 / np.sqrt(a)) for n, a in zip(rows, sizes)]
        )

    def execute(self, x: jt.Var) -> jt.Var:
        first, *hidden, last = self.weight
        first_bias, *biases, last_bias = self.bias
        v = nn.matmul_transpose(x * 2.0 - 1.0, first) + first_bias
        z = jt.concat(self._wavelet(v, jt.zeros_like(v)), dim=1)
        for weight, bias in zip(hidden, biases):
            real, imaginary = _halves(weight, 0)
            upper = jt.concat([real, -imaginary], dim=1)
            lower = jt.concat([imaginary, real], dim=1)
            v = nn.matmul_transpose(z, jt.concat([upper, lower], dim=0)) + bias
            z = jt.concat(self._wavelet(*_halves(v, 1)), dim=1)
        real, imaginary = _halves(last, 0)
        return nn.matmul_transpose(z, jt.concat([real, -imaginary], dim=1)) + last_bias

    def _wavelet(self, real: jt.Var, imaginary: jt.Var) -> tuple[jt.Var, jt.Var]:
        exponent = -self.omega * imaginary - self.scale**2 * (real * real + imaginary * imaginary)
        size = jt.exp(jt.maximum(exponent, LEAST_EXPONENT))
        return size * jt.cos(self.omega * real), size * jt.sin(self.omega * real)


def _halves(value: jt.Var, axis: int) -> tuple[jt.Var, jt.Var]:
    half = value.shape[axis] // 2
    return (value[:half], value[half:]) if axis == 0 else (value[:, :half], value[:, half:])
