"""What the apps fitted, in the browser: `show` lays a run on a page, `serve` draws it,
`watch` shows a scene while it trains. Needs viser, which the extra `viewer` brings."""

from pathlib import Path
from typing import Optional

from jgrid import checkpoint
from jgrid.browser.canvas import Canvas
from jgrid.browser.live import Watch
from jgrid.browser.page import Page
from jgrid.browser.scene import PathPanel, SceneSubject
from jgrid.browser.still import PictureSubject, show_surface
from jgrid.image.task import load_model as load_picture
from jgrid.scene.radiance import RadianceField
from jgrid.scene.viewer import Viewer, load_viewer
from jgrid.surface.files import read_mesh
from jgrid.surface.task import load_model as load_surface
from jgrid.surface.task import surface_of
from jgrid.trainer import Trainer

import trimesh

__all__ = ["Page", "serve", "show", "watch"]

COARSE = 128  # cells along an axis, where a surface comes without its mesh
MESHES = {"surface": "mesh.ply", "distance to the target": "error_map.ply"}
IDLE = 1.0  # seconds between looks at who is there, when nobody moves


def show(page: Page, model: Path) -> Optional[Canvas]:
    """Lay what a model of fit_image, fit_sdf or fit_views holds on a page; what draws it, where the
    browser does not do that itself. ValueError, naming what is wrong, where it is another."""
    _, saved = checkpoint.read(model)
    if "view" in saved:
        viewer, scene = load_viewer(model)
        subject = SceneSubject(page, viewer, scene)
        canvas = Canvas(page, subject)
        PathPanel(canvas, subject, model.parent)
    elif "scale" in saved:
        show_surface(page, _meshes(model))
        return None
    elif "width" in saved:
        canvas = Canvas(page, PictureSubject(page, *load_picture(model)))
    else:
        raise ValueError(f"{model}: not a model of fit_image, fit_sdf or fit_views")
    canvas.warm()
    return canvas


def _meshes(model: Path) -> dict[str, trimesh.Trimesh]:
    """What fit_sdf left beside its model; or the model's own mesh, coarse."""
    field, scale, offset = load_surface(model)
    found = {
        name: read_mesh(model.parent / file)
        for name, file in MESHES.items()
        if (model.parent / file).is_file()
    }
    if found:
        return found
    vertices, faces = surface_of(field, COARSE)
    if not len(faces):
        raise ValueError(f"{model}: the field is nowhere 0, so there is no surface to show")
    return {"surface": trimesh.Trimesh(vertices * scale + offset, faces, process=False)}


def serve(page: Page, canvas: Optional[Canvas]) -> None:
    """Draw what those who look at the page want to see, until it is closed."""
    while not page.closed.is_set():
        if canvas is None or not canvas.work():
            page.wait(IDLE)


def watch(page: Page, trainer: Trainer, viewer: Viewer, model: RadianceField, folder: Path) -> None:
    """Show a scene on a page while it trains, and its step and PSNR; print where that is."""
    status = page.server.gui.add_markdown("Training begins.")
    subject = SceneSubject(page, viewer, model, size="256 x 256")
    canvas = Canvas(page, subject, live=True)
    PathPanel(canvas, subject, folder, renders=False)
    canvas.warm()
    trainer.watch = Watch(canvas, status, "PSNR")
    print(f"the scene is at {page.url} while it trains", flush=True)
