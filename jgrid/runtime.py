"""Makes Jittor importable and fast on this machine; the only module that knows how Jittor installs
itself.

Once `jgrid` is imported, `prepare()` runs before Jittor is first imported, whoever does it, and
`speed_up_compiling()` right after. They only set environment variables the user has not set, link
oneDNN where Jittor would otherwise download it, compile Jittor's core where that is still to be
done, and have kernels compiled faster: the two flags of Jittor that are touched, `cc_flags` and
`python_path`, say how. `python -m jgrid.runtime` prints what was found and what to do about what is
missing."""

import contextlib
import ctypes
import hashlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn, Optional

from jgrid import command

# the folder in which Jittor looks for oneDNN before it downloads it
ONEDNN = "dnnl_lnx_2.2.0_cpu_gomp"
# Jittor's own order
NVCC_PLACES = ("nvcc", "/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")
TOO_NEW = (14, 0)  # 13.0 has been seen to compile Jittor, with what NEWER makes up for
NEWER = Path(__file__).with_name("cuda") / "newer.h"
NPP = Path(__file__).with_name("cuda") / "npp.h"
# what the driver answers where it will not open a GPU
NOT_OPENED = {
    2: "its memory is full",
    46: "another process has it for itself, or its compute mode forbids it",
}
NO_NCCL = (
    "several processes on GPUs need NCCL and its header (Debian: apt install libnccl-dev; or pip"
    " install nvidia-nccl-cu12)"
)
FIRST_COMPILE = (
    "jgrid: first run in this environment: Jittor compiles its core, once. This takes 2 minutes on"
    " two idle cores, up to 9 on a busy machine; later runs start in a second."
)

# What nearly every kernel of Jittor includes, and the macros with which it does
HEADERS = "\n".join(
    [
        "#define JIT 1",
        "#define JIT_cpu 1",
        "#include <cmath>",
        "#include <assert.h>",
        '#include "var.h"',
        '#include "fused_op.h"',
        '#include "ops/op_register.h"',
        '#include "misc/cuda_flags.h"',
        "",
    ]
)

# Instead of Python, in Jittor's command for a kernel: SCRIPT --cc_path=COMPILER SOURCE FLAGS
COMPILE = """#!/bin/sh
case $1 in
*asm_tuner.py)
    grep -q //@begin "$3" || {{ compiler=${{2#--cc_path=}}; shift 2; exec "$compiler" "$@"; }} ;;
esac
exec {python} "$@"
"""

TRIAL = """
import time, jgrid, jittor as jt
a = jt.rand(1024, 1024)
(a @ a).sync()
start = time.time()
jt.sync([a @ a for _ in range(8)])
speed = 16 * 1024**3 / (time.time() - start) / 1e9
print(f"Jittor     runs; CUDA {bool(jt.has_cuda)}; matrix product {speed:.0f} GFLOP/s")
"""

notes: list[str] = []  # what prepare() did or found missing, a line each; the report prints them


def _say(message: str) -> None:
    notes.append(message)
    print("jgrid: " + message, file=sys.stderr, flush=True)


def _default(name: str, value: str, why: str) -> None:
    """Set an environment variable the user has not set, and remember why."""
    if name not in os.environ:
        os.environ[name] = value
        notes.append(f"{name}={value!r}: {why}")


def _add_flags(name: str, flags: str, why: str) -> None:
    """Add flags to an environment variable of Jittor's, once, and remember why."""
    before = os.environ.get(name, "")
    if flags not in before:
        os.environ[name] = f"{before} {flags} "
        notes.append(f"{name} has {flags}: {why}")


def _output(*command: str) -> Optional[str]:
    """Standard output of a command, or None where it cannot run. It may take its time: on a busy
    machine that can be a minute."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def jittor_home() -> Path:
    """The folder that holds `.cache/jittor`, as Jittor itself decides it."""
    return Path(_jittor_utils().home())


def _jittor_utils() -> Any:
    """The part of Jittor that compiles nothing, but decides where what is compiled goes;
    ImportError, in one sentence, where that cannot be written."""
    _default("cache_name", "default", "else the compile cache is keyed by the git branch")
    try:
        import jittor_utils

        with tempfile.TemporaryFile(dir=jittor_utils.cache_path):
            return jittor_utils
    except OSError as error:
        raise ImportError(
            f"Jittor compiles into {Path.home() / '.cache/jittor'}, which cannot be written"
            f" ({error.strerror or error}): set HOME to a folder that can be"
        ) from None


def core_is_compiled() -> bool:
    """True if Jittor's core has been compiled, to the end, for this machine and environment."""
    return any(Path(_jittor_utils().cache_path).rglob("jittor_core*.so.key"))


