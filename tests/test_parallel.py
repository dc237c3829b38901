"""Two processes under mpirun: the same training as one, and an end for both where one fails."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from jgrid import checkpoint, runtime
from jgrid.scene.made import make_scene
from jgrid.trainer import CHECKPOINT

import numpy as np
import pytest
import trimesh
from fit_three import FLAGS

SCRIPT = Path(__file__).with_name("fit_three.py")
pytestmark = pytest.mark.skipif(
    not (shutil.which("mpirun") and runtime.has_mpi()),
    reason="no OpenMPI here (Debian: apt install openmpi-bin libopenmpi-dev)",
)


def start(n, folder, *arguments):
    folder.mkdir(exist_ok=True)
    mpirun = ["mpirun", "-np", str(n), "--oversubscribe", "--bind-to", "none"] if n > 1 else []
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    if n > 1:
        environment.pop("use_mpi", None)  # which importing jgrid in this one process has set
    return subprocess.Popen(
        [*mpirun, sys.executable, str(SCRIPT), str(folder), *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process):
    """(exit code, stdout, stderr)"""
    out, messages = process.communicate(timeout=600)
    return process.returncode, out, messages


def losses(folder, app):
    lines = [json.loads(line) for line in (folder / app / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5, 41, 5))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_scene(
        folder / "scene", trimesh.creation.icosphere(subdivisions=2), size=24, train=6, test=2
    )
    outputs = []
    for n in (1, 2):
        code, out, messages = ended(start(n, folder / str(n), *FLAGS))
        assert code == 0, messages
        outputs.append(out)
    return folder, outputs


@pytest.mark.parametrize("app", FLAGS)
def test_two_processes_have_the_losses_of_one(runs, app):
    one, two = (losses(runs[0] / n, app) for n in "12")
    np.testing.assert_allclose(two, one, rtol=1e-5)
    # the sums have another order, or nothing was shared
    assert len(set(one)) == len(one) and two != one


def test_both_hold_the_same_weights(runs):
    for task in ("ImageTask", "SDFTask", "ViewsTask"):
        first, second = ((runs[0] / "2" / f"{task}-{rank}").read_text() for rank in (0, 1))
        assert first == second


def test_one_process_writes_and_speaks(runs):
    folder, (one, two) = runs
    for app in FLAGS:
        assert sorted(p.name for p in (folder / "1" / app).iterdir()) == sorted(
            p.name for p in (folder / "2" / app).iterdir()
        )
    # Jittor, the first time
    said = [
        [line for line in out.splitlines() if line.strip() and "Compiling" not in line]
        for out in (one, two)
    ]
    assert len(said[0]) == len(said[1]) > 0


@pytest.mark.parametrize(
    "how, message", [("--kill", "rank 1 .*signal 9"), ("--raise", "out of memory: none left")]
)
def test_where_one_fails_the_job_ends_and_can_be_resumed(runs, tmp_path, how, message):
    code, _, messages = ended(start(2, tmp_path, "fit_image", how, "22"))
    assert code and re.search(message, messages) and "--resume" in messages
    assert 15 <= checkpoint.read(tmp_path / "fit_image" / CHECKPOINT)[1]["step"] <= 22
    if how == "--kill":
        code, _, messages = ended(start(1, tmp_path, "fit_image", "--resume"))
        assert code == 0, messages
        np.testing.assert_allclose(
            losses(tmp_path, "fit_image"), losses(runs[0] / "1", "fit_image"), rtol=1e-5
        )


def test_a_signal_to_mpirun_lets_the_step_end(tmp_path):
    process = start(2, tmp_path, "fit_image", "--steps", "100000")
    checkpoint_file = tmp_path / "fit_image" / CHECKPOINT
    while process.poll() is None and not checkpoint_file.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, _, messages = ended(process)
    assert code and "SIGTERM" in messages and "--resume goes on" in messages
    assert checkpoint_file.exists()
