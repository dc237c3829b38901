"""The CUDA side of the fused ops compiles, wherever there is an nvcc. Nothing here runs on a GPU."""
import re
import shutil
import subprocess

from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.ops import function as ops
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
import pytest

ARCHITECTURES = ("75", "80", "90")


def recorded_sources(monkeypatch):
    """(header, CUDA source, types of the inputs, number of outputs) of every op that a few grids use, to second order."""
    sources, original = [], jt.code

    def record(*shape_dtype_inputs, **arguments):
        inputs = shape_dtype_inputs[2] if shape_dtype_inputs else arguments["inputs"]
        types = [f"const {'int' if v.dtype == 'int32' else 'float'}*" for v in inputs]
        dtypes = arguments["outputs"] if "outputs" in arguments else shape_dtype_inputs[1]
        sources.append((arguments["cuda_header"], arguments["cuda_src"], types, len(dtypes) if isinstance(dtypes, list) else 1))
        return original(*shape_dtype_inputs, **arguments)

    monkeypatch.setattr(jt, "code", record)
    for dim in (2, 3):
        index = GridIndex(dim, [4, 8], table_size=60)
        for kernel in (InterpolationKernel("linear"), MulFAKernel(dim, 2, 2), MulFAGainKernel(index.positions(), 2)):
            grid = Grid(index, kernel, 2)
            x = jt.array(np.full((3, dim), 0.3, np.float32))
            slope = jt.grad(grid(x).sum(), x)
            jt.grad((slope * slope).sum(), grid.w).sync()
            if isinstance(kernel, MulFAGainKernel):
                grid.fused.squares(jt.array(np.zeros((3, dim), np.float32)), kernel.collapse(grid.w)[0]).sync()
            for lazy in (False, True):
                Adam([{"params": [grid.w], "lr": 0.1, "lazy": lazy}]).step((grid(x) ** 2).sum())
    return sources


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc on this machine")
def test_fused_ops_compile_for_cuda(tmp_path, monkeypatch):
    sources = {source: rest for _, source, *rest in recorded_sources(monkeypatch)}
    bodies = {re.search(r"(Forward|Backward|Slope|Squares|Adam)<.*?>", source)[0] for source in sources}
    assert {body.split("<")[0] for body in bodies} == {"Forward", "Backward", "Slope", "Squares", "Adam"}
    assert {" true" in body for body in bodies if body.startswith("Forward")} == {True, False}  # tangents too
    lines = [*(f'#include "{name}.h"' for name in ("launch", "gather", "adam")), "#include <map>", "#include <string>",
             "struct Bytes { size_t size, num; };", "std::map<std::string, double> data;"]
    for n, (source, (types, n_outputs)) in enumerate(sources.items()):
        inputs = ", ".join(f"{t} in{i}_p, int64_t in{i}_shape0" for i, t in enumerate(types))
        outputs = ", ".join(f"float* out{i}_p, int64_t out{i}_shape0, Bytes* out{i}" for i in range(n_outputs))
        lines.append(f"void op{n}({inputs}, {outputs}) {{ {source} }}")
    (tmp_path / "ops.cu").write_text("\n".join(lines))
    built = tuple(re.findall(r"compute_(\d+)", subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True).stdout))
    wanted = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES if a in built]
    files = ["-I", ops.FOLDER, "-o", str(tmp_path / "ops.o"), str(tmp_path / "ops.cu")]
    done = subprocess.run(["nvcc", "-c", "-std=c++14", "--use_fast_math", *wanted, *files], capture_output=True, text=True)
    assert wanted and done.returncode == 0, done.stderr
