"""Vectors with a number per channel, what conjugate gradients are made of: Jittor's own loops over
so few channels are slow."""

from jgrid.ops.function import header

import jittor as jt

HEADER = header("channels.h")
FUSED_CHANNELS = 32


def dot(a: jt.Var, b: jt.Var) -> jt.Var:
    """The scalar product of each channel: (..., C) -> (C,), float32. Not differentiable on the CPU.

    Up to 256 rows are summed in float32 there, none under CUDA, the rest in float64: Jittor's own
    sums add row after row in float32, which is too coarse for a solver.
    """
    c = a.shape[-1]
    if jt.flags.use_cuda or c > FUSED_CHANNELS:
        return (a * b).float64().reshape(-1, c).sum(0).float32()
    return jt.code(
        [c],
        "float32",
        [a, b],
        cpu_header=HEADER,
        cpu_src=f"jgrid::dot<{c}>(in0_p, in1_p, in0->num / {c}, out0_p);",
    )


def add_scaled(a: jt.Var, scale: jt.Var, b: jt.Var) -> jt.Var:
    """a + scale b, a and b (..., C), scale (C,). Not differentiable on the CPU."""
    c = a.shape[-1]
    if jt.flags.use_cuda or c > FUSED_CHANNELS:
        return a + scale * b
    return jt.code(
        a.shape,
        "float32",
        [a, scale, b],
        cpu_header=HEADER,
        cpu_src=f"jgrid::add_scaled<{c}>(in0_p, in1_p, in2_p, in0->num / {c}, out0_p);",
    )
