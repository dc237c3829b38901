# %% [markdown]
"""Lesson 2: modules, and the formula g(x).

Every grid field is one formula, g(x) = sum over i in U(x) of phi(x, i) w_i: an index U says which
nodes answer for a point, a kernel phi how much each counts, and w are the features. We write it as
a Jittor module in a few lines, check it against jgrid's fused one, and look at the same random
features through four kernels. Traps: a module's method is `execute`, not `forward`; every variable
among its attributes counts as a parameter, unless its name starts with an underscore; a Python list
of modules is not searched, nn.ModuleList is.

第二课：模块与公式 g(x)。

所有网格场都是同一个公式 g(x) = Σ_{i∈U(x)} φ(x, i) w_i：索引 U 决定由哪些节点作答，核 φ
决定各占多少，w 是特征。我们用几行 Jittor 模块写出它，与 jgrid 的融合算子对比，
再透过四种核看同一组随机特征。注意：模块的方法叫 `execute` 而不是 `forward`；
凡是变量属性都会被当作参数，除非名字以下划线开头；普通 Python 列表里的子模块不会被找到，要用
nn.ModuleList。

    python docs/lessons/02_modules_and_the_formula.py
"""

# %%
import os
from pathlib import Path

from jgrid import Grid, GridIndex, InterpolationKernel, MulFAKernel, picture

import jittor as jt
import numpy as np
from jittor import nn

SIDE = int(os.environ.get("SIDE", 200))
jt.set_global_seed(3)
np.random.seed(3)


# %%
class MyGrid(nn.Module):
    """The formula, line for line. / 公式逐行写出。"""

    def __init__(self, index, kernel, channels):
        super().__init__()
        self.index = index
        self.kernel = kernel
        # a parameter: no underscore / 参数：名字不带下划线
        self.w = jt.rand(index.n_nodes, channels)
        self._calls = jt.zeros(1)  # not a parameter / 不是参数

    def execute(self, x):
        # U(x): (N, K), and where x lies from each node, in cells
        node, offset = self.index(x)
        phi = self.kernel(x, node, offset)  # phi(x, i): (N, K, 1, C)
        return (phi[:, :, 0] * self.w[node]).sum(1)  # sum of phi_i w_i: (N, C)


# %%
# one level of 8 x 8 cells: the four corners answer / 四个角点作答
index = GridIndex(dim=2, cells=[8])
mine = MyGrid(index, InterpolationKernel("linear"), channels=3)
print("parameters of MyGrid:", sorted(name for name, _ in mine.named_parameters()))

y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
points = jt.array(np.stack([x, y], axis=-1).reshape(-1, 2) / (SIDE - 1))
library = Grid(index, InterpolationKernel("linear"), channels=3)
library.w.assign(mine.w)
difference = jt.abs(mine(points) - library(points)).max().item()
print(f"largest difference from jgrid's fused grid: {difference:.1e}")
assert difference < 1e-5

# %%
panels = []
for name, kernel in (
    ("nearest", InterpolationKernel("nearest")),
    ("linear", InterpolationKernel("linear")),
    ("smooth", InterpolationKernel("smooth")),
    ("MulFA, learned", MulFAKernel(2, 1, 3, spread=0.2, constant=0.8)),
):
    grid = MyGrid(index, kernel, channels=3)
    grid.w.assign(mine.w)  # the same numbers every time / 每次都是同一组数
    with jt.no_grad():  # nothing will be differentiated: keep no graph / 不求导就不保留计算图
        panels.append((name, grid(points).numpy().reshape(SIDE, SIDE, 3)))
out = Path("out/lessons/02.png")
out.parent.mkdir(parents=True, exist_ok=True)
print(picture.save(out, picture.side_by_side(panels)))
