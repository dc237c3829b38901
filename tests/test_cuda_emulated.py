"""The CUDA text of every fused op runs, on the CPU: against the CPU's, in any order of the threads,
in memory that ends at guard pages; and the faults it is there to find are found."""

from jgrid import fit
from jgrid.field import DecoderConfig, MulFAGridConfig
from jgrid.grid import Grid
from jgrid.image.task import ImageTask
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.ops.norm import fused_norm_relu
from jgrid.ops.render import composite, distances, distortion, march, marched, pack, visible
from jgrid.optimizer import Adam
from jgrid.scene.camera import Box
from jgrid.scene.files import load_views
from jgrid.scene.made import make_scene
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.solver import solve
from jgrid.surface.mesh import load_mesh
from jgrid.surface.task import SDFConfig, SDFTask

import jittor as jt
import numpy as np
import pytest
import trimesh
from conftest import DEVICE, SCENE_FIELD
from cuda_emulation import ORDERS, emulated

pytestmark = [
    pytest.mark.cuda_emulated,
    pytest.mark.skipif(DEVICE == "cuda", reason="CUDA itself is there"),
]
POINTS = 700  # of more than two blocks, the last one not full
STEPS = 12


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
    grid = Grid(index, kernels(dim, index)[name], 2)
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


def agree(found, wanted, rtol=2e-5):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        scale = abs(value).max()
        np.testing.assert_allclose(found[key], value, atol=rtol * scale, rtol=0, err_msg=key)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ("nearest", "linear", "smooth", "mulfa", "gain"))
@pytest.mark.parametrize("dim, fold", ((1, "hash"), (2, "lattice"), (3, "hash"), (3, "lattice")))
def test_grids_to_second_order(monkeypatch, dim, fold, name, order):
    wanted = orders_of_a_grid(dim, fold, name)
    emulation = emulated(monkeypatch, order)
    agree(orders_of_a_grid(dim, fold, name), wanted)
    assert {"Forward", "Backward", "Slope"} <= emulation.bodies


def optimised(lazy):
    rng = np.random.default_rng(0)
    p = jt.array(rng.normal(size=(POINTS, 3)).astype(np.float32))
    keep = jt.array((rng.random((POINTS, 1)) < 0.5).astype(np.float32))
    optimizer = Adam([{"params": [p], "lr": 0.1, "lazy": lazy}])
    for _ in range(3):
        optimizer.step((keep * p * p).sum())
    return {"p": p.numpy()}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("lazy", (False, True))
def test_adam(monkeypatch, lazy, order):
    wanted = optimised(lazy)
    emulation = emulated(monkeypatch, order)
    agree(optimised(lazy), wanted)
    assert emulation.bodies == {"Adam"}


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
    weight = density / density.sum()
    seen = composite(density, colour, width, offsets)
    spread = distortion(weight, t, width, offsets)
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


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("contract", (False, True))
def test_rendering(monkeypatch, contract, order):
    wanted = rendered(contract)
    emulation = emulated(monkeypatch, order)
    agree(rendered(contract), wanted)
    assert emulation.bodies == {
        "March",
        "Visible",
        "Composite",
        "CompositeBackward",
        "Distortion",
        "DistortionBackward",
    }


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """A task maker and a field of each subject."""
    folder = tmp_path_factory.mktemp("subjects")
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


@pytest.mark.parametrize("subject", ("picture", "surface", "views"))
def test_fits(monkeypatch, subjects, subject):
    make, field = subjects[subject]

    def losses():
        fitted = fit(make(), field, steps=STEPS, batch=300, eval_every=3)
        return {"losses": np.array([line["loss"] for line in fitted.history])}

    wanted = losses()
    emulation = emulated(monkeypatch, "shuffled")
    agree(losses(), wanted, rtol=1e-3)
    assert "Adam" in emulation.bodies


def test_the_solver(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.random((400, 2)).astype(np.float32)
    y = np.sin(7 * x)
    index = GridIndex(2, [4, 8], table_size=60)

    def solved():
        grid = Grid(index, InterpolationKernel("linear"), 2)
        _, loss = solve(grid, x, y, 12)
        return {"fit": grid(jt.array(x)).numpy(), "loss": np.array(loss)}

    wanted = solved()
    emulated(monkeypatch, "shuffled")
    agree(solved(), wanted, rtol=1e-4)  # iterations make much of roundings


def test_networks_on_weights(monkeypatch):
    """Their normalisation leaves CUDA to its plain twin."""
    x = jt.array(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))

    def normalised():
        value = fused_norm_relu(x, jt.ones(8), jt.zeros(8))
        return {"value": value.numpy(), "slope": jt.grad((value * value).sum(), x).numpy()}

    wanted = normalised()
    emulation = emulated(monkeypatch)
    agree(normalised(), wanted, rtol=1e-4)
    assert not emulation.bodies


def gradient_of_a_grid():
    index = GridIndex(2, [4, 9], table_size=200)
    grid = Grid(index, InterpolationKernel("linear"), 2)
    x = jt.array(np.random.default_rng(0).random((POINTS, 2)).astype(np.float32))
    value = grid(x)
    return jt.grad((value * value).sum(), grid.w).numpy()


BEYOND = "beyond its memory"
# {fault: what of the sources, in place of what, and the words it is caught by}
FAULTS = {
    "row out of range": ("return level.first + (Int)(", "return level.first + 8 + (Int)(", BEYOND),
    "threads beyond the points": ("if (i < n) f(", "f(", BEYOND),
    "too many blocks along y": ("(unsigned)tasks)", "(unsigned)tasks + 65535)", "a launch of"),
    "an input written": ("out0_p, nullptr, 0}", "in0_p, nullptr, 0}", "writes an input"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(monkeypatch, fault):
    right, wrong, words = FAULTS[fault]
    emulated(monkeypatch).broken = {right: wrong}
    with pytest.raises(RuntimeError, match=words):
        gradient_of_a_grid()


def test_a_gradient_that_is_not_zeroed_is_not_a_number(monkeypatch):
    emulated(monkeypatch).broken = {"cudaMemsetAsync(out0_p, 0, out0->size);": ""}
    assert np.isnan(gradient_of_a_grid()).any()


def test_an_op_without_cuda_text_is_named(monkeypatch):
    emulation = emulated(monkeypatch)
    with pytest.raises(AssertionError, match="without CUDA text: memset"):
        emulation.code([1], "float32", [], cpu_src="memset(out0_p, 0, 4);")
