"""What a machine has of memory, so that too much is refused before it is allocated, and in words:
Jittor's own do not say why it ends."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import jittor as jt
import psutil

CGROUP = Path("/sys/fs/cgroup")
# where in it the memory's groups are, and the files of a group's limit and use
VERSION_1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
VERSION_2 = ("", "memory.max", "memory.current")


class NotEnough(ValueError):
    """What is asked for takes more memory than there is; the message says how much, and what to
    lower."""


def available() -> float:
    """Bytes that can be had: main memory that is free or can be freed, or what the control group
    leaves of it."""
    return max(0, min(psutil.virtual_memory().available, _left()))


def available_to_jittor() -> float:
    """Bytes that can be had where Jittor computes: on CUDA what the GPU has free, of which other
    processes have their part, once Jittor has given back the blocks that it keeps for later."""
    if not jt.flags.use_cuda:
        return available()
    jt.gc()
    free = ctypes.c_size_t(0)
    total = ctypes.c_size_t(0)
    # of CUDA's runtime, which Jittor has loaded for the whole process
    error = ctypes.CDLL(None).cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    if error:
        raise OSError(f"the GPU does not say how much memory it has free (CUDA's error {error})")
    return free.value


def require(needed: float, what: str, lower: str) -> None:
    """NotEnough where `what` needs more bytes of main memory than are available; `lower` names the
    arguments, in backquotes, or the file that would need less."""
    _require(needed, available(), "memory", what, lower)


def require_of_jittor(needed: float, what: str, lower: str) -> None:
    """The same for what lies where Jittor computes."""
    kind = "the GPU's memory" if jt.flags.use_cuda else "memory"
    _require(needed, available_to_jittor(), kind, what, lower)


def _require(needed, there, kind, what, lower):
    if needed > there:
        raise NotEnough(
            f"{what} takes about {needed / 2**30:,.1f} GiB of {kind}, and {there / 2**30:,.1f} GiB"
            f" are free: lower {lower}"
        )


@contextlib.contextmanager
def bounded(n: float) -> Iterator[None]:
    """At most n bytes more than now are given inside the block; then Python raises MemoryError. For
    readers that believe a file's header.

    Where the system knows no such limit, none is set.
    """
    try:
        import resource

        size = psutil.Process().memory_info().vms
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [size + int(n), soft, hard]
        least = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_AS, (least, hard))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _left() -> float:
    """What this process's control groups, of version 1 or 2, leave, which psutil does not know: the
    least of all above it; their file cache counts as free. Infinite where there is no limit."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return float("inf")
    left = float("inf")
    for _, controllers, path in groups:
        if controllers not in ("", "memory"):
            continue
        root, limit, used = VERSION_1 if controllers else VERSION_2
        folder = CGROUP / root / path.strip("/")
        for group in {CGROUP / root, folder, *folder.parents}:
            # "max" is no number; a container does not see the groups above it
            with contextlib.suppress(OSError, ValueError):
                free = int((group / limit).read_text()) - int((group / used).read_text())
                left = min(left, free + _cache(group))
    return left


def _cache(group: Path) -> int:
    lines = (group / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
