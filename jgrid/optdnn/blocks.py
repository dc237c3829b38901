"""Modules T that stand where a method has a gradient; each contains a two-layer network, which is
all the theorem asks of it."""

from collections.abc import Sequence
from typing import Any, Optional

from jgrid.ops.function import Function, pull_back

import jittor as jt
import numpy as np
from jittor import nn


def tanh(x: jt.Var) -> jt.Var:
    """tanh of any x; the gradient of Jittor's own is NaN from |x| of 45, and 1 - tanh(15) is less
    than float32 sees."""
    return jt.tanh(jt.clamp(x, -15.0, 15.0))


ACTIVATIONS = {"relu": nn.relu, "gelu": nn.gelu, "sigmoid": jt.sigmoid, "tanh": tanh}
STEEPEST = {"relu": 1.0, "gelu": 1.13, "sigmoid": 0.25, "tanh": 1.0}  # slope of each
# of a block that makes an implicit layer: below 1, so that y = r + T(y) has one solution and
# iterations find it
LIPSCHITZ = 0.9


def bounded(weight: jt.Var, taps: int = 0, most: float = LIPSCHITZ**0.5) -> jt.Var:
    """Weights (..., a, b), or of a convolution (a, b, k, k) with taps=2, scaled down where need be
    so that their map is `most`-Lipschitz.

    By the spectral norm; of a convolution by k times the least of those of the four matrices (a, b
    k k), (a k k, b), (a k, b k) that its taps make, which bounds it from above (Singla and Feizi
    2021)."""
    if not taps:
        return weight * (most / jt.maximum(spectral_norm(weight), most))
    a, b, k, _ = weight.shape
    orders = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 2, 1, 3), (0, 3, 1, 2))
    shapes = ((a, b * k * k), (a * k * k, b), (a * k, b * k), (a * k, b * k))
    norms = [spectral_norm(weight.permute(o).reshape(s)) for o, s in zip(orders, shapes)]
    bound = k * min(norms, key=lambda norm: norm.item())
    return weight * (most / jt.maximum(bound, most).reshape(1, 1, 1, 1))


def spectral_norm(matrix: jt.Var) -> jt.Var:
    """The largest singular value u^T M v of matrices (..., a, b): (..., 1, 1), with its derivative
    u v^T."""
    u, _, v = np.linalg.svd(matrix.numpy(), full_matrices=False)
    products = matrix * jt.array(u[..., :1] * v[..., :1, :]).stop_grad()
    return products.sum(-1, keepdims=True).sum(-2, keepdims=True)


def convolve(x: jt.Var, weight: jt.Var, bias: jt.Var, stride: Any = 1, padding: Any = 0) -> jt.Var:
    """x (N, C, H, W), weight (n_out, C, k, k), bias (n_out,) -> (N, n_out, H', W'); its gradient is
    taken once."""
    y = _Convolution(stride, padding)(x, weight)
    return y + bias.broadcast(y, [0, 2, 3])


class Conv(nn.Conv):
    """Jittor's convolution, without groups, by `convolve`."""

    def execute(self, x: jt.Var) -> jt.Var:
        return convolve(x, self.weight, self.bias, self.stride, self.padding)


