"""Layer normalisation and relu in one: plain, and fused into one op per direction on the CPU."""

from jgrid.ops.function import Function, header, pull_back_gradients

import jittor as jt
from jittor import nn

HEADER = header("norm.h")
EPS = 1e-5


def norm_relu(x: jt.Var, gain: jt.Var, shift: jt.Var) -> jt.Var:
    """relu(gain (x - mean) / sqrt(variance + 1e-5) + shift), along the rows, plain: x (N, C), gain
    and shift (C,) -> (N, C)."""
    centred = x - x.mean(1, keepdims=True)
    variance = (centred * centred).mean(1, keepdims=True)
    return nn.relu(centred / jt.sqrt(variance + EPS) * gain + shift)


def fused_norm_relu(x: jt.Var, gain: jt.Var, shift: jt.Var) -> jt.Var:
    """`norm_relu` in one op per direction; the plain twin under CUDA."""
    return norm_relu(x, gain, shift) if jt.flags.use_cuda else _Forward()(x, gain, shift)


class _Forward(Function):
    def execute(self, x, gain, shift):
        return jt.code(
            x.shape,
            "float32",
            [x, gain, shift],
            cpu_header=HEADER,
            data={"eps": EPS},
            cpu_src=(
                'jgrid::norm_relu(in0_p, in1_p, in2_p, in0_shape0, in0_shape1, data["eps"],'
                " out0_p);"
            ),
        )

    def grad(self, gradient):
        return _Backward()(*self.inputs, gradient)


class _Backward(Function):
    """Gradients of sum(gradient * norm_relu(x, gain, shift)); differentiated again by the plain
    twin."""

    def execute(self, x, gain, shift, gradient):
        source = (
            "jgrid::norm_relu_backward(in0_p, in1_p, in2_p, in3_p, in0_shape0, in0_shape1,"
            ' data["eps"], out0_p, out1_p, out2_p);'
        )
        return jt.code(
            [v.shape for v in (x, gain, shift)],
            ["float32"] * 3,
            [x, gain, shift, gradient],
            cpu_header=HEADER,
            cpu_src=source,
            data={"eps": EPS},
        )

    def grad(self, *cotangents):
        return pull_back_gradients(norm_relu, self.inputs, cotangents)
