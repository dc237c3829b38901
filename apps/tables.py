"""The image table: fields of about equal size on the same pictures, at equal steps and at equal seconds.

    python apps/tables.py --pictures kodak/kodim05.png kodak/kodim15.png --steps 600

Every finished run is kept in --out, so a table that was interrupted goes on where it stopped. Writes image.md, image.csv, and
for each picture a comparison of all fields with their error maps.
"""
import csv
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from jgrid import checkpoint, cli, picture
from jgrid.field import (
    DenseGridConfig,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
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
    "MulFAGrid, one kernel per channel": MulFAGridConfig(kernels=1),
    "MulFAGrid, 8 channels of one kernel": MulFAGridConfig(kernels=1, channels=8, finest=164, coarsest=21),
    "linear grid, same levels and decoder": DenseGridConfig(),
    "hash grid": HashGridConfig(),
    "FourierGrid": FourierGridConfig(),
    "radial kernels": RadialGridConfig(),
    "Fourier features": FourierNetConfig(),
    "MFN": MFNConfig(),
    "SIREN": SirenConfig(),
    "WIRE": WireConfig(),
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


def fit_all(config, path):
    """{model: {"steps": result or None, "seconds": result, "held_out": result or None}} on one picture."""
    reference = run(config, path, MULFA, config.steps, 0.0, "steps")
    budget = reference["seconds_train"]
    rows = {}
    for name in config.names():
        pace = run(config, path, name, 12, 0.0, "pace")["seconds_train"] / 10  # the first two steps compile and are not timed
        fast = pace * config.steps < 2.5 * budget  # slower fields are run for the seconds only
        whole = run(config, path, name, config.steps, 0.0, "steps") if fast else None
        pace = whole["seconds_train"] / config.steps if whole else pace
        steps = config.steps if name == MULFA else max(20, round(budget / pace / 10) * 10)
        rows[name] = {"steps": whole,
                      "seconds": reference if name == MULFA else run(config, path, name, steps, 0.0, "seconds"),
                      "held_out": run(config, path, name, config.steps, HELD_OUT, "held-out") if fast else None}
    return rows


def mean(rows, name, column, metric):
    values = [row[name][column][metric] for row in rows if row[name][column]]
    return f"{np.mean(values):.4f}" if metric == "ssim" and values else f"{np.mean(values):.2f}" if values else "-"


def write_tables(config, rows):
    head = ["field", "parameters", "PSNR, equal steps", "SSIM", "seconds", "PSNR, equal seconds", "steps", "held-out PSNR"]
    lines = [[name, f"{rows[0][name]['seconds']['parameters']:,}", mean(rows, name, "steps", "psnr"), mean(rows, name, "seconds", "ssim"),
              mean(rows, name, "seconds", "seconds_train"), mean(rows, name, "seconds", "psnr"),
              f"{np.mean([row[name]['seconds']['steps'] for row in rows]):.0f}", mean(rows, name, "held_out", "psnr_held_out")]
             for name in config.names()]
    with checkpoint.atomic_path(config.out / "image.csv") as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([head, *lines])
    text = [f"Mean over {', '.join(p.stem for p in config.pictures)}; batch 65,536, {config.steps} steps in the equal-steps column, seed "
            f"{config.seed}; the equal-seconds column, SSIM and seconds are of runs as long as MulFAGrid's; held-out PSNR is of "
            f"{HELD_OUT:.0%} of the pixels that training did not see. A dash: the field needs more than 2.5 times "
            f"MulFAGrid's time for so many steps. {platform.machine()}, {os.cpu_count()} cores, "
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
