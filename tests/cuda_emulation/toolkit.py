"""A CUDA toolkit for machines without a GPU: with it Jittor itself believes that it has one."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from .nvcc import rewrite

HERE = Path(__file__).resolve().parent
LIBRARIES = ("cuda", "cudart", "cublas", "curand")
# headers that are others by another name
NAMES = {
    "cublas.h": "cublas_v2.h",
    "cuda.h": "cuda_runtime.h",
    "cuda_runtime_api.h": "cuda_runtime.h",
    "driver_types.h": "cuda_runtime.h",
}
INFINITIES = """#pragma once
#include <limits>
#define CUDART_INF_F std::numeric_limits<float>::infinity()
#define CUDART_INF std::numeric_limits<double>::infinity()
"""
# steps of a sum within a warp, whose threads Jittor takes to go in step
IN_STEP = re.compile(r"sdata\[tid\] = (op\(sdata\[tid\], sdata\[tid \+ \d+\]\));")


def build(home: Path) -> None:
    """Set the toolkit up in `home`, unless it is there: bin, include, lib64; and `headers`, which
    replaces one of Jittor's."""
    files = sorted(path for path in HERE.rglob("*") if path.suffix in (".py", ".h", ".cc"))
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    done = home / "made_of"
    if done.is_file() and done.read_text() == made_of:
        return
    for name in ("bin", "headers/misc", "include", "lib64", "sources"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for header in (*HERE.glob("*.h"), *HERE.glob("toolkit/*.h")):
        shutil.copy(header, home / "include")
    for name, other in NAMES.items():
        (home / "include" / name).write_text(f"#pragma once\n#include <{other}>\n")
    (home / "include/math_constants.h").write_text(INFINITIES)
    (home / "headers/misc/cuda_atomic.h").write_text(atomics_of_jittor())
    for name in LIBRARIES:
        library = home / "lib64" / f"lib{name}.so"
        flags = ["-std=c++14", "-O3", "-march=native", "-fPIC", "-shared", f"-I{home}/include"]
        links = [] if name in ("cuda", "cudart") else [f"-L{home}/lib64", "-lcudart"]
        source = HERE / "toolkit" / f"{name}.cc"
        subprocess.run(["g++", *flags, str(source), "-o", str(library), *links], check=True)
    shutil.copy(home / "lib64/libcuda.so", home / "lib64/libcuda.so.1")
    shutil.copy(HERE / "nvcc.py", home / "bin/nvcc")
    (home / "bin/nvcc").chmod(0o755)
    done.write_text(made_of)


def atomics_of_jittor() -> str:
    """Jittor's header of atomic operations and sums of a block, its launches rewritten and its
    steps within a warp made to wait for each other."""
    jittor = Path(importlib.util.find_spec("jittor").origin).parent
    text = (jittor / "src/misc/cuda_atomic.h").read_text()
    text, steps = IN_STEP.subn(
        r"{ const T next = \1; __syncwarp(); sdata[tid] = next; __syncwarp(); }", text
    )
    if steps < 5:
        raise RuntimeError("Jittor's header misc/cuda_atomic.h is not the one that is known")
    return rewrite(text, fibers=True)


def environment(home: Path) -> dict[str, str]:
    """The environment in which Jittor finds the toolkit, with a cache of its own in `home`."""
    return {
        **os.environ,
        "HOME": str(home / "home"),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{home}/lib64",
        "cache_name": "default",
        "nvcc_path": str(home / "bin/nvcc"),
        # each variable lies in a block of its own
        "use_sfrl_allocator": "0",
        "OMP_NUM_THREADS": "1",
    }
