"""Say what fields will do on a picture before any is trained; with --verify, train them and
compare.

    python apps/diagnose.py --image photo.png --verify
    python apps/diagnose.py --choose
    python apps/diagnose.py --figure spectrum

Fields here have no decoder, so they are linear in their features and the theory is exact. Writes
result.json, tables and plots."""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from jgrid import checkpoint, cli, picture
from jgrid.field import (
    DenseGridConfig,
    FourierGridConfig,
    HashGridConfig,
    RadialGridConfig,
    field_to_dict,
)
from jgrid.field.presets import LINEAR, NO_DECODER
from jgrid.image.files import load_image
from jgrid.image.task import ImageTask
from jgrid.run import make_folder, write_run
from jgrid.theory import figures
from jgrid.theory.diagnosis import (
    BANDS,
    checked_steps,
    largest_error,
    measures,
    predict,
    split_points,
    train,
)
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
import skimage.data
from scipy.stats import spearmanr
from typing_extensions import Literal

MODELS = {
    "linear grid": LINEAR["grid:dense"],
    "hash grid": LINEAR["grid:hash"],
    "smooth grid": replace(LINEAR["grid:dense"], profile="smooth"),
    "FourierGrid": LINEAR["grid:fourier"],
    "radial kernels": LINEAR["grid:radial"],
    "MulFA, kernel frozen at its start (= a linear grid)": LINEAR["grid:mulfa"],
    "MulFA, the literal random kernel frozen": LINEAR["grid:mulfa-literal"],
}
# what --choose chooses from: resolution, levels, table, octaves, nodes
CANDIDATES = {
    **{
        f"linear, {n} cells": DenseGridConfig(finest=n, levels=1, decoder=NO_DECODER)
        for n in (20, 40, 60, 80, 120)
    },
    **{
        f"linear, {m} levels to {n} cells": DenseGridConfig(
            finest=n, coarsest=10, levels=m, decoder=NO_DECODER
        )
        for n, m in ((40, 3), (80, 4), (120, 4))
    },
    **{
        f"hash, tables of {n}": HashGridConfig(
            finest=120, coarsest=8, levels=6, table_size=n, decoder=NO_DECODER
        )
        for n in (500, 2000)
    },
    **{
        f"FourierGrid, {n} cells, {m} octaves": FourierGridConfig(
            finest=n, octaves=m, decoder=NO_DECODER
        )
        for n, m in ((20, 1), (40, 1), (20, 3))
    },
    **{f"radial, {n} nodes": RadialGridConfig(nodes=n, decoder=NO_DECODER) for n in (1000, 4000)},
}
PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 128  # of the crops of these


@dataclass(frozen=True)
class Config:
    """Predict how fields fit a picture, without training them; verify it; or draw the theory's
    figures."""

    image: Optional[Path] = None
    """Any picture Pillow reads; without it, scikit-image's astronaut (with --choose, crops of four
    of its pictures)."""
    out: Optional[Path] = None
    """Folder for the results; default out/diagnose-SUBJECT."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    fields: tuple[str, ...] = ("linear", "hash")
    """Which fields to rank, by the start of their names."""
    steps: int = 2000
    """Steps of full-batch gradient descent, at 1 / lambda_max of each field, that are predicted."""
    held_out: float = 0.25
    """Fraction of the pixels that training never sees."""
    verify: bool = False
    """Train the fields and compare with what was predicted."""
    choose: bool = False
    """Choose from a list of configurations; without --image, on four pictures, and trained as
    well."""
    figure: Union[Literal["spectrum", "bound", "kernel", "regression", "fourier"], None] = None
    """Draw this figure of the theory instead."""
    seed: int = 0
    """Of the features at the start and of the held-out pixels."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")
        if not 0 <= self.held_out < 1 or (self.choose and self.held_out == 0):
            raise ValueError(
                "--held-out must be at least 0, with --choose more, and less than 1, got"
                f" {self.held_out}"
            )
        for start in self.fields:
            if not any(name.startswith(start) for name in MODELS):
                raise ValueError(
                    f"--fields: no field starts with {start!r}; there are {', '.join(MODELS)}"
                )
        if self.figure and (self.verify or self.choose):
            raise ValueError("--figure goes with neither --verify nor --choose")


