"""The CUDA text of every fused op runs, on the CPU: against the CPU's, in any order of the threads,
in memory that ends at guard pages; and the faults it is there to find are found."""

import os
import re
import subprocess
from functools import partial
from pathlib import Path

from jgrid import fit
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel
from jgrid.ops.function import FOLDER
from jgrid.ops.norm import fused_norm_relu
from jgrid.solver import solve

import jittor as jt
import numpy as np
import pytest
from conftest import DEVICE
from cuda_emulation import toolkit
from cuda_emulation.light import ORDERS, emulated
from ops_alone import write
from two_devices import BODIES, CASES, POINTS, orders_of_a_network, subjects

pytestmark = [
    pytest.mark.cuda_emulated,
    pytest.mark.skipif(DEVICE == "cuda", reason="CUDA itself is there"),
]
STEPS = 12


def agree(found, wanted, rtol=2e-5):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        scale = abs(value).max()
        np.testing.assert_allclose(found[key], value, atol=rtol * scale, rtol=0, err_msg=key)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
def test_ops_agree(monkeypatch, case, order):
    wanted = CASES[case]()
    emulated(monkeypatch, order)
    agree(CASES[case](), wanted)


def test_every_body_runs(monkeypatch):
    emulation = emulated(monkeypatch)
    for compute in CASES.values():
        compute()
    assert emulation.bodies == BODIES


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return subjects(tmp_path_factory.mktemp("subjects"))


