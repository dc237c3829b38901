"""What runs on two devices and must agree: grids and MLPs to second order, Adam, rendering, three
small subjects."""

from functools import partial
from pathlib import Path
from typing import Any, Callable
from unittest import mock

from jgrid.field import DecoderConfig, MulFAGridConfig
from jgrid.grid import Grid
from jgrid.image.task import ImageTask
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.ops import mlp
from jgrid.ops.render import composite, distances, distortion, march, marched, pack, visible
from jgrid.optimizer import Adam
from jgrid.scene.camera import Box
from jgrid.scene.files import load_views
from jgrid.scene.made import make_scene
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.surface.mesh import load_mesh
from jgrid.surface.task import SDFConfig, SDFTask

import jittor as jt
import numpy as np
import trimesh
from conftest import SCENE_FIELD, drawn_on_the_cpu

POINTS = 700  # of more than two blocks, the last one not full
# of the fused ops that have CUDA text
BODIES = {
    "Forward",
    "Backward",
    "Slope",
    "Squares",
    "Adam",
    "Scale",
    "March",
    "Visible",
    "Composite",
    "CompositeBackward",
    "Distortion",
    "DistortionBackward",
    "mlp_forward",
    "mlp_pull_back",
    "mlp_squared_error",
}


def kernels(dim, index):
    return {
        "nearest": InterpolationKernel("nearest"),
        "linear": InterpolationKernel("linear"),
        "smooth": InterpolationKernel("smooth"),
        "mulfa": MulFAKernel(dim, 2, 2, kernels=2, octaves=2),
        "gain": MulFAGainKernel(index.positions(), 2),
    }


def orders_of_a_grid(dim, fold, name):
    """Values of a grid and its gradients to second order."""
    jt.set_global_seed(0)
    np.random.seed(0)
    index = GridIndex(dim, [4, 9], table_size=60, fold=fold)
    grid = drawn_on_the_cpu(lambda: Grid(index, kernels(dim, index)[name], 2))
    x = jt.array(np.random.uniform(-0.1, 1.1, (POINTS, dim)).astype(np.float32))
    value = grid(x)
    along = jt.array(np.random.randn(*value.shape).astype(np.float32))
    results = {"value": value}
    parameters = list(grid.parameters())
    (slope,) = jt.grad((value * along).sum(), [x])
    results["slope"] = slope
    for order, loss in (("first", (value * value).sum()), ("second", (slope * slope).sum())):
        for n, gradient in enumerate(jt.grad(loss, parameters)):
            results[f"{order} {n}"] = gradient
    if name == "gain":
        results["squares"] = grid.fused.squares(x, grid.kernel.collapse(grid.w)[0])
    return {key: v.numpy() for key, v in results.items()}


def optimised(lazy):
    rng = np.random.default_rng(0)
    p = jt.array(rng.normal(size=(POINTS, 3)).astype(np.float32))
    keep = jt.array((rng.random((POINTS, 1)) < 0.5).astype(np.float32))
    optimizer = Adam([{"params": [p], "lr": 0.1, "lazy": lazy}])
    for _ in range(3):
        optimizer.step((keep * p * p).sum())
    return {"p": p.numpy()}


def orders_of_a_network(widths, gated, points, parts):
    """Values of an MLP and its gradients to second order, and those of its squared error; parts: of
    the points, in which gradients are summed."""
    rng = np.random.default_rng(0)
    first, *hidden, last = widths
    shapes = [(first, first)] if gated else []
    for a, b in zip(widths, hidden):
        shapes += [(b, a)] * (2 if gated else 1)
    shapes.append((last, widths[-2]))
    network = []
    for to, n in shapes:
        network.append(jt.array((rng.normal(size=(to, n)) / n**0.5).astype(np.float32)))
        network.append(jt.array(rng.normal(size=to).astype(np.float32)))
    z, target, along = (
        jt.array(rng.normal(size=(points, n)).astype(np.float32)) for n in (first, last, last)
    )
    everything = [z, *network]
    with mock.patch.dict(mlp.PARTS, dict.fromkeys(mlp.PARTS, parts)):
        value = mlp.fused_mlp(*everything, gated=gated)
        error = mlp.fused_squared_error(z, target.stop_grad(), *network, gated=gated)
        results = {"value": value, "error": error}
        slope, *rest = jt.grad((value * along).sum(), everything)
        orders = {"first": [slope, *rest], "of the error": jt.grad(3 * error, everything)}
        orders["second"] = jt.grad((slope * slope).sum(), everything[:-1])
        for order, gradients in orders.items():
            results.update({f"{order} {n}": g for n, g in enumerate(gradients)})
        return {key: v.numpy() for key, v in results.items()}


