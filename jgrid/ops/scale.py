"""Arrays times one number, fused into one op for all of them."""

from collections.abc import Sequence

from jgrid.ops.function import header

import jittor as jt

HEADER = header("launch.h", "scale.h")


def fused_scale(arrays: Sequence[jt.Var], by: jt.Var) -> list[jt.Var]:
    """by a for each array a, of any shape, without gradients; by: (1,)."""
    n = len(arrays)

    def each(form: str) -> str:
        return ", ".join(form.format(i=i) for i in range(n))

    ends = ", ".join(" + ".join(f"out{i}->num" for i in range(last + 1)) for last in range(n))
    source = (
        f"jgrid::Scale<{n}> f{{{{{each('in{i}_p')}}}, {{{each('out{i}_p')}}},"
        f" {{{ends}}}, in{n}_p}}; jgrid::scale(f);"
    )
    return jt.code(
        [array.shape for array in arrays],
        ["float32"] * n,
        [*arrays, by],
        cpu_header=HEADER,
        cuda_header=HEADER,
        cpu_src=source,
        cuda_src=source,
    )
