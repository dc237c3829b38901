"""The room that knows Jittor's installation: what it decides in an environment, and what it leaves
alone."""

import ctypes
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

from jgrid import runtime

import jittor
import jittor as jt
import pytest

OWN = (
    "nvcc_path",
    "use_mkl",
    "use_cutt",
    "use_cutlass",
    "conv_opt",
    "cache_name",
    "FIX_TORCH_ERROR",
    "OMP_WAIT_POLICY",
    "python_config_path",
    "log_silent",
    "cc_path",
    "use_mpi",
    "mpicc_path",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "use_cuda_host_allocator",
    "use_nccl",
    "nccl_include_path",
    "nccl_lib_path",
    "cc_flags",
    "nvcc_flags",
    "NVCC_APPEND_FLAGS",
)


REAL_GPU_TROUBLE = runtime.gpu_trouble  # `machine` stands in for it


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which Jittor is not imported yet, without a GPU, with oneDNN in the environment;
    nothing of it is real."""
    home = tmp_path / "home"
    prefix = tmp_path / "environment"
    for file in ("include/dnnl.h", "lib/libdnnl.so.2"):
        (prefix / file).parent.mkdir(parents=True, exist_ok=True)
        (prefix / file).write_text(f"the real {file}")
    home.mkdir()
    monkeypatch.setattr(
        os, "environ", {name: value for name, value in os.environ.items() if name not in OWN}
    )
    monkeypatch.delitem(sys.modules, "jittor")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(runtime, "notes", [])
    for name, answer in (
        ("jittor_home", home),
        ("gpu_trouble", "no NVIDIA driver"),
        ("find_nvcc", (None, None)),
        ("core_is_compiled", True),
        ("find_python_config", "/usr/bin/some-python-config"),
    ):
        monkeypatch.setattr(runtime, name, lambda answer=answer: answer)

    class Machine:
        folder = home / ".cache/jittor/mkl" / runtime.ONEDNN

        def has(self, **answers):
            for name, answer in answers.items():
                monkeypatch.setattr(runtime, name, lambda answer=answer: answer)

    Machine.prefix = prefix
    return Machine()


@pytest.mark.parametrize(
    "version, refused", [("1.26.4", False), ("2.0.0", True), ("2.5.1rc1", True), ("10.0", True)]
)
def test_numpy_2_is_refused_in_one_sentence(machine, monkeypatch, version, refused):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == "numpy" else real(name)
    )
    if not refused:
        return runtime.prepare()
    with pytest.raises(ImportError) as error:
        runtime.prepare()
    assert (
        version in str(error.value)
        and "numpy<2" in str(error.value)
        and "\n" not in str(error.value)
    )
    assert "nvcc_path" not in os.environ


def test_mpi_is_for_mpirun_and_wants_its_headers(machine, tmp_path):
    """Debian has mpicc in one package and the headers, without which Jittor does not even import,
    in another."""
    compiler = tmp_path / "mpicc"
    compiler.write_text(f"#!/bin/sh\necho -I{tmp_path}/openmpi -I{tmp_path}/openmpi/more\n")
    compiler.chmod(0o755)
    os.environ["mpicc_path"] = str(compiler)
    runtime.prepare()
    assert os.environ.pop("use_mpi") == "0"
    os.environ["OMPI_COMM_WORLD_SIZE"] = "2"
    with pytest.raises(ImportError, match="libopenmpi-dev"):
        runtime.prepare()
    (tmp_path / "openmpi").mkdir()
    (tmp_path / "openmpi" / "mpi.h").touch()
    runtime.prepare()
    assert "use_mpi" not in os.environ


def test_no_compiler_is_refused(machine):
    os.environ["cc_path"] = "/nowhere/g++"
    with pytest.raises(ImportError, match="g\\+\\+"):
        runtime.prepare()


def test_the_users_variables_are_left_alone(machine):
    mine = {
        "nvcc_path": "/my/nvcc",
        "use_mkl": "1",
        "use_cutt": "1",
        "use_cutlass": "1",
        "conv_opt": "0",
        "cache_name": "mine",
        "FIX_TORCH_ERROR": "1",
        "OMP_WAIT_POLICY": "active",
        "python_config_path": "/my/python-config",
        "log_silent": "0",
        "use_cuda_host_allocator": "1",
        "NVCC_APPEND_FLAGS": "-std=c++20",
    }
    os.environ.update(mine)
    machine.has(gpu_trouble=None, find_nvcc=("/usr/bin/nvcc", (13, 0)))
    runtime.prepare()
    assert {name: os.environ[name] for name in mine} == mine
    assert not machine.folder.exists()


def test_nothing_happens_once_jittor_is_imported(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "jittor", object())
    before = dict(os.environ)
    runtime.prepare()
    assert os.environ == before and not machine.folder.exists()


def test_the_rest_of_the_environment_is_left_alone(machine):
    before = dict(os.environ)
    runtime.prepare()
    assert {name: value for name, value in os.environ.items() if name not in OWN} == before
    assert os.environ["cache_name"] == "default" and os.environ["FIX_TORCH_ERROR"] == "0"
    assert os.environ["python_config_path"] == "/usr/bin/some-python-config"


@pytest.mark.parametrize("cores, policy", [(2, "passive"), (64, None)])
def test_threads_wait_passively_where_cores_are_few(machine, monkeypatch, cores, policy):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    runtime.prepare()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


def test_nvcc_without_a_driver_is_hidden(machine, capsys):
    """Jittor built with CUDA aborts the process where no driver answers."""
    machine.has(find_nvcc=("/usr/local/cuda/bin/nvcc", (12, 2)))
    runtime.prepare()
    assert os.environ["nvcc_path"] == ""
    assert "use_cutt" not in os.environ
    assert capsys.readouterr().err == ""  # the common case needs no words


def test_a_cuda_that_is_too_new_is_hidden_with_a_warning(machine, capsys):
    machine.has(gpu_trouble=None, find_nvcc=("/usr/local/cuda/bin/nvcc", runtime.TOO_NEW))
    runtime.prepare()
    assert os.environ["nvcc_path"] == ""
    warning = capsys.readouterr().err
    assert (
        "14.0" in warning
        and "/usr/local/cuda/bin/nvcc" in warning
        and len(warning.splitlines()) == 1
    )
    assert warning.strip().removeprefix("jgrid: ") in runtime.notes


def test_a_driver_without_a_toolkit_is_said(machine, capsys):
    machine.has(gpu_trouble=None)
    runtime.prepare()
    assert os.environ["nvcc_path"] == "" and "install_cuda" in capsys.readouterr().err


def driver(monkeypatch, **codes):
    """An NVIDIA driver with two GPUs, whose functions answer with these error codes, else 0; ->
    the numbers of the GPUs that were opened."""
    opened = []

    def count(number):
        number._obj.value = 2
        return codes.get("cuDeviceGetCount", 0)

    def get(device, number):
        device._obj.value = number
        return 0

    def retain(context, device):
        opened.append(device.value)
        return codes.get("cuDevicePrimaryCtxRetain", 0)

    functions = SimpleNamespace(
        cuInit=lambda flags: codes.get("cuInit", 0),
        cuDeviceGetCount=count,
        cuDeviceGet=get,
        cuDevicePrimaryCtxRetain=retain,
        cuDevicePrimaryCtxRelease_v2=lambda device: opened.append(-device.value),
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: functions)
    return opened


@pytest.mark.parametrize(
    "codes, words",
    [
        ({"cuInit": 100}, "sees no GPU"),
        ({"cuDeviceGetCount": 3}, "sees no GPU"),
        ({"cuDevicePrimaryCtxRetain": 2}, "its memory is full"),
        ({"cuDevicePrimaryCtxRetain": 46}, "another process has it for itself"),
        ({"cuDevicePrimaryCtxRetain": 999}, "error 999"),
    ],
)
def test_a_gpu_that_cannot_be_opened_is_left_alone_and_said(
    machine, monkeypatch, capsys, codes, words
):
    """Jittor would abort the process while it is imported."""
    driver(monkeypatch, **codes)
    trouble = REAL_GPU_TROUBLE()
    assert words in trouble
    machine.has(gpu_trouble=trouble, find_nvcc=("/usr/local/cuda/bin/nvcc", (12, 2)))
    runtime.prepare()
    said = capsys.readouterr().err
    assert os.environ["nvcc_path"] == "" and len(said.splitlines()) == ("GPU 0" in trouble)


def test_each_process_opens_its_own_gpu(monkeypatch):
    opened = driver(monkeypatch)
    for rank in "123":
        monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", rank)
        assert REAL_GPU_TROUBLE() is None
    assert opened == [1, -1, 0, 0, 1, -1]


def toolkit(folder, *files):
    """A CUDA toolkit with these files; its nvcc."""
    for file in ("bin/nvcc", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return str(folder / "bin/nvcc")


@pytest.mark.parametrize("cudnn", [True, False], ids=["cudnn", "no-cudnn"])
def test_a_usable_cuda_is_kept_and_downloads_avoided(machine, tmp_path, cudnn):
    files = ["lib64/libcudnn_ops_infer.so"] if cudnn else []
    nvcc = toolkit(tmp_path / "cuda", "include/npp.h", *files)
    machine.has(gpu_trouble=None, find_nvcc=(nvcc, (12, 2)))
    runtime.prepare()
    assert "nvcc_path" not in os.environ
    assert os.environ["use_cutt"] == os.environ["use_cutlass"] == "0"
    assert os.environ["use_cuda_host_allocator"] == "0"
    assert not {"cc_flags", "nvcc_flags", "NVCC_APPEND_FLAGS", "use_nccl"} & os.environ.keys()
    if not Path("/usr/lib/x86_64-linux-gnu/libcudnn_ops_infer.so").exists():
        assert os.environ.get("conv_opt") == (None if cudnn else "1")


def test_a_toolkit_that_was_chosen_is_prepared_too(machine, tmp_path):
    os.environ["nvcc_path"] = toolkit(tmp_path / "cuda")
    machine.has(find_nvcc=(os.environ["nvcc_path"], (12, 2)))
    runtime.prepare()
    assert os.environ["use_cutt"] == "0" and os.environ["nvcc_flags"]


def test_the_nvcc_that_was_chosen_is_found(monkeypatch, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho Cuda compilation tools, release 12.2, V12.2.140\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("nvcc_path", str(nvcc))
    assert runtime.find_nvcc() == (str(nvcc), (12, 2))


def test_what_a_toolkit_lacks_is_made_up_for_once(machine, tmp_path):
    """CUDA 13 without NPP: flags of the user's stay, and those of a parent process are enough."""
    os.environ["cc_flags"] = "-DMINE"
    machine.has(gpu_trouble=None, find_nvcc=(toolkit(tmp_path / "cuda"), (13, 0)))
    runtime.prepare()
    first = dict(os.environ)
    assert first["cc_flags"].split() == ["-DMINE", "-include", f'"{runtime.NEWER}"']
    assert first["NVCC_APPEND_FLAGS"] == "-std=c++17"
    if not Path("/usr/include/npp.h").exists():
        assert first["nvcc_flags"].split() == [f'-I"{runtime.NPP.parent}"']
        assert any("no NPP" in note for note in runtime.notes)
    runtime.prepare()
    assert os.environ == first


