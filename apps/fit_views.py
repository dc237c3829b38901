"""Fit a scene from photographs with known cameras, and see it from anywhere, in minutes.

    python apps/fit_views.py --scene DIR --train.minutes 5 grid:hash --field.levels 6

Common flags come before the field, the field's own after it; --help lists them, also after a field.
"""

import os
import sys
from dataclasses import asdict, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

from jgrid import cli, parallel, picture
from jgrid.browser import Page, watch
from jgrid.config import ArgumentError, Positive, config
from jgrid.data import find
from jgrid.field import check_memory, field_to_dict
from jgrid.field.presets import SCENE
from jgrid.run import Log, Run, again_folder, cost, make_folder
from jgrid.scene.camera import Box, Number
from jgrid.scene.files import load_views
from jgrid.scene.made import knot, load_scene_mesh, make_scene
from jgrid.scene.path import all_pictures, read_path
from jgrid.scene.place import choose, point_text, without_astray
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.viewer import BACKGROUNDS, GIF_FPS, load_viewer, save_gif
from jgrid.scene.views import Views, described
from jgrid.trainer import COMPILING_STEPS, TrainConfig

import numpy as np
import tyro
from annotated_types import Interval
from typing_extensions import Literal

FILLS = 0.3  # of a camera's view, at least, by the box
GATHERED = 0.01  # weight of the distortion loss, where the app contracts a scene of itself
OVERFILLS = 20.0  # times it, at most


@config
class Config:
    """Fit a scene from photographs with known cameras. Writes renderings, errors, depths, a
    turntable and the model to a folder."""

    scene: Optional[Path] = None
    """Folder with transforms_train.json and transforms_test.json (NeRF-synthetic), transforms.json
    (instant-ngp, nerfstudio), a COLMAP model or poses_bounds.npy (LLFF), or a transforms file; a
    name that is not here is looked for in scenes/ of $JGRID_DATA or data/. Without it, a scene that
    the app makes."""
    make_scene: Optional[Path] = None
    """A mesh to make a scene of, which is then fitted and kept in the folder of results."""
    surroundings: bool = False
    """Give the scene that the app makes ground, far balls and hills, without end; --contract sees
    them."""
    moving: bool = False
    """Let a ball move through the scene that the app makes, from one training picture to the next;
    masks leave it out."""
    out: Optional[Path] = None
    """Folder for the results; default out/fit_views-SCENE-FIELD."""
    resume: bool = False
    """Go on with the run of --out from its last checkpoint; the other flags must be the same."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    log: Log = "jsonl"
    """metrics.jsonl is always written; tensorboard: also what TensorBoard shows, in the folder
    tensorboard of the results."""
    box: Optional[Positive] = None
    """Half the side of the cube that holds the scene, in the units of the poses. Without it, 1.5
    around the origin where the cameras see that, or what the scene's file states, or what they look
    at; and --contract where the scene has no end."""
    centre: Optional[tuple[Number, Number, Number]] = None
    """The middle of that cube; with --box, the origin if it is not given."""
    contract: bool = False
    """Also see what lies outside the box, to infinity, contracted around it (mip-NeRF 360): for
    scenes without end."""
    views: Annotated[ViewsConfig, tyro.conf.arg(name="")] = ViewsConfig()
    paper: bool = False
    """The size of the paper's scenes: 800 pixels, 30,000 steps, a finest level of at least 256
    cells; for a CUDA machine."""
    from_: cli.From = None
    """A model.safetensors of an earlier run: render it again, without training."""
    path: Optional[Path] = None
    """With --from: a transforms file whose poses to render, or nerfstudio's camera_path; without
    it, a turntable."""
    ops: Literal["fused", "plain"] = "fused"
    """fused: one op for a grid or an MLP, the fast way; plain: Jittor's own ops, to compare or to
    look inside."""
    shrink: Annotated[int, Interval(ge=1, le=64)] = 1
    """Average so many pixels of the pictures, by as many, into one."""
    outside: bool = False
    """Read pictures that the scene's files name outside its folder."""
    view: bool = False
    """Show the scene while it trains, in the browser; with viser, of the extra `viewer`."""
    view_port: Annotated[int, Interval(ge=1, le=65535)] = 8080
    """Where on this machine that page is."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=6000, batch=2**14, eval_every=2000)
    )
    field: cli.any_field(*SCENE.values()) = SCENE["grid:mulfa"]

    def check(self):
        for name in ("surroundings", "moving"):
            if getattr(self, name) and self.scene is not None:
                raise ArgumentError(name, "is for a scene that the app makes, not for `scene`")
        if self.from_ is not None and (self.scene or self.make_scene):
            raise ArgumentError(
                "from_", "renders a fitted field and takes no `scene` or `make_scene`"
            )
        if self.scene is not None and self.make_scene is not None:
            raise ArgumentError("scene", "and `make_scene` exclude each other")
        if self.from_ is not None and self.resume:
            raise ArgumentError("resume", "goes on with training, which `from_` does not do")
        if self.path is not None and self.from_ is None:
            raise ArgumentError("path", "says what to render of a model that `from_` names")
        if self.view and self.from_ is not None:
            raise ArgumentError("view", "shows a training; apps/view.py shows a fitted scene")


def main(config: Config) -> list[Path]:
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        device = cli.start(config.device, config.train.seed, several=config.from_ is None)
    return render_again(config) if config.from_ else fit(config, device)


def paper_size(config: Config) -> Config:
    """The config at the size of the paper's scenes."""
    grown = {"finest": 256, "table_size": 2**19}
    names = {f.name for f in fields(config.field)} & grown.keys()
    return replace(
        config,
        views=replace(config.views, cells=128, samples=1024),
        train=replace(config.train, steps=30000, batch=2**18, eval_every=10000),
        field=replace(
            config.field, **{name: max(grown[name], getattr(config.field, name)) for name in names}
        ),
    )


