"""The grid's sums: sum_i phi_i w_i for any kernel, and for collapsed kernels fused into one op per
direction."""

from collections.abc import Sequence
from typing import Any, Optional, Union

from jgrid.ops.basis import Profile, fourier_octaves, window
from jgrid.ops.function import Function, header, products, pull_back

import jittor as jt
import numpy as np

HEADER = header("launch.h", "gather.h")
# gather.h's Level
LEVEL = np.dtype(
    {
        "names": ["cells", "first", "size", "magic", "steps"],
        "formats": ["3i4", "i4", "u4", "u8", "3u4"],
        "offsets": [0, 12, 16, 24, 32],
        "itemsize": 48,
    }
)
LEVELS = ("(const Level*)in2_p", "in2_shape0")  # in C++, and how many there are
PROFILE_NUMBERS = {"nearest": 0, "linear": 1, "smooth": 2}
FUSED_CHANNELS = 32  # more would not stay in registers
CUDA_COPIES = 64  # of the gradient for `mix`, to which all points write; a power of two


def weighted_gather(phi: jt.Var, w: jt.Var, node: jt.Var, groups: int = 1) -> jt.Var:
    """g_h(x_n) = sum_k phi[n, k, h] w[node[n, k]], the paper's grid model for H kernels, over
    `groups` equal runs of k apart.

    phi (N, K, H, C), or (N, K, H, 1) where all channels are weighted alike; w (M, C); node (N, K)
    int32 -> (N, groups, H, C)."""
    n, k = node.shape
    products = phi * w[node].unsqueeze(2)
    return products.reshape(n, groups, k // groups, phi.shape[2], w.shape[1]).sum(2)


def scatter(values: jt.Var, node: jt.Var, n_nodes: int) -> jt.Var:
    """The sum of the values of each node: values (N, K, C), node (N, K) int32 -> (M, C)."""
    return values.reindex_reduce(
        "add", [n_nodes, values.shape[2]], ["@e0(i0,i1)", "i2"], extras=[node]
    )


def collapsed_gather(
    index: Any,
    profile: Profile,
    octaves: int,
    groups: int,
    x: jt.Var,
    table: jt.Var,
    mix: Optional[jt.Var] = None,
) -> jt.Var:
    """The collapsed grid, plain. With u the offset of x from node i in cells, and basis = [1,
    gamma(u)] of B functions, over the corners i of x at level l:

    mixed per level:  out[n, l, h, c] = sum_p mix[l, h, p, c] sum_i window(u) basis_p(u) table[i, 0,
    c];
    mixed per node:   out[n, l, 0, c] = sum_i window(u) sum_p basis_p(u) table[i, p, c],

    or the same summed over `groups` equal runs of the levels, one for each l.

    index: a GridIndex; x (N, D); table (M, 1, C) and mix (L, H, B, C), or table (M, B, C) and no
    mix -> (N, groups, H or 1, C)."""
    node, offset = index(x)
    basis = jt.ones(node.shape + [1])
    if octaves:
        basis = jt.concat([basis, fourier_octaves(offset, octaves)], dim=-1)
    # (N, K, B, 1)
    weights = (window(profile, offset).unsqueeze(-1) * basis).unsqueeze(-1)
    # (N, K, B, C)
    values = weights * table[node]
    # (N, L, B, C)
    values = values.reshape(x.shape[0], index.n_levels, -1, *values.shape[2:]).sum(2)
    if mix is None:
        values = values.sum(2, keepdims=True)
    else:
        values = (values.unsqueeze(2) * mix).sum(3)
    return values.reshape(x.shape[0], groups, -1, *values.shape[2:]).sum(2)


class CollapsedGather:
    """`collapsed_gather` for one index and kernel shape, fused; differentiable to any order.

    Fused are the values, their gradients for x, table and mix, and the gradients of these for table
    and mix, which a loss on the slope asks for; what is beyond is the plain twin's.
    """

    def __init__(self, index: Any, profile: Profile, octaves: int, groups: int):
        self.index = index
        self.profile: Profile = profile
        self.octaves = octaves
        self.groups = groups
        level = np.zeros(index.n_levels, LEVEL)
        level["cells"][:, : index.dim] = index.cells
        level["first"] = index.first
        level["size"] = index.size
        level["steps"][:, : index.dim] = index.steps
        # for the remainder by the size; a dense level has none
        magic = np.array([(2**64 - 1) // int(size) + 1 for size in index.size], np.uint64)
        level["magic"] = np.where(index.spread > 0, index.spread.astype(np.uint64), magic)
        level["magic"][~index.folded] = 0
        self._levels = jt.array(level.view(np.int32).reshape(index.n_levels, -1)).stop_grad()

    def __call__(self, x: jt.Var, table: jt.Var, mix: Optional[jt.Var] = None) -> jt.Var:
        """x (N, D), table, mix as for `collapsed_gather` -> (N, groups, H or 1, C)."""
        return _Gather(self)(x, table, *([] if mix is None else [mix]))

    def plain(self, x: jt.Var, table: jt.Var, mix: Optional[jt.Var] = None) -> jt.Var:
        return collapsed_gather(self.index, self.profile, self.octaves, self.groups, x, table, mix)

    def paired(self, x: jt.Var, direction: jt.Var, *linear_and_gradient: jt.Var) -> jt.Var:
        """sum(gradient * dF/dx direction), plain."""
        *linear, gradient = linear_and_gradient
        (slope,) = pull_back(lambda x: self.plain(x, *linear), [x], gradient)
        return (slope * direction).sum()

    def forward(
        self,
        x: jt.Var,
        table: jt.Var,
        mix: Optional[jt.Var] = None,
        direction: Optional[jt.Var] = None,
    ) -> jt.Var:
        """The fused op: values, or their derivatives along a direction (N, D) for each x."""
        inputs = self._inputs(x, table, mix, direction)
        at = [_place(v, inputs) for v in (direction, mix)]
        kernels = _kernels(mix)
        (values,) = _code(
            "Forward",
            [*self._template(table), kernels, _flag(direction)],
            ["in0_p", at[0], "in1_p", at[1], *LEVELS, self.groups, "out0_p"],
            [[x.shape[0], self.groups, kernels or 1, table.shape[2]]],
            inputs,
            self.groups,
        )
        return values

    def backward(
        self,
        x: jt.Var,
        gradient: jt.Var,
        table: jt.Var,
        mix: Optional[jt.Var] = None,
        direction: Optional[jt.Var] = None,
    ) -> list[jt.Var]:
        """The fused op: the gradients of sum(gradient * forward(...)) for the table and, where
        there is one, the mix."""
        inputs = self._inputs(x, table, mix, direction, gradient)
        at = [_place(v, inputs) for v in (direction, gradient, mix)]
        copies = CUDA_COPIES if jt.flags.use_cuda else 1
        shapes = [table.shape]
        parts = "parts_of_levels(in2_shape0)"
        outputs: list[Union[int, str]] = ["out0_p", "nullptr", 0]
        if mix is not None:
            shapes.append([copies, *mix.shape])
            parts = "1"
            outputs = ["out0_p", "out1_p", "out1_shape0"]
        d_table, *d_mix = _code(
            "Backward",
            [*self._template(table), _kernels(mix), _flag(direction)],
            ["in0_p", at[0], "in1_p", *at[1:], *LEVELS, self.groups, parts, *outputs],
            shapes,
            inputs,
            f"in2_shape0 * {parts}",
            adding=True,
        )
        return [d_table] + [d[0] if copies == 1 else d.sum(0) for d in d_mix]

    def slope(
        self, x: jt.Var, gradient: jt.Var, table: jt.Var, mix: Optional[jt.Var] = None
    ) -> jt.Var:
        """The fused op: the gradient of sum(gradient * forward(...)) for x."""
        inputs = self._inputs(x, table, mix, gradient)
        at = [_place(v, inputs) for v in (gradient, mix)]
        (d_x,) = _code(
            "Slope",
            [*self._template(table), _kernels(mix)],
            ["in0_p", "in1_p", *at, *LEVELS, self.groups, "out0_p"],
            [x.shape],
            inputs,
            1,
        )
        return d_x

    def squares(self, x: jt.Var, table: jt.Var) -> jt.Var:
        """The fused op: the sum over x of phi^2 for each node and channel, (M, C), where `table` is
        the kernel's for features of one."""
        (total,) = _code(
            "Squares",
            self._template(table),
            ["in0_p", "in1_p", LEVELS[0], "out0_p"],
            [[self.index.n_nodes, table.shape[2]]],
            self._inputs(x, table),
            "in2_shape0",
            adding=True,
        )
        return total

    def _inputs(self, x: jt.Var, table: jt.Var, *others: Optional[jt.Var]) -> list[jt.Var]:
        """The op's inputs: x, table, levels and those of the others that are given."""
        return [x, table, self._levels] + [v for v in others if v is not None]

    def _template(self, table: jt.Var) -> list[int]:
        return [self.index.dim, self.octaves, PROFILE_NUMBERS[self.profile], table.shape[2]]


def _kernels(mix: Optional[jt.Var]) -> int:
    """Kernels to a channel, 0 without a mix."""
    return 0 if mix is None else mix.shape[1]


def _place(variable: Optional[jt.Var], inputs: list[jt.Var]) -> str:
    """The C++ pointer to an op's input, by identity; a null pointer for None."""
    if variable is None:
        return "nullptr"
    return f"in{[v is variable for v in inputs].index(True)}_p"


def _flag(variable: Optional[jt.Var]) -> str:
    return "false" if variable is None else "true"


def _code(
    functor: str,
    template: Sequence[Union[int, str]],
    arguments: Sequence[Union[int, str]],
    shapes: Sequence[Sequence[int]],
    inputs: list[jt.Var],
    tasks: Union[int, str],
    adding: bool = False,
) -> list[jt.Var]:
    """One fused op: functor<template>{arguments} of gather.h over all points of x and `tasks`.

    adding: the tasks add to the outputs, which start at zero, on CUDA by atomic operations, as the
    functor's last template argument says.
    """

    def source(atomic: str, clear: str, launcher: str) -> str:
        zero = "".join(
            f"{clear}(out{i}_p, 0, out{i}->size); " for i in range(len(shapes)) if adding
        )
        parameters = ", ".join(map(str, [*template, atomic] if adding else template))
        body = f"{functor}<{parameters}> f{{{', '.join(map(str, arguments))}}};"
        return f"{zero}using namespace jgrid; {body} {launcher}(f, in0_shape0, {tasks});"

    return jt.code(
        shapes,
        ["float32"] * len(shapes),
        inputs,
        cpu_header=HEADER,
        cuda_header=HEADER,
        cpu_src=source("false", "memset", "visit_tasks" if adding else "visit_points"),
        cuda_src=source("true", "cudaMemsetAsync", "launch_visits"),
    )


class _Gather(Function):
    def __init__(self, gather: CollapsedGather):
        super().__init__()
        self.gather = gather

    def execute(self, *inputs):
        return self.gather.forward(*inputs)

    def grad(self, gradient):
        x, *linear = self.inputs
        d_x, *rest = _Adjoint(self.gather)(x, gradient, *linear)
        return (None if x.is_stop_grad() else d_x, *rest)


class _Adjoint(Function):
    """The gradients for x, table and mix.

    The values F are linear in table and mix, so these gradients pair with cotangents c as
    sum(gradient * (dF/dx c_x + F(x, c_table, mix) + F(x, table, c_mix))): that is what is
    differentiated again."""

    def __init__(self, gather: CollapsedGather):
        super().__init__()
        self.gather = gather

    def execute(self, *inputs):
        return (self.gather.slope(*inputs), *self.gather.backward(*inputs))

    def grad(self, c_x, *cotangents):
        def paired(x, gradient, *linear):
            terms = [
                self.gather(x, *linear[:i], c, *linear[i + 1 :])
                for i, c in enumerate(cotangents)
                if c is not None
            ]
            if c_x is not None:
                terms.append(_Tangent(self.gather)(x, c_x, *linear))
            return sum(terms[1:], start=terms[0]) * gradient

        return pull_back(paired, self.inputs, jt.ones(1))


class _Tangent(Function):
    """dF/dx times a direction for each x."""

    def __init__(self, gather: CollapsedGather):
        super().__init__()
        self.gather = gather

    def execute(self, x, direction, *linear):
        return self.gather.forward(x, *_with_mix(linear), direction)

    def grad(self, gradient):
        x, *rest = self.inputs
        d_x = None
        if not x.is_stop_grad():
            (d_x,) = pull_back(lambda x: self.gather.paired(x, *rest, gradient), [x], jt.ones(1))
        return (d_x, *_TangentAdjoint(self.gather)(x, *rest, gradient))


class _TangentAdjoint(Function):
    """The gradients of the tangent for direction, table and mix; differentiated again by the plain
    twin."""

    def __init__(self, gather: CollapsedGather):
        super().__init__()
        self.gather = gather

    def execute(self, x, direction, *linear_and_gradient):
        *linear, gradient = linear_and_gradient
        return (
            self.gather.slope(x, gradient, *linear),
            *self.gather.backward(x, gradient, *_with_mix(linear), direction),
        )

    def grad(self, *cotangents):
        def chosen(x, *others):
            *rest, gradient = others
            gradients = pull_back(lambda *v: self.gather.paired(x, *v, gradient), rest, jt.ones(1))
            return products(gradients, cotangents)

        return pull_back(chosen, self.inputs, jt.ones(1))


def _with_mix(linear):
    """table, mix: the mix None where there is none."""
    return (*linear, None)[:2]
