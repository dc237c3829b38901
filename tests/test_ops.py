"""What all fused ops promise: the same bits for any number of threads. And the suite once more on a
GPU, where there is one."""

import hashlib
import os
import subprocess
import sys

from jgrid import MLP, Grid, GridIndex, InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.ops.channels import add_scaled, dot
from jgrid.ops.norm import fused_norm_relu
from jgrid.ops.scale import fused_scale
from jgrid.ops.siren import fused_siren_errors
from jgrid.optimizer import Adam
from jgrid.weightspace.fits import siren_start

import jittor as jt
import numpy as np
import pytest
from conftest import DEVICE


def digest():
    """Of the values and gradients, to second order, of all fused ops, on points that share
    nodes."""
    np.random.seed(0)
    jt.set_global_seed(0)
    x = np.random.uniform(size=(5000, 2)).astype(np.float32)
    found = hashlib.sha256()
    index = GridIndex(2, [5, 40], 300, "lattice")
    for kernel in (MulFAKernel(2, 2, 4, kernels=2), MulFAGainKernel(index.positions(), 4, width=5)):
        grid = Grid(index, kernel, 4, concat=True, scale=1.0)
        points = jt.array(x)
        network = MLP(grid.n_out, 3, 33, 2, gated=kernel.n_kernels > 1)
        parameters = [
            grid.w,
            *(layer.weight for layer in network.layers),
            *(layer.bias for layer in network.layers),
        ]
        loss = network.squared_error(grid(points), jt.array(x[:, [0, 1, 0]]).stop_grad())
        slope = jt.grad(network(grid(points)).sum(), points)
        for value in (
            loss,
            *jt.grad(loss, parameters),
            *jt.grad((grid(points) ** 2).sum(), [grid.w, points]),
            *jt.grad((jt.grad(grid(points).sum(), points) ** 2).sum(), [grid.w]),
            network(grid(points)),
            slope,
        ):
            found.update(value.numpy().tobytes())
    a = jt.array(x)
    # whose rows several threads share
    one_level = Grid(GridIndex(2, [50]), InterpolationKernel("linear"), 3)
    found.update(jt.grad((one_level(a) * a[:, :1]).sum(), one_level.w).numpy().tobytes())
    for value in (
        dot(a, a),
        add_scaled(a, jt.array([2.0, 3.0]), a),
        grid.fused.squares(a, grid.kernel.collapse(grid.w)[0]),
    ):
        found.update(value.numpy().tobytes())
    optimizer = Adam(
        [
            {"params": [grid.w], "lr": 0.1, "lazy": True},
            {"params": [grid.kernel.last.weight], "lr": 0.1},
        ]
    )
    for _ in range(3):
        optimizer.step((grid(a) ** 2).sum())
    found.update(grid.w.numpy().tobytes())
    rows = jt.array(np.random.normal(size=(5001, 16)).astype(np.float32))
    scale = jt.array(np.random.normal(size=16).astype(np.float32))
    normed = fused_norm_relu(rows, scale, scale)
    fields = [
        jt.array(v)
        for v in siren_start((2, 16, 16, 1), 50, 30.0, np.random.default_rng(0)).values()
    ]
    errors = fused_siren_errors(
        jt.array(x[:100]), jt.array(x[:5000, :1].reshape(50, 100, 1)), 30.0, *fields
    )
    for value in (
        normed,
        *jt.grad((normed * rows).sum(), [rows, scale]),
        errors,
        *jt.grad(errors.sum(), fields),
    ):
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def test_any_number_of_threads_gives_the_same_bits():
    digests = set()
    for threads in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, __file__],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.split()[-1])
    assert len(digests) == 1


@pytest.mark.parametrize("channels", [3, 33])
def test_products_of_long_vectors_are_exact_enough_for_a_solver(channels):
    """It counts on 1e-5; sums of float32 row after row miss more than that. 33 channels take the
    way of CUDA on the CPU too."""
    a, b = np.random.default_rng(0).uniform(size=(2, 100_000, channels)).astype(np.float32)
    found = dot(jt.array(a), jt.array(b)).numpy()
    wanted = np.einsum("nc,nc->c", a.astype(np.float64), b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=5e-7)


@pytest.mark.cuda
@pytest.mark.skipif(not jt.has_cuda, reason="Jittor has no usable CUDA here")
@pytest.mark.skipif(DEVICE == "cuda", reason="this is that run")
def test_the_whole_suite_on_a_gpu(repository):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=repository,
        env={**os.environ, "JGRID_TEST_DEVICE": "cuda"},
    )
    assert done.returncode == 0


if __name__ == "__main__":
    print(digest())


def test_arrays_are_scaled_in_one_op():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((5000, 3), (7,), (1, 2, 3))]
    scaled = fused_scale([jt.array(a) for a in arrays], jt.array([np.float32(-2.5)]))
    for array, found in zip(arrays, scaled):
        np.testing.assert_array_equal(found.numpy(), array * np.float32(-2.5))
