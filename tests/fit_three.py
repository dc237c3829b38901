"""The three apps at small sizes, in this process or under mpirun; test_parallel.py starts it.

python tests/fit_three.py FOLDER [APP ...] [--resume] [--steps STEPS] [--kill STEP | --raise
STEP]
"""

import hashlib
import os
import signal
import sys
from pathlib import Path

from jgrid import cli, parallel
from jgrid.image.task import ImageTask
from jgrid.surface import task as sdf
from jgrid.trainer import Trainer

from kill_and_resume import APPS, FIELD

# batches that two processes cannot halve, and losses of all kinds
FLAGS = {
    "fit_image": [
        "--train.batch",
        "511",
        "--train.ema",
        "0.9",
        "--train.clip",
        "0.1",
        "--train.save-every",
        "1e-9",
    ],
    "fit_sdf": [
        "--resolution",
        "16",
        "--sdf.pool",
        "4096",
        "--sdf.normal",
        "0.1",
        "--sdf.eikonal",
        "0.1",
        "--train.batch",
        "511",
    ],
    "fit_views": ["--cells", "16", "--samples", "32", "--train.batch", "2047"],
}


def note_weights(folder, fit):
    """A Trainer.fit that leaves a fingerprint of the weights behind, of every process."""

    def noted(self):
        result = fit(self)
        weights = hashlib.sha256(b"".join(p.numpy().tobytes() for p in self.parameters)).hexdigest()
        (folder / f"{type(self.task).__name__}-{parallel.rank}").write_text(weights)
        return result

    return noted


def err(step, how, sample):
    """An ImageTask.sample that ends the second process at a step."""

    def erring(self, n, *rest):
        if n == step and parallel.rank == 1:
            if how == "--kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise MemoryError("none left")
        return sample(self, n, *rest)

    return erring


def main(folder, *arguments):
    folder = Path(folder)
    sys.path.insert(0, str(APPS))
    # it is about the losses
    sdf.EVALUATED = 2**12
    sdf.NEAR = 2**10
    Trainer.fit = note_weights(folder, Trainer.fit)
    for how in {"--kill", "--raise"}.intersection(arguments):
        ImageTask.sample = err(int(arguments[arguments.index(how) + 1]), how, ImageTask.sample)
    steps = arguments[arguments.index("--steps") + 1] if "--steps" in arguments else "40"
    for app in FLAGS:
        if app in arguments:
            module = __import__(app)
            flags = [
                "--out",
                str(folder / app),
                "--device",
                "cpu",
                "--train.steps",
                steps,
                "--train.eval-every",
                "5",
                *FLAGS[app],
            ]
            if app == "fit_views":
                flags += ["--scene", str(folder.parent / "scene")]
            sys.argv = [app, *flags, *(["--resume"] if "--resume" in arguments else []), *FIELD]
            cli.run(module.Config, module.main)


if __name__ == "__main__":
    main(*sys.argv[1:])
