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
# their sources, and what they are linked with; cudart, which Jittor loads first, brings the first
LIBRARIES = {
    "blocks": ("allocator", []),
    "cudart": ("cudart", ["-Wl,--no-as-needed", "-lblocks", "-Wl,-rpath,$ORIGIN"]),
    "cublas": ("cublas", ["-lcudart"]),
    "curand": ("curand", ["-lcudart"]),
    "cuda": ("cuda", []),
}
# headers that are others by another name
NAMES = {
    "cublas.h": "cublas_v2.h",
    "cuda.h": "cuda_runtime.h",
    "cuda_runtime_api.h": "cuda_runtime.h",
    "driver_types.h": "cuda_runtime.h",
    "cub/block/block_scan.cuh": "cub.cuh",
    "cub/cub.cuh": "cub.cuh",
    "cub/device/device_segmented_radix_sort.cuh": "cub.cuh",
    "thrust/iterator/reverse_iterator.h": "cub.cuh",
}
INFINITIES = """#pragma once
#include <limits>
#define CUDART_INF_F std::numeric_limits<float>::infinity()
#define CUDART_INF std::numeric_limits<double>::infinity()
"""
# so that `blocks` comes before Jittor's own functions, and sanitizers can be loaded
SITE = "import os\n\nos.RTLD_DEEPBIND = 0\n"
# steps of a sum within a warp, whose threads Jittor takes to go in step
IN_STEP = re.compile(r"sdata\[tid\] = (op\(sdata\[tid\], sdata\[tid \+ \d+\]\));")


def build(home: Path) -> None:
    """Set the toolkit up in `home`, unless it is there: bin, include, lib64; and `headers`, which
    replaces one of Jittor's."""
    files = [HERE / "nvcc.py", HERE / "toolkit.py", *sorted(HERE.glob("toolkit/*"))]
    files += sorted(HERE.glob("*.h"))
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    done = home / "made_of"
    if done.is_file() and done.read_text() == made_of:
        return
    for name in ("lib64", "sources"):
        (home / name).mkdir(parents=True, exist_ok=True)
    include = home / "include"
    for header in (*HERE.glob("*.h"), *HERE.glob("toolkit/*.h"), *HERE.glob("toolkit/*.cuh")):
        put(include / header.name, header.read_text())
    for name, other in NAMES.items():
        put(include / name, f"#pragma once\n#include <{other}>\n")
    put(include / "math_constants.h", INFINITIES)
    put(home / "site/sitecustomize.py", SITE)
    put(home / "headers/misc/cuda_atomic.h", atomics_of_jittor())
    put(home / "bin/nvcc", (HERE / "nvcc.py").read_text())
    (home / "bin/nvcc").chmod(0o755)
    headers = [f"-I{home}/include", f"-I{jittor() / 'src'}", "-DHAS_CUDA"]
    flags = ["-std=c++14", "-O3", "-march=native", "-w", "-fPIC", "-shared", *headers]
    for name, (source, links) in LIBRARIES.items():
        files = [str(HERE / f"toolkit/{source}.cc"), "-o", str(home / f"lib64/lib{name}.so")]
        subprocess.run(["g++", *flags, *files, f"-L{home}/lib64", *links], check=True)
    shutil.copy(home / "lib64/libcuda.so", home / "lib64/libcuda.so.1")
    # what Jittor has compiled with another toolkit
    for made in [*home.glob("home/.cache/jittor/**/jit"), *home.glob("home/**/jgrid-*.gch")]:
        remove = shutil.rmtree if made.is_dir() else os.remove
        remove(made)
    done.write_text(made_of)


def put(path: Path, text: str) -> None:
    """Write a file, unless it is there: others may be reading it."""
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    os.replace(new, path)


def jittor() -> Path:
    """The folder of the installed Jittor, which is not imported."""
    return Path(importlib.util.find_spec("jittor").origin).parent


def atomics_of_jittor() -> str:
    """Jittor's header of atomic operations and sums of a block, its launches rewritten and its
    steps within a warp made to wait for each other."""
    text = (jittor() / "src/misc/cuda_atomic.h").read_text()
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
        "PYTHONPATH": f"{home}/site:{os.environ.get('PYTHONPATH', '')}",
        "cache_name": "default",
        "nvcc_path": str(home / "bin/nvcc"),
        # it would keep blocks for the next variable
        "use_temp_allocator": "0",
        "OMP_NUM_THREADS": "1",
    }