def fit(config: Config, device: str) -> list[Path]:
    config = paper_size(config) if config.paper else config
    with cli.user_errors(config):
        page = Page(port=config.view_port) if config.view and parallel.is_first else None
        run, train, test = begin(config)
        train, test = without_astray(train, test)
        background = BACKGROUNDS[config.views.background]
        box, reason = choose(train, config.box, config.centre, config.contract, background)
        views = config.views
        if box.contracted and not config.contract and not views.distortion:
            views = replace(views, distortion=GATHERED)
        task = ViewsTask(train, test, box, views, config.train.seed, progress=parallel.is_first)
        test = task.test
        model = task.build(config.field)
        if config.ops == "plain":
            model.use_plain_ops()
        needed = check_memory(
            model,
            config.train.batch,
            16 * config.views.cells**3,
            "`cells`",
        )
        run.make_folder()
        trainer = run.trainer(task, model, config.log)
    if parallel.is_first:
        warn_of_size(train, box)
    print(described(train, test))
    print(f"about {(needed + train.n_bytes + test.n_bytes) / 2**30:.2f} GiB of memory")
    reason = cli.with_flags(reason, config)
    print(
        f"box: half its side {box.half:.12g}, centre {point_text(box.centre)}, {reason};"
        f" {'contracted, to see beyond it' if box.contracted else 'nothing is seen beyond it'}"
        f"{f', with --distortion {views.distortion:g}' if box.contracted else ''}"
        f"{'; something is in every direction' if task.colour.enclosed else ''}"
        " (--box, --centre and --contract say otherwise)"
    )
    if len(task.glanced) < len(test.poses):
        print(
            f"test views {', '.join(map(str, task.glanced))} of {len(test.poses)} are evaluated"
            " during training, all at its end"
        )
    configs = {"field": field_to_dict(config.field), "colour": asdict(task.colour)}
    save = partial(task.viewer.save, run.folder / "model.safetensors", model, configs)
    if page:
        watch(page, trainer, task.viewer, model, run.folder)
    result = {**run.fit(trainer, save), "device": device}
    if not parallel.is_first:
        return []
    result["samples_per_second"] = round(
        sum(task.step_samples[COMPILING_STEPS:]) / max(result["seconds_train"], 1e-3)
    )
    paths = task.export(model, run.folder) + [run.curve(trainer, "psnr", "PSNR (dB)")]
    run.finish(result)
    run.show(
        f"PSNR {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f} of {len(test.poses)} test views"
        f" on {config.views.background}, {cost(result)}, {result['samples_per_second']:,}"
        " samples/s",
        paths,
    )
    return paths


