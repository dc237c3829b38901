"""A surface and a picture on a page."""

from collections.abc import Hashable
from typing import Any

from jgrid import picture
from jgrid.browser.page import Page
from jgrid.field import Field, in_chunks
from jgrid.scene.camera import Camera, look_at

import numpy as np
import trimesh

ANGLE = 0.7  # radians that those who come see
AWAY = 3.2  # how far they are from the middle, by half of what is shown
GREY = 190  # of a surface without colours, of 255
NORMALS = "normals"
UP = (0.0, 1.0, 0.0)
MOST = 2**20  # pixels of the finest picture
OUTSIDE = 0.93  # grey around a picture


class PictureSubject:
    """A fitted picture as a plane that a Canvas draws: the field is asked for what each pixel of
    the window sees, also between the picture's own. Its longer side is 2 of the page's units."""

    most = MOST
    settings: Hashable = None

    def __init__(self, page: Page, model: Field, height: int, width: int):
        self.model = model
        self._half = np.array([width, height]) / max(width, height)
        page.begin_at(look_at([0.0, 0.0, AWAY], up=UP), UP, ANGLE)

    def values(self, pose: np.ndarray, camera: Camera) -> np.ndarray:
        """What the plane shows: (H, W, 3)."""
        origin, direction = camera.rays(pose)
        with np.errstate(all="ignore"):
            x, y = (origin + direction * (-origin[:, 2:] / direction[:, 2:]))[:, :2].T / (
                self._half[:, None]
            )
            seen = (np.abs(x) <= 1) & (np.abs(y) <= 1) & (direction[:, 2] * origin[:, 2] < 0)
        points = np.stack([(1 + x) / 2, (1 - y) / 2], axis=1)[seen]
        values = np.full((len(seen), 3), np.float32(OUTSIDE))
        values[seen] = picture.as_rgb(in_chunks(self.model, points)[None])[0]
        return values.reshape(camera.height, camera.width, 3)

    def colours(self, values: np.ndarray) -> np.ndarray:
        return values


def show_surface(page: Page, meshes: dict[str, trimesh.Trimesh]) -> None:
    """Lay one of several meshes, by their names, on the page: lit, in its own colours where it has
    such; or the first one, coloured by its normals n as (n + 1) / 2. That one's half size is the
    page's unit."""
    first = next(iter(meshes.values()))
    bounds = first.bounds
    half = float(np.ptp(bounds, axis=0).max() / 2)
    choice = page.server.gui.add_dropdown("Show", (*meshes, NORMALS))

    def lay(_: Any = None) -> None:
        mesh = meshes.get(choice.value, first)
        colours = np.asarray(mesh.visual.vertex_colors)[:, :3]
        if mesh.visual.kind != "vertex":
            colours = np.full((len(mesh.vertices), 3), GREY)
        if choice.value == NORMALS:
            colours = np.round(255 * (np.asarray(mesh.vertex_normals) + 1) / 2)
        vertices = (np.asarray(mesh.vertices) - bounds.mean(0)) / half
        laid = trimesh.Trimesh(
            vertices, mesh.faces, vertex_colors=colours.astype(np.uint8), process=False
        )
        laid.vertex_normals  # noqa: B018 - smooth shading wants them in the file
        page.server.scene.add_mesh_trimesh("/surface", laid)

    choice.on_update(lay)
    lay()
    eye = np.array([0.5, 0.45, 1.0])
    page.begin_at(look_at(AWAY * eye / np.linalg.norm(eye), up=UP), UP, ANGLE)