def compile_core() -> None:
    """Compile Jittor's core in a process of its own; ImportError where that fails.

    Jittor ends its process, as if all were well, where it finds a part of itself that is left of a
    compilation that was ended: then a second process goes on."""
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", "import jittor"], start_new_session=True)
        try:
            with _terminated_like_interrupted():
                child.wait()
        except BaseException:  # Jittor's compiling children too
            os.killpg(child.pid, signal.SIGKILL)
            raise
        if core_is_compiled():
            return
        if child.returncode:
            break
    raise ImportError("Jittor could not be compiled; what is above says why")


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside the block, where it would end the process at once."""

    def interrupt(number: int, frame: Optional[FrameType]) -> NoReturn:
        raise KeyboardInterrupt(number)

    usual = signal.getsignal(signal.SIGTERM)
    # only the main thread may handle signals; who has a handler knows what to do
    mine = threading.current_thread() is threading.main_thread() and usual is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, usual)


def refuse_numpy_2() -> None:
    """ImportError where numpy is one that Jittor cannot work with."""
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) >= 2:
        raise ImportError(
            f"jgrid needs numpy < 2, found {version}: with numpy 2 Jittor silently returns wrong"
            " numbers; run: pip install 'numpy<2'"
        )


def gpu_trouble() -> Optional[str]:
    """Why the NVIDIA driver gives this process no GPU; None where it does.

    Jittor opens the GPU while it is imported, and aborts the process where it cannot."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver sees no GPU"
    device = ctypes.c_int(0)
    context = ctypes.c_void_p()
    number = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", 0)) % count.value
    code = cuda.cuDeviceGet(ctypes.byref(device), number) or cuda.cuDevicePrimaryCtxRetain(
        ctypes.byref(context), device
    )
    if code:
        return f"GPU {number} cannot be used: {NOT_OPENED.get(code, f'error {code} of the driver')}"
    cuda.cuDevicePrimaryCtxRelease_v2(device)
    return None


def find_nvcc() -> tuple[Optional[str], Optional[tuple[int, int]]]:
    """(path, (major, minor)) of the nvcc Jittor would take, or (None, None)."""
    chosen = os.environ.get("nvcc_path")
    for place in [chosen] if chosen else NVCC_PLACES:
        path = shutil.which(place)
        version = path and re.search(r"release (\d+)\.(\d+)", _output(path, "--version") or "")
        if version:
            return path, (int(version[1]), int(version[2]))
    return None, None


