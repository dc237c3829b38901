"""The CUDA side of the fused ops compiles, wherever there is an nvcc. Nothing here runs on a
GPU."""

import re
import shutil
import subprocess

from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel
from jgrid.ops import function as ops
from jgrid.ops.render import composite, distances, distortion, march, marched, pack, visible
from jgrid.optimizer import Adam

import jittor as jt
import numpy as np
import pytest

ARCHITECTURES = ("75", "80", "90")
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
    for dim in (2, 3):
        index = GridIndex(dim, [4, 8], table_size=60)
        for kernel in (
            InterpolationKernel("linear"),
            MulFAKernel(dim, 2, 2),
            MulFAGainKernel(index.positions(), 2),
        ):
            grid = Grid(index, kernel, 2)
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
    return sources


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc on this machine")
def test_fused_ops_compile_for_cuda(tmp_path, monkeypatch):
    sources = {source: rest for source, *rest in recorded_sources(monkeypatch)}
    bodies = {re.search(r"(\w+)(<[^>]*>)? f\{", source)[0] for source in sources}
    assert {re.split("[< ]", body)[0] for body in bodies} == {
        "Forward",
        "Backward",
        "Slope",
        "Squares",
        "Adam",
        "March",
        "Visible",
        "Composite",
        "CompositeBackward",
        "Distortion",
        "DistortionBackward",
    }
    # tangents too
    assert {" true" in body for body in bodies if body.startswith("Forward")} == {True, False}
    lines = [
        *(f'#include "{name}.h"' for name in ("launch", "gather", "adam", "render")),
        "#include <map>",
        "#include <string>",
        "struct Bytes { size_t size, num; };",
        "std::map<std::string, double> data;",
    ]
    for n, (source, (types, results)) in enumerate(sources.items()):
        inputs = ", ".join(f"const {t}* in{i}_p, int64_t in{i}_shape0" for i, t in enumerate(types))
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
        ["nvcc", "-c", "-std=c++14", "--use_fast_math", *wanted, *files],
        capture_output=True,
        text=True,
    )
    assert wanted and done.returncode == 0, done.stderr