NCCL = {
    "toolkit": ("cuda/include/nccl.h", "cuda/lib64/libnccl.so"),
    "pip": ("site/nvidia/nccl/include/nccl.h", "site/nvidia/nccl/lib/libnccl.so.2"),
    "no header": ("cuda/lib64/libnccl.so",),
    "none": (),
}


@pytest.mark.skipif(Path("/usr/include/nccl.h").exists(), reason="NCCL is installed here")
@pytest.mark.parametrize("where", NCCL)
def test_an_installed_nccl_serves_several_processes(machine, monkeypatch, tmp_path, where):
    """Jittor would fetch one, even for the CPU."""
    os.environ["OMPI_COMM_WORLD_SIZE"] = "2"
    nvcc = toolkit(tmp_path / "cuda")
    toolkit(tmp_path, *NCCL[where])
    monkeypatch.setattr(
        sysconfig,
        "get_path",
        lambda name, real=sysconfig.get_path, **more: (
            str(tmp_path / "site") if name == "purelib" else real(name, **more)
        ),
    )
    machine.has(gpu_trouble=None, find_nvcc=(nvcc, (12, 2)), has_mpi=True)
    runtime.prepare()
    if where in ("toolkit", "pip"):
        assert "use_nccl" not in os.environ
        assert Path(os.environ["nccl_include_path"]) == (tmp_path / NCCL[where][0]).parent
        assert os.path.samefile(
            Path(os.environ["nccl_lib_path"]) / "libnccl.so", tmp_path / NCCL[where][1]
        )
    else:
        assert os.environ["use_nccl"] == "0" and "nccl_lib_path" not in os.environ


