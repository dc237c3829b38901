"""The CUDA text of the fused ops, run on the CPU: by the ops themselves, in any process, with no
toolkit.

`emulated` shows CUDA to `jgrid.ops` alone. Each op's CUDA source is compiled by Jittor as CPU
source, its launches being loops over blocks and threads (device.h): launch geometry, memory,
indices and sums are the device's. What it cannot show besides what no emulation can: the host
reading the device's memory, and all that the rest of Jittor does under CUDA.
"""

import hashlib
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jgrid.ops import adam, channels, function, gather, mlp, norm, render, scale, siren

import jittor as jt

from .nvcc import rewrite, waits

HEADERS = tuple(
    Path(__file__).with_name(f"{name}.h") for name in ("memory", "vectors", "device", "light")
)
OPS = (adam, channels, function, gather, mlp, norm, render, scale, siren)
ORDERS = ("forwards", "backwards", "shuffled")
# what an op's source launches, with its template arguments: a body, or a function on an Mlp
LAUNCHED = re.compile(r"(\w+)(<[^{]*>)?(?: f\{|\(mlp,)")
INCLUDE = re.compile(r'#include "([^"]+)"')


def emulated(monkeypatch: Any, order: str = "forwards") -> "Emulation":
    """Until the test ends the fused ops are those of CUDA, on the CPU; `order` is that of the
    threads."""
    monkeypatch.setenv("JGRID_CUDA_ORDER", order)
    emulation = Emulation()
    for module in OPS:
        monkeypatch.setattr(module, "jt", emulation)
    return emulation


class Emulation:
    """Jittor as `jgrid.ops` sees it: with CUDA, and with `code` that runs the CUDA source.

    bodies: the names of the bodies launched so far; broken: {text: text} to put in place in the
    sources, for tests that plant a fault."""

    def __init__(self) -> None:
        self.flags = SimpleNamespace(use_cuda=1)
        self.bodies: set[str] = set()
        self.broken: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(jt, name)

    def code(self, *shapes_dtypes_inputs: Any, **arguments: Any) -> Any:
        """jt.code, the CUDA source run as the CPU's."""
        if "cuda_src" not in arguments:
            raise AssertionError(f"an op without CUDA text: {arguments['cpu_src']}")
        source = self._planted(arguments.pop("cuda_src"))
        self.bodies.update(found[1] for found in LAUNCHED.finditer(source))
        headers = [Path(path) for path in INCLUDE.findall(arguments.pop("cuda_header"))]
        texts = {header: self._planted(header.read_text()) for header in headers}
        fibers = waits(source, *texts.values())
        copies = [_launchable(header, rewrite(text, fibers)) for header, text in texts.items()]
        arguments["cpu_header"] = "".join(f'#include "{path}"\n' for path in [*HEADERS, *copies])
        inputs = shapes_dtypes_inputs[2] if shapes_dtypes_inputs else arguments["inputs"]
        in_place = "outputs" in arguments
        results = arguments["outputs"] if in_place else shapes_dtypes_inputs[0]
        several = in_place or isinstance(results[0], (list, tuple, jt.NanoVector))
        kinds = {f"in{i}": "INPUT" for i in range(len(inputs))}
        kind = "IN_PLACE" if in_place else "OUTPUT"
        kinds.update({f"out{i}": kind for i in range(len(results) if several else 1)})
        arguments["cpu_src"] = _on_device(rewrite(source, fibers), kinds)
        return jt.code(*shapes_dtypes_inputs, **arguments)

    def _planted(self, text: str) -> str:
        for right, wrong in self.broken.items():
            text = text.replace(right, wrong)
        return text


def _launchable(header: Path, text: str) -> Path:
    """A file with the text in place of a header's; another text has another name, by which Jittor
    knows that an op is another."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    copy = Path(jt.compiler.cache_path, f"emulated-{digest}-{header.name}")
    if not copy.exists():
        whole = copy.with_suffix(f".{os.getpid()}")  # others may write it at the same time
        whole.write_text(text)
        whole.replace(copy)
    return copy


def _on_device(source: str, kinds: dict[str, str]) -> str:
    """The source with its pointers, by their names, to device memory."""
    copies = "".join(
        f"emulation::Copy {name}_copy({name}_p, {name}->size, emulation::Copy::{kind});"
        f" auto* {name}_device = {name}_copy.as({name}_p);\n"
        for name, kind in kinds.items()
    )
    pointers = "".join(f"auto* {name}_p = {name}_device; (void){name}_p;\n" for name in kinds)
    back = "".join(f"{name}_copy.back();\n" for name in kinds)
    return f"{copies}{{\n{pointers}{source}\n}}\n{back}"