class Affine(nn.Module):
    """x W + b, x (*copies, N, n_in) -> (*copies, N, n_out); copies=(K,): K networks side by side,
    each with its own weights.

    W is uniform with variance gain^2 / n_in, b uniform in +-bias.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        copies: tuple[int, ...] = (),
        gain: float = 1.0,
        bias: float = 0.0,
    ):
        super().__init__()
        self.weight = (jt.rand((*copies, n_in, n_out)) * 2 - 1) * (gain * (3 / n_in) ** 0.5)
        self.bias = (jt.rand((*copies, 1, n_out)) * 2 - 1) * bias

    def execute(self, x: jt.Var, weight: Optional[jt.Var] = None) -> jt.Var:
        return jt.matmul(x, self.weight if weight is None else weight) + self.bias


class TwoLayer(nn.Module):
    """T(x) = W2 sigma(W1 norm(x) + b1) + b2 on x (*copies, N, n); contract: with `bounded` weights,
    for implicit layers.

    norm: a LayerNorm first (not with contract, which it would spoil); gain: of W2 at the start;
    bias: b1 starts uniform in +-bias."""

    def __init__(
        self,
        n: int,
        hidden: int,
        activation: str = "relu",
        norm: bool = False,
        copies: tuple[int, ...] = (),
        gain: float = 0.5,
        bias: float = 1.0,
        contract: bool = False,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {activation!r}"
            )
        self.activation = ACTIVATIONS[activation]
        self.contract = contract
        self.most = (LIPSCHITZ / STEEPEST[activation]) ** 0.5  # of each layer's map, with contract
        self.norm = nn.LayerNorm(n) if norm and not contract else None
        self.first = Affine(n, hidden, copies, gain=2**0.5, bias=bias)
        self.second = Affine(hidden, n, copies, gain)

    def weights(self) -> list[jt.Var]:
        """Of both layers, bounded if need be; for many calls with the same."""
        layers = (self.first, self.second)
        return [
            bounded(layer.weight, most=self.most) if self.contract else layer.weight
            for layer in layers
        ]

    def execute(self, x: jt.Var, weights: Optional[list[jt.Var]] = None) -> jt.Var:
        x = x if self.norm is None else self.norm(x)
        first, second = weights or self.weights()
        return self.second(self.activation(self.first(x, first)), second)


class ConvBlock(nn.Module):
    """BN-ReLU-Conv-BN-ReLU-Conv (ResNet's pre-activation block), x (N, C, H, W) -> (N, n_out, H,
    W), n_out = C by default.

    contract: Conv-ReLU-Conv with `bounded` weights, for implicit layers, which a normalisation
    would spoil."""

    def __init__(
        self,
        channels: int,
        n_out: Optional[int] = None,
        hidden: Optional[int] = None,
        contract: bool = False,
    ):
        super().__init__()
        hidden = hidden or channels
        n_out = n_out or channels
        self.contract = contract
        self.first = Conv(channels, hidden, 3, padding=1)
        self.second = Conv(hidden, n_out, 3, padding=1)
        self.norms = None
        if not contract:
            self.norms = nn.ModuleList([nn.BatchNorm(channels), nn.BatchNorm(hidden)])

    def weights(self) -> list[jt.Var]:
        """Of both convolutions, bounded; for many calls with the same."""
        return [bounded(conv.weight, 2) for conv in (self.first, self.second)]

    def execute(self, x: jt.Var, weights: Optional[list[jt.Var]] = None) -> jt.Var:
        if self.norms is None:
            first, second = weights or self.weights()
            z = nn.relu(convolve(x, first, self.first.bias, padding=1))
            return convolve(z, second, self.second.bias, padding=1)
        z = self.first(nn.relu(self.norms[0](x)))
        return self.second(nn.relu(self.norms[1](z)))


def as_tokens(x: jt.Var) -> jt.Var:
    """(N, C, H, W) -> (N, H W, C)"""
    return x.reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1)


def as_image(tokens: jt.Var, shape: Sequence[int]) -> jt.Var:
    """The inverse of `as_tokens`, given the shape (N, C, H, W)."""
    return tokens.transpose(0, 2, 1).reshape(shape)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm over channels, C -> ratio C -> C by GELU (Liu et al. 2022);
    x (N, C, H, W)."""

    def __init__(self, channels: int, kernel: int = 5, ratio: int = 4):
        super().__init__()
        self.depthwise = nn.Conv(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.first = nn.Linear(channels, ratio * channels)
        self.second = nn.Linear(ratio * channels, channels)

    def execute(self, x: jt.Var) -> jt.Var:
        z = self.norm(as_tokens(self.depthwise(x)))
        return as_image(self.second(nn.gelu(self.first(z))), x.shape)


class AttentionBlock(nn.Module):
    """T(z) = A(z) + M(z + A(z)), attention and feed-forward layers of a transformer as one module;
    z (N, C, H, W), a token per pixel."""

    def __init__(self, channels: int, heads: int = 4, ratio: int = 4):
        super().__init__()
        if channels % heads:
            raise ValueError(f"`channels` must be a multiple of {heads}, the heads, got {channels}")
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.queries = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.first = nn.Linear(channels, ratio * channels)
        self.second = nn.Linear(ratio * channels, channels)

    def attend(self, z: jt.Var) -> jt.Var:
        """softmax(Q K^T / sqrt(C / heads)) V for every head, z (N, tokens, C)."""
        n, tokens, channels = z.shape
        split = self.queries(self.norms[0](z))
        split = split.reshape(n, tokens, 3, self.heads, channels // self.heads)
        split = split.permute(2, 0, 3, 1, 4)
        q, k, v = (split[i].reshape(n * self.heads, tokens, -1) for i in range(3))
        weights = nn.softmax(nn.bmm_transpose(q, k) * (self.heads / channels) ** 0.5, dim=2)
        joined = nn.bmm(weights, v).reshape(n, self.heads, tokens, -1).permute(0, 2, 1, 3)
        return self.out(joined.reshape(n, tokens, channels))

    def execute(self, x: jt.Var) -> jt.Var:
        z = as_tokens(x)
        attended = self.attend(z)
        fed = self.second(nn.gelu(self.first(self.norms[1](z + attended))))
        return as_image(attended + fed, x.shape)


class _Convolution(Function):
    """nn.conv2d with derivatives by x and w that share nothing.

    Jittor keeps what two derivatives share if only one of them is asked for yet, as happens where a
    backward pass meets an implicit layer: here the gradient once for every tap, gigabytes.
    """

    def __init__(self, stride: Any, padding: Any):
        super().__init__()
        self.stride = stride
        self.padding = padding

    def execute(self, x: jt.Var, w: jt.Var) -> jt.Var:
        if not jt.flags.use_cuda:
            return nn.conv2d(x, w, stride=self.stride, padding=self.padding)
        # without cuDNN, the derivative by x of Jittor's own padding writes beyond x
        return nn.conv2d(_bordered(x, self.padding), w, stride=self.stride)

    def grad(self, g: jt.Var) -> tuple[jt.Var, ...]:
        x, w = self.inputs
        return (
            *pull_back(lambda x: self.execute(x, w), [x], g),
            *pull_back(lambda w: self.execute(x, w), [w], g),
        )


def _bordered(x: jt.Var, padding: Any) -> jt.Var:
    """x (N, C, H, W) with zeros around, of one width or of two: above and below, left and right."""
    for axis, width in zip((2, 3), np.broadcast_to(padding, 2)):
        if width:
            shape = [width if d == axis else n for d, n in enumerate(x.shape)]
            zeros = jt.zeros([int(n) for n in shape], x.dtype)
            x = jt.concat([zeros, x, zeros], dim=axis)
    return x
