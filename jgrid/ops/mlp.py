"""The small ReLU MLP behind a grid: plain, and fused into one op per direction."""

import functools
from collections.abc import Sequence

from jgrid.ops.function import Function, header, pull_back_gradients
from jgrid.ops.scale import fused_scale

import jittor as jt
from jittor import nn

CPU_HEADER = header("mlp_steps.h", "mlp.h")
CUDA_HEADER = header("mlp_steps.h", "mlp_cuda.h")
FUSED_WIDTH = 128
# at most so many layers on CUDA, and rows of shared memory, of the 8 points that a tile has at
# least, with 4 to spare: as mlp_cuda.h
CUDA_LAYERS = 12
CUDA_ROWS = 48 * 1024 // (4 * (8 + 4))
# parts of the points whose gradients are summed on their own: fixed, so that the sums do not depend
# on threads
PARTS = {"cpu": 64, "cuda": 512}


def mlp(z: jt.Var, *weights_and_biases: jt.Var, gated: bool = False) -> jt.Var:
    """A small MLP, plain: z (N, n_0), weights and biases in turn -> (N, n_L). Layers W_l, b_l:

        z_{l+1} = relu(W_l z_l + b_l), the last linear,

    gated, with first A, a and for each hidden layer W_l, b_l, M_l, m_l:

        z_1 = (A z_0 + a) * z_0,   z_{l+1} = (M_l z_l + m_l) * relu(W_l z_l + b_l), the last linear.
    """
    layers = zip(weights_and_biases[::2], weights_and_biases[1::2])

    def affine(z: jt.Var) -> jt.Var:
        weight, bias = next(layers)
        return nn.matmul_transpose(z, weight) + bias

    if gated:
        z = affine(z) * z
    for _ in range(_hidden(weights_and_biases, gated)):
        hidden = nn.relu(affine(z))
        z = affine(z) * hidden if gated else hidden
    return affine(z)


def _hidden(weights_and_biases: Sequence[jt.Var], gated: bool) -> int:
    """Hidden layers."""
    layers = len(weights_and_biases) // 2
    return (layers - 2) // 2 if gated else layers - 1


def squared_error(
    z: jt.Var, target: jt.Var, *weights_and_biases: jt.Var, gated: bool = False
) -> jt.Var:
    """mean((mlp(z) - target)^2), plain: target (N, n_L) -> scalar (1,)."""
    return ((mlp(z, *weights_and_biases, gated=gated) - target) ** 2).mean()


def fused_mlp(z: jt.Var, *weights_and_biases: jt.Var, gated: bool = False) -> jt.Var:
    """`mlp` in one op per direction; the plain twin where a layer is too wide or, under CUDA, the
    network too deep."""
    if not _fusible(z, weights_and_biases, gated):
        return mlp(z, *weights_and_biases, gated=gated)
    return _Forward(gated)(z, *weights_and_biases)


def fused_squared_error(
    z: jt.Var, target: jt.Var, *weights_and_biases: jt.Var, gated: bool = False
) -> jt.Var:
    """`squared_error` with its derivatives in one op, which computes the activations once; the
    plain twin as for `fused_mlp`, or for a target that needs a gradient."""
    if not (_fusible(z, weights_and_biases, gated) and target.is_stop_grad()):
        return squared_error(z, target, *weights_and_biases, gated=gated)
    return _SquaredError(target, gated)(z, *weights_and_biases)


def _fusible(z: jt.Var, weights_and_biases: Sequence[jt.Var], gated: bool) -> bool:
    widths = [z.shape[1], *(bias.shape[0] for bias in weights_and_biases[1::2])]
    if max(widths) > FUSED_WIDTH:
        return False
    return not jt.flags.use_cuda or _fits_cuda(widths, gated)