def main(config):
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        cli.start(config.device, config.seed)
        pixels = load_image(config.image) if config.image else None
        subject = config.figure or ("choose-" if config.choose else "") + (
            config.image.stem if config.image else "astronaut"
        )
        out = make_folder(config.out or Path("out") / f"diagnose-{subject}")
        task = (
            None
            if config.figure
            else ImageTask(
                skimage.data.astronaut() / 255 if pixels is None else pixels,
                config.seed,
                config.held_out,
            )
        )
        if task and config.held_out and not len(split_points(task).x_held_out):
            raise ValueError(
                f"--held-out {config.held_out} of {task.width} x {task.height} pixels is none; 0"
                " holds none out"
            )
    if config.figure:
        return draw(config, pixels, out)
    return choose(config, pixels, out) if config.choose else rank(config, task, out)


def build(config, field, task):
    """The field, the same at every call."""
    jt.set_global_seed(config.seed)
    np.random.seed(config.seed)
    model = field.build(task)
    jt.sync_all(True)  # Jittor draws numbers when they are first used, in the order of their use
    return model


def diagnose(config, name, field, task):
    """A row of the ranking, with its curves; nothing is trained."""
    points = split_points(task)
    steps = checked_steps(config.steps)
    model = build(config, field, task)
    forecast, at_trained, predicted = predict(model, points, steps)
    row = {
        "name": name,
        "field": field_to_dict(field),
        "features": int(np.prod(model.grid.w.shape)),
        "lr": float(forecast.lr),
        "products": forecast.n_products,
        "steps": steps,
        "predicted": predicted,
        "psnr": predicted["psnr"][-1],
        "psnr_held_out": predicted["psnr_held_out"][-1] if config.held_out else None,
        **measures(model, task, points, forecast, at_trained, steps),
    }
    jt.gc()
    return row


def verify(config, row, field, task):
    """Train what a row predicted, and add the real curves."""
    row["trained"] = train(build(config, field, task), split_points(task), row["lr"], row["steps"])
    row["prediction_error_db"] = largest_error(row["predicted"], row["trained"])
    jt.gc()


def ranked(config, rows):
    return sorted(
        rows, key=lambda row: row["psnr_held_out" if config.held_out else "psnr"], reverse=True
    )


def table(config, rows):
    """Markdown lines."""
    head = [
        "field",
        "features",
        "fitted PSNR",
        "held-out PSNR",
        "norm",
        "fair",
        "bound",
        "Delta",
        "condition >",
        *(f"half of {band}" for band in BANDS),
        "seconds",
    ]
    lines = []
    for row in ranked(config, rows):
        held_out = f"{row['psnr_held_out']:.2f}" if config.held_out else "-"
        lines.append(
            [
                row["name"],
                f"{row['features']:,}",
                f"{row['psnr']:.2f}",
                held_out,
                *(f"{row[name]:.3g}" for name in ("norm", "fair", "bound", "delta", "condition")),
                *(
                    f"{row['halving'][band]:.3g}" if band in row["halving"] else "-"
                    for band in BANDS
                ),
                f"{row['predicted']['seconds']:.1f}",
            ]
        )
    return ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]]


