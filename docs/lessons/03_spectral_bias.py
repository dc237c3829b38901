# %% [markdown]
"""Lesson 3: spectral bias, and Fourier features.

A network on coordinates learns low frequencies first, and high ones hardly ever. Fourier features
gamma(x) = [sin(2 pi b x), cos(2 pi b x)] in front of it change that: they decide which frequencies
are learned soon. We train both on a sum of five waves of equal height and plot what is left of each
wave: for the plain network the colours fade one after the other, for the encoded one all together.

第三课：谱偏差与傅里叶特征。

以坐标为输入的网络总是先学会低频，高频几乎学不会。在它前面加上傅里叶特征 γ(x) = [sin(2πbx),
cos(2πbx)] 就能改变这一点：由它们决定哪些频率先被学会。我们让两个网络学习五个等高波之和，
画出每个波还剩多少：普通网络的颜色依次褪去，加了编码的网络则一起褪去。

    python docs/lessons/03_spectral_bias.py
"""

# %%
import os
from pathlib import Path

from jgrid import MLP, FourierFeatures

import jittor as jt
import numpy as np
from jittor import nn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STEPS = int(os.environ.get("STEPS", 800))
WAVES = (1, 2, 4, 8, 16)
x = np.arange(128, dtype=np.float32)[:, None] / 128
y = sum(np.sin(2 * np.pi * wave * x + wave) for wave in WAVES).astype(np.float32)


# %%
def left_of_each_wave(model):
    """Train; the part of each wave that is not yet learned, at 30 moments: (30, 5). /
    每个波尚未学会的比例。"""
    optimizer = jt.optim.Adam(list(model.parameters()), lr=1e-3)
    inputs = jt.array(x)
    target = jt.array(y)
    history = []
    for step in range(STEPS):
        residual = model(inputs) - target
        optimizer.step((residual**2).mean())
        if step % max(1, STEPS // 30) == 0:
            # 1 for a wave of height 1 / 高度为 1 的波对应 1
            spectrum = np.abs(np.fft.rfft(residual.numpy()[:, 0])) / 64
            history.append(spectrum[list(WAVES)])
    return np.array(history)


# %%
jt.set_global_seed(0)
np.random.seed(0)
models = {
    "coordinates": MLP(1, 1, 128, 3),
    "Fourier features": nn.Sequential(
        FourierFeatures(np.arange(1, 17)[:, None]), MLP(32, 1, 128, 3)
    ),
}
# the frequencies of FourierFeatures are saved with the model, but stop_grad keeps optimisers away /
# 频率会保存，但不参与训练

# %%
figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
FigureCanvasAgg(figure)
for axes, (name, model) in zip(figure.subplots(1, 2), models.items()):
    left = left_of_each_wave(model)
    print(
        f"{name}: "
        + ", ".join(f"wave {wave}: {part:.0%} left" for wave, part in zip(WAVES, left[-1]))
    )
    shown = axes.imshow(
        left.T,
        aspect="auto",
        cmap="magma",
        vmin=0,
        vmax=1,
        extent=(0, STEPS, len(WAVES) - 0.5, -0.5),
    )
    axes.set(
        title=name,
        xlabel="steps",
        ylabel="waves across the line",
        yticks=range(len(WAVES)),
        yticklabels=WAVES,
    )
figure.colorbar(shown, ax=figure.axes, label="left of the wave")
out = Path("out/lessons/03.png")
out.parent.mkdir(parents=True, exist_ok=True)
figure.savefig(out)
print(out)