def find_python_config() -> Optional[str]:
    """A python-config whose headers are those of the running Python, or None.

    A virtual environment has none of its own, and one found elsewhere may belong to another Python
    of the same minor version: so each candidate is asked for its include folder, which must be the
    running interpreter's."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}-config"
    include = Path(sysconfig.get_path("platinclude", vars={"platbase": sys.base_exec_prefix}))
    if not (include / "Python.h").is_file():
        return None
    folders = [
        Path(sys.base_prefix, "bin"),
        Path(sysconfig.get_config_var("BINDIR") or ""),
        Path("/usr/bin"),
        Path(os.path.realpath(sys.executable)).parent,
    ]
    for candidate in (folder / name for folder in folders):
        flags = candidate.is_file() and _output(str(candidate), "--includes")
        if flags and any(
            os.path.realpath(flag[2:]) == os.path.realpath(include) for flag in flags.split()
        ):
            return str(candidate)
    return None


def _prepare_python_config():
    if "python_config_path" in os.environ:
        return
    config = find_python_config()
    if config:
        _default("python_config_path", config, "headers of the running Python")
    else:
        _say(
            f"no python-config for {sys.executable}: Jittor cannot compile. Install the headers"
            f" (Debian: apt install python{sys.version_info[0]}.{sys.version_info[1]}-dev), or set"
            " python_config_path."
        )


def _prepare_cuda():
    if "nvcc_path" not in os.environ:
        trouble = _cuda_trouble()
        if trouble:
            _default("nvcc_path", "", f"{trouble}: CPU only")
    if os.environ.get("nvcc_path") == "":
        return
    for name in ("use_cutt", "use_cutlass"):
        _default(name, "0", "not needed here; Jittor would download it")
    _default(
        "use_cuda_host_allocator",
        "0",
        "arrays go to the GPU without a copy and a wait on the way",
    )
    path, version = (None, None) if _has_jtcuda() else find_nvcc()
    home = path and Path(os.path.realpath(path)).parent.parent
    if home:
        _prepare_toolkit(home, version)
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        _prepare_nccl(home)


def _has_jtcuda():
    """Whether Jittor has fetched a toolkit of its own, which it takes and which has everything."""
    return (jittor_home() / ".cache/jittor/jtcuda").is_dir()


def _cuda_trouble() -> Optional[str]:
    """Why there is no CUDA for Jittor here; said where a GPU is there."""
    trouble = gpu_trouble()
    if trouble:
        if trouble.startswith("GPU"):
            _say(f"{trouble}; using the CPU")
        return trouble
    if _has_jtcuda():
        return None
    path, version = find_nvcc()
    if path is None or version is None:
        _say(
            "a GPU is present but no CUDA toolkit: using the CPU. To use the GPU: python -m"
            " jittor_utils.install_cuda"
        )
        return "no CUDA toolkit"
    if version >= TOO_NEW:
        _say(
            f"CUDA {version[0]}.{version[1]} at {path} is newer than what Jittor 1.3.11 has been"
            " compiled with: using the CPU. Install CUDA 12.2 (python -m jittor_utils.install_cuda)"
            " or point nvcc_path to an older nvcc."
        )
        return "a CUDA toolkit that is too new"
    return None


def _prepare_toolkit(home, version):
    """Make up for what a toolkit lacks."""
    if version >= (13, 0):
        _add_flags("cc_flags", f'-include "{NEWER}"', "CUDA 13 has less than Jittor asks of it")
        _default("NVCC_APPEND_FLAGS", "-std=c++17", "CUDA 13's headers need it")
    system = Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib")
    headers = [home / "include", home / "targets/x86_64-linux/include", Path("/usr/include")]
    if not any((folder / "npp.h").exists() for folder in headers):
        _add_flags(
            "nvcc_flags",
            f'-I"{NPP.parent}"',
            f"{home} has no NPP, whose header every kernel of Jittor's includes",
        )
    libraries = [home / "bin", home / "lib64", home / "targets/x86_64-linux/lib", *system]
    if not any((folder / "libcudnn_ops_infer.so").exists() for folder in libraries):
        _default("conv_opt", "1", "no cuDNN 8: leave it out (convolutions then take another path)")


def _prepare_nccl(home):
    """Jittor would otherwise fetch NCCL 2.8.4 and compile it, and fail without internet."""
    own = jittor_home() / ".cache/jittor/nccl"
    if "use_nccl" in os.environ or (own / "nccl-2.8.4-1/build/lib/libnccl.so").is_file():
        return
    if {"nccl_include_path", "nccl_lib_path"} <= os.environ.keys():
        return
    wheel = Path(sysconfig.get_path("purelib"), "nvidia/nccl")
    places = [(home / "include", home / "lib64")] if home else []
    for include, folder in [
        *places,
        (Path("/usr/include"), Path("/usr/lib/x86_64-linux-gnu")),
        (wheel / "include", wheel / "lib"),
    ]:
        library = next(
            (folder / name for name in ("libnccl.so", "libnccl.so.2") if (folder / name).is_file()),
            None,
        )
        if library is None or not (include / "nccl.h").is_file():
            continue
        if library.name != "libnccl.so":  # the one name that Jittor knows
            (own / "lib").mkdir(parents=True, exist_ok=True)
            _link(library, own / "lib/libnccl.so")
            folder = own / "lib"
        _default("nccl_include_path", str(include), "an NCCL that is installed")
        _default("nccl_lib_path", str(folder), "an NCCL that is installed")
        return
    _default("use_nccl", "0", NO_NCCL)


def _prepare_onednn():
    if "use_mkl" in os.environ:
        return
    if platform.system() != "Linux":
        return
    folder = (
        jittor_home()
        / ".cache/jittor/mkl"
        / (ONEDNN + ("_aarch64" if platform.machine() == "aarch64" else ""))
    )
    # Jittor links by the one, the loader asks the other
    names = [folder / "lib/libmkldnn.so", folder / "lib/libdnnl.so.2"]
    if names[0].is_file() and (folder / "include/dnnl.h").is_file():
        return  # fetched by Jittor, or linked before
    header = Path(sys.prefix, "include/dnnl.h")
    library = Path(sys.prefix, "lib/libdnnl.so.2")
    if not (header.is_file() and library.is_file()):
        _say(
            "oneDNN is missing: matrix products will be 8 to 20 times slower. "
            "Run: pip install onednn-devel-cpu-gomp==2022.2.1 (x86-64 Linux)"
        )
        _default("use_mkl", "0", "oneDNN is missing; Jittor would download it")
        return
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    _link(header.parent, folder / "include")
    for name in names:
        _link(library, name)
    notes.append(f"linked oneDNN from {sys.prefix}")


def _link(source, name):
    """Point the link `name` at source, replacing a dangling one; atomic, as several processes may
    start at once."""
    temporary = name.with_name(f"{name.name}.{os.getpid()}")
    temporary.symlink_to(source)
    if name.is_dir() and not name.is_symlink():  # os.replace cannot put a link over a real folder
        shutil.rmtree(name)
    os.replace(temporary, name)


def has_mpi() -> bool:
    """True if mpicc and the headers it names are here: Debian has them in two packages."""
    flags = (_output(os.environ.get("mpicc_path", "mpicc"), "--showme:compile") or "").split()
    return any(Path(flag[2:], "mpi.h").is_file() for flag in flags if flag.startswith("-I"))


def _prepare_mpi():
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:  # set by mpirun
        _default(
            "use_mpi",
            "0",
            "one process; Jittor would compile MPI's operators wherever it finds mpicc, and die"
            " without headers",
        )
    elif not has_mpi():
        raise ImportError(
            "several processes need OpenMPI's compiler and headers (Debian: apt install"
            " libopenmpi-dev)"
        )


def prepare() -> None:
    """Make the first `import jittor` work and be fast; does nothing if Jittor is already imported.

    Raises ImportError, in one sentence, where Jittor cannot work: numpy 2, no C++ compiler, a cache
    that cannot be written or compiled, or mpirun without MPI's headers."""
    refuse_numpy_2()
    if "jittor" in sys.modules:
        return
    if not shutil.which(
        os.environ.get("cc_path", "g++" if platform.system() == "Linux" else "clang++")
    ):
        raise ImportError(
            "jgrid needs a C++ compiler for Jittor's kernels; install g++ (Debian: apt install g++)"
        )
    _jittor_utils()
    _default("FIX_TORCH_ERROR", "0", "else Jittor imports torch where it is installed")
    if (os.cpu_count() or 1) <= 4:
        _default(
            "OMP_WAIT_POLICY", "passive", "spinning threads cost more than they gain on few cores"
        )
    _prepare_python_config()
    _prepare_cuda()
    _prepare_onednn()
    _prepare_mpi()
    if core_is_compiled():
        _default("log_silent", "1", "nothing left to say")
    else:
        print(FIRST_COMPILE, file=sys.stderr, flush=True)
        if "OMPI_COMM_WORLD_SIZE" not in os.environ:  # a child of mpirun's is none of its processes
            compile_core()


