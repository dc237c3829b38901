"""The image table: fields of about equal size on the same pictures, at equal steps and at equal seconds.

    python apps/tables.py --pictures kodak/kodim05.png kodak/kodim15.png --steps 600

Every finished run is kept in --out, so a table that was interrupted goes on where it stopped. Writes image.md, image.csv, and
for each picture a comparison of all fields with their error maps.
"""
import csv
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from jgrid import checkpoint, cli, picture
from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MFNConfig,
    MulFAGridConfig,
    RadialGridConfig,
    SirenConfig,
    WireConfig,
    field_to_dict,
)
from jgrid.tasks.image import ImageTask, load_image, render
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np

MULFA = "MulFAGrid"
MODELS = {
    MULFA: MulFAGridConfig(),
    "MulFAGrid, two kernels per channel": MulFAGridConfig(kernels=2),
    "linear grid, same levels and decoder": DenseGridConfig(),
    "linear grid, 4 levels, two hidden layers": DenseGridConfig(finest=235, coarsest=30, levels=4, channels=4,
                                                                 decoder=DecoderConfig(depth=2)),
    "hash grid": HashGridConfig(),
    "FourierGrid": FourierGridConfig(),
    "radial kernels": RadialGridConfig(),
    "Fourier features": FourierNetConfig(),
    "MFN": MFNConfig(),
    "SIREN": SirenConfig(),
    "WIRE": WireConfig(),
    "literal kernel of the paper": LiteralMulFAGridConfig(),
}
HELD_OUT = 0.3


@dataclass(frozen=True)
class Config:
    """Fit every field to every picture and write the table."""
    pictures: tuple[Path, ...]
    """Pictures to fit."""
    fields: tuple[str, ...] = ()
    """Which of the table's fields, by the start of their names; without it, all. MulFAGrid is always there."""
    out: Path = Path("out/tables-image")
    """Folder for the runs and the table."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    steps: int = 600
    """Steps of the equal-steps column; the equal-seconds column has the seconds MulFAGrid needs for them."""
    seed: int = 0
    """Of weights, samples and held-out pixels."""

    def __post_init__(self):
        if self.steps < 20:
            raise ValueError(f"--steps must be at least 20, got {self.steps}")
        for start in self.fields:
            if not any(name.startswith(start) for name in MODELS):
                raise ValueError(f"--fields: no field starts with {start!r}; there are {', '.join(MODELS)}")

    def names(self):
        return [name for name in MODELS if name == MULFA or not self.fields or name.startswith(self.fields)]


def run(config, path, name, steps, held_out, label):
    """One run, or its result from an earlier call: result.json's content and the folder, which holds the fitted picture too."""
    folder = config.out / path.stem / f"{field_to_dict(MODELS[name])['kind']}-{list(MODELS).index(name)}-{label}".replace(":", "-")
    wanted = {"field": field_to_dict(MODELS[name]), "steps": steps, "held_out": held_out, "seed": config.seed}
    if (folder / "result.json").is_file():
        found = json.loads((folder / "result.json").read_text())
        if all(found.get(key) == value for key, value in wanted.items()):
            return {**found, "folder": folder}
    folder.mkdir(parents=True, exist_ok=True)
    jt.set_global_seed(config.seed)
    task = ImageTask(load_image(path), config.seed, held_out)
    model = MODELS[name].build(task.dim, task.n_out, task.aspect, task.place)
    print(f"{path.stem}, {name}, {label}", flush=True)
    result = Trainer(task, model, TrainConfig(steps=steps, eval_every=steps, seed=config.seed)).fit()
    picture.save(folder / "prediction.png", render(model, task.height, task.width))
    checkpoint.write_json(folder / "result.json", {**result, **wanted})
    jt.gc()
    return {**result, **wanted, "folder": folder}


