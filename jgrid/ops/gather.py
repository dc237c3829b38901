"""The grid's sums: sum_i phi_i w_i for any kernel, and for collapsed kernels fused into one op per direction."""
from jgrid.ops.basis import fourier_octaves, window
from jgrid.ops.function import Function, header, pull_back

import jittor as jt
import numpy as np

HEADER = "#include <cstring>\n" + header("gather.h")
PROFILE_NUMBERS = {"nearest": 0, "linear": 1, "smooth": 2}
FUSED_CHANNELS = 32  # more would not stay in registers


def weighted_gather(phi, w, node, groups=1):
    """g_h(x_n) = sum_k phi[n, k, h] w[node[n, k]], the paper's grid model for H kernels, over `groups` equal runs of k apart.

    phi (N, K, H, C), or (N, K, H, 1) where all channels are weighted alike; w (M, C); node (N, K) int32 -> (N, groups, H, C).
    """
    n, k = node.shape
    products = phi * w[node].unsqueeze(2)
    return products.reshape(n, groups, k // groups, phi.shape[2], w.shape[1]).sum(2)


def scatter(values, node, n_nodes):
    """The sum of the values of each node: values (N, K, C), node (N, K) int32 -> (M, C)."""
    return values.reindex_reduce("add", [n_nodes, values.shape[2]], ["@e0(i0,i1)", "i2"], extras=[node])


def collapsed_gather(index, profile, octaves, heads, groups, x, table):
    """The collapsed grid, plain: with u the offset of x from node i in cells, and basis = [1, gamma(u)] of B functions,

    heads: out[n, l, p, c] = sum_i window(u) basis_p(u) table[i, 0, c], over the corners i of the cell of x_n at level l;
    else:  out[n, l, 0, c] = sum_i window(u) sum_p basis_p(u) table[i, p, c],
    or the same summed over `groups` equal runs of the levels, one for each l.
    x (N, D), table (M, 1 or B, C) -> (N, groups, B or 1, C).
    """
    node, offset = index(x)
    basis = jt.ones(node.shape + [1])
    if octaves:
        basis = jt.concat([basis, fourier_octaves(offset, octaves)], dim=-1)
    values = table[node] * basis.unsqueeze(-1)                                      # (N, K, B, C)
    if not heads:
        values = values.sum(2).unsqueeze(2)
    weighted = values * window(profile, offset).unsqueeze(-1).unsqueeze(-1)
    return weighted.reshape(x.shape[0], groups, -1, *weighted.shape[2:]).sum(2)


class CollapsedGather:
    """`collapsed_gather` for one index and kernel shape, fused; differentiable to any order.

    The gradient for the table is fused too; the gradient for x, which image fitting never asks for, is the plain twin's.
    """

    def __init__(self, index, profile, octaves, heads, groups):
        self.index, self.profile, self.octaves, self.heads = index, profile, octaves, heads
        self.groups = groups
        self.basis = 1 + 2 * index.dim * octaves
        level = np.zeros(index.n_levels, np.dtype({"names": ["cells", "first", "size", "magic"],  # gather.h's Level
                                                   "formats": ["3i4", "i4", "u4", "u8"], "offsets": [0, 12, 16, 24], "itemsize": 32}))
        level["cells"][:, :index.dim], level["first"], level["size"] = index.cells, index.first, index.size
        level["magic"] = [(2**64 - 1) // int(size) + 1 if hashed else 0 for size, hashed in zip(index.size, index.hashed)]
        self._levels = jt.array(level.view(np.int32).reshape(index.n_levels, 8)).stop_grad()

    def __call__(self, x, table):
        """x (N, D), table (M, 1 or B, C) -> (N, groups, B or 1, C)."""
        return _Gather(self)(x, table)

    def plain(self, x, table):
        return collapsed_gather(self.index, self.profile, self.octaves, self.heads, self.groups, x, table)

    def forward(self, x, table):
        shape = [x.shape[0], self.groups, self.basis if self.heads else 1, table.shape[2]]
        return self._code("Forward", shape, [x, table])

    def backward(self, x, gradient):
        shape = [self.index.n_nodes, 1 if self.heads else self.basis, gradient.shape[3]]
        return self._code("Backward", shape, [x, gradient])

    def squares(self, x, table):
        """The sum over x of phi^2 for each node and channel, (M, C), where the table is the kernel's for features of one."""
        return self._code("Squares", [self.index.n_nodes, table.shape[2]], [x, table])

    def _code(self, body, shape, inputs):
        """One fused op: `body` of gather.h over all points and levels."""
        scatter, channels = body != "Forward", shape[-1]
        # few levels would leave threads without work
        parts = 2 if body == "Backward" and channels % 4 == 0 and not self.heads else 1
        tasks = f"in2_shape0 * {parts}" if scatter else self.groups
        template = f"{self.index.dim}, {self.octaves}, {PROFILE_NUMBERS[self.profile]}, {channels}, {str(self.heads).lower()}"
        arguments = f"in0_p, in1_p, (const Level*)in2_p, out0_p, in2_shape0, {self.groups}"

        def source(clear, launcher, atomic):
            flags = f", {parts}, {atomic}" if scatter else ""
            return (f"{clear if scatter else ''}using namespace jgrid; {body}<{template}{flags}> f{{{arguments}}}; "
                    f"{launcher}(f, in0_shape0, {tasks});")

        return jt.code(shape, "float32", [*inputs, self._levels], cpu_header=HEADER, cuda_header=HEADER,
                       cpu_src=source("memset(out0_p, 0, out0->size); ", "over_tasks" if scatter else "over_points", "false"),
                       cuda_src=source("cudaMemsetAsync(out0_p, 0, out0->size); ", "launch", "true"))

    def gradient_for_x(self, x, table, gradient):
        if x.is_stop_grad():
            return None
        return pull_back(lambda x: self.plain(x, table), [x], gradient)[0]


class _Gather(Function):
    def __init__(self, gather):
        super().__init__()
        self.gather = gather

    def execute(self, x, table):
        return self.gather.forward(x, table)

    def grad(self, gradient):
        x, table = self.inputs
        return self.gather.gradient_for_x(x, table, gradient), _Scatter(self.gather)(x, gradient)


class _Scatter(Function):
    """The adjoint of the gather in its table."""

    def __init__(self, gather):
        super().__init__()
        self.gather = gather

    def execute(self, x, gradient):
        return self.gather.backward(x, gradient)

    def grad(self, table):
        x, gradient = self.inputs
        return self.gather.gradient_for_x(x, table, gradient), _Gather(self.gather)(x, table)
