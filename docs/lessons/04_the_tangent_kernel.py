# %% [markdown]
"""Lesson 4: the tangent kernel predicts training.

g is linear in its features w, so how outputs move under gradient descent is a fixed matrix, the
grid tangent kernel G = Phi Phi^T: what is left of the error after k steps is (I - lr G)^k of it,
and an eigenvector of G with a large eigenvalue is learned soon. So training can be computed without
training. We predict a picture that a grid will draw after 1, 10, 100 and 1000 steps, then really
train it, and compare.

第四课：切线核预测训练过程。

g 对特征 w 是线性的，所以梯度下降时输出如何变化由一个固定矩阵决定，即网格切线核 G = ΦΦᵀ：
k 步之后的误差是原误差乘以 (I − ηG)^k，特征值大的特征向量先被学会。于是不训练也能算出训练结果。
我们先预测网格在 1、10、100、1000 步之后画出的图，再真正训练它，然后比较。

    python docs/lessons/04_the_tangent_kernel.py
"""

# %%
import os
from pathlib import Path

from jgrid import Field, Grid, GridIndex, InterpolationKernel, picture
from jgrid.theory import gradient_descent, gtk, predicted_outputs

import jittor as jt
import numpy as np
import skimage.data

SIDE = int(os.environ.get("SIDE", 32))
STEPS = [1, 10, 100, 1000]
jt.set_global_seed(0)
face = skimage.data.astronaut()[20:212, 130:322, :] / 255
pixels = face.reshape(SIDE, 192 // SIDE, SIDE, 192 // SIDE, 3).mean((1, 3))
y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
points = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
colours = pixels.reshape(-1, 3)

# %%
# three levels, summed / 三层之和
grid = Grid(GridIndex(2, [3, 8, 24]), InterpolationKernel("smooth"), channels=3)
field = Field(grid, None, {"features": 1.0})

# (N, N), from index and kernel; no autodiff / 由索引和核直接得到，无需自动求导
G = gtk(grid, points)
eigenvalues = np.linalg.eigvalsh(G)[::-1]
# below 2 / lambda_max training is stable / 小于 2/λmax 时稳定
lr = 1 / eigenvalues[0]
with jt.no_grad():
    start = field(jt.array(points)).numpy().astype(np.float64)
predicted = predicted_outputs(G, colours, lr, STEPS, start)
print(
    f"G is {G.shape[0]} x {G.shape[1]}; eigenvalues from {eigenvalues[0]:.1f} to"
    f" {eigenvalues[-1]:.1e}"
)
print(
    "steps to halve the error along eigenvectors 1, 10, 100: "
    + ", ".join(f"{np.log(2) / (lr * eigenvalues[n - 1]):.0f}" for n in (1, 10, 100))
)

# %%
rows = []
for n, (step, _) in enumerate(gradient_descent(field, points, colours, lr, STEPS)):
    with jt.no_grad():
        trained = field(jt.array(points)).numpy()
    print(
        f"after {step:4} steps: predicted and trained differ by"
        f" {np.abs(trained - predicted[n]).max():.1e} at most"
    )
    rows.append((f"step {step}", predicted[n], trained))


def enlarged(values):
    return np.clip(values.reshape(SIDE, SIDE, 3), 0, 1).repeat(8, axis=0).repeat(8, axis=1)


above = picture.side_by_side(
    [("predicted: " + name, enlarged(value)) for name, value, _ in rows]
    + [("target", enlarged(colours))]
)
below = picture.side_by_side(
    [("trained: " + name, enlarged(value)) for name, _, value in rows] + [("", enlarged(colours))]
)
out = Path("out/lessons/04.png")
out.parent.mkdir(parents=True, exist_ok=True)
print(picture.save(out, np.concatenate([above, below])))
