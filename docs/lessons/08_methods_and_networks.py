# %% [markdown]
"""Lesson 8: methods race, and become networks.

A first-order method is a table of coefficients: how the next point is made of earlier ones and of
the gradients there. With the gradient of a function it minimises that function. With a trained
module in the gradient's place it is a network: gradient descent a ResNet, Nesterov's method one
in which what a module says grows on its way. We let methods race on a quadratic and on LASSO, draw
the network that each becomes, and train sixteen layers of FISTA's, which then need far fewer steps
than the method (LISTA).

第八课：优化方法的比赛，以及它们变成的网络。

一阶方法就是一张系数表：下一个点由之前的点和那里的梯度怎样组合而成。
放进函数的梯度，它就最小化这个函数；把梯度换成可训练的模块，它就是一个网络：
梯度下降是 ResNet；在 Nesterov 方法的网络里，每个模块的输出在传递途中被放大。
我们让几种方法在二次函数和 LASSO 上比赛，画出各自变成的网络，
再训练 FISTA 的前十六层：所需步数远少于方法本身（LISTA）。

    python docs/lessons/08_methods_and_networks.py
"""

# %%
import itertools
import os
from pathlib import Path

from jgrid import TrainConfig, picture
from jgrid.optdnn import SparseProblems, SparseTask, Unrolled, find_method, iterates
from jgrid.optdnn.methods import fista, nesterov, run
from jgrid.optdnn.unrolled import error_db, fewest, train_unrolled

import jittor as jt
import numpy as np

STEPS = int(os.environ.get("STEPS", 400))
jt.set_global_seed(0)

# %%
# f(x) = sum of l_i x_i^2 / 2 with curvatures l_i from 1 down to 1e-4; its gradient is all that a
# method sees / 二次函数，曲率从 1 到 1e-4；方法只看到梯度
curvature = np.logspace(-4, 0, 200)
start = np.ones(200)
quadratic = {}
for name, method in (("gradient descent", find_method("gd")), ("Nesterov", nesterov(1.0))):
    points = itertools.islice(iterates(method, [lambda x: curvature * x], start, 1.0), STEPS + 1)
    quadratic[name] = [(curvature * x**2).sum() / 2 for x in points]
    print(f"quadratic, {name}: f = {quadratic[name][-1]:.2e} after {STEPS} steps")

# %%
# LASSO: |y - A x|^2 / 2 + penalty |x|_1 has no gradient at 0, so its second term enters by its
# proximal map, the soft threshold / LASSO 的第二项在 0 处不可导，用近端映射（软阈值）代替
problems = SparseProblems()
codes, y = problems.draw(200, 0)
solution = problems.solution(y, 0.1)
lasso = {}
for name, method in (("ISTA", find_method("proximal-gradient")), ("FISTA", fista(1.0))):
    points = iterates(method, problems.terms(y, 0.1), problems.zeros(y), problems.step)
    lasso[name] = [error_db(x, solution) for x in itertools.islice(points, STEPS + 1)]
    print(f"LASSO, {name}: {lasso[name][-1]:.1f} dB from the solution after {STEPS} steps")


# %%
def connections(method, layers=16):
    """(layers, layers): how strongly module T_i is connected to the input of T_k. We run the method
    on vectors: T_k puts out the k-th unit vector. / 让 T_k 输出第 k 个单位向量，得到连接的权重。"""
    seen = []

    def module(x):
        seen.append(x)
        return np.eye(layers)[len(seen) - 1]

    run(method, np.zeros(layers), [[module]] * layers, solve=None)
    return np.array(seen)


nets = {name: connections(find_method(name)) for name in ("gd", "heavy-ball", "nesterov")}
for name, matrix in nets.items():
    print(f"{name}: T_0 reaches T_1 with weight {matrix[1, 0]:.2f}, T_15 with {matrix[15, 0]:.2f}")

# %%
# the matrix, steps and thresholds of 16 layers are trained to find codes they never saw /
# 训练 16 层的矩阵、步长和阈值，使其解出从未见过的问题
task = SparseTask(problems, test=200)
network = Unrolled(find_method("fista"), problems, penalty=0.1, layers=16)
train = TrainConfig(steps=STEPS, batch=128, clip=0.3, eval_every=STEPS)
trained = train_unrolled(task, network, 2e-3, train)
found = task.errors_of_layers(network)
iterated = {
    name: task.errors_of_iterations(method, 400)
    for name, method in (("ISTA", find_method("proximal-gradient")), ("FISTA", fista(1.0)))
}
for name, errors in iterated.items():
    needed = fewest(errors, found[-1]) or "more than 400"
    print(f"16 trained layers: {found[-1]:.2f} dB from the codes; {name} needs {needed} steps")

# %%
figure, axes = picture.subplots(2, 3)
for axis, curves, title in (
    (axes[0, 0], quadratic, "quadratic: f"),
    (axes[0, 1], lasso, "LASSO: dB from its solution"),
    (axes[0, 2], {**iterated, "FISTA, 16 trained layers": found}, "sparse codes: dB from them"),
):
    for name, values in curves.items():
        axis.plot(np.arange(len(values)) + 1, values, label=name)
    axis.set(title=title, xlabel="steps, or layers", xscale="log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
axes[0, 0].set_yscale("log")
for axis, (name, matrix) in zip(axes[1], nets.items()):
    shown = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=8)
    axis.set(title=f"{name} as a network", xlabel="from module T_i", ylabel="into module T_k")
figure.colorbar(shown, ax=list(axes[1]), label="weight of the connection")
out = Path("out/lessons/08.png")
out.parent.mkdir(parents=True, exist_ok=True)
print(picture.save_figure(out, figure))