def rendered(contract):
    rng = np.random.default_rng(0)
    n = 300
    start = jt.array(rng.uniform(0.2, 0.8, (n, 3)).astype(np.float32))
    along = rng.normal(size=(n, 3)).astype(np.float32)
    along = jt.array(along / np.linalg.norm(along, axis=1, keepdims=True))
    jitter = jt.array(rng.random(n).astype(np.float32))
    occupied = jt.array(distances(rng.random((6, 6, 6)) < 0.3))
    ends = (start, along, jitter, occupied, 0.05)
    offsets = pack(march(*ends, contract).numpy())
    x, t, ray = marched(*ends, offsets, contract)
    width = 0.05 * jt.ones(t.shape)
    density = jt.array(rng.random(t.shape[0]).astype(np.float32)) * 5
    colour = jt.array(rng.random((t.shape[0], 3)).astype(np.float32))
    seen = composite(density, colour, width, offsets)
    spread = distortion(density, t, width, offsets)
    results = {
        "count": np.diff(offsets),
        "x": x,
        "t": t,
        "ray": ray,
        "seen": seen,
        "spread": spread,
        "visible": visible(density, width, offsets, 0.1),
    }
    for n, g in enumerate(jt.grad((seen * seen).sum(), [density, colour])):
        results[f"composite {n}"] = g
    results["distortion"] = jt.grad(spread.sum(), density)
    return {k: np.asarray(v.numpy() if isinstance(v, jt.Var) else v) for k, v in results.items()}


# (widths, gated, points, parts): layers without padding and with it, of which CUDA's tiles have 64
# points at most and 8 at least, and blocks several tiles, the last one not full; the last two are
# the widest and the deepest
NETWORKS = (
    ((16, 32, 3), False, 1000, 512),
    ((5, 33, 3), False, 333, 2),
    ((7, 20, 18, 2), False, 333, 3),
    ((24, 32, 3), True, 333, 2),
    ((5, 9, 12, 1), True, 77, 512),
    ((128,) * 6, False, 21, 2),
    ((4, *[8] * 11, 4), False, 50, 4),
)


# {what: a function that computes it, without arguments -> {name: array}}
CASES = {
    **{
        f"grid {dim}-D, {fold}, {name}": partial(orders_of_a_grid, dim, fold, name)
        for dim, fold in ((1, "hash"), (2, "lattice"), (3, "hash"), (3, "lattice"))
        for name in ("nearest", "linear", "smooth", "mulfa", "gain")
    },
    **{f"Adam, lazy {lazy}": partial(optimised, lazy) for lazy in (False, True)},
    **{f"rendering, contracted {c}": partial(rendered, c) for c in (False, True)},
    **{
        f"MLP of {widths}{', gated' * gated}": partial(orders_of_a_network, widths, gated, *rest)
        for widths, gated, *rest in NETWORKS
    },
}


def subjects(folder: Path) -> dict[str, tuple[Callable[[], Any], Any]]:
    """A maker of the task and a field for each subject; `folder` takes their files."""
    ball = trimesh.creation.icosphere(2)
    ball.export(folder / "ball.obj")
    mesh = load_mesh(folder / "ball.obj")
    scene = make_scene(folder / "scene", ball, size=16, train=6, test=1)
    train = load_views(scene, "train")
    test = load_views(scene, "test")
    pixels = np.random.default_rng(0).random((24, 20, 3)).astype(np.float32)
    surface = SDFConfig(pool=2000, eikonal=0.1, normal=0.1)
    views = ViewsConfig(cells=8, samples=32)
    gated = DecoderConfig(width=16, gated=True)
    small = MulFAGridConfig(
        finest=16, coarsest=4, levels=2, channels=4, table_size=200, decoder=gated
    )
    return {
        "picture": (lambda: ImageTask(pixels), small),
        "surface": (lambda: SDFTask(mesh, surface), small),
        "views": (lambda: ViewsTask(train, test, Box(1.5), views), SCENE_FIELD),
    }
