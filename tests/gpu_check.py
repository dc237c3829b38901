"""What a machine with a GPU shows of jgrid, in a few minutes:

    python -m tests.gpu_check --minutes 8 --out FILE.json

The report of `jgrid.runtime`; the fused ops in a program of their own, without Jittor, and by
Jittor: grids to second order, Adam and rendering, CUDA against the CPU; 100 steps on a picture, a
surface and a scene likewise; what a step does on an emulated device; the time of a step; memory
over 300 steps; the tests of interrupted runs. Where Jittor has no CUDA the first two are all. The
file is written after each check, so that a run that was cut still tells. `--device cpu` compares
the CPU with itself: a trial of this script.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jgrid import checkpoint, memory, runtime
from jgrid.field import HashGridConfig, MulFAGridConfig
from jgrid.image.task import ImageTask
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
from conftest import drawn_on_the_cpu  # noqa: E402
from cuda_emulation import COUNTED, counts  # noqa: E402
from ops_alone import write  # noqa: E402
from two_devices import CASES, subjects  # noqa: E402

# most synchronisations of a step: rays say by them how many samples they have, and which are seen
WAITS = {"picture": 0, "surface": 0, "views": 2}
OPS = 2e-5  # most that ops may differ by, as a part of the largest number
LOSSES = 1e-3  # and the loss after TOGETHER steps
STEPS = 100
TOGETHER = 10  # steps after which two devices' trainings part by roundings
GROWTH = 64 * 2**20  # bytes that 250 steps may add
POINTS = 2**16  # of a step that is timed
FEW = 2000  # of others, and of all on an emulated device, whose time says nothing


def worst(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest difference, as a part of the largest number of its array."""
    return max(float(abs(found[k] - w).max() / max(abs(w).max(), 1e-30)) for k, w in wanted.items())


def ops(device: str) -> dict[str, Any]:
    found = {}
    for case, compute in CASES.items():
        with jt.flag_scope(use_cuda=0):
            wanted = compute()
        with jt.flag_scope(use_cuda=int(device == "cuda")):
            found[case] = worst(compute(), wanted)
    return {"differences": found, "ok": max(found.values()) <= OPS}


def ops_alone(device: str) -> dict[str, Any]:
    nvcc, _ = runtime.find_nvcc()
    if device == "cpu" or not nvcc:
        return {"ok": device == "cpu", "said": "no nvcc"}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        program = Path(folder) / "ops"
        build = [nvcc, "-O3", "--use_fast_math", "-o", program, f"{folder}/ops.cu"]
        for command in (build, [program, f"{folder}/numbers"]):
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                break
    return {"ok": done.returncode == 0, "said": done.stdout[-3000:]}


def trained(task: Any, field: Any, device: str) -> tuple[np.ndarray, float]:
    """The loss after every tenth step, and milliseconds a step."""
    jt.set_global_seed(0)
    model = drawn_on_the_cpu(task.build, field)
    train = TrainConfig(steps=STEPS, batch=FEW, eval_every=TOGETHER)
    with jt.flag_scope(use_cuda=int(device == "cuda")):
        run = Trainer(task, model, train, progress=False)
        seconds = run.fit()["seconds_train"]
    return np.array([line["loss"] for line in run.history]), 1e3 * seconds / STEPS


def fits(device: str) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for subject, (make, field) in subjects(Path(folder)).items():
            wanted, _ = trained(make(), field, "cpu")
            losses, pace = trained(make(), field, device)
            found[subject] = {
                "first": float(abs(losses[0] / wanted[0] - 1)),
                "losses": [losses.tolist(), wanted.tolist()],
                "ms_a_step": pace,
            }
    return {"fits": found, "ok": all(f["first"] <= LOSSES for f in found.values())}


def emulated() -> bool:
    """Whether the device is the one that tests.cuda_emulation stands in for."""
    try:
        counts()
    except (AttributeError, OSError):
        return False
    return True


def waits(device: str) -> dict[str, Any]:
    """What a step does on the emulated device, launches, copies and the host's waits for it among
    it; no other device counts."""
    if not emulated():
        return {"ok": True, "said": "not counted: no emulated device"}
    steps = 40
    found = {}
    with tempfile.TemporaryDirectory() as folder, jt.flag_scope(use_cuda=1):
        for subject, (make, field) in subjects(Path(folder)).items():
            task = make()
            train = TrainConfig(steps=10**6, batch=FEW)
            run = Trainer(task, task.build(field), train, progress=False)
            run.advance(70)  # in which views have been looked at for the first time
            before = counts()
            run.advance(steps)
            after = counts()
            after["synchronisations"] -= 1  # at the end
            found[subject] = {name: (after[name] - before[name]) / steps for name in COUNTED}
    within = all(f["synchronisations"] <= WAITS[subject] + 0.1 for subject, f in found.items())
    return {"a_step": found, "ok": within}


