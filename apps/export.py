"""Take a fitted scene home: as a mesh, points, a density volume or a film.

    python apps/export.py out/fit_views-chair-grid-mulfa
    python apps/export.py out/fit_views-chair-grid-mulfa --to chair.glb --texture 1024 --faces 20000
    python apps/export.py out/fit_views-chair-grid-mulfa --to chair.ply points.ply density.npz
    python apps/export.py out/fit_views-chair-grid-mulfa --to walk.mp4 --path camera_path.json

What a file holds follows from its ending; --help lists all flags.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Optional

from jgrid import cli
from jgrid.config import MOST, ArgumentError, Count, Positive, Share, config
from jgrid.run import make_folder, model_of
from jgrid.scene.export import Solid, Surface, save_points, save_volume
from jgrid.scene.glb import coloured, require_texture, save_glb, textured
from jgrid.scene.path import (
    FPS,
    CameraPath,
    all_pictures,
    import_ffmpeg,
    pictures,
    read_path,
    save_mp4,
    turntable,
)
from jgrid.scene.place import point_text
from jgrid.scene.viewer import load_viewer, save_gif
from jgrid.surface.task import write_surface

import numpy as np
import trimesh
import tyro
from annotated_types import Interval
from typing_extensions import Literal

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
KINDS = (".glb", ".ply", ".npz", ".mp4", ".gif")
FILMS = (".mp4", ".gif")
TEXTURED_FACES = 30_000  # whose charts take xatlas ten seconds


@config
class Config:
    """Take a fitted scene home: as a mesh with colours, as points, as a volume of its density, as a
    film."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run's folder of fit_views, or its model.safetensors."""
    to: tuple[Path, ...] = ()
    """Files to write: NAME.glb or NAME.ply, a mesh with colours; points.ply, or a name that ends
    so, a cloud of points with colours; NAME.npz, the density; NAME.mp4 or NAME.gif, a film. Default
    mesh.glb in the run's folder."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    level: Optional[Positive] = None
    """Density, per unit of the world's length, at which the surface is. Without it, the one whose
    surface covers as many pixels as the renderings, seen from all around."""
    resolution: Annotated[int, Interval(ge=8, le=2048)] = 256
    """Cells along an axis of the box, of the marching cubes and of the density."""
    watertight: bool = False
    """Close the mesh where the box ends."""
    parts: Share = 0.02
    """Drop parts of the mesh whose area is less than this share of the largest one's; 0 keeps
    all."""
    hollow: bool = False
    """Keep the inner surface of what nobody sees into, about which the pictures say nothing."""
    faces: Optional[Annotated[int, Interval(ge=4, le=MOST)]] = None
    """Simplify the mesh to so many faces; with --texture, which takes long where they are many,
    30,000 if not given."""
    texture: Optional[Annotated[int, Interval(ge=64, le=2**14)]] = None
    """Of a GLB: lay a picture of so many pixels along a side over the mesh, in place of the
    vertices' colours."""
    linear: bool = False
    """Of a GLB without a texture: the vertices' colours linear, as glTF means them and Blender and
    browsers show them right; else as in the pictures, as trimesh and MeshLab show them."""
    up: Optional[Literal["x", "y", "z"]] = None
    """The capture's axis that points up, which a GLB turns to its own, y; y: leave the axes.
    Without it, what was up to the cameras."""
    points: Count = 100_000
    """Of a cloud."""
    path: Optional[Path] = None
    """The film's poses: a transforms file, or nerfstudio's camera_path; without it, a turntable."""
    fps: Optional[Annotated[float, Interval(gt=0, le=1000)]] = None
    """The film's pictures in a second; default what --path says, else 24."""
    seconds: Annotated[float, Interval(gt=0, le=3600)] = 4.0
    """Of a turntable."""

    def check(self):
        for path in self.to:
            if path.suffix.lower() not in KINDS:
                raise ArgumentError(
                    "to",
                    f"{path}: what to write follows from the ending, one of {', '.join(KINDS)}",
                )
        if not self.wants(".glb"):
            for name in ("texture", "linear"):
                if getattr(self, name):
                    raise ArgumentError(name, "is of a GLB, and `to` names none")
        if self.linear and self.texture:
            raise ArgumentError("linear", "is of vertices' colours, which `texture` replaces")
        if self.path and not self.wants(*FILMS):
            raise ArgumentError("path", "is of a film, MP4 or GIF, and `to` names none")

    @property
    def files(self) -> tuple[Path, ...]:
        folder = self.run if self.run.is_dir() else self.run.parent
        return self.to or (folder / "mesh.glb",)

    def wants(self, *endings: str) -> bool:
        """Whether a file with such an ending is to be written."""
        return any(path.suffix.lower() in endings for path in self.files)