def _fits_cuda(widths: Sequence[int], gated: bool) -> bool:
    """Whether mlp_cuda.h has room for a network whose input and layers have these widths: for all
    buffers, and for the gradients of two, gated three, at a time."""
    rows = [-(-n // 4) * 4 for n in widths]
    # behind A, and behind M of each hidden layer, is a gate
    buffers = sum(rows) + (sum(rows[1:-1:2]) if gated else 0)
    at_a_time = 3 if gated else 2
    return len(widths) <= CUDA_LAYERS + 1 and buffers + at_a_time * max(rows) <= CUDA_ROWS


def _code(
    call: str, shapes: Sequence[Sequence[int]], inputs: Sequence[jt.Var], layers: int, gated: bool
) -> list[jt.Var]:
    """One fused op, whose C++ is `call` with an Mlp before it, of `layers` layers: the inputs are
    z, then weights and biases in turn, then others."""
    given = ", ".join(
        f"{{in{i}_shape0, in{i}_shape1, in{i}_p, in{i + 1}_p}}" for i in range(1, 2 * layers, 2)
    )
    source = f"jgrid::Mlp mlp({{{given}}}, {'true' if gated else 'false'});\n{call}"
    return jt.code(
        list(shapes),
        ["float32"] * len(shapes),
        list(inputs),
        cpu_header=CPU_HEADER,
        cuda_header=CUDA_HEADER,
        cpu_src=source,
        cuda_src=source,
    )


def _gradients(
    call: str,
    shapes: Sequence[Sequence[int]],
    inputs: Sequence[jt.Var],
    other: jt.Var,
    gated: bool,
) -> list[jt.Var]:
    """The same with gradients for the inputs, which come after outputs of `shapes`; `call` is that
    of a function of mlp.h up to where they go."""
    first = len(shapes)
    outs = [f"out{i}_p" for i in range(first, first + len(inputs))]
    slices = f"out{first + len(inputs)}"
    source = (
        f"float* d_weights[] = {{{', '.join(outs[1::2])}}};"
        f" float* d_biases[] = {{{', '.join(outs[2::2])}}}; float* scratch = {slices}_p;\n"
        f"{call}, {outs[0]}, d_weights, d_biases, scratch, {slices}_shape0);"
    )
    shapes = [*shapes, *(v.shape for v in inputs), _slices(inputs)]
    return _code(source, shapes, [*inputs, other], len(inputs) // 2, gated)[:-1]


def _slices(inputs: Sequence[jt.Var]) -> list[int]:
    """The shape of the memory in which an op sums gradients: for each part of the points a slice as
    long as mlp_steps.h says."""
    length = 16
    for weight in inputs[1::2]:
        to, n = (-(-width // 16) * 16 for width in weight.shape)
        length += to * (n + 1)
    return [PARTS["cuda" if jt.flags.use_cuda else "cpu"], length]


class _Forward(Function):
    def __init__(self, gated: bool):
        super().__init__()
        self.gated = gated

    def execute(self, *inputs):
        call = "jgrid::mlp_forward(mlp, in0_p, in0_shape0, out0_p);"
        shape = [inputs[0].shape[0], inputs[-1].shape[0]]
        return _code(call, [shape], inputs, len(inputs) // 2, self.gated)[0]

    def grad(self, gradient):
        return _Backward(self.gated)(*self.inputs, gradient)


class _Backward(Function):
    """Gradients of sum(gradient * mlp(z, ...)) for z and every weight and bias."""

    def __init__(self, gated: bool):
        super().__init__()
        self.gated = gated

    def execute(self, *inputs):
        *inputs, gradient = inputs
        call = f"jgrid::mlp_pull_back(mlp, in0_p, in{len(inputs)}_p, in0_shape0"
        return _gradients(call, [], inputs, gradient, self.gated)

    def grad(self, *cotangents):
        plain = functools.partial(mlp, gated=self.gated)
        return pull_back_gradients(plain, self.inputs, cotangents)


class _SquaredError(Function):
    """The loss of z, W_0, b_0, ...; its gradients are there before anybody asks."""

    def __init__(self, target, gated: bool):
        super().__init__()
        self.target = target
        self.gated = gated

    def execute(self, *inputs):
        call = f"jgrid::mlp_squared_error(mlp, in0_p, in{len(inputs)}_p, in0_shape0, out0_p"
        loss, *self.gradients = _gradients(call, [[1]], inputs, self.target, self.gated)
        return loss

    def grad(self, cotangent):
        return _Scaled(self.gradients, self.target, self.gated)(*self.inputs, cotangent)


class _Scaled(Function):
    """Gradients that are known, times the last input; differentiated again by the plain twin."""

    def __init__(self, gradients, target, gated: bool):
        super().__init__()
        self.gradients = gradients
        self.target = target
        self.gated = gated

    def execute(self, *inputs):
        return tuple(fused_scale(self.gradients, inputs[-1]))

    def grad(self, *cotangents):
        def plain(z, *network):
            return squared_error(z, self.target, *network, gated=self.gated)

        return pull_back_gradients(plain, self.inputs, cotangents)