def onednn_files(machine):
    return (
        machine.folder / "include/dnnl.h",
        machine.folder / "lib/libmkldnn.so",
        machine.folder / "lib/libdnnl.so.2",
    )


def test_onednn_is_linked_from_the_environment(machine):
    runtime.prepare()
    header, link, named = onednn_files(machine)
    assert header.read_text() == "the real include/dnnl.h"
    assert link.read_text() == named.read_text() == "the real lib/libdnnl.so.2"
    assert link.is_symlink() and "use_mkl" not in os.environ
    assert any("oneDNN" in note for note in runtime.notes)
    # no temporary names
    assert {p.name for p in (machine.folder / "lib").iterdir()} == {"libmkldnn.so", "libdnnl.so.2"}


def test_dangling_onednn_links_are_replaced(machine, tmp_path):
    """A deleted environment leaves links that point nowhere."""
    (machine.folder / "lib").mkdir(parents=True)
    (machine.folder / "include").symlink_to(tmp_path / "deleted/include")
    for name in ("libmkldnn.so", "libdnnl.so.2"):
        (machine.folder / "lib" / name).symlink_to(tmp_path / "deleted/lib/libdnnl.so.2")
    runtime.prepare()
    header, link, named = onednn_files(machine)
    assert header.read_text() == "the real include/dnnl.h"
    assert link.read_text() == named.read_text() == "the real lib/libdnnl.so.2"