def paces(config, path):
    """{model: milliseconds a step}: medians of short runs in turn, as other work on the machine would make one long run unfair."""
    file = config.out / path.stem / "pace.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    if set(config.names()) <= set(found):
        return found
    print(f"{path.stem}, milliseconds a step", flush=True)
    task, trainers = ImageTask(load_image(path), config.seed), {}
    for name in config.names():
        model = MODELS[name].build(task.dim, task.n_out, task.aspect, task.place)
        trainers[name] = Trainer(task, model, TrainConfig(), progress=False)
    samples = {name: [] for name in trainers}
    for _ in range(7):
        for name, trainer in trainers.items():
            trainer.advance(2)  # compiles, the first time, and warms the caches
            steps = 2 if samples[name] and samples[name][0] > 0.2 else 8
            began = time.perf_counter()
            trainer.advance(steps)
            samples[name].append((time.perf_counter() - began) / steps)
    found = {name: 1e3 * float(np.median(values)) for name, values in samples.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(file, found)
    return found


def fit_all(config, path):
    """{model: {"pace": ms a step, "steps": result or None, "seconds": result, "held_out": result or None}} on one picture."""
    pace = paces(config, path)
    reference, rows = run(config, path, MULFA, config.steps, 0.0, "steps"), {}
    for name in config.names():
        relative = pace[name] / pace[MULFA]
        fast = relative < 2.5  # slower fields are run for the seconds only
        steps = config.steps if name == MULFA else max(20, round(config.steps / relative / 10) * 10)
        rows[name] = {"pace": pace[name], "steps": run(config, path, name, config.steps, 0.0, "steps") if fast else None,
                      "seconds": reference if name == MULFA else run(config, path, name, steps, 0.0, "seconds"),
                      "held_out": run(config, path, name, config.steps, HELD_OUT, "held-out") if fast else None}
    return rows


def mean(rows, name, column, metric):
    values = [row[name][column][metric] for row in rows if row[name][column]]
    return f"{np.mean(values):.4f}" if metric == "ssim" and values else f"{np.mean(values):.2f}" if values else "-"


def write_tables(config, rows):
    head = ["field", "parameters", "ms a step", "PSNR, equal steps", "PSNR, equal seconds", "SSIM", "steps", "held-out PSNR"]
    lines = [[name, f"{rows[0][name]['seconds']['parameters']:,}", f"{np.mean([row[name]['pace'] for row in rows]):.0f}",
              mean(rows, name, "steps", "psnr"), mean(rows, name, "seconds", "psnr"), mean(rows, name, "seconds", "ssim"),
              f"{np.mean([row[name]['seconds']['steps'] for row in rows]):.0f}", mean(rows, name, "held_out", "psnr_held_out")]
             for name in config.names()]
    with checkpoint.atomic_path(config.out / "image.csv") as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([head, *lines])
    text = [f"Mean over {', '.join(p.stem for p in config.pictures)}; batch 65,536, {config.steps} steps in the equal-steps column, seed "
            f"{config.seed}; equal seconds, and SSIM: as many steps as take MulFAGrid's time, by paces measured in turn; held-out PSNR "
            f"is of {HELD_OUT:.0%} of the pixels that training did not see. A dash: a step takes more than 2.5 times MulFAGrid's. "
            f"{platform.machine()}, {os.cpu_count()} cores, "
            f"{'CUDA' if jt.flags.use_cuda else 'CPU'}.", "",
            "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines), ""]
    with checkpoint.atomic_path(config.out / "image.md") as temporary:
        temporary.write_text("\n".join(text))
    print("\n".join(text))


def compare(config, path, rows, side=240):
    """All fields on one picture: a detail of each fit, its error map below."""
    target = load_image(path)
    top, left = (target.shape[0] - side) // 2, (target.shape[1] - side) // 2
    columns = [("target", target)]
    for name, results in rows.items():
        result = results["seconds"]
        columns.append((f"{name.split(',')[0]} {result['psnr']:.1f}", load_image(result["folder"] / "prediction.png")))
    fits = [(name, pixels[top:top + side, left:left + side]) for name, pixels in columns]
    errors = [("", picture.heat(np.abs(pixels - fits[0][1]).max(axis=2), 0.1)) for _, pixels in fits]
    return picture.save(config.out / f"{path.stem}.png", np.concatenate([picture.side_by_side(fits), picture.side_by_side(errors)]))


def main(config):
    """Fit, tabulate, compare; returns {picture: {model: results}}."""
    with cli.user_errors():
        cli.start(config.device, config.seed)
        for path in config.pictures:
            load_image(path)
        cli.make_folder(config.out)
    rows = {path: fit_all(config, path) for path in config.pictures}
    write_tables(config, list(rows.values()))
    for path, row in rows.items():
        print(compare(config, path, row))
    return rows


if __name__ == "__main__":
    cli.run(Config, main)
