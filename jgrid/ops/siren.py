"""Many small SIRENs at once, each with weights and a target of its own: plain, and fused into one
op on the CPU."""

from collections.abc import Sequence

from jgrid.ops.function import Function, header

import jittor as jt

HEADER = header("mlp_steps.h", "mlp.h", "siren.h")


def sirens(x: jt.Var, omega: float, *weights_and_biases: jt.Var) -> jt.Var:
    """z_{l+1} = sin(omega (W_l z_l + b_l)), last layer linear, plain: x (N, D), W_l (F, n_{l+1},
    n_l), b_l (F, n_{l+1}) -> (F, N, n_L)."""
    n_fields = weights_and_biases[0].shape[0]
    z = x.unsqueeze(0).expand(n_fields, *x.shape)
    for i in range(0, len(weights_and_biases), 2):
        weight, bias = weights_and_biases[i : i + 2]
        z = jt.matmul(z, weight.transpose(0, 2, 1)) + bias.unsqueeze(1)
        if i + 2 < len(weights_and_biases):
            z = jt.sin(omega * z)
    return z


def siren_errors(x: jt.Var, target: jt.Var, omega: float, *weights_and_biases: jt.Var) -> jt.Var:
    """The mean squared error of each field, plain: target (F, N, n_L) -> (F,)."""
    return ((sirens(x, omega, *weights_and_biases) - target) ** 2).mean(2).mean(1)


def fused_sirens(x: jt.Var, omega: float, *weights_and_biases: jt.Var) -> jt.Var:
    """`sirens` in one op, without gradients; the plain twin under CUDA."""
    if jt.flags.use_cuda:
        return sirens(x, omega, *weights_and_biases)
    shape = [weights_and_biases[0].shape[0], x.shape[0], weights_and_biases[-1].shape[1]]
    source = (
        _make(weights_and_biases)
        + 'jgrid::sirens(layers, widths, weights, biases, data["omega"], in0_p, nullptr, '
        "in1_shape0, in0_shape0, out0_p, nullptr, nullptr, nullptr);"
    )
    return jt.code(
        shape,
        "float32",
        [x, *weights_and_biases],
        cpu_header=HEADER,
        cpu_src=source,
        data={"omega": float(omega)},
    )


def fused_siren_errors(
    x: jt.Var, target: jt.Var, omega: float, *weights_and_biases: jt.Var
) -> jt.Var:
    """`siren_errors` with its gradients for weights and biases in one op, which keeps each field in
    the cache; the plain twin under CUDA.

    Its gradients are not differentiable again, and say so; there are none for x and target.
    """
    if jt.flags.use_cuda:
        return siren_errors(x, target, omega, *weights_and_biases)
    return _Errors(x, target, omega)(*weights_and_biases)


def _make(parameters: Sequence[jt.Var]) -> str:
    """C++ that names the layers, from the op's inputs: x, then weights and biases in turn."""
    layers = len(parameters) // 2
    weights = ", ".join(f"in{1 + 2 * layer}_p" for layer in range(layers))
    biases = ", ".join(f"in{2 + 2 * layer}_p" for layer in range(layers))
    widths = ", ".join(["in0_shape1"] + [f"in{1 + 2 * layer}_shape1" for layer in range(layers)])
    return (
        f"const int layers = {layers}; const int64_t widths[] = {{{widths}}};\n"
        f"const float* weights[] = {{{weights}}}; const float* biases[] = {{{biases}}};\n"
    )


class _Errors(Function):
    """The errors of W_0, b_0, ...; their gradients are there before anybody asks."""

    def __init__(self, x, target, omega):
        super().__init__()
        self.x = x
        self.target = target
        self.omega = omega

    def execute(self, *parameters):
        n = len(parameters)
        outs = [f"out{i + 1}_p" for i in range(n)]
        source = (
            _make(parameters)
            + f"float* d_weights[] = {{{', '.join(outs[::2])}}}; float* d_biases[] ="
            f" {{{', '.join(outs[1::2])}}};\n"
            f'jgrid::sirens(layers, widths, weights, biases, data["omega"], in0_p, in{n + 1}_p,'
            " in1_shape0, in0_shape0,\n"
            "nullptr, out0_p, d_weights, d_biases);"
        )
        errors, *self.gradients = jt.code(
            [[parameters[0].shape[0]]] + [p.shape for p in parameters],
            ["float32"] * (n + 1),
            [self.x, *parameters, self.target],
            cpu_header=HEADER,
            cpu_src=source,
            data={"omega": float(self.omega)},
        )
        return errors

    def grad(self, cotangent):
        return _Once(self.gradients)(cotangent)


class _Once(Function):
    """Known gradients of each field, times the field's cotangent (F,)."""

    def __init__(self, gradients):
        super().__init__()
        self.gradients = gradients

    def execute(self, cotangent):
        return tuple(g * cotangent.reshape([-1] + [1] * (g.ndim - 1)) for g in self.gradients)

    def grad(self, *_):
        raise NotImplementedError(
            "the gradients of fused_siren_errors cannot be differentiated again; use siren_errors"
        )
