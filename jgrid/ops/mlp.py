"""The small ReLU MLP behind a grid: plain, and fused into one op per direction on the CPU."""

import functools
from collections.abc import Sequence

from jgrid.ops.function import Function, header, pull_back_gradients

import jittor as jt
from jittor import nn

HEADER = header("mlp.h")
FUSED_WIDTH = 128


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
    """`mlp` in one op per direction; the plain twin under CUDA, where the library's matrix products
    serve."""
    if not _fusible(z, weights_and_biases):
        return mlp(z, *weights_and_biases, gated=gated)
    return _Forward(gated)(z, *weights_and_biases)


def fused_squared_error(
    z: jt.Var, target: jt.Var, *weights_and_biases: jt.Var, gated: bool = False
) -> jt.Var:
    """`squared_error` with its derivatives in one op, which computes the activations once; the
    plain twin under CUDA or for a target that needs a gradient."""
    if not (_fusible(z, weights_and_biases) and target.is_stop_grad()):
        return squared_error(z, target, *weights_and_biases, gated=gated)
    return _SquaredError(target, gated)(z, *weights_and_biases)


def _fusible(z: jt.Var, weights_and_biases: Sequence[jt.Var]) -> bool:
    return (
        not jt.flags.use_cuda
        and max(w.shape[0] for w in weights_and_biases) <= FUSED_WIDTH
        and z.shape[1] <= FUSED_WIDTH
    )


def _make(inputs: Sequence[jt.Var], gated: bool) -> str:
    """C++ that builds the Mlp from the op's inputs: z, then weights and biases in turn."""
    matrices = ", ".join(
        f"{{in{i}_shape0, in{i}_shape1, in{i}_p, in{i + 1}_p}}" for i in range(1, len(inputs), 2)
    )
    return f"jgrid::Mlp mlp({{{matrices}}}, {'true' if gated else 'false'});\n"


def _gradients(outs: Sequence[str]) -> str:
    """C++ that names where the gradients of weights and biases in turn go."""
    weights = ", ".join(outs[::2])
    biases = ", ".join(outs[1::2])
    return f"float* d_weights[] = {{{weights}}}; float* d_biases[] = {{{biases}}};\n"


class _Forward(Function):
    def __init__(self, gated: bool):
        super().__init__()
        self.gated = gated

    def execute(self, *inputs):
        return jt.code(
            [inputs[0].shape[0], inputs[-1].shape[0]],
            "float32",
            list(inputs),
            cpu_header=HEADER,
            cpu_src=_make(inputs, self.gated)
            + "jgrid::mlp_forward(mlp, in0_p, in0_shape0, out0_p);",
        )

    def grad(self, gradient):
        return _Backward(self.gated)(*self.inputs, gradient)


class _Backward(Function):
    """Gradients of sum(gradient * mlp(z, ...)) for z and every weight and bias."""

    def __init__(self, gated: bool):
        super().__init__()
        self.gated = gated

    def execute(self, *inputs):
        *inputs, gradient = inputs
        n = len(inputs)
        outs = [f"out{i}_p" for i in range(n)]
        source = (
            _make(inputs, self.gated)
            + _gradients(outs[1:])
            + f"jgrid::mlp_pull_back(mlp, in0_p, in{n}_p, in0_shape0, out0_p, d_weights, d_biases);"
        )
        return jt.code(
            [v.shape for v in inputs],
            ["float32"] * n,
            [*inputs, gradient],
            cpu_header=HEADER,
            cpu_src=source,
        )

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
        n = len(inputs)
        outs = [f"out{i + 1}_p" for i in range(n)]
        source = (
            _make(inputs, self.gated)
            + _gradients(outs[1:])
            + f"jgrid::mlp_squared_error(mlp, in0_p, in{n}_p, in0_shape0, out0_p, out1_p,"
            " d_weights, d_biases);"
        )
        loss, *self.gradients = jt.code(
            [[1]] + [v.shape for v in inputs],
            ["float32"] * (n + 1),
            [*inputs, self.target],
            cpu_header=HEADER,
            cpu_src=source,
        )
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
        return tuple(g * inputs[-1] for g in self.gradients)

    def grad(self, *cotangents):
        def plain(z, *network):
            return squared_error(z, self.target, *network, gated=self.gated)

        return pull_back_gradients(plain, self.inputs, cotangents)
