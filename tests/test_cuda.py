"""The CUDA side compiles, wherever there is an nvcc: the fused ops, and Jittor itself with a
toolkit newer than it knows. Nothing here runs on a GPU."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from jgrid import runtime
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.network import MLP
from jgrid.ops import function as ops
from jgrid.ops.render import composite, distances, distortion, march, marched, pack, visible
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
import pytest
from cuda_emulation.light import LAUNCHED
from ops_alone import HEADERS
from two_devices import BODIES

ARCHITECTURES = ("75", "80", "90")
# a thread of a kernel with two octaves has up to 255 registers, the most there are; others have few
REGISTERS = 128
# the widest: tangents' gradients in 3-D, two octaves, 8 channels; at most this many bytes of them
# have no room and go to memory
WIDEST = "BackwardILi3ELi2ELi1ELi8ELi1ELb1E"
SPILLED = 152
TYPES = {"float32": "float", "int32": "int", "uint8": "unsigned char"}


def recorded_sources(monkeypatch):
    """(CUDA source, types of the inputs, of the outputs) of every op that a few grids use, to
    second order, and that rendering uses."""
    sources = []
    original = jt.code

    def record(*shape_dtype_inputs, **arguments):
        inputs = shape_dtype_inputs[2] if shape_dtype_inputs else arguments["inputs"]
        dtypes = (
            [v.dtype for v in arguments["outputs"]]
            if "outputs" in arguments
            else shape_dtype_inputs[1]
        )
        if "cuda_src" in arguments:  # other ops leave CUDA to the library
            sources.append(
                (
                    arguments["cuda_src"],
                    [TYPES[str(v.dtype)] for v in inputs],
                    [TYPES[str(d)] for d in dtypes],
                )
            )
        return original(*shape_dtype_inputs, **arguments)

    monkeypatch.setattr(jt, "code", record)
    for dim, channels, octaves in ((2, 2, 1), (3, 8, 2)):
        index = GridIndex(dim, [4, 8], table_size=60)
        for kernel in (
            InterpolationKernel("linear"),
            MulFAKernel(dim, 2, channels, octaves=octaves),
            MulFAGainKernel(index.positions(), channels, octaves),
        ):
            grid = Grid(index, kernel, channels)
            x = jt.array(np.full((3, dim), 0.3, np.float32))
            slope = jt.grad(grid(x).sum(), x)
            jt.grad((slope * slope).sum(), grid.w).sync()
            if isinstance(kernel, MulFAGainKernel):
                grid.fused.squares(
                    jt.array(np.zeros((3, dim), np.float32)), kernel.collapse(grid.w)[0]
                ).sync()
            for lazy in (False, True):
                Adam([{"params": [grid.w], "lr": 0.1, "lazy": lazy}]).step((grid(x) ** 2).sum())
    rays = jt.array(np.full((2, 3), 0.5, np.float32))
    along = jt.array(np.float32([[1, 0, 0], [0, 1, 0]]))
    distance = jt.array(distances(np.ones((2, 2, 2), bool)))
    jitter = jt.array(np.zeros(2, np.float32))
    first = pack(march(rays, along, jitter, distance, 0.1).numpy())
    _, t, _ = marched(rays, along, jitter, distance, 0.1, first)
    far = pack(march(rays, along, jitter, distance, 0.1, True).numpy())
    marched(rays, along, jitter, distance, 0.1, far, True)[1].sync()
    jt.grad(distortion(t, t.detach(), t.detach(), first).sum(), t).sync()
    visible(t, t, first, 0.1).sync()
    jt.grad(composite(t, t.unsqueeze(1), t, first).sum(), t).sync()
    for gated in (False, True):
        network = MLP(5, 2, 8, 1, gated=gated)
        x = jt.array(np.zeros((3, 5), np.float32))
        jt.grad(network(x).sum(), x).sync()
        jt.grad(network.squared_error(x, jt.zeros((3, 2)).stop_grad()), x).sync()
    return sources


def spills(messages):
    """{(architecture, kernel): (registers, bytes spilled)} of what `nvcc -Xptxas -v` says."""
    found = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?(\d+) bytes spill stores.*?Used (\d+)"
        " registers",
        messages,
        re.DOTALL,
    )
    return {(arch, kernel): (int(used), int(spilled)) for kernel, arch, spilled, used in found}


def has_nvcc():
    """Whether NVIDIA's compiler is on the path, and not what stands in for it (cuda_emulation)."""
    if not shutil.which("nvcc"):
        return False
    said = subprocess.run(["nvcc", "--version"], stdout=subprocess.PIPE, text=True).stdout
    return "stands in" not in said


