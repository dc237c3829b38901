"""Kill runs of the apps at random moments, resume them, and compare with runs that nobody killed,
to the bit.

    python -m tests.kill_and_resume --times 20 --out FILE.json
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from jgrid import checkpoint
from jgrid.trainer import CHECKPOINT

import numpy as np
import tyro

APPS = Path(__file__).resolve().parents[1] / "apps"
FIELD = [
    "grid:hash",
    "--field.finest",
    "16",
    "--field.coarsest",
    "4",
    "--field.levels",
    "2",
    "--field.table-size",
    "256",
    "--field.decoder.width",
    "16",
    "--field.decoder.depth",
    "1",
]
# every state there is: averages, densities, clipping
COMMON = ["--device", "cpu", "--train.save-every", "0.2"]
COMMANDS = {
    "fit_image": [
        "--train.steps",
        "1500",
        "--train.batch",
        "2048",
        "--train.eval-every",
        "300",
        "--train.ema",
        "0.9",
    ],
    "fit_sdf": [
        "--resolution",
        "16",
        "--sdf.pool",
        "4096",
        "--train.steps",
        "600",
        "--train.batch",
        "1024",
        "--train.eval-every",
        "200",
        "--train.clip",
        "0.1",
    ],
    "fit_views": [
        "--cells",
        "16",
        "--samples",
        "32",
        "--train.steps",
        "400",
        "--train.batch",
        "4096",
        "--train.eval-every",
        "100",
    ],
}


def start(app, out, *more):
    # Jittor would take the killed child for a worker of its own, and quit
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    command = [
        sys.executable,
        str(APPS / f"{app}.py"),
        "--out",
        str(out),
        *COMMON,
        *COMMANDS[app],
        *more,
        *FIELD,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def complete(process):
    """Wait for a run that must end well."""
    _, messages = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"a run ended with code {process.returncode}: {messages[-2000:]}")


def outcome(out):
    """What has to be the same: the tensors of the model, and the lines of metrics.jsonl but for
    their seconds."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return checkpoint.read(out / "model.safetensors")[0], [
        {k: v for k, v in line.items() if k != "seconds"} for line in lines
    ]


def same(first, second):
    (weights, lines), (others, other_lines) = first, second
    return (
        lines == other_lines
        and weights.keys() == others.keys()
        and all(np.array_equal(weights[n], others[n]) for n in weights)
    )


def await_training(process, out):
    """Wait until a run has imported and compiled what it needs, and begins to train."""
    while process.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.01)


def reference(app, out):
    """(outcome, seconds from the begin of its training to its end) of a run that is left alone."""
    process = start(app, out)
    await_training(process, out)
    begun = time.time()
    complete(process)
    return outcome(out), time.time() - begun


def kill_and_resume(app, out, seconds):
    """SIGKILL a run `seconds` after the begin of its training and resume it; returns its outcome
    and the step of its checkpoint, if any."""
    process = start(app, out)
    await_training(process, out)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    found = out / CHECKPOINT
    step = checkpoint.read(found)[1]["step"] if found.exists() else None
    if found.exists() or not (out / "result.json").exists():
        complete(start(app, out, "--resume"))
    return outcome(out), step


@dataclass(frozen=True)
class Config:
    """Kill runs of the three apps at random moments and resume them."""

    out: Optional[Path] = None
    """A JSON file for the counts: kills and exact_resumes."""
    times: int = 20
    """Kills, over the three apps in turn."""
    seed: int = 0
    """Of the moments."""


def main(config):
    rng = np.random.default_rng(config.seed)
    references = {}
    rows = []
    # exact for any number of threads that stays the same
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        for n in range(config.times):
            app = list(COMMANDS)[n % len(COMMANDS)]
            if app not in references:
                reference(app, Path(folder, f"warm-{app}"))  # compiles
                references[app] = reference(app, Path(folder, app))
            wanted, seconds = references[app]
            moment = float(rng.uniform(0, seconds))
            found, step = kill_and_resume(app, Path(folder, f"{app}-{n}"), moment)
            rows.append(
                {
                    "app": app,
                    "killed_after": round(moment, 2),
                    "checkpoint_step": step,
                    "exact": same(wanted, found),
                }
            )
            print(
                f"{n + 1}/{config.times} {app}: killed {moment:.1f} of {seconds:.1f} s after the"
                f" begin of training, resumed from step {step}:"
                f" {'exact' if rows[-1]['exact'] else 'DIFFERENT'}",
                flush=True,
            )
    counts = {"kills": len(rows), "exact_resumes": sum(row["exact"] for row in rows), "runs": rows}
    print(f"{counts['kills']} kills, {counts['exact_resumes']} exact resumes")
    if config.out:
        checkpoint.write_json(config.out, counts)
    return counts


if __name__ == "__main__":
    ended = main(tyro.cli(Config))
    sys.exit(ended["kills"] != ended["exact_resumes"])
