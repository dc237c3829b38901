"""The CUDA text of the fused ops, run on the CPU: by the ops themselves, in any process, with no
toolkit.

`emulated` shows CUDA to `jgrid.ops` alone. Each op's CUDA source is compiled by Jittor as CPU
source, its launches being loops over blocks and threads (device.h): launch geometry, memory,
indices and sums are the device's. What it cannot show: races between threads, barriers, the host
reading the device's memory, speed, and all that the rest of Jittor does under CUDA.
"""

import hashlib
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Union

from jgrid.ops import adam, channels, function, gather, mlp, norm, render, siren

import jittor as jt

DEVICE = Path(__file__).with_name("device.h")
OPS = (adam, channels, function, gather, mlp, norm, render, siren)
ORDERS = ("forwards", "backwards", "shuffled")
LAUNCH = re.compile(r"(\w+)<<<(.*?)>>>\((.*?)\);")
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
        self.bodies.update(re.findall(r"(\w+)(?:<[^{]*>)? f\{", source))
        paths = [DEVICE, *INCLUDE.findall(arguments.pop("cuda_header"))]
        headers = [self._launchable(path) for path in paths]
        arguments["cpu_header"] = "".join(f'#include "{path}"\n' for path in headers)
        inputs = shapes_dtypes_inputs[2] if shapes_dtypes_inputs else arguments["inputs"]
        in_place = "outputs" in arguments
        results = arguments["outputs"] if in_place else shapes_dtypes_inputs[0]
        several = in_place or isinstance(results[0], (list, tuple, jt.NanoVector))
        kinds = {f"in{i}": "INPUT" for i in range(len(inputs))}
        kind = "IN_PLACE" if in_place else "OUTPUT"
        kinds.update({f"out{i}": kind for i in range(len(results) if several else 1)})
        arguments["cpu_src"] = _on_device(source, kinds)
        return jt.code(*shapes_dtypes_inputs, **arguments)

    def _planted(self, text: str) -> str:
        for right, wrong in self.broken.items():
            text = text.replace(right, wrong)
        return text

    def _launchable(self, path: Union[str, Path]) -> Path:
        """A copy of a header whose launches are calls of the emulation's; another text has another
        name, by which Jittor knows that an op is another."""
        text = self._planted(Path(path).read_text())
        text = LAUNCH.sub(r"emulation::launch(\2, [&] { \1(\3); });", text)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        copy = Path(jt.compiler.cache_path, f"emulated-{digest}-{Path(path).name}")
        if not copy.exists():
            whole = copy.with_suffix(f".{os.getpid()}")  # others may write it at the same time
            whole.write_text(text)
            whole.replace(copy)
        return copy


def _on_device(source: str, kinds: dict[str, str]) -> str:
    """The source with its pointers, by their names, to device memory."""
    blocks = "".join(
        f"emulation::Block {name}_block({name}_p, {name}->size, emulation::Block::{kind});"
        f" auto* {name}_device = {name}_block.as({name}_p);\n"
        for name, kind in kinds.items()
    )
    pointers = "".join(f"auto* {name}_p = {name}_device; (void){name}_p;\n" for name in kinds)
    back = "".join(f"{name}_block.back();\n" for name in kinds)
    return f"{blocks}{{\n{pointers}{source}\n}}\n{back}"