class _BeforeJittor(importlib.abc.MetaPathFinder):
    """Finds Jittor, after preparing it; or what stands in for it while a command reads its
    flags."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name != "jittor":
            return None
        if command.is_running():
            command.open_streams()
        if command.reads_flags_first(core_is_compiled):
            return command.stand_in()
        with command.one_line():
            prepare()
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                try:
                    load(module)
                except SystemExit:
                    raise ImportError(
                        "Jittor has compiled a part of itself anew, and has to be started again"
                    ) from None
                speed_up_compiling()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch_for_jittor() -> None:
    """From now on Jittor is prepared before it is first imported."""
    if not any(isinstance(finder, _BeforeJittor) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeJittor())


def speed_up_compiling() -> None:
    """Have kernels compiled in about a third of the time: with Jittor's headers precompiled, and by
    the compiler itself.

    Jittor has each compiled by a Python script, which edits the assembler of those that are marked
    for it; others go to the compiler at once. The precompiled headers (80 MB) and what tells the
    two apart lie in Jittor's cache. g++ ignores headers that do not fit, and where these files
    cannot be made all is as Jittor has it."""
    import jittor as jt

    if jt.flags.cc_type != "g++" or f"{jt.compiler.cache_path}/jgrid-" in jt.flags.cc_flags:
        return
    # as Jittor's script compiles a kernel, with debug information; without it they are taken too
    flags = [
        flag
        for flag in shlex.split(jt.flags.cc_flags)
        if not flag.startswith(("-l", "-L", "-shared"))
    ] + ["-g"]
    script = COMPILE.format(python=shlex.quote(jt.flags.python_path))
    stem = (
        Path(jt.compiler.cache_path)
        / f"jgrid-{hashlib.sha256(repr([flags, HEADERS, script]).encode()).hexdigest()[:16]}"
    )
    header, precompiled, compiler = (stem.with_suffix(suffix) for suffix in (".h", ".h.gch", ".sh"))
    try:
        if not precompiled.exists():
            # other processes may be at it
            with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
                # the last says that all are there
                made = {path: Path(folder) / path.name for path in (header, compiler, precompiled)}
                made[header].write_text(HEADERS)
                made[compiler].write_text(script)
                made[compiler].chmod(0o755)
                subprocess.run(
                    [
                        jt.flags.cc_path,
                        *flags,
                        "-x",
                        "c++-header",
                        made[header],
                        "-o",
                        made[precompiled],
                    ],
                    check=True,
                    capture_output=True,
                )
                for path, source in made.items():
                    os.replace(source, path)
    except (OSError, subprocess.CalledProcessError) as error:
        notes.append(f"kernels compile at Jittor's own speed: {error}")
    else:
        # what is precompiled must come before any other header
        jt.flags.cc_flags = f' -include "{header}" {jt.flags.cc_flags}'
        jt.flags.python_path = f'"{compiler}"'


def report() -> int:
    """Print what this machine has for Jittor, what prepare() did, and whether Jittor runs; exit
    code 0 if it does."""
    nvcc, cuda = find_nvcc()
    print(f"Python     {platform.python_version()} at {sys.executable}")
    print(f"platform   {platform.platform()}, {os.cpu_count()} cores")
    for package in ("jgrid", "jittor", "numpy"):
        try:
            print(f"{package:10} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{package:10} not installed")
    compiler = _output(os.environ.get("cc_path", "g++"), "--version") or "no g++"
    print(f"compiler   {compiler.splitlines()[0]}")
    found = f"{cuda[0]}.{cuda[1]} at {nvcc}" if cuda else "none"
    print(f"CUDA       GPU: {gpu_trouble() or 'yes'}; nvcc: {found}")
    try:
        prepare()
        cache = _jittor_utils().cache_path
    except ImportError as error:
        print(f"\nJittor cannot run: {error}")
        return 2
    for note in notes:
        print(f"prepared   {note}")
    compiled = "compiled" if core_is_compiled() else "not compiled yet"
    print(f"oneDNN     {'off' if os.environ.get('use_mkl') == '0' else 'on'}")
    print(f"cache      {cache} ({compiled})")
    # in a process of its own: an unfit CUDA aborts the process instead of raising
    ran = subprocess.run([sys.executable, "-c", TRIAL])
    if ran.returncode:
        print("\nJittor does not start. The lines above say why; docs/troubleshooting.md helps.")
    return 2 if ran.returncode else 0


if __name__ == "__main__":
    sys.exit(report())