def subject(config: Config) -> str:
    """What the scene is called."""
    if config.scene:
        place = Path(os.path.abspath(config.scene))  # "." has no name of its own
        return place.parent.name if place.match("transforms*.json") else place.stem
    return config.make_scene.stem if config.make_scene else "knot"


def begin(config: Config) -> tuple[Run, Views, Views]:
    """The run, and what it trains and tests on: the user's scene, or one that is made in the run's
    folder first."""
    if config.scene:
        folder = find(config.scene, "scenes")
        train, test = both(folder, config)
        arrays = {}
        for split, views in (("train", train), ("test", test)):
            cameras = np.frombuffer(repr(list(views.cameras)).encode(), np.uint8)
            arrays.update({f"{split}.poses": views.poses, f"{split}.cameras": cameras})
            pixels = {"pixels": views.pixels, "kept": views.kept, "depths": views.depths}
            for name, pictures in pixels.items():
                for n, values in enumerate(() if pictures is None else pictures):
                    arrays[f"{split}.{name}.{n}"] = values
        return Run("fit_views", subject(config), arrays, config), train, test
    mesh = load_scene_mesh(config.make_scene) if config.make_scene else knot()
    arrays = {"vertices": np.asarray(mesh.vertices), "faces": np.asarray(mesh.faces)}
    if mesh.visual.kind == "vertex":
        arrays["colours"] = np.asarray(mesh.visual.vertex_colors)
    run = Run("fit_views", subject(config), arrays, config)
    if parallel.is_first:
        run.make_folder()
        make_scene(
            run.folder / "scene",
            mesh,
            surroundings=config.surroundings,
            depths=config.views.depth > 0,
            moving=config.moving,
        )
    parallel.wait()  # for the first, which makes it
    return run, *both(run.folder / "scene", config)


def both(folder: Path, config: Config) -> tuple[Views, Views]:
    """The pictures to train and to test on."""
    load = partial(
        load_views,
        folder,
        outside=config.outside,
        shrink=config.shrink,
        progress=parallel.is_first,
    )
    return load("train", depths=config.views.depth > 0), load("test")


def warn_of_size(views: Views, box: Box) -> None:
    """A warning where the box is much smaller, or larger, than what the cameras see."""
    share = filled(views, box)
    if not FILLS < share < OVERFILLS and not box.contracted:
        print(
            f"warning: to the cameras the box is {share:.0%} as large as what they see; a --box of"
            " half the scene's size would hold it",
            file=sys.stderr,
        )


def filled(views: Views, box: Box) -> float:
    """The box's angle, seen from the cameras, by the angle that they see: medians of the ball
    around it by half the shorter side."""
    away = float(np.median(np.linalg.norm(views.poses[:, :3, 3] - box.centre, axis=1)))
    return 3**0.5 * box.half / max(away, 1e-9) / views.tangent


def render_again(config: Config) -> list[Path]:
    with cli.user_errors(config):
        viewer, model = load_viewer(config.from_)
        way = read_path(config.path, viewer.camera) if config.path else None
        out = make_folder(config.out or again_folder("fit_views", config.from_, "rendered"))
    if way is None:
        paths = [viewer.turntable(model, out / "turntable.gif")]
    else:
        seen = all_pictures(viewer, model, way, progress=True)
        (out / "path").mkdir(exist_ok=True)
        paths = [
            picture.save(out / "path" / f"{n:03d}.png", pixels) for n, pixels in enumerate(seen)
        ]
        paths.append(save_gif(out / "path.gif", seen, way.fps or GIF_FPS))
    print("\n".join(str(p) for p in paths))
    return paths


if __name__ == "__main__":
    cli.run(Config, main)
