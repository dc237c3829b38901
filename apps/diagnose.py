"""Say what fields will do on a picture before any is trained; with --verify, train them and
compare.

    python apps/diagnose.py --image photo.png --verify
    python apps/diagnose.py --choose
    python apps/diagnose.py --figure spectrum

Fields here have no decoder, so they are linear in their features and the theory is exact. Writes
result.json, tables and plots."""

import os
import platform
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import cli, picture, report
from jgrid.checkpoint import write_json
from jgrid.config import ArgumentError, Count, Share, config
from jgrid.image.files import load_image
from jgrid.image.task import ImageTask
from jgrid.run import make_folder, write_run
from jgrid.theory import figures
from jgrid.theory.diagnosis import (
    ADAM_STEPS,
    BANDS,
    choose,
    diagnose,
    ranked,
    split_points,
    verify,
)

import numpy as np
import skimage.data
from diagnose_fields import CANDIDATES, MODELS
from typing_extensions import Literal

PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 128  # of the crops of these
FIGURES = {
    "spectrum": figures.spectrum,
    "bound": figures.bound,
    "kernel": figures.kernel,
    "regression": figures.regression,
    "fourier": figures.fourier,
}


@config
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
    steps: Count = 2000
    """Steps of full-batch gradient descent, at 1 / lambda_max of each field, that are predicted."""
    held_out: Share = 0.25
    """Fraction of the pixels that training never sees."""
    verify: bool = False
    """Train the fields and compare with what was predicted."""
    choose: bool = False
    """Choose from a list of configurations, for 300 steps of Adam; without --image, on four
    pictures, and trained as well."""
    figure: Union[Literal["spectrum", "bound", "kernel", "regression", "fourier"], None] = None
    """Draw this figure of the theory instead."""
    seed: int = 0
    """Of the features at the start and of the held-out pixels."""

    def check(self) -> None:
        if self.choose and self.held_out == 0:
            raise ArgumentError("held_out", "must be more than 0 with `choose`")
        for start in self.fields:
            if not any(name.startswith(start) for name in MODELS):
                raise ArgumentError(
                    "fields", f"must be among {', '.join(MODELS)}: none starts with {start!r}"
                )
        if self.figure and (self.verify or self.choose):
            raise ArgumentError("figure", "goes with neither `verify` nor `choose`")


def main(config: Config) -> list[Path]:
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        cli.start(config.device, config.seed)
        pixels = load_image(config.image) if config.image else None
        task = None if config.figure else _task(config, pixels)
        out = make_folder(config.out or Path("out") / f"diagnose-{_subject(config)}")
    if config.figure:
        return draw(config, pixels, out)
    return choose_best(config, pixels, out) if config.choose else rank(config, task, out)


def _subject(config):
    """What the run is about, for the name of its folder."""
    image = config.image.stem if config.image else "astronaut"
    return config.figure or ("choose-" if config.choose else "") + image


def _task(config, pixels):
    pixels = skimage.data.astronaut() / 255 if pixels is None else pixels
    task = ImageTask(pixels, config.seed, config.held_out)
    if config.held_out and not len(split_points(task).x_held_out):
        raise ArgumentError(
            "held_out",
            f"is {config.held_out}, which of {task.width} x {task.height} pixels is none; 0 holds"
            " none out",
        )
    return task


def table(rows: list[dict[str, Any]]) -> str:
    """The ranking as Markdown."""
    head = [
        "field",
        "features",
        "fitted PSNR",
        "held-out PSNR",
        *([f"held-out PSNR, {ADAM_STEPS} steps of Adam"] if "adam" in rows[0] else []),
        "norm",
        "fair",
        "bound",
        "Delta",
        "condition >",
        *(f"half of {band}" for band in BANDS),
        "seconds",
    ]
    return report.markdown(head, [_cells(row) for row in ranked(rows)])


def _cells(row):
    held_out = row["psnr_held_out"]
    halving = row["halving"]
    return [
        row["name"],
        f"{row['features']:,}",
        f"{row['psnr']:.2f}",
        "-" if held_out is None else f"{held_out:.2f}",
        *([f"{row['adam']['psnr_held_out'][-1]:.2f}"] if "adam" in row else []),
        *(f"{row[name]:.3g}" for name in ("norm", "fair", "bound", "delta", "condition")),
        *(f"{halving[band]:.3g}" if band in halving else "-" for band in BANDS),
        f"{row['predicted']['seconds']:.1f}",
    ]