@pytest.mark.skipif(not has_nvcc(), reason="no nvcc on this machine")
def test_fused_ops_compile_for_cuda(tmp_path, monkeypatch):
    """For every architecture, and their numbers stay in registers."""
    sources = {source: rest for source, *rest in recorded_sources(monkeypatch)}
    bodies = {LAUNCHED.search(source)[0] for source in sources}
    assert {re.split(r"\W", body)[0] for body in bodies} == BODIES
    # tangents too
    assert {" true" in body for body in bodies if body.startswith("Forward")} == {True, False}
    lines = [
        *(f'#include "{name}"' for name in HEADERS),
        "#include <map>",
        "#include <string>",
        "struct Bytes { size_t size, num; };",
        "std::map<std::string, double> data;",
    ]
    for n, (source, (types, results)) in enumerate(sources.items()):
        inputs = ", ".join(
            f"const {t}* in{i}_p, int64_t in{i}_shape0, int64_t in{i}_shape1"
            for i, t in enumerate(types)
        )
        outputs = ", ".join(
            f"{t}* out{i}_p, int64_t out{i}_shape0, Bytes* out{i}" for i, t in enumerate(results)
        )
        lines.append(f"void op{n}({inputs}, {outputs}) {{ {source} }}")
    (tmp_path / "ops.cu").write_text("\n".join(lines))
    built = tuple(
        re.findall(
            r"compute_(\d+)",
            subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True).stdout,
        )
    )
    wanted = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES if a in built]
    files = ["-I", ops.FOLDER, "-o", str(tmp_path / "ops.o"), str(tmp_path / "ops.cu")]
    done = subprocess.run(
        ["nvcc", "-c", "-std=c++14", "--use_fast_math", "-Xptxas", "-v", *wanted, *files],
        capture_output=True,
        text=True,
    )
    assert wanted and done.returncode == 0, done.stderr
    found = spills(done.stderr)
    assert len(found) >= len(wanted) * len(bodies)
    for (arch, kernel), (registers, spilled) in found.items():
        assert spilled <= (SPILLED if WIDEST in kernel else 0), (arch, kernel, spilled)
        assert registers <= REGISTERS or re.search(r"ILi3ELi2E", kernel), (arch, kernel, registers)


# of Jittor's core, some that ask CUDA for something
CORE = ("src/init.cc", "src/mem/allocator.cc", "extern/cuda/src/helper_cuda.cc")
# what every kernel of Jittor's includes, and what its sorting does
KERNEL = """
#include <cmath>
#include <algorithm>
#include "var.h"
#include "fused_op.h"
#include "misc/cuda_atomic.h"
#include "misc/cuda_limits.h"
#include "helper_cuda.h"
#include <cub/cub.cuh>
#include <thrust/execution_policy.h>
#include <thrust/sort.h>
using namespace jittor;
__global__ void smallest(float* a, int* b) {
    *a = numeric_max<float>();
    *b = numeric_max<int>();
    cuda_atomic_min(a, 1.0f);
}
void run(float* a, int* b) {
    smallest<<<1, 1>>>(a, b);
    thrust::sort(thrust::device, a, a + 1);
    gpuGetMaxGflopsDeviceId();
}
"""


def cuda_13():
    """The nvcc of a toolkit of version 13, with its headers beside it, or None."""
    for nvcc in filter(None, map(shutil.which, runtime.NVCC_PLACES)):
        told = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
        headers = Path(nvcc).resolve().parent.parent / "include"
        if "release 13." in told and (headers / "cuda_runtime.h").exists():
            return nvcc
    return None


@pytest.mark.skipif(not cuda_13(), reason="no toolkit of CUDA 13 on this machine")
def test_jittor_compiles_with_cuda_13(tmp_path, monkeypatch):
    """With what `runtime` makes up for, and not without."""
    nvcc = cuda_13()
    home = Path(nvcc).resolve().parent.parent
    monkeypatch.setattr(runtime, "notes", [])
    for name in ("cc_flags", "nvcc_flags", "NVCC_APPEND_FLAGS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("conv_opt", "1")
    runtime._prepare_toolkit(home, (13, 0))
    folder = Path(jt.flags.jittor_path)
    includes = [folder / "src", folder / "extern", folder / "extern/cuda/inc", home / "include"]
    flags = [
        "-DHAS_CUDA",
        "-DIS_CUDA",
        *(f"-I{path}" for path in includes),
        *re.findall(r"-I\S*python\S+", jt.flags.cc_flags),
    ]
    made_up = shlex.split(os.environ["cc_flags"])
    (tmp_path / "kernel.cu").write_text(KERNEL)

    def compile_all(extra):
        host = ["g++", "-fsyntax-only", "-std=c++14", *flags, *extra]
        device = [nvcc, "-c", "-std=c++14", "-w", *flags, *extra]
        device += shlex.split(os.environ.get("nvcc_flags", ""))
        device += ["-o", str(tmp_path / "kernel.o"), str(tmp_path / "kernel.cu")]
        return [
            subprocess.run(command, capture_output=True, text=True)
            for command in ([*host, *(str(folder / name) for name in CORE)], device)
        ]

    for done in compile_all(made_up):
        assert done.returncode == 0, done.stderr
    host, device = compile_all([])
    assert "clockRate" in host.stderr and "clockRate" in device.stderr
    monkeypatch.delenv("NVCC_APPEND_FLAGS")
    assert "C++17" in compile_all(made_up)[1].stderr
