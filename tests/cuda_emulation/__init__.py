"""CUDA on the CPU, in two forms that share a device (device.h, memory.h, and nvcc.py's reading of
CUDA text): blocks and threads one after the other, in any order, in memory that ends at guard pages
and holds NaN where nothing was written.

`light` runs the CUDA text of the fused ops by the CPU's Jittor, in any process: what the tests do.
`python -m tests.cuda_emulation` runs tests, or any program, with Jittor itself on a device: a
toolkit stands in for NVIDIA's (toolkit.py).

Neither shows races between threads that do not wait for each other, speed, cuDNN, or tensor cores.
"""

import ctypes

# of memory.h's Counts
COUNTED = (
    "launches",
    "atomics",
    "synchronisations",
    "copies_to_device",
    "copies_to_host",
    "copies_on_device",
    "blocks",
    "products",
)


def counts() -> dict[str, int]:
    """What this process, which has Jittor on the emulated device, has done there so far."""
    emulation_counts = ctypes.CDLL("libcudart.so").emulation_counts
    emulation_counts.restype = ctypes.POINTER(ctypes.c_uint64)
    return {name: emulation_counts()[i] for i, name in enumerate(COUNTED)}