def rank(config: Config, task: ImageTask, out: Path) -> list[Path]:
    """The table before training and, with --verify, the training."""
    chosen = {name: field for name, field in MODELS.items() if name.startswith(config.fields)}
    rows = [
        diagnose(task, name, field, config.steps, config.seed) for name, field in chosen.items()
    ]
    text = "\n".join([_explanation(config, task), "", table(rows), ""])
    print(text, flush=True)
    (out / "table.md").write_text(text)
    result = {
        "ranking": [row["name"] for row in ranked(rows)],
        "fields": rows,
        "predict_seconds": sum(row["predicted"]["seconds"] for row in rows),
    }
    if config.verify:
        for row in rows:
            verify(row, task, chosen[row["name"]], config.seed)
            _say_verified(
                row["name"],
                row["predicted"]["seconds"],
                row["trained"]["seconds"],
                row["prediction_error_db"],
            )
        result["train_seconds"] = sum(row["trained"]["seconds"] for row in rows)
        result["prediction_error_db"] = max(row["prediction_error_db"] for row in rows)
        _say_verified(
            "all",
            result["predict_seconds"],
            result["train_seconds"],
            result["prediction_error_db"],
        )
    write_run(out, config, result)
    path = picture.save_figure(out / "curves.png", figures.curves(rows))
    print(path)
    return [path]


def _explanation(config, task):
    return (
        f"Predicted after {config.steps} steps of full-batch gradient descent at 1 / lambda_max,"
        f" {config.held_out:.0%} of {task.height * task.width:,} pixels held out; nothing was"
        " trained, and every kernel is frozen. norm: |w_t - w_0|^2; fair: sqrt(norm tr G) / n;"
        " bound: of the mean absolute error; Delta: with ridge lambda_max / steps; 'half of': steps"
        " until half of a band of frequencies (in parts of half a wave per pixel) is learned."
        f" {platform.machine()}, {os.cpu_count()} cores."
    )


def _say_verified(name, predicted, trained, error):
    print(
        f"{name}: predicted in {predicted:.1f} s, trained in {trained:.1f} s, largest error"
        f" {error:.2g} dB",
        flush=True,
    )


def choose_best(config: Config, pixels: Optional[np.ndarray], out: Path) -> list[Path]:
    """The best of CANDIDATES by the held-out PSNR predicted for Adam, of the user's picture or of
    four; what is verified also says how well that agrees with training."""
    verified = config.verify or pixels is None
    pictures = {}
    for subject, crop in _crops(pixels).items():
        task = ImageTask(crop, config.seed, config.held_out)
        found = choose(task, CANDIDATES, config.steps, config.seed, verified)
        print(f"{subject}: {found['chosen']}", table(found["fields"]), sep="\n", flush=True)
        pictures[subject] = found
    chosen = {subject: found["chosen"] for subject, found in pictures.items()}
    agreed = _over_pictures(pictures.values()) if verified else {}
    print({"chosen": chosen, **agreed})
    write_run(out, config, {"pictures": pictures, "chosen": chosen, **agreed})
    return [out / "result.json"]


def _crops(pixels):
    """{name: pixels} of the user's picture or, from the middle of four, squares of SIDE pixels at
    native resolution: scaling down would alias."""
    if pixels is not None:
        return {"image": pixels}
    crops = {}
    for name in PICTURES:
        whole = getattr(skimage.data, name)() / 255
        top, left = ((n - SIDE) // 2 for n in whole.shape[:2])
        crops[name] = whole[top : top + SIDE, left : left + SIDE]
    return crops


def _over_pictures(found):
    """The mean rank correlations, the largest regrets and the largest error for Adam."""
    error = max(each["prediction_error_db_adam"] for each in found)
    result = {"prediction_error_db_adam": error}
    for suffix in ("", "_adam", "_adam_descent", "_adam_features", "_bound"):
        correlations = [each["spearman" + suffix] for each in found]
        result["spearman" + suffix] = float(np.mean(correlations))
        result["regret_db" + suffix] = max(each["regret_db" + suffix] for each in found)
    return result


def draw(config: Config, pixels: Optional[np.ndarray], out: Path) -> list[Path]:
    """--figure NAME: NAME.png and NAME.json."""
    of_picture = config.figure == "fourier"
    arguments = (pixels, config.steps) if of_picture else ()
    figure, numbers = FIGURES[config.figure](*arguments)
    write_json(out / f"{config.figure}.json", numbers)
    path = picture.save_figure(out / f"{config.figure}.png", figure)
    print(path)
    return [path]


if __name__ == "__main__":
    cli.run(Config, main)