class Export:
    """What is made once, when the first file needs it."""

    def __init__(self, config: Config):
        self.config = config
        viewer, model = load_viewer(model_of(config.run))
        self.solid = Solid(viewer, model, progress=True)
        if config.texture:
            require_texture(config.texture)
        if config.wants(".mp4"):
            import_ffmpeg()
        if config.wants(*FILMS):
            self.way = self._way()

    def _way(self) -> CameraPath:
        viewer = self.solid.viewer
        config = self.config
        if config.path:
            way = read_path(config.path, viewer.camera)
            return way._replace(fps=config.fps or way.fps or FPS)
        fps = config.fps or FPS
        return turntable(viewer, max(1, round(config.seconds * fps)))._replace(fps=fps)

    @cached_property
    def surface(self) -> Surface:
        config = self.config
        level = config.level or self.solid.level()
        faces = config.faces or (TEXTURED_FACES if config.texture else None)
        print(f"surface at a density of {level:.4g} per unit of length (--level says otherwise)")
        return self.solid.surface(
            level, config.resolution, config.watertight, config.parts, faces, config.hollow
        )

    @cached_property
    def colours(self) -> np.ndarray:
        return self.solid.colours(self.surface.vertices, self.surface.normals)

    def write(self, path: Path) -> str:
        """Write a file; returns what it holds, in words."""
        kind = path.suffix.lower()
        if kind in FILMS:
            return self._film(path)
        if kind == ".npz":
            save_volume(path, self.solid.volume(self.config.resolution))
            return f"density of {self.config.resolution}^3 cells"
        if kind == ".ply" and path.stem.lower().endswith("points"):
            save_points(path, *self.solid.cloud(self.surface, self.config.points))
            return f"{self.config.points:,} points"
        if kind == ".ply":
            write_surface(path, self.surface.vertices, self.surface.faces, self.colours)
            return self._words()
        return self._glb(path)

    def _film(self, path: Path) -> str:
        shown = (self.solid.viewer, self.solid.model, self.way, True)
        if path.suffix.lower() == ".mp4":
            save_mp4(path, pictures(*shown), self.way.fps)
        else:
            save_gif(path, all_pictures(*shown), self.way.fps)
        return f"{len(self.way.poses)} pictures, {self.way.fps:g} in a second"

    def _glb(self, path: Path) -> str:
        config = self.config
        if config.texture:
            mesh = textured(self.surface, config.texture, self.solid.colours)
        else:
            mesh = coloured(self.surface, self.colours)
        up = AXES[config.up] if config.up else self.solid.viewer.up
        save_glb(path, mesh, up, config.linear)
        return f"{self._words()}; its y, up, is the capture's {point_text(np.round(up, 3))}"

    def _words(self) -> str:
        surface = self.surface
        mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
        dropped = f", {surface.dropped} small parts dropped" if surface.dropped else ""
        closed = "closed" if mesh.is_watertight else "open"
        return (
            f"{len(surface.vertices):,} vertices, {len(surface.faces):,} faces, {closed}{dropped}"
        )


def main(config: Config) -> list[Path]:
    """Run the app; returns the paths of what it wrote."""
    with cli.user_errors(config):
        cli.start(config.device, 0)
        for path in config.files:
            make_folder(path.parent)
            if path.is_dir():
                raise ArgumentError("to", f"{path} is a folder")
        export = Export(config)
        for path in config.files:
            words = export.write(path)
            print(f"{path}: {words}")
    return list(config.files)


if __name__ == "__main__":
    cli.run(Config, main)
