"""The small ReLU MLP behind a grid: plain, and fused into one op per direction on the CPU."""

from collections.abc import Sequence

from jgrid.ops.function import Function, header, pull_back_gradients

import jittor as jt
from jittor import nn

HEADER = header("mlp.h")
FUSED_WIDTH = 128


def mlp(z: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """z_{l+1} = relu(W_l z_l + b_l), last layer linear, plain: z (N, n_0), W_0, b_0, W_1, b_1, ...
    -> (N, n_L)."""
    for i in range(0, len(weights_and_biases), 2):
        weight, bias = weights_and_biases[i : i + 2]
        z = nn.matmul_transpose(z, weight) + bias
        if i + 2 < len(weights_and_biases):
            z = nn.relu(z)
    return z


def squared_error(z: jt.Var, target: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """mean((mlp(z) - target)^2), plain: target (N, n_L) -> scalar (1,)."""
    return ((mlp(z, *weights_and_biases) - target) ** 2).mean()


def fused_mlp(z: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """`mlp` in one op per direction; the plain twin under CUDA, where the library's matrix products
    serve."""
    if not _fusible(z, weights_and_biases):
        return mlp(z, *weights_and_biases)
    return _Forward()(z, *weights_and_biases)


def fused_squared_error(z: jt.Var, target: jt.Var, *weights_and_biases: jt.Var) -> jt.Var:
    """`squared_error` with its derivatives in one op, which computes the activations once; the
    plain twin under CUDA or for a target that needs a gradient."""
    if not (_fusible(z, weights_and_biases) and target.is_stop_grad()):
        return squared_error(z, target, *weights_and_biases)
    return _SquaredError(target)(z, *weights_and_biases)


def _fusible(z: jt.Var, weights_and_biases: Sequence[jt.Var]) -> bool:
    return (
        not jt.flags.use_cuda
        and max(w.shape[0] for w in weights_and_biases) <= FUSED_WIDTH
        and z.shape[1] <= FUSED_WIDTH
    )


def _make(inputs: Sequence[jt.Var]) -> str:
    """C++ that builds the Mlp from the op's inputs: z, then weights and biases in turn."""
    layers = (len(inputs) - 1) // 2
    weights = ", ".join(f"in{1 + 2 * layer}_p" for layer in range(layers))
    biases = ", ".join(f"in{2 + 2 * layer}_p" for layer in range(layers))
    widths = ", ".join(["in0_shape1"] + [f"in{1 + 2 * layer}_shape0" for layer in range(layers)])
    return (
        f"const float* weights[] = {{{weights}}}; const float* biases[] = {{{biases}}};"
        f" const int64_t widths[] = {{{widths}}};\n"
        f"jgrid::Mlp mlp({layers}, widths, weights, biases);\n"
    )


def _gradients(outs: Sequence[str]) -> str:
    """C++ that names where the gradients of weights and biases in turn go."""
    weights = ", ".join(outs[::2])
    biases = ", ".join(outs[1::2])
    return f"float* d_weights[] = {{{weights}}}; float* d_biases[] = {{{biases}}};\n"


class _Forward(Function):
    def execute(self, *inputs):
        return jt.code(
            [inputs[0].shape[0], inputs[-1].shape[0]],
            "float32",
            list(inputs),
            cpu_header=HEADER,
            cpu_src=_make(inputs) + "jgrid::mlp_forward(mlp, in0_p, in0_shape0, out0_p);",
        )

    def grad(self, gradient):
        return _Backward()(*self.inputs, gradient)


class _Backward(Function):
    """Gradients of sum(gradient * mlp(z, ...)) for z and every weight and bias."""

    def execute(self, *inputs):
        *inputs, gradient = inputs
        n = len(inputs)
        outs = [f"out{i}_p" for i in range(n)]
        source = (
            _make(inputs)
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
        return pull_back_gradients(mlp, self.inputs, cotangents)


class _SquaredError(Function):
    """The loss of z, W_0, b_0, ...; its gradients are there before anybody asks."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def execute(self, *inputs):
        n = len(inputs)
        outs = [f"out{i + 1}_p" for i in range(n)]
        source = (
            _make(inputs)
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
        return _Scaled(self.gradients, self.target)(*self.inputs, cotangent)


class _Scaled(Function):
    """Gradients that are known, times the last input; differentiated again by the plain twin."""

    def __init__(self, gradients, target):
        super().__init__()
        self.gradients = gradients
        self.target = target

    def execute(self, *inputs):
        return tuple(g * inputs[-1] for g in self.gradients)

    def grad(self, *cotangents):
        return pull_back_gradients(
            lambda z, *network: squared_error(z, self.target, *network), self.inputs, cotangents
        )
