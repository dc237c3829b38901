"""The fused ops on a GPU without Jittor, which may not run where the GPU is:

    python -m tests.ops_alone --out FOLDER      # on any machine
    nvcc -O3 --use_fast_math -o ops FOLDER/ops.cu && ./ops FOLDER/numbers

The first writes every call of an op that `two_devices` makes: its CUDA text into ops.cu, which
needs nothing else, and into `numbers` what it was given and what came out on the CPU. The second
runs them on the GPU and prints for each the largest difference, as a part of the largest number;
its exit code is 1 where that is more than 2e-5.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jgrid.ops import function

import jittor as jt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cuda_emulation.light import LAUNCHED  # noqa: E402
from two_devices import CASES  # noqa: E402

HEADERS = ("launch.h", "gather.h", "adam.h", "scale.h", "render.h", "mlp_steps.h", "mlp_cuda.h")
TYPES = {"float32": "float", "int32": "int32_t", "uint8": "uint8_t"}
# what an op's text names of a variable, and a place for it on the device
PROGRAM = """
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <map>
#include <string>
#include <vector>

static void check(cudaError_t error, const char* what) {
    if (!error) return;
    printf("%s: %s\\n", what, cudaGetErrorString(error));
    exit(2);
}
struct Variable {
    size_t size, num;      // bytes, numbers
    int64_t shape0, shape1;
    std::vector<char> host;
    char* device;
};
static Variable read(FILE* file) {
    int64_t header[4];
    if (fread(header, sizeof header, 1, file) != 1) exit(2);
    const size_t size = header[0], num = header[1];
    Variable v = {size, num, header[2], header[3], std::vector<char>(size), nullptr};
    if (v.size && fread(v.host.data(), v.size, 1, file) != 1) exit(2);
    check(cudaMalloc((void**)&v.device, v.size ? v.size : 1), "cudaMalloc");
    check(cudaMemcpy(v.device, v.host.data(), v.size, cudaMemcpyHostToDevice), "cudaMemcpy");
    return v;
}
static double worst = 0;
template <class T> double compare(const Variable& v, FILE* file) {
    std::vector<T> wanted(v.num), found(v.num);
    if (v.num && fread(wanted.data(), v.size, 1, file) != 1) exit(2);
    check(cudaMemcpy(found.data(), v.device, v.size, cudaMemcpyDeviceToHost), "cudaMemcpy");
    double difference = 0, scale = 1e-30;
    for (size_t i = 0; i < v.num; i++) {
        const double d = std::fabs((double)found[i] - (double)wanted[i]);
        difference = d <= difference ? difference : d;  // which keeps what is not a number
        scale = std::fmax(scale, std::fabs((double)wanted[i]));
    }
    return difference / scale;
}
static void tell(const char* op, double difference) {
    printf("%.2e %s\\n", difference, op);
    worst = difference <= worst ? worst : difference;
}
"""
MAIN = """
int main(int, char** arguments) {
    FILE* file = fopen(arguments[1], "rb");
    if (!file) return 2;
    int32_t op;
    while (fread(&op, sizeof op, 1, file) == 1) ops[op](file);
    printf("%.2e at most\\n", worst);
    return !(worst <= 2e-5);
}
"""


class Recorder:
    """jt.code, every call of an op with CUDA text recorded."""

    def __init__(self) -> None:
        self.code = jt.code
        self.calls: list[dict[str, Any]] = []

    def __call__(self, *shapes_dtypes_inputs: Any, **arguments: Any) -> Any:
        inputs = shapes_dtypes_inputs[2] if shapes_dtypes_inputs else arguments["inputs"]
        # of an op that works in place
        before = [v.numpy() for v in arguments.get("outputs", [])]
        given = [v.numpy() for v in inputs]
        made = self.code(*shapes_dtypes_inputs, **arguments)
        if "cuda_src" in arguments:
            outputs = list(made) if isinstance(made, (list, tuple)) else [made]
            self.calls.append(
                {
                    "source": arguments["cuda_src"],
                    "data": arguments.get("data", {}),
                    "inputs": given,
                    "before": before,
                    "outputs": [v.numpy() for v in outputs],
                }
            )
        return made


def recorded(cases: Iterable[str]) -> list[dict[str, Any]]:
    """The calls that the cases of `two_devices` make, on the CPU."""
    recorder = Recorder()
    jt.code = recorder
    try:
        with jt.flag_scope(use_cuda=0):
            for case in cases:
                CASES[case]()
    finally:
        jt.code = recorder.code
    return recorder.calls


def results(call: dict[str, Any]) -> list[int]:
    """The outputs that are results: the others are memory for sums."""
    scratch = re.findall(r"scratch = out(\d+)_p", call["source"])
    return [i for i in range(len(call["outputs"])) if str(i) not in scratch]


def function_of(n: int, call: dict[str, Any]) -> str:
    """C++ that reads a call's numbers, runs its op and compares."""
    inputs = range(len(call["inputs"]))
    outputs = range(len(call["outputs"]))
    kinds = {f"in{i}": TYPES[str(call["inputs"][i].dtype)] for i in inputs}
    kinds.update({f"out{i}": TYPES[str(call["outputs"][i].dtype)] for i in outputs})
    name = "".join(filter(None, LAUNCHED.search(call["source"]).groups()))
    lines = [f"static void op{n}(FILE* file) {{", "std::map<std::string, double> data;"]
    for key in call["data"]:
        lines.append(f'if (fread(&data["{key}"], sizeof(double), 1, file) != 1) exit(2);')
    lines += [f"Variable {v}_read = read(file), *{v} = &{v}_read;" for v in kinds]
    for v, kind in kinds.items():
        lines += [
            f"{kind}* {v}_p = ({kind}*){v}->device; (void){v}_p;",
            f"const int64_t {v}_shape0 = {v}->shape0; (void){v}_shape0;",
            f"const int64_t {v}_shape1 = {v}->shape1; (void){v}_shape1;",
        ]
    lines += [f"{{ {call['source']} }}", f'check(cudaDeviceSynchronize(), "{name}");']
    compared = results(call)
    lines += [f'tell("{name}", compare<{kinds[f"out{i}"]}>(*out{i}, file));' for i in compared]
    lines += [f'check(cudaFree({v}->device), "cudaFree");' for v in kinds]
    return "\n".join([*lines, "}"])


