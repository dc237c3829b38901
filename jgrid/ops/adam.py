"""A step of Adam: plain, and fused into one pass that works in place."""

from collections.abc import Sequence

from jgrid.ops.function import header

import jittor as jt

HEADER = header("launch.h", "adam.h")
BLOCK = 64  # numbers that a CPU handles together


def adam(
    p: jt.Var,
    m: jt.Var,
    v: jt.Var,
    gradient: jt.Var,
    scale: jt.Var,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    lazy: bool,
) -> Sequence[jt.Var]:
    """The next p, m and v, plain:

        m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,   p = p - rate m / (sqrt(v) + eps),   g =
        scale * gradient.

    lazy: rows (..., C) whose gradient is zero throughout keep all three. scale: (1,).
    """
    g = gradient * scale
    new_m = betas[0] * m + (1.0 - betas[0]) * g
    new_v = betas[1] * v + (1.0 - betas[1]) * g * g
    new_p = p - rate * new_m / (jt.sqrt(new_v) + eps)
    if not lazy:
        return new_p, new_m, new_v
    touched = (gradient != 0.0).sum(-1, keepdims=True).broadcast(p.shape) > 0
    return tuple(jt.ternary(touched, new, old) for new, old in ((new_p, p), (new_m, m), (new_v, v)))


def fused_adam(
    p: jt.Var,
    m: jt.Var,
    v: jt.Var,
    gradient: jt.Var,
    scale: jt.Var,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    lazy: bool,
) -> Sequence[jt.Var]:
    """`adam` in one pass over memory: the results share the memory of p, m and v, which must have
    been computed and of which nothing that waits to be computed may depend."""
    columns = p.shape[-1] if lazy else 1

    def source(launcher: str, rows: int) -> str:
        numbers = ", ".join(f'(float)data["{name}"]' for name in ("rate", "beta1", "beta2", "eps"))
        return (
            f"using namespace jgrid; const int64_t rows = out0->num / {columns};\n"
            f"Adam<{columns}, {rows}, {'true' if lazy else 'false'}>"
            f" f{{in0_p, in1_p, out0_p, out1_p, out2_p, rows, {numbers}}};\n"
            f"{launcher}(f, (rows + {rows} - 1) / {rows}, 1);"
        )

    numbers = {"rate": rate, "beta1": betas[0], "beta2": betas[1], "eps": eps}
    return jt.code(
        inputs=[gradient, scale],
        outputs=[p, m, v],
        data=numbers,
        cpu_header=HEADER,
        cuda_header=HEADER,
        cpu_src=source("over_points", max(1, BLOCK // columns)),
        cuda_src=source("launch", 1),
    )
