#!/usr/bin/env python3
"""What stands in for nvcc: g++, on text whose launches and shared memory are calls of device.h.

toolkit.py puts a copy of this file where the toolkit's nvcc is sought.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

VERSION = """nvcc: stands in for NVIDIA (R) Cuda compiler driver
Cuda compilation tools, release 12.2, V12.2.140
"""
LAUNCH = re.compile(r"(\w[\w:]*(?:<[^<>;{}]*(?:<[^<>]*>[^<>;{}]*)*>)?)\s*<<<(.*?)>>>\s*\(", re.S)
SHARED = re.compile(r"(extern\s+)?__shared__\s+([\w:<>, ]+?)\s+(\w+)\s*((?:\[[^\]]*\])*)\s*;")
WAITS = re.compile(r"__syncthreads|__syncwarp|__shfl|__shared__|\bshared_reduce\b|\bWarpReduce\b")
INCLUDE = re.compile(r'#include "(/[^"]+)"')
# of nvcc's flags those that g++ does not know; the first ones take the next word with them
WITH_A_WORD = ("-x", "-Xptxas", "-ccbin")
NVCC_ALONE = re.compile(
    r"--cudart|-ccbin=|--use_fast_math|-arch=|-code=|-gencode|-G$|--ex|-maxrreg"
)
FOR_THE_HOST = {"-Xcompiler": "", "-Xlinker": "-Wl,"}


def waits(*texts: str) -> bool:
    """Whether threads of a program of these texts may wait for each other."""
    return any(WAITS.search(text) for text in texts)


def rewrite(text: str, fibers: bool) -> str:
    """CUDA text as device.h runs it, with a fiber for each thread or without.

    KERNEL<<<grid, block>>>(arguments) becomes emulation::launch<fibers>(...)(arguments), and what
    `__shared__` declares becomes a reference to the block's memory."""

    def launch(found: re.Match) -> str:
        name, config = found.groups()
        label = re.sub(r'["\s]+', " ", name)
        call = f"[&](auto... given) {{ {name}(given...); }}"
        return f'emulation::launch<{str(fibers).lower()}>("{label}", {call}, {config})('

    def shared(found: re.Match) -> str:
        extern, kind, name, sizes = found.groups()
        if extern:
            return f"{kind}* {name} = ({kind}*)emulation::shared.dynamic();"
        place = f"*({name}_shared*)emulation::shared.at(&{name}_key, sizeof({name}_shared))"
        return (
            f"typedef {kind} {name}_shared{sizes}; static char {name}_key;"
            f" {name}_shared& {name} = {place};"
        )

    return SHARED.sub(shared, LAUNCH.sub(launch, text))


def with_headers(text: str) -> str:
    """The text, its headers that are named by whole paths put in place: jgrid's own."""

    def put(found: re.Match) -> str:
        return Path(found[1]).read_text().replace("#pragma once", "")

    return INCLUDE.sub(put, text)


def command(words: list[str], home: Path) -> list[str]:
    """g++'s command for nvcc's; rewritten sources lie in `home`/sources."""
    flags = []
    sources = []
    words = iter(words)
    for word in words:
        if word in WITH_A_WORD:
            next(words)
        elif word in FOR_THE_HOST:
            flags.append(FOR_THE_HOST[word] + next(words))
        elif re.search(r"^[^-].*\.(cu|cc|cpp)$", word):
            sources.append(Path(word))
        elif not NVCC_ALONE.match(word):
            flags.append(word)
    copies = []
    folders = []
    for source in sources:
        text = with_headers(source.read_text())
        text = rewrite(text, waits(text))
        name = hashlib.sha256(f"{source}{text}".encode()).hexdigest()[:16]
        copies.append(str(home / f"sources/{name}.cc"))
        Path(copies[-1]).write_text(text)
        folders.append(f"-I{source.resolve().parent}")
    own = [f"-I{home}/headers", f"-I{home}/include", "-include", "cuda_runtime.h"]
    device = ["-D__CUDACC__=1", "-D__CUDA_ARCH__=900", "-O1", "-w", "-fpermissive"]
    runtime = [f"-L{home}/lib64", f"-Wl,-rpath,{home}/lib64", "-lcudart"]
    return [os.environ.get("cc_path", "g++"), *own, *device, *copies, *folders, *flags, *runtime]


if __name__ == "__main__":
    if "--version" in sys.argv:
        print(VERSION)
        sys.exit(0)
    sys.exit(subprocess.run(command(sys.argv[1:], Path(__file__).resolve().parents[1])).returncode)
