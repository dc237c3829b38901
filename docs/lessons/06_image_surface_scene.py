# %% [markdown]
"""Lesson 6: an image, a surface, a radiance field.

One field, three tasks. A task says what a batch is, what the loss is and how well the field does;
the same trainer and the same grid then fit a picture (2 numbers in, 3 out: a colour), a surface (3
in, 1 out: the signed distance, negative inside) and a scene (3 in, 16 out: a density and what a
small network turns into a colour along each ray). The sizes here are tiny so that all three take
less than a minute; the apps fit_image, fit_sdf and fit_views do the same in earnest.

第六课：图像、曲面与辐射场。

一种场，三个任务。任务规定一个批次是什么、损失是什么、拟合得如何；同一个训练器和同一种网格就能拟合
图像（输入 2 个数，输出颜色 3 个数）、曲面（输入 3，输出有符号距离，内部为负）和场景（输入 3，输出
16：密度以及 由小网络沿每条光线变成颜色的特征）。这里的规模很小，三个任务加起来不到一分钟；
正式使用请看 apps 里的 fit_image、fit_sdf 和 fit_views。

    python docs/lessons/06_image_surface_scene.py
"""

# %%
import os
from dataclasses import replace
from pathlib import Path

import jgrid
from jgrid import picture
from jgrid.field import DecoderConfig
from jgrid.field.presets import SURFACE
from jgrid.image.task import render
from jgrid.scene.made import knot, make_scene
from jgrid.surface.isosurface import preview
from jgrid.surface.mesh import make_mesh
from jgrid.surface.task import values_of

import jittor as jt
import numpy as np
import skimage.data

STEPS = int(os.environ.get("STEPS", 150))
SIDE = int(os.environ.get("SIDE", 128))
DECODER = DecoderConfig(width=32, gated=True)
GRID = jgrid.MulFAGridConfig(finest=48, coarsest=12, levels=2, channels=4, decoder=DECODER)
# starts near interpolation, as distances need it / 起步接近插值
SMOOTH = replace(
    SURFACE["grid:mulfa"], finest=32, coarsest=8, levels=2, channels=4, decoder=DECODER
)
jt.set_global_seed(0)
out = Path("out/lessons")
out.mkdir(parents=True, exist_ok=True)


def train(task, model, batch):
    config = jgrid.TrainConfig(steps=STEPS, batch=batch, eval_every=STEPS)
    result = jgrid.Trainer(task, model, config).fit()
    print(
        f"{task.metric} {result[task.metric]:.3f}, {result['parameters']:,} parameters,"
        f" {result['seconds_train']:.1f} s"
    )
    return model


# %%
# an image: f(x, y) = colour / 图像：颜色
pixels = skimage.data.astronaut()[20 : 20 + SIDE, 150 : 150 + SIDE] / 255
task = jgrid.ImageTask(pixels)
model = train(task, GRID.build(task), 2**13)
image = [("picture", task.pixels), ("fitted", np.clip(render(model, SIDE, SIDE), 0, 1))]

# %%
# a surface: f(x, y, z) = signed distance; where it is 0, a ray stops / 曲面：有符号距离，
# 光线停在其零点
trefoil = knot()
mesh = make_mesh(trefoil.vertices, trefoil.faces)
task = jgrid.SDFTask(mesh, jgrid.SDFConfig(pool=2**14 if STEPS < 100 else 2**16))
model = train(task, SMOOTH.build(task), 2**12)
surface = [
    ("surface", preview(mesh.signed_distance, mesh.bounds(), size=SIDE, up=2, cast=mesh.cast)),
    ("fitted", preview(values_of(model), mesh.bounds(), size=SIDE, up=2)),
]

# %%
# a scene: density and colour, added up along rays; learned from photographs / 场景：
# 沿光线累加密度与颜色，从照片学习
scene = make_scene(out / "scene", trefoil, size=SIDE // 2, train=24, test=2)
config = jgrid.ViewsConfig(cells=32, samples=96)
task = jgrid.ViewsTask(
    jgrid.load_views(scene, "train"), jgrid.load_views(scene, "test"), jgrid.Box(1.5), config
)
model = train(task, task.build(GRID), 2**12)
view = task.viewer.picture(model, task.test.poses[0])[0]
views = [("photograph", task.test.on(0, 1.0)), ("fitted", view)]


# %%
def enlarged(values):
    times = 2 * SIDE // len(values)
    return np.clip(values, 0, 1).repeat(times, axis=0).repeat(times, axis=1)


panels = [(name, enlarged(values)) for name, values in [*image, *surface, *views]]
print(picture.save(out / "06.png", picture.side_by_side(panels)))