def test_a_real_onednn_is_left_alone(machine):
    """Jittor's own download, or links that still work."""
    header, link, _ = onednn_files(machine)
    for path in (header, link):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("fetched by Jittor")
    runtime.prepare()
    assert header.read_text() == link.read_text() == "fetched by Jittor"
    assert not header.parent.is_symlink() and not link.is_symlink()
    assert "use_mkl" not in os.environ


def test_half_a_download_is_replaced(machine):
    """A download that broke off leaves a real folder without the library."""
    (machine.folder / "include").mkdir(parents=True)
    runtime.prepare()
    header, link, _ = onednn_files(machine)
    assert header.is_file() and link.is_file()


def test_without_onednn_jittor_is_told_not_to_fetch_it(machine, capsys):
    (machine.prefix / "lib/libdnnl.so.2").unlink()
    runtime.prepare()
    assert os.environ["use_mkl"] == "0"
    assert "pip install onednn-devel-cpu-gomp" in capsys.readouterr().err
    assert not machine.folder.exists()


def test_the_first_compile_is_announced_once(machine, capsys):
    machine.has(core_is_compiled=False, compile_core=None)
    runtime.prepare()
    assert capsys.readouterr().err.strip() == runtime.FIRST_COMPILE.strip()
    assert "log_silent" not in os.environ


def test_no_python_config_is_said(machine, capsys):
    machine.has(find_python_config=None)
    runtime.prepare()
    assert (
        "python_config_path" not in os.environ and "python_config_path" in capsys.readouterr().err
    )


def test_python_config_belongs_to_this_python():
    """Its headers must be those of the running interpreter, not of another of the same minor
    version."""
    found = runtime.find_python_config()
    assert found is not None and os.access(found, os.X_OK)
    includes = subprocess.run([found, "--includes"], capture_output=True, text=True).stdout.split()
    header = next(
        Path(flag[2:], "patchlevel.h")
        for flag in includes
        if Path(flag[2:], "patchlevel.h").is_file()
    )
    assert f'"{sys.version.split()[0]}"' in header.read_text()


def test_a_slow_machine_is_waited_for(monkeypatch):
    """A python-config can take longer than any limit, and is there all the same."""

    def run(command, timeout=None, real=subprocess.run, **arguments):
        if timeout is not None:
            raise subprocess.TimeoutExpired(command, timeout)
        return real(command, **arguments)

    monkeypatch.setattr(subprocess, "run", run)
    assert runtime.find_python_config() is not None


