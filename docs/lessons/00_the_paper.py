# %% [markdown]
"""Lesson 0: the paper in 80 lines.

A grid model is g(x) = sum over i in U(x) of phi(x, i) w_i: the index U says which nodes answer for
a point, the kernel phi how much each counts, w are the features. Written as g = Phi w it is linear,
so gradient descent is known in advance: with G = Phi Phi^T, the grid tangent kernel, what is left
of the error after k steps is (I - lr G)^k of it (theorem 1), G never changes (theorem 2), and it
bounds the error on points that training does not see (theorem 3). We predict a noisy wave, fitted
by linear interpolation and by MulFAGrid's functions, then really train, and compare. Here, with as
many features, the linear grid fits its points better and MulFAGrid the points between.

第零课：八十行读懂论文。

网格模型是 g(x) = Σ_{i∈U(x)} φ(x, i) w_i：索引 U 决定由哪些节点作答，核 φ 决定各占多少，w 是特征。
写成 g = Φw，它是线性的，所以梯度下降可以预先算出：记 G = ΦΦᵀ（网格切线核），k 步之后的误差是
原误差乘以 (I − ηG)^k（定理一）；G 始终不变（定理二）；它还给出未见点上误差的界（定理三）。
我们先预测对一条带噪声的波的拟合，一次用线性插值，一次用 MulFAGrid 的函数，然后真正训练，
再作比较。在这里，特征数相同时，线性网格在训练点上更好，MulFAGrid 在点与点之间更好。

    python docs/lessons/00_the_paper.py
"""

# %%
import os
from pathlib import Path

import jgrid  # noqa: F401  before jittor: it prepares Jittor's installation / 必须先于 jittor 导入

import jittor as jt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STEPS = int(os.environ.get("STEPS", 1000))
CHECKED = np.unique(np.geomspace(1, STEPS, 12).astype(int))
rng = np.random.default_rng(0)
x, unseen = np.sort(rng.uniform(size=400)), np.sort(rng.uniform(size=400))
wave, truth = (0.5 + 0.25 * np.sin(7 * v) + 0.2 * np.sin(60 * v * v) for v in (x, unseen))
y = wave + 0.02 * rng.normal(size=400)


# %% The model: index, kernel, and Phi / 模型：索引、核与 Φ
def index(x, cells):
    """U(x): the two nodes around each point, and its offsets from them in cells: (N, 2) each."""
    left = np.minimum((x * cells).astype(int), cells - 1)
    node = np.stack([left, left + 1], axis=1)
    return node, x[:, None] * cells - node


def linear(u):
    """Interpolation, one function of the offset. / 线性插值。"""
    return [1 - abs(u)]


def mulfa(u):
    """A window times functions of the offset, each with its own features. / 窗乘傅里叶函数。"""
    return [(1 - abs(u)) * f for f in (1, np.sin(np.pi * u), np.cos(np.pi * u))]


def design(x, levels, kernel):
    """Phi (N, M): how much each feature counts at each point; levels and functions in a row."""
    columns = []
    for cells in levels:
        node, u = index(x, cells)
        for phi in kernel(u):
            columns.append(np.zeros((len(x), cells + 1)))
            np.put_along_axis(columns[-1], node, phi, axis=1)
    return np.concatenate(columns, axis=1)


# %% The theory: what training will do / 理论：训练会做什么
def predict(Phi, y, lr, k):
    """The features after k steps from zero: Phi^T p_k(G) y, p_k(t) = (1 - (1 - lr t)^k) / t."""
    eigenvalues, modes = np.linalg.eigh(Phi @ Phi.T)  # of G; some are zero / 有些为零
    t = np.maximum(eigenvalues, 1e-9)
    return Phi.T @ (modes @ ((1 - (1 - lr * t) ** k) / t * (modes.T @ y)))


def bound(Phi, y, w):
    """The mean error on unseen points is at most this, with probability 0.95. / 未见点误差的界。"""
    complexity = 2 * np.sqrt((w**2).sum() * (Phi**2).sum()) / len(y)
    return abs(Phi @ w - y).mean() + complexity + 3 * np.sqrt(np.log(40) / (2 * len(y)))


def train(Phi, y, lr):
    """Really train, by Jittor's derivatives; the features at each checked step. / 真正训练。"""
    inputs, targets = jt.array(np.float32(Phi)), jt.array(np.float32(y)[:, None])
    w = jt.zeros((Phi.shape[1], 1))
    optimizer = jt.optim.SGD([w], lr)
    for step in range(1, STEPS + 1):
        optimizer.step(0.5 * ((inputs @ w - targets) ** 2).sum())
        if step in CHECKED:
            yield w.numpy()[:, 0]


# %% Predict, train, compare / 预测、训练、比较
figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
FigureCanvasAgg(figure)
left, right = figure.subplots(1, 2)
left.plot(x, y, ".", color="0.7", label="trained points")
for name, levels, kernel in (("linear", (24, 192), linear), ("MulFA", (8, 64), mulfa)):
    Phi, Phi_unseen = design(x, levels, kernel), design(unseen, levels, kernel)
    lr = 1 / np.linalg.norm(Phi, 2) ** 2  # 1 / lambda_max
    predicted = np.stack([predict(Phi, y, lr, k) for k in CHECKED])
    trained = np.stack(list(train(Phi, y, lr)))
    difference = abs((predicted - trained) @ Phi.T).max()
    print(f"{name}, {Phi.shape[1]} features: predicted and trained differ by {difference:.1e}")
    for which, weights, style in (("predicted", predicted, "-"), ("trained", trained, "o")):
        error = np.sqrt(((weights @ Phi_unseen.T - truth) ** 2).mean(1))
        right.loglog(CHECKED, error, style, label=f"{name}, {which}")
    fitted = np.sqrt(((predicted[-1] @ Phi.T - y) ** 2).mean())
    limit = bound(Phi, y, predicted[-1])
    print(f"  error {fitted:.4f} at trained points, {error[-1]:.4f} at others, bound {limit:.2f}")
    left.plot(unseen, Phi_unseen @ trained[-1], label=name)
left.legend()
right.set(xlabel="steps", ylabel="error on unseen points")
right.legend()
out = Path("out/lessons/00.png")
out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(out)
print(out)