@pytest.mark.parametrize("subject", ("picture", "surface", "views"))
def test_fits(monkeypatch, made, subject):
    make, field = made[subject]

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
    "a pointer of the host's": ("f{in0_p,", "f{in0->ptr<float>(),", "pointer of the host's"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(monkeypatch, fault):
    right, wrong, words = FAULTS[fault]
    emulated(monkeypatch).broken = {right: wrong}
    with pytest.raises(RuntimeError, match=words):
        gradient_of_a_grid()


# tiles are not full, a block has several, and the input's gradient lies where the result's was
NETWORK = CASES["MLP of (5, 33, 3)"]
MLP_TEXT = Path(FOLDER, "mlp_cuda.h").read_text()
BARRIERS = re.findall(r"__syncthreads\(\);.*", MLP_TEXT)


@pytest.mark.parametrize("barrier", BARRIERS)
def test_an_mlp_needs_each_of_its_barriers(monkeypatch, barrier):
    assert MLP_TEXT.count(barrier) == 1  # the comment behind it tells which it is
    wanted = NETWORK()
    found = []
    for order in ORDERS:
        emulated(monkeypatch, order).broken = {barrier: ""}
        found.append(NETWORK())
    with pytest.raises(AssertionError):
        for results in found:
            agree(results, wanted)


def test_an_mlp_has_the_same_bits_in_any_order(monkeypatch):
    found = []
    for order in ORDERS:
        emulated(monkeypatch, order)
        found.append(NETWORK())
    for results in found[1:]:
        agree(results, found[0], rtol=0)


# {what guards an edge: what of the text in place of what}
GUARDS = {
    "points read": ("p < there && j < width", "j < width"),
    "points written": ("i < there * width", "i < n.points * width"),
    "rows of weights": ("r + i < w.to && c + j < w.in", "c + j < w.in"),
    "columns of weights": ("r + i < w.to && c + j < w.in", "r + i < w.to"),
    "errors": ("i < n_to * there", "i < n_to * n.points"),
    "sums": ("weights + w.to)", "weights + w.to + 1)"),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_an_mlp_needs_each_of_its_guards(monkeypatch, guard):
    right, wrong = GUARDS[guard]
    assert MLP_TEXT.count(right) == 1
    wanted = NETWORK()
    emulated(monkeypatch).broken = {right: wrong}
    with pytest.raises((AssertionError, RuntimeError), match=f"{BEYOND}|Not equal to tolerance"):
        agree(NETWORK(), wanted)


# one that is too wide, too deep, or for whose tile a block's memory is too small
@pytest.mark.parametrize("widths, gated", [((129,), False), ((8,) * 13, False), ((128,) * 2, True)])
def test_a_larger_mlp_is_left_to_its_plain_twin(monkeypatch, widths, gated):
    compute = partial(orders_of_a_network, (8, *widths, 2), gated, 20, 2)
    wanted = compute()
    emulation = emulated(monkeypatch)
    agree(compute(), wanted)
    assert not emulation.bodies


def test_a_gradient_that_is_not_zeroed_is_not_a_number(monkeypatch):
    emulated(monkeypatch).broken = {"cudaMemsetAsync(out0_p, 0, out0->size);": ""}
    assert np.isnan(gradient_of_a_grid()).any()


# blocks turn their rows around in memory that their threads share
TURN = """
#include <cstdint>
__global__ void turn(const float* x, float* y) {
    __shared__ float row[64];
    row[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 64 + threadIdx.x] = row[63 - threadIdx.x];
}
"""


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_that_is_missing_shows(monkeypatch, tmp_path, order):
    header = tmp_path / "turn.h"
    header.write_text(TURN)
    x = np.random.default_rng(0).random((5, 64)).astype(np.float32)
    emulation = emulated(monkeypatch, order)

    def turned():
        return emulation.code(
            x.shape,
            "float32",
            [jt.array(x)],
            cuda_header=f'#include "{header}"\n',
            cuda_src="turn<<<in0_shape0, 64>>>(in0_p, out0_p);",
        ).numpy()

    np.testing.assert_array_equal(turned(), x[:, ::-1])
    emulation.broken = {"__syncthreads();": ""}
    assert np.isnan(turned()).any()


def test_too_much_shared_memory_is_refused(monkeypatch, tmp_path):
    header = tmp_path / "wide.h"
    header.write_text(TURN.replace("row[64]", "row[64 * 200]"))
    emulation = emulated(monkeypatch)
    y = emulation.code(
        [1, 64],
        "float32",
        [jt.ones((1, 64))],
        cuda_header=f'#include "{header}"\n',
        cuda_src="turn<<<1, 64>>>(in0_p, out0_p);",
    )
    with pytest.raises(RuntimeError, match="more than 48 KiB"):
        y.numpy()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The toolkit that stands in for CUDA."""
    folder = tmp_path_factory.mktemp("toolkit")
    toolkit.build(folder)
    return folder


def test_the_ops_as_a_program_without_jittor(home, tmp_path):
    """A wrong number is found."""
    write(tmp_path / "ops", list(CASES)[1::7])
    program = tmp_path / "program"
    run(home / "bin/nvcc", "-o", program, tmp_path / "ops/ops.cu")
    numbers = tmp_path / "ops/numbers"
    for order in ORDERS:
        said = run(program, numbers, JGRID_CUDA_ORDER=order).splitlines()
        assert len(said) > 20 and float(said[-1].split()[0]) < 2e-5
    content = bytearray(numbers.read_bytes())
    content[-4:] = np.float32(7).tobytes()
    numbers.write_bytes(content)
    with pytest.raises(subprocess.CalledProcessError):
        run(program, numbers)


# {fault: the text of a program that has it, and the words with which it ends}
PROGRAMS = {
    "the host reads the device's memory": ("return (int)x[3];", "the host touches the device"),
    "a kernel reads what was given back": ("cudaFree(x); add<<<1, 4>>>(x);", "been given back"),
    "a copy of the wrong kind": (
        "return cudaMemcpy(x, x, 4, cudaMemcpyHostToDevice);",
        "whose kind is not",
    ),
    "a copy that is too long": (
        "float y[5]; return cudaMemcpy(y, x, 20, cudaMemcpyDeviceToHost);",
        "a copy reads or writes beyond its memory",
    ),
}


@pytest.mark.parametrize("fault", PROGRAMS)
def test_faults_of_a_program_end_it(home, tmp_path, fault):
    text, words = PROGRAMS[fault]
    kernel = "__global__ void add(float* x) { atomicAdd(x + threadIdx.x, 1.f); }"
    for n, body in enumerate((text, "add<<<1, 4>>>(x); return cudaDeviceSynchronize();")):
        source = tmp_path / f"{n}.cu"
        source.write_text(f"{kernel}\nint main() {{ float* x; cudaMalloc(&x, 16); {body} }}")
        program = tmp_path / f"program{n}"
        run(home / "bin/nvcc", "-o", program, source)
    # by a shell: Jittor ends this process where a child of its own is killed by a signal
    shell = ["sh", "-c", '"$0" || exit 1', tmp_path / "program0"]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0 and words in done.stderr
    run(tmp_path / "program1")


def run(*command, **variables):
    done = subprocess.run(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def test_an_op_without_cuda_text_is_named(monkeypatch):
    emulation = emulated(monkeypatch)
    with pytest.raises(AssertionError, match="without CUDA text: memset"):
        emulation.code([1], "float32", [], cpu_src="memset(out0_p, 0, 4);")
