"""Fit a picture with a neural field, in a minute or two.

    python apps/fit_image.py --image photo.png --train.steps 1000 grid:hash --field.levels 8

Common flags come before the field, the field's own after it; --help lists them, also after a field.
"""

import sys
from dataclasses import asdict, field
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

from jgrid import cli, memory, parallel, picture
from jgrid.config import ArgumentError, Share, config
from jgrid.field import Field, MulFAGridConfig, check_memory, field_to_dict
from jgrid.image.files import load_image
from jgrid.image.light import MU, Tone, save_tiff, tone_of
from jgrid.image.task import PIXEL_BYTES, ImageTask, load_model, load_tone, render
from jgrid.run import Log, Run, again_folder, cost, make_folder, save_model
from jgrid.solver import LeastSquares, SolveConfig
from jgrid.trainer import TrainConfig

import numpy as np
import skimage.data
from annotated_types import Interval
from typing_extensions import Literal

SHOWN = f"log(1 + {MU:.0f} v / top) / log({MU + 1:.0f})"  # light v, in words


@config
class Config:
    """Fit a picture with a neural field. Writes the fitted picture, error maps, metrics and the
    model to a folder."""

    image: Optional[Path] = None
    """Any picture Pillow reads, OpenEXR or Radiance HDR; without it, scikit-image's astronaut."""
    out: Optional[Path] = None
    """Folder for the results; default out/fit_image-PICTURE-FIELD."""
    resume: bool = False
    """Go on with the run of --out from its last checkpoint; the other flags must be the same."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    log: Log = "jsonl"
    """metrics.jsonl is always written; tensorboard: also what TensorBoard shows, in the folder
    tensorboard of the results."""
    held_out: Share = 0.0
    """Fraction of the pixels that training never sees; their PSNR is reported apart."""
    prior: bool = True
    """Where pixels are held out, learn there what a smooth function through the others would be,
    its smoothness chosen by cross-validation; without it, nothing."""
    scale: Annotated[int, Interval(ge=1, le=64)] = 1
    """Also render the field at this many times the resolution."""
    from_: cli.From = None
    """A model.safetensors of an earlier run: render it again, without training."""
    ops: Literal["fused", "plain"] = "fused"
    """fused: one op for a grid or an MLP, the fast way; plain: Jittor's own ops, to compare or to
    look inside."""
    solver: Literal["adam", "cg"] = "adam"
    """adam trains; cg solves for the features of a grid without a decoder (--field.decoder.depth 0)
    by least squares."""
    train: TrainConfig = field(default_factory=TrainConfig)
    solve: SolveConfig = field(default_factory=SolveConfig)
    field: cli.AnyField = field(default_factory=MulFAGridConfig)

    def check(self):
        if self.from_ is not None and self.image is not None:
            raise ArgumentError("from_", "renders a fitted field and takes no `image`")
        if self.resume and (self.from_ is not None or self.solver == "cg"):
            raise ArgumentError(
                "resume", "goes on with training, which `from_` and `solver` cg do not do"
            )
        if self.log == "tensorboard" and self.solver == "cg":
            raise ArgumentError("log", "tensorboard is of training, which `solver` cg does not do")


def main(config: Config) -> list[Path]:
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        device = cli.start(
            config.device,
            config.train.seed,
            several=config.from_ is None and config.solver == "adam",
        )
    return render_again(config) if config.from_ else fit(config, device)


def fit(config: Config, device: str) -> list[Path]:
    with cli.user_errors(config):
        pixels = load_image(config.image) if config.image else skimage.data.astronaut() / 255.0
        tone = tone_of(pixels)
        shown = tone.encode(pixels) if tone else pixels
        task = ImageTask(shown, config.train.seed, config.held_out)
        model = task.build(config.field)
        n_pixels = task.height * task.width
        check_memory(
            model,
            min(config.train.batch, n_pixels),
            PIXEL_BYTES * n_pixels * config.scale**2,
            "`scale` or the size of the picture",
        )
        if config.ops == "plain":
            model.use_plain_ops()
        name = config.image.stem if config.image else "astronaut"
        run = Run("fit_image", name, {"pixels": task.pixels}, config)
        if config.solver == "cg":
            trainer = LeastSquares(task, model, config.solve, run.folder)
        else:
            trainer = run.trainer(task, model, config.log)
        if config.prior:
            fill(task)
        run.make_folder()
    if tone:
        explain(tone, pixels)
    model_config = {
        "field": field_to_dict(config.field),
        "width": task.width,
        "height": task.height,
        "n_out": task.n_out,
    }
    light = {"tone": asdict(tone)} if tone else {}
    save = partial(save_model, run.folder, model, {**model_config, **light})
    result = {**run.fit(trainer, save), "device": device}
    if tone:
        result["tone"] = {**light["tone"], "shown": SHOWN}
    if not parallel.is_first:
        return []
    paths = task.export(model, run.folder) + [run.curve(trainer, "psnr", "PSNR (dB)")]
    paths += enlarge(config, model, task.height, task.width, run.folder)
    paths += measured(model, task.height, task.width, tone, run.folder)
    run.finish(result)
    held_out = ""
    if "psnr_held_out" in result:
        held_out = f" ({result['psnr_held_out']:.2f} dB of the pixels held out)"
    run.show(
        f"PSNR {result['psnr']:.2f} dB{held_out}, SSIM {result['ssim']:.4f}, {cost(result)}", paths
    )
    return paths


def render_again(config: Config) -> list[Path]:
    with cli.user_errors(config):
        model, height, width = load_model(config.from_)
        tone = load_tone(config.from_)
        memory.require(
            PIXEL_BYTES * height * width * config.scale**2,
            f"a picture of {height} x {width} pixels and `scale` {config.scale}",
            "`scale`",
        )
        out = make_folder(config.out or again_folder("fit_image", config.from_, "rendered"))
    paths = [picture.save(out / "prediction.png", render(model, height, width))]
    paths += enlarge(config, model, height, width, out)
    paths += measured(model, height, width, tone, out)
    print("\n".join(str(p) for p in paths))
    return paths


def fill(task: ImageTask) -> None:
    """Have a task learn, at the pixels that are held out, what the others let expect; say so."""
    belief = task.believe()
    if belief is not None and parallel.is_first:
        print(
            "held-out pixels are learned as the others let expect (--no-prior: not at all),"
            f" {-10 * np.log10(max(belief.error, 1e-12)):.1f} dB by cross-validation"
        )


def explain(tone: Tone, pixels: np.ndarray) -> None:
    """Say how a picture of light is learned."""
    if parallel.is_first:
        print(
            f"light from {pixels.min():.4g} to {tone.top:.4g}: learned, measured (PSNR, SSIM) and"
            f" shown as {SHOWN}" + ("; what is below 0 counts as 0" if pixels.min() < 0 else ""),
            file=sys.stderr,
        )


def measured(model: Field, height: int, width: int, tone: Optional[Tone], out: Path) -> list[Path]:
    """The fitted light of a picture of light, as a float TIFF."""
    if tone is None:
        return []
    return [save_tiff(out / "prediction.tif", tone.decode(render(model, height, width)))]


def enlarge(config: Config, model: Field, height: int, width: int, out: Path) -> list[Path]:
    """The picture at --scale times its resolution, if that is asked for."""
    if config.scale == 1:
        return []
    return [
        picture.save(
            out / f"prediction_x{config.scale}.png",
            render(model, height * config.scale, width * config.scale),
        )
    ]


if __name__ == "__main__":
    cli.run(Config, main)
