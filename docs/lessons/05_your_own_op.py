# %% [markdown]
"""Lesson 5: your own fused op with jt.code.

Lesson 1's grid is six Jittor operations and as many arrays. With jt.code it is one C++ loop, with a
second one for its gradient, and nothing in between is ever stored. Rules that save hours: the op is
compiled again when its text, rank or types change, not when sizes or values do, so pass numbers in
as inputs or `data`; a gradient is a jt.Function with `execute` and `grad`; several threads must not
add to the same place, so the gradient's loop here is over channels, each of which owns its column;
and check every fast op against its plain twin.

第五课：用 jt.code 写自己的融合算子。

第一课的网格由六个 Jittor 算子和同样多的中间数组组成。用 jt.code 它就是一个 C++ 循环，
梯度是另一个循环，中间结果都不存储。能省下几个小时的规则：源码、维数或类型变了才会重新编译，
形状和数值变了不会，所以数值要作为输入或 `data` 传入；梯度写成带 `execute` 和 `grad` 的
jt.Function；多个线程不能同时累加到同一处，所以这里的梯度按通道并行，每个通道独占一列；
每个快算子都要和朴素写法对照。

    python docs/lessons/05_your_own_op.py
"""

# %%
import os
import time

import jgrid  # noqa: F401  before jittor / 必须先于 jittor 导入

import jittor as jt
import numpy as np

N = int(os.environ.get("POINTS", 400_000))
HEADER = "#include <algorithm>"
# x is in [0, 1]
LOCATE = """
        float u = @in0(i) * cells;
        int64_t j = std::min<int64_t>((int64_t)u, cells - 1);
        float t = u - j;"""
FORWARD = f"""
    const int64_t cells = in1_shape0 - 1;
    #pragma omp parallel for
    for (int64_t i = 0; i < in0_shape0; i++) {{
        {LOCATE}
        for (int64_t c = 0; c < in1_shape1; c++)
            @out(i, c) = (1 - t) * @in1(j, c) + t * @in1(j + 1, c);
    }}"""
BACKWARD = f"""
    const int64_t cells = out_shape0 - 1;
    std::fill_n(out_p, out->num, 0.f);
    // a thread per channel: no two add to the same place / 每个线程一个通道
    #pragma omp parallel for
    for (int64_t c = 0; c < out_shape1; c++)
        for (int64_t i = 0; i < in0_shape0; i++) {{
            {LOCATE}
            @out(j, c) += (1 - t) * @in1(i, c);
            @out(j + 1, c) += t * @in1(i, c);
        }}"""


# %%
class HatGrid(jt.Function):
    """g(x) = (1 - t) w[j] + t w[j + 1] and its gradient for w, one loop each: x (N,), w (M, C) ->
    (N, C)."""

    def execute(self, x, w):
        self.x = x
        self.shape = w.shape
        shape = [x.shape[0], w.shape[1]]
        return jt.code(shape, "float32", [x, w], cpu_header=HEADER, cpu_src=FORWARD)

    def grad(self, gradient):
        # None: there is no gradient for x here. Differentiating this once more would silently give
        # zero: `execute` sees copies that are cut from the graph; jgrid.ops.function.Function mends
        # that. / 这里再求一次导会悄悄得到零，jgrid 的 Function 解决了它
        inputs = [self.x, gradient]
        return None, jt.code(self.shape, "float32", inputs, cpu_header=HEADER, cpu_src=BACKWARD)


# %%
def plain(x, w):
    """The twin: the same in Jittor's own operations. / 朴素写法。"""
    cells = w.shape[0] - 1
    left = jt.clamp(jt.floor(x * cells), 0, cells - 1)
    t = (x * cells - left).unsqueeze(1)
    j = left.int32()
    return (1 - t) * w[j] + t * w[j + 1]


def run(function, n=N):
    """Values, gradient for w and seconds of one pass there and back. / 前向、梯度与耗时。"""
    rng = np.random.default_rng(0)
    x = jt.array(rng.uniform(size=n).astype(np.float32))
    w = jt.array(rng.normal(size=(257, 8)).astype(np.float32))
    jt.sync([x, w])
    began = time.perf_counter()
    value = function(x, w)
    gradient = jt.grad((value * value).sum(), w)
    # without it we would time the writing down / 不同步就只测到“写下算式”
    jt.sync([value, gradient])
    return value.numpy(), gradient.numpy(), time.perf_counter() - began


# %%
fused = HatGrid.apply
for function in (fused, plain):
    # compiles; 1000 or 400,000 points are the same kernel / 编译；点数不同仍是同一个核
    run(function, 1000)
(value, gradient, fast), (twin, twin_gradient, slow) = run(fused), run(plain)
error = max(
    np.abs(value - twin).max(), np.abs(gradient - twin_gradient).max() / np.abs(twin_gradient).max()
)
print(
    f"{N:,} points: fused {1e3 * fast:.1f} ms, plain {1e3 * slow:.1f} ms; they differ by"
    f" {error:.1e}"
)
assert error < 1e-4
if jt.has_cuda:
    print(
        "give cuda_src too and the op runs on the GPU; jgrid/ops/gather.py has one body for both /"
        " 再给 cuda_src 即可在 GPU 上运行"
    )