def test_the_report_says_what_is_here():
    ended = subprocess.run([sys.executable, "-m", "jgrid.runtime"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    for name in ("Python", "compiler", "CUDA", "oneDNN", "cache", "Jittor"):
        assert re.search(rf"^{name}\s+\S", ended.stdout, re.MULTILINE), (
            f"{name} is not in:\n{ended.stdout}"
        )


def test_the_report_ends_with_2_where_jittor_cannot_run():
    """It must work, and say why, just where Jittor does not."""
    ended = subprocess.run(
        [sys.executable, "-m", "jgrid.runtime"],
        capture_output=True,
        text=True,
        env={**os.environ, "cc_path": "/nowhere/g++"},
    )
    assert ended.returncode == 2
    assert "Jittor cannot run" in ended.stdout and "Traceback" not in ended.stderr


def test_kernels_are_compiled_with_precompiled_headers(tmp_path):
    """g++ takes the precompiled headers for what Jittor writes, and without them the same source
    compiles too."""
    flags = shlex.split(jt.flags.cc_flags)
    header = Path(flags[flags.index("-include") + 1])
    assert header.with_suffix(".h.gch").stat().st_size > 2**20
    (tmp_path / "a_op.cc").write_text(
        '#define JIT 1\n#define JIT_cpu 1\n#include <cmath>\n#include "var.h"\n#include'
        ' "ops/code_op.h"\nnamespace jittor { void CodeOp::jit_run() {} }\n'
    )
    command = [
        jt.flags.cc_path,
        *[f for f in flags if not f.startswith(("-l", "-L", "-shared"))],
        "-S",
        "-o",
        "a.s",
        "a_op.cc",
    ]
    taken = subprocess.run(
        [*command, "-g", "-Winvalid-pch", "-H"], cwd=tmp_path, capture_output=True, text=True
    )
    assert taken.returncode == 0 and f"! {header}.gch" in taken.stderr
    refused = subprocess.run(
        [*command, "-O0", "-fno-fast-math", "-Winvalid-pch"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 0 and "-Winvalid-pch" in refused.stderr


def test_kernels_go_to_the_compiler_and_marked_ones_to_jittors_script(tmp_path):
    """Jittor's command for a kernel, by its own Python and by ours, gives the same assembler for a
    marked one."""
    script = Path(jittor.__file__).parent / "utils/asm_tuner.py"
    source = 'extern "C" void add(float* a, float* b) {{\n    {}\n    a[0] += b[0];\n    {}\n}}\n'
    left = []
    for lines in (("", ""), ('//@begin replace "vmova" "vmovnt"', "//@end")):
        (tmp_path / "a_op.cc").write_text(source.format(*lines))
        for python in (sys.executable, jt.flags.python_path):
            command = (
                f'{python} {script} --cc_path="{jt.flags.cc_path}" "{tmp_path}/a_op.cc" -shared'
                f' -fPIC -O2 -o "{tmp_path}/a_op.so"'
            )
            ended = subprocess.run(
                command, shell=True, cwd=tmp_path, capture_output=True, text=True
            )
            assert ended.returncode == 0 and (tmp_path / "a_op.so").is_file(), ended.stderr
            assembler = tmp_path / "a_op.s"
            left.append(assembler.read_text() if assembler.is_file() else None)
            for path in [*tmp_path.glob("*.s"), tmp_path / "a_op.so"]:
                path.unlink()
    assert left[0] and left[1] is None  # no assembler on the way
    assert left[2] and left[2] == left[3]


def test_other_programs_of_jittor_run_in_python(tmp_path):
    (tmp_path / "other.py").write_text("import sys; print(sys.executable, sys.argv[1:])")
    ended = subprocess.run(
        f"{jt.flags.python_path} other.py 'a b'",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split(maxsplit=1) == [sys.executable, "['a b']\n"]


def test_where_nothing_can_be_written_kernels_compile_as_before(monkeypatch, tmp_path):
    monkeypatch.setattr(jt.compiler, "cache_path", str(tmp_path))
    monkeypatch.setattr(runtime, "notes", [])
    monkeypatch.setattr(runtime, "HEADERS", "#error no\n")
    before = jt.flags.cc_flags
    python = jt.flags.python_path
    plain = "-O2"
    try:
        jt.flags.cc_flags = plain
        runtime.speed_up_compiling()
        assert jt.flags.cc_flags == plain and jt.flags.python_path == python
        assert "Jittor's own speed" in runtime.notes[0] and not list(tmp_path.iterdir())
    finally:
        jt.flags.cc_flags = before


def test_the_library_sets_no_flag_of_jittor(repository):
    """Only the apps' own cli may choose the device: what a library sets, its user's program
    inherits. Precompiled headers and the way to the compiler change no result."""
    setting = re.compile(
        r"flags\.(?!cc_flags = f' -include|python_path)\w+\s*[+]?=(?!=)"
        r"|flag_scope|setattr\([^)]*flags"
    )
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted((repository / "jgrid").rglob("*.py"))
        if path.name != "cli.py"
        for line in path.read_text().splitlines()
        if setting.search(line)
    ]
    assert not found
    code = "import jgrid, jittor as jt; print(jt.flags.use_cuda, jt.flags.lazy_execution)"
    # Jittor's defaults
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "0 1"
    )
