"""The grid's sums: sum_i phi_i w_i for any kernel, and for collapsed kernels fused into one op per
direction."""

from jgrid.ops.basis import fourier_octaves, window
from jgrid.ops.function import Function, header, pull_back

import jittor as jt
import numpy as np

HEADER = header("launch.h", "gather.h")
PROFILE_NUMBERS = {"nearest": 0, "linear": 1, "smooth": 2}
FUSED_CHANNELS = 32  # more would not stay in registers
CUDA_COPIES = 64  # of the gradient for `mix`, to which all points write; a power of two


def weighted_gather(phi, w, node, groups=1):
    """g_h(x_n) = sum_k phi[n, k, h] w[node[n, k]], the paper's grid model for H kernels, over
    `groups` equal runs of k apart.

    phi (N, K, H, C), or (N, K, H, 1) where all channels are weighted alike; w (M, C); node (N, K)
    int32 -> (N, groups, H, C)."""
    n, k = node.shape
    products = phi * w[node].unsqueeze(2)
    return products.reshape(n, groups, k // groups, phi.shape[2], w.shape[1]).sum(2)


def scatter(values, node, n_nodes):
    """The sum of the values of each node: values (N, K, C), node (N, K) int32 -> (M, C)."""
    return values.reindex_reduce(
        "add", [n_nodes, values.shape[2]], ["@e0(i0,i1)", "i2"], extras=[node]
    )


def collapsed_gather(index, profile, octaves, groups, x, table, mix=None):
    """The collapsed grid, plain: with u the offset of x from node i in cells, and basis = [1,
    gamma(u)] of B functions,

    mixed per level:  out[n, l, h, c] = sum_p mix[l, h, p, c] sum_i window(u) basis_p(u) table[i, 0,
    c], over the corners i at level l; mixed per node:   out[n, l, 0, c] = sum_i window(u) sum_p
    basis_p(u) table[i, p, c], or the same summed over `groups` equal runs of the levels, one for
    each l. x (N, D); table (M, 1, C) and mix (L, H, B, C), or table (M, B, C) and no mix -> (N,
    groups, H or 1, C)."""
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
    values = values.sum(2, keepdims=True) if mix is None else (values.unsqueeze(2) * mix).sum(3)
    return values.reshape(x.shape[0], groups, -1, *values.shape[2:]).sum(2)


class CollapsedGather:
    """`collapsed_gather` for one index and kernel shape, fused; differentiable to any order.

    Fused are the values, their gradients for x, table and mix, and the gradients of these for table
    and mix, which a loss on the slope asks for; what is beyond is the plain twin's.
    """

    def __init__(self, index, profile, octaves, groups):
        self.index = index
        self.profile = profile
        self.octaves = octaves
        self.groups = groups
        self.basis = 1 + 2 * index.dim * octaves
        # gather.h's Level
        level = np.zeros(
            index.n_levels,
            np.dtype(
                {
                    "names": ["cells", "first", "size", "magic"],
                    "formats": ["3i4", "i4", "u4", "u8"],
                    "offsets": [0, 12, 16, 24],
                    "itemsize": 32,
                }
            ),
        )
        level["cells"][:, : index.dim] = index.cells
        level["first"] = index.first
        level["size"] = index.size
        level["magic"] = [
            (2**64 - 1) // int(size) + 1 if hashed else 0
            for size, hashed in zip(index.size, index.hashed)
        ]
        self._levels = jt.array(level.view(np.int32).reshape(index.n_levels, 8)).stop_grad()

    def __call__(self, x, table, mix=None):
        """x (N, D), table, mix as for `collapsed_gather` -> (N, groups, H or 1, C)."""
        return _Gather(self)(x, table, *([] if mix is None else [mix]))

    def plain(self, x, table, mix=None):
        return collapsed_gather(self.index, self.profile, self.octaves, self.groups, x, table, mix)

    def paired(self, x, direction, *linear_and_gradient):
        """sum(gradient * dF/dx direction), plain."""
        *linear, gradient = linear_and_gradient
        return (pull_back(lambda x: self.plain(x, *linear), [x], gradient)[0] * direction).sum()

    def forward(self, x, table, mix=None, direction=None):
        """The fused op: values, or their derivatives along a direction (N, D) for each x."""
        inputs, kernels = self._inputs(x, table, mix, direction)
        body = (
            f"Forward<{self._template(table)}, {kernels}, {_flag(direction)}> f{{in0_p,"
            f" {_place(direction, inputs)}, in1_p, {_place(mix, inputs)}, (const Level*)in2_p,"
            f" in2_shape0, {self.groups}, out0_p}};"
        )
        shape = [x.shape[0], self.groups, kernels or 1, table.shape[2]]
        (values,) = _code([shape], inputs, lambda atomic: body, "visit_points", self.groups)
        return values

    def backward(self, x, gradient, table, mix=None, direction=None):
        """The fused op: the gradients of sum(gradient * forward(...)) for the table and, where
        there is one, the mix."""
        inputs, kernels = self._inputs(x, table, mix, direction, gradient)
        parts = "1" if kernels else "parts_of_levels(in2_shape0)"
        copies = CUDA_COPIES if jt.flags.use_cuda else 1
        d_mix = "out1_p, out1_shape0" if kernels else "nullptr, 0"
        d_table, *d_mix = _code(
            [table.shape] + ([[copies, *mix.shape]] if kernels else []),
            inputs,
            lambda atomic: (
                f"Backward<{self._template(table)}, {kernels}, {_flag(direction)}, {atomic}>"
                f" f{{in0_p, {_place(direction, inputs)}, in1_p, {_place(gradient, inputs)},"
                f" {_place(mix, inputs)}, (const Level*)in2_p, in2_shape0, {self.groups}, {parts},"
                f" out0_p, {d_mix}}};"
            ),
            "visit_tasks",
            f"in2_shape0 * {parts}",
        )
        return [d_table] + [d[0] if copies == 1 else d.sum(0) for d in d_mix]

    def slope(self, x, gradient, table, mix=None):
        """The fused op: the gradient of sum(gradient * forward(...)) for x."""
        inputs, kernels = self._inputs(x, table, mix, None, gradient)
        body = (
            f"Slope<{self._template(table)}, {kernels}> f{{in0_p, in1_p,"
            f" {_place(gradient, inputs)}, {_place(mix, inputs)}, (const Level*)in2_p, in2_shape0,"
            f" {self.groups}, out0_p}};"
        )
        (d_x,) = _code([x.shape], inputs, lambda atomic: body, "visit_points", 1)
        return d_x

    def squares(self, x, table):
        """The fused op: the sum over x of phi^2 for each node and channel, (M, C), where `table` is
        the kernel's for features of one."""
        (total,) = _code(
            [[self.index.n_nodes, table.shape[2]]],
            self._inputs(x, table)[0],
            lambda atomic: (
                f"Squares<{self._template(table)}, {atomic}> f{{in0_p, in1_p, (const Level*)in2_p,"
                " out0_p};"
            ),
            "visit_tasks",
            "in2_shape0",
        )
        return total

    def _inputs(self, x, table, mix=None, *others):
        """The op's inputs, x, table, levels and those that are there, and the number of kernels to
        a channel, 0 without a mix."""
        return [x, table, self._levels] + [v for v in (mix, *others) if v is not None], (
            0 if mix is None else mix.shape[1]
        )

    def _template(self, table):
        return (
            f"{self.index.dim}, {self.octaves}, {PROFILE_NUMBERS[self.profile]}, {table.shape[2]}"
        )


def _place(variable, inputs):
    """The C++ pointer to an op's input, by identity; a null pointer for None."""
    return "nullptr" if variable is None else f"in{[v is variable for v in inputs].index(True)}_p"


def _flag(variable):
    return "false" if variable is None else "true"


def _code(shapes, inputs, body, launcher, tasks):
    """One fused op: a body of gather.h, body(atomic) -> "Body<...> f{...};", over all points of x
    and `tasks`; outputs start at zero where tasks add to them."""
    adding = launcher == "visit_tasks"

    def source(atomic, clear, launcher):
        zero = "".join(
            f"{clear}(out{i}_p, 0, out{i}->size); " for i in range(len(shapes)) if adding
        )
        return f"{zero}using namespace jgrid; {body(atomic)} {launcher}(f, in0_shape0, {tasks});"

    return jt.code(
        shapes,
        ["float32"] * len(shapes),
        inputs,
        cpu_header=HEADER,
        cuda_header=HEADER,
        cpu_src=source("false", "memset", launcher),
        cuda_src=source("true", "cudaMemsetAsync", "launch_visits"),
    )


class _Gather(Function):
    def __init__(self, gather):
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

    def __init__(self, gather):
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
            terms += [] if c_x is None else [_Tangent(self.gather)(x, c_x, *linear)]
            return sum(terms[1:], start=terms[0]) * gradient

        return pull_back(paired, self.inputs, jt.ones(1))


class _Tangent(Function):
    """dF/dx times a direction for each x."""

    def __init__(self, gather):
        super().__init__()
        self.gather = gather

    def execute(self, x, direction, *linear):
        return self.gather.forward(x, *_with_mix(linear), direction)

    def grad(self, gradient):
        x, *rest = self.inputs
        d_x = (
            None
            if x.is_stop_grad()
            else pull_back(lambda x: self.gather.paired(x, *rest, gradient), [x], jt.ones(1))[0]
        )
        return (d_x, *_TangentAdjoint(self.gather)(x, *rest, gradient))


class _TangentAdjoint(Function):
    """The gradients of the tangent for direction, table and mix; differentiated again by the plain
    twin."""

    def __init__(self, gather):
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
            gradients = pull_back(
                lambda *v: self.gather.paired(x, *v, others[-1]), others[:-1], jt.ones(1)
            )
            return sum(
                (
                    (g * c).sum()
                    for g, c in zip(gradients, cotangents)
                    if c is not None and g is not None
                ),
                start=jt.zeros(1),
            )

        return pull_back(chosen, self.inputs, jt.ones(1))


def _with_mix(linear):
    """table, mix: the mix None where there is none."""
    return (*linear, None)[:2]
