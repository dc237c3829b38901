"""The CUDA side of the fused ops compiles, wherever there is an nvcc. Nothing here runs on a GPU."""
import re
import shutil
import subprocess

from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel

import jittor as jt
import numpy as np
import pytest

ARCHITECTURES = ("75", "80", "90")


def recorded_sources(monkeypatch):
    """(header, CUDA source, types of the inputs, number of outputs) of every op that a few grids use, forward and backward."""
    sources, original = [], jt.code

    def record(shape, dtype, inputs, **arguments):
        types = [f"const {'int' if v.dtype == 'int32' else 'float'}*" for v in inputs]
        sources.append((arguments["cuda_header"], arguments["cuda_src"], types, len(dtype) if isinstance(dtype, list) else 1))
        return original(shape, dtype, inputs, **arguments)

    monkeypatch.setattr(jt, "code", record)
    for dim in (2, 3):
        index = GridIndex(dim, [4, 8], table_size=60)
        for kernel in (InterpolationKernel("linear"), MulFAKernel(dim, 2, 2), MulFAGainKernel(index.positions(), 2)):
            grid = Grid(index, kernel, 2)
            y = grid(jt.array(np.full((3, dim), 0.3, np.float32)).stop_grad())
            jt.grad(y.sum(), grid.w).sync()
            if isinstance(kernel, MulFAGainKernel):
                grid.fused.squares(jt.array(np.zeros((3, dim), np.float32)), kernel.collapse(grid.w)[0]).sync()
    return sources


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc on this machine")
def test_fused_ops_compile_for_cuda(tmp_path, monkeypatch):
    sources = recorded_sources(monkeypatch)
    assert len(sources) == 14
    lines = [header for header in {header for header, *_ in sources}] + ["struct Bytes { size_t size; };"]
    for n, (_, source, types, n_outputs) in enumerate(sources):
        inputs = ", ".join(f"{t} in{i}_p, int64_t in{i}_shape0" for i, t in enumerate(types))
        outputs = ", ".join(f"float* out{i}_p, int64_t out{i}_shape0, Bytes* out{i}" for i in range(n_outputs))
        lines.append(f"void op{n}({inputs}, {outputs}) {{ {source} }}")
    (tmp_path / "ops.cu").write_text("\n".join(lines))
    built = tuple(re.findall(r"compute_(\d+)", subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True).stdout))
    wanted = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES if a in built]
    done = subprocess.run(["nvcc", "-c", "-std=c++14", "--use_fast_math", *wanted, "-o", str(tmp_path / "ops.o"), str(tmp_path / "ops.cu")],
                          capture_output=True, text=True)
    assert wanted and done.returncode == 0, done.stderr
