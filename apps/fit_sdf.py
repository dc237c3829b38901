"""Fit the signed distance to a mesh with a neural field, and mesh the field again.

    python apps/fit_sdf.py --mesh bunny.obj --train.steps 1000 grid:hash --field.levels 12
    python apps/fit_sdf.py --from out/fit_sdf-bunny-grid-mulfa/model.safetensors --resolution 512

Common flags come before the field, the field's own after it; --help lists them, also after a field.
"""

import sys
import time
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

from jgrid import cli, parallel, picture
from jgrid.config import ArgumentError, config
from jgrid.field import Domain, check_memory, field_to_dict
from jgrid.field.presets import SURFACE
from jgrid.run import Log, Run, again_folder, cost, make_folder, save_model
from jgrid.surface.isosurface import preview
from jgrid.surface.mesh import gyroid_ball, load_mesh
from jgrid.surface.task import (
    ISO_LINES,
    POINT_BYTES,
    SDFConfig,
    SDFTask,
    load_model,
    slice_through,
    surface_of,
    values_of,
    write_surface,
)
from jgrid.trainer import TrainConfig

from annotated_types import Interval
from typing_extensions import Literal


@config
class Config:
    """Fit the signed distance to a mesh with a neural field. Writes the field's own mesh, pictures,
    metrics and the model to a folder."""

    mesh: Optional[Path] = None
    """A mesh, OBJ, PLY, STL, OFF, GLB or glTF; without it, a ball with a gyroid cut out."""
    out: Optional[Path] = None
    """Folder for the results; default out/fit_sdf-MESH-FIELD."""
    resume: bool = False
    """Go on with the run of --out from its last checkpoint; the other flags must be the same."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    log: Log = "jsonl"
    """metrics.jsonl is always written; tensorboard: also what TensorBoard shows, in the folder
    tensorboard of the results."""
    resolution: Annotated[int, Interval(ge=8, le=4096)] = 256
    """Cells of the marching cubes along each axis, of which only those near the surface are looked
    at."""
    up: Literal["x", "y", "z"] = "y"
    """The axis that points up in the pictures."""
    from_: cli.From = None
    """A model.safetensors of an earlier run: mesh it again, without training and without its
    mesh."""
    ops: Literal["fused", "plain"] = "fused"
    """fused: one op for a grid or an MLP, the fast way; plain: Jittor's own ops, to compare or to
    look inside."""
    sdf: SDFConfig = field(default_factory=SDFConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=400, batch=2**15, eval_every=100)
    )
    field: cli.any_field(*SURFACE.values()) = SURFACE["grid:mulfa"]

    def check(self):
        if self.from_ is not None and self.mesh is not None:
            raise ArgumentError("from_", "meshes a fitted field and takes no `mesh`")
        if self.from_ is not None and self.resume:
            raise ArgumentError("resume", "goes on with training, which `from_` does not do")


def main(config: Config) -> list[Path]:
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        device = cli.start(config.device, config.train.seed, several=config.from_ is None)
    return mesh_again(config) if config.from_ else fit(config, device)


def fit(config: Config, device: str) -> list[Path]:
    started = time.time()
    with cli.user_errors(config):
        mesh = load_mesh(config.mesh, parallel.is_first) if config.mesh else gyroid_ball()
        seconds_load = time.time() - started
        name = config.mesh.stem if config.mesh else "gyroid"
        arrays = {"vertices": mesh.vertices, "faces": mesh.faces}
        run = Run("fit_sdf", name, arrays, config)
        # a wrong flag of the field ends here, before the distances are computed
        check_memory(
            config.field.build(Domain(3, 1)),
            config.train.batch,
            POINT_BYTES * config.sdf.pool,
            "`sdf.pool`",
        )
        run.make_folder()
    for note in mesh.notes if parallel.is_first else []:
        print(f"warning: {note}", file=sys.stderr)
    print(
        ", ".join(f"{key} {value}" for key, value in mesh.report.items())
        + f", read in {seconds_load:.1f} s"
    )
    task = SDFTask(mesh, config.sdf, config.train.seed, progress=parallel.is_first)
    model = task.build(config.field)
    if config.ops == "plain":
        model.use_plain_ops()
    seconds_data = time.time() - started
    with cli.user_errors(config):
        trainer = run.trainer(task, model, config.log)
    model_config = {
        "field": field_to_dict(config.field),
        "scale": mesh.scale,
        "offset": mesh.offset.tolist(),
    }
    result = run.fit(trainer, partial(save_model, run.folder, model, model_config))
    if not parallel.is_first:
        return []
    surface = surface_of(model, config.resolution, progress=True)
    result = {
        **result,
        **task.measure(surface),
        "mesh": mesh.report,
        "seconds_data": round(seconds_data, 3),
        "seconds_total": round(time.time() - started, 3),
        "device": device,
    }
    if not len(surface[1]):
        run.finish(result)
        cli.fail("the field is nowhere 0, so there is no surface to mesh; train longer", code=1)
    paths = task.export(model, run.folder, surface, "xyz".index(config.up))
    paths += [run.curve(trainer, "iou", "IoU")]
    run.finish(result)
    run.show(
        f"IoU {result['iou']:.4f}, near the surface {result['iou_near']:.4f}, Chamfer"
        f" {result['chamfer']:.2e}, normals {result['normal_error_deg']:.2f} degrees,"
        f" {cost(result)}",
        paths,
    )
    return paths


def mesh_again(config: Config) -> list[Path]:
    with cli.user_errors(config):
        model, scale, offset = load_model(config.from_)
        out = make_folder(config.out or again_folder("fit_sdf", config.from_, "meshed"))
    function = values_of(model)
    up = "xyz".index(config.up)
    vertices, faces = surface_of(model, config.resolution, progress=True)
    if not len(faces):
        cli.fail("the field is nowhere 0, so there is no surface to mesh", code=1)
    paths = [
        write_surface(out / "mesh.ply", vertices * scale + offset, faces),
        picture.save(
            out / "prediction.png", preview(function, (vertices.min(0), vertices.max(0)), up=up)
        ),
        picture.contours(out / "slice.png", [("field", slice_through(function, up))], ISO_LINES),
    ]
    print(f"{len(faces):,} faces\n" + "\n".join(str(p) for p in paths))
    return paths


if __name__ == "__main__":
    cli.run(Config, main)