def rank(config, task, out):
    """The table before training and, with --verify, the training."""
    rows = [
        diagnose(config, name, MODELS[name], task)
        for name in MODELS
        if name.startswith(config.fields)
    ]
    text = [
        (
            f"Predicted after {config.steps} steps of full-batch gradient descent at 1 /"
            f" lambda_max, {config.held_out:.0%} of {task.height * task.width:,} pixels held"
            " out; nothing was trained, and every kernel is frozen. norm: |w_t - w_0|^2; fair:"
            " sqrt(norm tr G) / n;"
            " bound: of the mean absolute error; Delta: with ridge lambda_max / steps; 'half of':"
            " steps until half of a band of frequencies (in parts of half a wave per pixel) is"
            f" learned. {platform.machine()}, {os.cpu_count()} cores."
        ),
        "",
        *table(config, rows),
        "",
    ]
    print("\n".join(text), flush=True)
    (out / "table.md").write_text("\n".join(text))
    result = {
        "ranking": [row["name"] for row in ranked(config, rows)],
        "fields": rows,
        "predict_seconds": sum(row["predicted"]["seconds"] for row in rows),
    }
    if config.verify:
        for row in rows:
            verify(config, row, MODELS[row["name"]], task)
            print(
                f"{row['name']}: predicted in {row['predicted']['seconds']:.1f} s, trained in"
                f" {row['trained']['seconds']:.1f} s, largest error"
                f" {row['prediction_error_db']:.2g} dB",
                flush=True,
            )
        result.update(
            prediction_error_db=max(row["prediction_error_db"] for row in rows),
            train_seconds=sum(row["trained"]["seconds"] for row in rows),
        )
        print(
            f"all: predicted in {result['predict_seconds']:.1f} s, trained in"
            f" {result['train_seconds']:.1f} s, largest error"
            f" {result['prediction_error_db']:.2g} dB"
        )
    write_run(out, config, result)
    path = picture.save_figure(out / "curves.png", figures.curves(rows))
    print(path)
    return [path]


def choose(config, pixels, out):
    """The best of CANDIDATES by the predicted held-out PSNR. Verified, how well that agrees with
    training by gradient descent and, where the theory does not hold, by Adam (as the library
    trains, the kernels too); and how well the bound would have chosen."""
    verified = config.verify or pixels is None
    crops = (
        {"image": pixels}
        if pixels is not None
        else {name: centre(getattr(skimage.data, name)() / 255) for name in PICTURES}
    )
    pictures = {}
    for subject, crop in crops.items():
        task = ImageTask(crop, config.seed, config.held_out)
        rows = []
        for name, field in CANDIDATES.items():
            row = diagnose(config, name, field, task)
            if verified:
                verify(config, row, field, task)
                by_adam = TrainConfig(steps=300, eval_every=300, seed=config.seed)
                row["psnr_held_out_adam"] = Trainer(
                    task, build(config, field, task), by_adam, progress=False
                ).fit()["psnr_held_out"]
            rows.append(row)
        text = table(config, rows)
        pictures[subject] = {"chosen": ranked(config, rows)[0]["name"], "fields": rows}
        if verified:
            predicted = [row["psnr_held_out"] for row in rows]
            real = [row["trained"]["psnr_held_out"][-1] for row in rows]
            for label, score, values in (
                ("", predicted, real),
                ("_adam", predicted, [row["psnr_held_out_adam"] for row in rows]),
                ("_bound", [-row["bound"] for row in rows], real),
            ):
                pictures[subject]["spearman" + label] = float(spearmanr(score, values).statistic)
                pictures[subject]["regret_db" + label] = max(values) - values[int(np.argmax(score))]
        print(f"{subject}: {pictures[subject]['chosen']}", *text, sep="\n", flush=True)
    result = {
        "pictures": pictures,
        "chosen": {subject: found["chosen"] for subject, found in pictures.items()},
    }
    for label in ("", "_adam", "_bound") if verified else ():
        result["spearman" + label] = float(
            np.mean([found["spearman" + label] for found in pictures.values()])
        )
        result["regret_db" + label] = max(found["regret_db" + label] for found in pictures.values())
    print({name: value for name, value in result.items() if name != "pictures"})
    write_run(out, config, result)
    return [out / "result.json"]


def centre(pixels):
    """The square of SIDE pixels in the middle, at native resolution: scaling down would alias."""
    top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


def draw(config, pixels, out):
    """--figure NAME: NAME.png and NAME.json."""
    figure, numbers = (
        figures.fourier(pixels, config.steps)
        if config.figure == "fourier"
        else getattr(figures, config.figure)()
    )
    checkpoint.write_json(out / f"{config.figure}.json", numbers)
    path = picture.save_figure(out / f"{config.figure}.png", figure)
    print(path)
    return [path]


if __name__ == "__main__":
    cli.run(Config, main)