def resume(device: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_resume.py"],
        cwd=TESTS.parent,
        env={**os.environ, "JGRID_TEST_DEVICE": device},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return {"ok": done.returncode == 0, "said": done.stdout[-2000:]}


def steps_of(field: Any, device: str) -> Iterator[None]:
    """Steps on a picture of Kodak's size, each ended before the next."""
    with jt.flag_scope(use_cuda=int(device == "cuda")):
        task = ImageTask(np.random.default_rng(0).random((512, 768, 3)).astype(np.float32))
        train = TrainConfig(steps=10**6, batch=FEW if emulated() else POINTS)
        run = Trainer(task, task.build(field), train, progress=False)
        for step in range(10**6):
            run.loss = run._step(step, 0.0)
            run.step += 1
            run.loss.sync()
            yield


def memory_over_steps(device: str) -> dict[str, Any]:
    free = []
    with jt.flag_scope(use_cuda=int(device == "cuda")):
        for step, _ in zip(range(300), steps_of(MulFAGridConfig(), device)):
            if step in (49, 299):
                jt.sync_all(True)
                free.append(memory.available_to_jittor())
    return {"bytes_added": free[0] - free[1], "ok": free[0] - free[1] <= GROWTH}


def paces(device: str) -> dict[str, Any]:
    """Milliseconds a step of POINTS points, the median of 50; what it moves at least: the
    parameters, their gradient and two moments, read and written; and how long that would take at
    the pace at which the device copies."""
    found = {}
    pace = bandwidth(device)
    for name, field in (("MulFAGrid", MulFAGridConfig()), ("hash grid", HashGridConfig())):
        times = []
        began = time.perf_counter()
        for _ in zip(range(60), steps_of(field, device)):
            jt.sync_all(True)
            now = time.perf_counter()
            times.append(now - began)
            began = now
        least = 301_000 * 4 * 7
        found[name] = {
            "ms": 1e3 * float(np.median(times[10:])),
            "bytes_at_least": least,
            "ms_at_least": 1e3 * least / pace,
        }
    return {"paces": found, "bytes_a_second": pace, "ok": True}


def bandwidth(device: str) -> float:
    """Bytes a second that go through memory while a long vector is copied: read and written."""
    times = []
    with jt.flag_scope(use_cuda=int(device == "cuda")):
        x = jt.zeros(2**24)
        for _ in range(10):
            jt.sync_all(True)
            began = time.perf_counter()
            x = x + 1.0
            x.sync()
            jt.sync_all(True)
            times.append(time.perf_counter() - began)
    return 2 * x.numel() * 4 / float(np.median(times[2:]))


def report(device: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "jgrid.runtime"], stdout=subprocess.PIPE, text=True
    )
    there = device == "cpu" or bool(jt.has_cuda)
    return {"ok": there, "said": done.stdout, "has_cuda": bool(jt.has_cuda)}


CHECKS = {
    "report": report,
    "ops alone": ops_alone,
    "ops": ops,
    "fits": fits,
    "waits": waits,
    "paces": paces,
    "memory": memory_over_steps,
    "resume": resume,
}


def main(arguments: Any = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.gpu_check", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="no check begins after these")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file of what was found")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    config = parser.parse_args(arguments)
    began = time.time()
    results: dict[str, Any] = {}
    for name, check in CHECKS.items():
        started = time.time()
        try:
            late = started - began > 60 * config.minutes
            result = {"ok": False, "said": "no time was left"} if late else check(config.device)
        except Exception:  # of one check: the others go on
            result = {"ok": False, "said": traceback.format_exc()[-3000:]}
        result["seconds"] = round(time.time() - started, 1)
        results[name] = result
        checkpoint.write_json(config.out, results)
        words = "ok" if result["ok"] else "FAILED"
        print(f"{name:9} {words} ({result['seconds']:.0f} s)", flush=True)
        if name == "ops alone" and not results["report"]["ok"]:
            print("Jittor has no CUDA here; the report says why", flush=True)
            return 1
    return int(not all(result["ok"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
