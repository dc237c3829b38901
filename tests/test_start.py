"""How a command starts: help and wrong flags before Jittor, one line where Jittor cannot run, a
first compilation that was ended, streams that are closed or know few letters."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jgrid
from jgrid import command, runtime

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

APPS = sorted(p.stem for p in (REPOSITORY / "apps").glob("*.py") if "cli.run(" in p.read_text())
# in the place of Jittor, and before jgrid's own finder: an import of it fails
NO_JITTOR = "raise RuntimeError('Jittor was imported')\n"
FIT = ["apps/fit_image.py", "--device", "cpu", "--train.steps", "2", "grid:dense"]


def run(*arguments, redirect="", folder=None, **environment):
    """A program of this repository as a process; redirect: as the shell writes it."""
    path = os.pathsep.join([str(REPOSITORY), environment.pop("PYTHONPATH", "")])
    app, *flags = arguments
    command_line = [sys.executable, str(REPOSITORY / app), *flags]
    if redirect:
        command_line = ["sh", "-c", f'"$0" "$@" {redirect}', *command_line]
    return subprocess.run(
        command_line,
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def without_jittor(tmp_path):
    """A folder in which Jittor, and what compiles for it, cannot be imported."""
    for name in ("jittor", "jittor_utils"):
        (tmp_path / "path" / name).mkdir(parents=True)
        (tmp_path / "path" / name / "__init__.py").write_text(NO_JITTOR)
    return {"PYTHONPATH": str(tmp_path / "path"), "HOME": str(tmp_path)}


@pytest.mark.parametrize("app", APPS)
def test_help_needs_no_jittor(app, without_jittor):
    done = run(f"apps/{app}.py", "--help", **without_jittor)
    assert done.returncode == 0 and done.stdout.startswith("usage"), done.stderr


def test_help_is_that_of_the_real_thing(without_jittor):
    flags = ["apps/fit_image.py", "grid:hash", "--help"]
    there = run(*flags, **{command.READ: "1"})
    assert there.stdout == run(*flags, **without_jittor).stdout != ""


def test_there_are_apps():
    assert {"fit_image", "fit_sdf", "fit_views", "tables", "diagnose"} <= set(APPS)


def test_wrong_flags_are_refused_before_anything_is_compiled(tmp_path):
    done = run("apps/fit_image.py", "--train.steps", "0", HOME=str(tmp_path))
    assert done.returncode == 2 and "--train.steps must be at least 1" in done.stderr
    assert not list(tmp_path.rglob("*.so")) and runtime.FIRST_COMPILE not in done.stderr


def test_a_home_that_cannot_be_written_is_one_line():
    done = run(*FIT, HOME="/proc/nowhere")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: Jittor compiles into /proc/nowhere/.cache/jittor")
    assert "set HOME" in done.stderr and done.stdout == ""


def test_a_program_that_uses_jittor_before_its_flags_are_read_gets_it(tmp_path):
    (tmp_path / "program.py").write_text(
        "from jgrid import cli\nimport jittor as jt\n"
        "class Net(jt.nn.Module): pass\nprint(jt.ones(3).numpy().sum())\n"
    )
    done = run(tmp_path / "program.py", "--help")
    assert done.returncode == 0 and done.stdout == "3.0\n", done.stderr


def test_a_stand_in_is_good_for_names_and_nothing_else(monkeypatch):
    module = command._Loader().create_module(command.stand_in())
    started = []
    monkeypatch.setattr(command, "start_again", lambda: started.append(1))

    class Net(module.nn.Module):
        def execute(self, x: module.Var) -> module.Var: ...

    assert not module.in_mpi and isinstance(Net, type) and not started
    Net()
    module.array([1.0])
    assert len(started) == 2
    with pytest.raises(AttributeError):
        module.__wrapped__  # noqa: B018


def test_a_library_has_no_stand_in():
    """Only programs of jgrid.cli: who imports the library has no flags of ours."""
    code = "import jgrid, jittor as jt; print(jt.ones(2).numpy().sum(), jgrid.fit.__name__)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert done.stdout == "2.0 fit\n", done.stderr


# --- the first compilation


@pytest.fixture
def compiling(monkeypatch):
    """A Jittor whose compilation is one program after another; (codes, children)."""
    state = SimpleNamespace(programs=[], started=[], compiled_after=1)
    real = subprocess.Popen

    def popen(arguments, **options):
        child = real([sys.executable, "-c", state.programs[len(state.started)]], **options)
        state.started.append(child)
        return child

    monkeypatch.setattr(runtime.subprocess, "Popen", popen)
    monkeypatch.setattr(
        runtime, "core_is_compiled", lambda: len(state.started) >= state.compiled_after
    )
    return state


def test_jittor_that_asks_to_be_started_again_is_once(compiling):
    compiling.programs = ["", ""]
    compiling.compiled_after = 2
    runtime.compile_core()
    assert len(compiling.started) == 2


def test_jittor_that_does_not_compile_is_an_import_error(compiling):
    compiling.compiled_after = 9
    compiling.programs = ["", "", ""]
    with pytest.raises(ImportError, match="could not be compiled"):
        runtime.compile_core()
    assert len(compiling.started) == 2
    compiling.started.clear()
    compiling.programs = ["raise SystemExit(1)"]
    with pytest.raises(ImportError, match="could not be compiled"):
        runtime.compile_core()
    assert len(compiling.started) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_compilation_and_all_its_processes(compiling, tmp_path, number):
    """A compiler of Jittor's, in the background of it, must not go on."""
    pid = tmp_path / "pid"
    compiling.programs = [
        "import subprocess, sys, pathlib;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid)); child.wait()"
    ]

    def interrupt():
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    # as before Jittor is imported, which has handlers of its own
    usual = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        runtime.compile_core()
    signal.signal(signal.SIGCHLD, usual or signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    state = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it goes on")


def test_an_interrupted_start_is_one_line_and_the_signals_code(monkeypatch, capsys):
    monkeypatch.setattr(command, "is_running", lambda: True)
    for error, code, text in (
        (KeyboardInterrupt(signal.SIGTERM), 143, "interrupted while Jittor was compiled"),
        (KeyboardInterrupt(), 130, "interrupted while Jittor was compiled"),
        (ImportError("no g++"), 2, "no g++"),
    ):
        with pytest.raises(SystemExit) as ended, command.one_line():
            raise error
        assert ended.value.code == code
        assert capsys.readouterr().err.startswith(f"error: {text}")
    monkeypatch.setattr(command, "is_running", lambda: False)
    with pytest.raises(ImportError, match="no g"), command.one_line():
        raise ImportError("no g++")


def test_jittor_that_ends_the_process_at_its_import_is_an_import_error(tmp_path):
    """It does, with code 0, where it has compiled a part of itself anew."""
    (tmp_path / "jittor").mkdir()
    (tmp_path / "jittor" / "__init__.py").write_text("raise SystemExit(0)")
    code = "import jgrid; jgrid.fit"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "has to be started again" in done.stderr.splitlines()[-1]


# --- streams


@pytest.mark.parametrize("redirect", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_run(redirect, tmp_path):
    done = run(*FIT, "--field.finest", "8", redirect=redirect, folder=tmp_path)
    assert (tmp_path / "out/fit_image-astronaut-grid-dense/result.json").is_file(), done
    assert done.returncode == 0


def test_a_stream_of_ascii_takes_any_name(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "büro.png")
    flags = ["--image", "büro.png", *FIT[1:], "--field.finest", "4"]
    done = run(FIT[0], *flags, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "fit_image-b\\xfcro-grid-dense" in done.stdout, done.stderr


def test_the_face_is_there_when_it_is_asked_for():
    """Public names, modules and tab completion, though none of them is imported before."""
    assert jgrid.Grid is importlib.import_module("jgrid.grid").Grid
    assert jgrid.theory is importlib.import_module("jgrid.theory")
    assert {"Grid", "fit", "load_image"} <= set(dir(jgrid)) and "Grid" in jgrid.__all__
    with pytest.raises(AttributeError, match="module 'jgrid' has no attribute 'Gird'"):
        jgrid.Gird  # noqa: B018