def numbers_of(n: int, call: dict[str, Any]) -> bytes:
    """What `function_of` reads."""
    # an op's results are not numbers before it has run
    before = call["before"] or [
        np.frombuffer(b"\xff" * v.nbytes, v.dtype).reshape(v.shape) for v in call["outputs"]
    ]
    parts = [np.int32(n).tobytes(), *(np.float64(v).tobytes() for v in call["data"].values())]
    for array in (*call["inputs"], *before):
        header = np.array([array.nbytes, array.size, *array.shape, 1][:4], np.int64)
        parts += [header.tobytes(), array.tobytes()]
    return b"".join([*parts, *(call["outputs"][i].tobytes() for i in results(call))])


def write(folder: Path, cases: Iterable[str] = CASES) -> None:
    """ops.cu and numbers, in a folder that is made."""
    calls = recorded(cases)
    sources = list(dict.fromkeys(function_of(0, call) for call in calls))
    headers = [Path(function.FOLDER, name).read_text() for name in HEADERS]
    text = [PROGRAM, *(h.replace("#pragma once", "") for h in headers)]
    text += [s.replace("op0(", f"op{n}(", 1) for n, s in enumerate(sources)]
    names = ", ".join(f"op{n}" for n in range(len(sources)))
    text.append(f"static void (*ops[])(FILE*) = {{{names}}};")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ops.cu").write_text("\n".join([*text, MAIN]))
    numbers = [numbers_of(sources.index(function_of(0, call)), call) for call in calls]
    (folder / "numbers").write_bytes(b"".join(numbers))
    print(f"{len(calls)} calls of {len(sources)} ops in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.ops_alone", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write(parser.parse_args().out)
