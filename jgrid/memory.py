"""What a machine has of memory, so that too much is refused before it is allocated, and in words:
Jittor's own do not say why it ends."""

import contextlib
from pathlib import Path

import jittor as jt

CGROUP = Path("/sys/fs/cgroup")


class NotEnough(ValueError):
    """What is wanted takes more memory than there is; the message says how much, and what to
    lower."""


def available():
    """Bytes that can be had: main memory that is free or can be freed, or what the control group
    leaves of it; on CUDA the GPU's.

    Infinite where the system does not say.
    """
    if jt.flags.use_cuda:
        info = jt.get_mem_info()
        return info.total_cuda_ram - info.total_cuda_used
    return max(0, min(_free(), _left()))


def require(needed, what, lower):
    """NotEnough where `what` needs more bytes than are available; `lower` names the flags or the
    file that would need less."""
    there = available()
    if needed > there:
        raise NotEnough(
            f"{what} takes about {needed / 2**30:,.1f} GiB of memory, and {there / 2**30:,.1f} GiB"
            f" are free: lower {lower}"
        )


@contextlib.contextmanager
def bounded(n):
    """At most n bytes more than now are given inside the block; then Python raises MemoryError. For
    readers that believe a file's header.

    Where the system knows no such limit, none is set.
    """
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = min(
            limit for limit in (size + int(n), soft, hard) if limit != resource.RLIM_INFINITY
        )
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _free():
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration):
        return float("inf")


def _left():
    """What this process's control groups, of version 1 or 2, leave: the least of all above it;
    their file cache counts as free."""
    left = float("inf")
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return left
    for _, controllers, path in groups:
        root, names = (
            (CGROUP, ("memory.max", "memory.current"))
            if not controllers
            else (CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        )
        if controllers in ("", "memory"):
            folder = root / path.strip("/")
            for group in {root, folder, *folder.parents}:
                # "max" is no number; a container does not see the groups above it
                with contextlib.suppress(OSError, ValueError):
                    limit, used = (int((group / name).read_text()) for name in names)
                    cache = [
                        int(line.split()[1])
                        for line in (group / "memory.stat").read_text().splitlines()
                        if line.startswith("inactive_file ")
                    ]
                    left = min(left, limit - used + sum(cache))
    return left
