# %% [markdown]
"""Lesson 1: variables, gradients and laziness.

A Jittor variable is a promise: `a * x + b` writes down what to compute, and nothing is computed
until somebody looks (`.item()`, `.numpy()`, `.sync()`), so that Jittor can fuse many small
operations into one compiled loop. `optimizer.step(loss)` differentiates, updates and forgets the
graph: there is no `backward()` and no `zero_grad()`. We fit a line, and then the smallest grid
there is: numbers at nodes, and straight lines between them.

第一课：变量、梯度与惰性求值。

Jittor 的变量是一个“承诺”：写下 `a * x + b` 只是记录要算什么，直到有人查看（`.item()`、`.numpy()`、
`.sync()`）才真正计算，因此 Jittor 能把许多小算子融合成一个编译好的循环。`optimizer.step(loss)`
一步完成求导、更新并丢弃计算图，不需要 `backward()` 和 `zero_grad()`。我们先拟合一条直线，
再拟合最小的网格：节点上存数，节点之间连直线。

    python docs/lessons/01_variables_and_laziness.py
"""

# %%
import os
import time
from pathlib import Path

import jgrid  # noqa: F401  before jittor: it prepares Jittor's installation / 必须先于 jittor 导入

import jittor as jt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STEPS = int(os.environ.get("STEPS", 300))
jt.set_global_seed(0)
random = np.random.default_rng(0)
numbers = np.sort(random.uniform(size=256)).astype(np.float32)
heights = (
    np.sin(7 * numbers) + 0.4 * np.sin(31 * numbers * numbers) + 0.05 * random.normal(size=256)
).astype(np.float32)
x = jt.array(numbers)
y = jt.array(heights)


# %%
def laziness():
    """Writing forty operations down is quick; the work is done when the result is looked at. /
    写下算式很快，查看结果时才计算。"""
    began = time.perf_counter()
    z = jt.ones(1000, 1000)
    for _ in range(20):
        z = z * 0.99 + 0.01
    written = time.perf_counter() - began
    value = z.mean().item()
    print(
        f"written down in {1e3 * written:.1f} ms, computed in"
        f" {1e3 * (time.perf_counter() - began - written):.1f} ms: {value:.3f}"
    )


# %%
def line(a, b):
    return a * x + b


def grid(w):
    """g(x) = (1 - t) w[i] + t w[i + 1], i the node to the left of x and t in [0, 1] how far x is
    beyond it."""
    cells = w.shape[0] - 1
    left = jt.clamp(jt.floor(x * cells), 0, cells - 1)
    t = x * cells - left
    left = left.int32()
    return (1 - t) * w[left] + t * w[left + 1]


def fit(function, *parameters):
    """Gradient descent with Adam; returns the fitted values. / 用 Adam 训练，返回拟合值。"""
    optimizer = jt.optim.Adam(list(parameters), lr=5e-2)
    for _ in range(STEPS):
        loss = ((function(*parameters) - y) ** 2).mean()
        # loss.item() in every step would wait for the result each time / 每步都取值会逼它立刻计算
        optimizer.step(loss)
    print(
        f"{function.__name__}, {sum(p.numel() for p in parameters)} numbers: mean squared error"
        f" {loss.item():.4f}"
    )
    return function(*parameters).numpy()


# %%
for attempt in ("compiling", "compiled"):
    print(attempt, end=": ")
    laziness()
a = jt.array([3.0])
slope = jt.grad((a * a).sum(), a)  # d(a^2)/da = 2a, itself a variable / 梯度本身也是变量
print("d(a^2)/da at 3:", slope.item())

figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
FigureCanvasAgg(figure)
axes = figure.subplots()
axes.plot(numbers, heights, "k.", markersize=3, label="samples")
axes.plot(numbers, fit(line, jt.zeros(1), jt.zeros(1)), label="line")
for nodes in (9, 33):
    axes.plot(numbers, fit(grid, jt.zeros(nodes)), label=f"grid of {nodes} nodes")
axes.legend()
out = Path("out/lessons/01.png")
out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(out)
print(out)
