"""Seeing a fitted scene: from a camera, on a turntable, as a file that comes without its
photographs."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional, Union

from jgrid import checkpoint, memory, picture
from jgrid.config import Count, Positive, Share, config, config_from_dict
from jgrid.image.task import PIXEL_BYTES
from jgrid.scene.camera import Box, Camera, Number, Z, circle_poses
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceField, radiance_from_dict
from jgrid.scene.render import Radiance, render_view

import numpy as np
from PIL import Image
from typing_extensions import Literal

BACKGROUNDS = {"white": 1.0, "black": 0.0}
Background = Literal["white", "black"]
FRAMES = 36  # of a turntable
FRAME_PIXELS = 2**18
GIF_FPS = 12.0


class Viewer:
    """What it takes to see a fitted radiance field: where it is dense, a camera, the box of the
    world, the background, the distance of a turntable from the box's centre."""

    def __init__(
        self,
        occupancy: Occupancy,
        camera: Camera,
        box: Box,
        background: Background,
        distance: float,
        up: tuple[float, float, float] = Z,
    ):
        self.occupancy = occupancy
        self.camera = camera
        self.box = box
        self.background = background
        self.distance = distance
        self.up = up

    def picture(
        self, model: Radiance, pose: np.ndarray, camera: Optional[Camera] = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colours (H, W, 3), depth (H, W) and opacity (H, W)."""
        return render_view(
            model,
            self.occupancy,
            camera or self.camera,
            pose,
            self.box,
            BACKGROUNDS[self.background],
        )

    def around(self, frames: int) -> tuple[np.ndarray, Camera]:
        """Poses (frames, 4, 4) once around the scene, and a camera of at most FRAME_PIXELS."""
        poses = circle_poses(frames, self.distance, up=self.up)
        poses[:, :3, 3] += self.box.centre
        return poses, self.camera.smaller(FRAME_PIXELS)

    def turntable(
        self, model: RadianceField, path: Union[str, os.PathLike], frames: int = FRAMES
    ) -> Path:
        """A GIF `around` the scene; returns the path."""
        poses, camera = self.around(frames)
        return save_gif(path, [self.picture(model, pose, camera)[0] for pose in poses])

    def save(
        self, path: Union[str, os.PathLike], model: RadianceField, configs: dict[str, Any]
    ) -> None:
        """Write the model, {"field", "colour"} configs and this viewer to one file."""
        tensors = {name: value.numpy() for name, value in model.state_dict().items()}
        tensors["occupied"] = self.occupancy.occupied.astype(np.uint8)
        view = _View(
            camera=self.camera,
            box=self.box,
            background=self.background,
            distance=self.distance,
            cells=self.occupancy.cells,
            step=self.occupancy.step,
            up=self.up,
        )
        checkpoint.save(path, tensors, {**configs, "view": asdict(view)})


def load_viewer(path: Union[str, os.PathLike]) -> tuple[Viewer, RadianceField]:
    """(viewer, model) of a file that `Viewer.save` wrote; ValueError, naming what is wrong, where
    it is another."""
    tensors, saved = checkpoint.read(path)
    try:
        view = config_from_dict(_View, saved["view"], "view")
        model = radiance_from_dict(saved)
        viewer = _restored(view, tensors.pop("occupied"), path)
    except memory.NotEnough:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a model of fit_views ({error})") from None
    checkpoint.assign(model, tensors, str(path))
    return viewer, model


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Expected depth (H, W), inf where nothing is, as colours, on a scale of logarithms: near
    bright, far dark, nothing white."""
    depth = np.log(np.maximum(depth, 1e-6))
    there = np.isfinite(depth)
    if not there.any():
        return np.ones((*depth.shape, 3))
    near = depth[there].min()
    far = depth[there].max()
    nearness = np.where(there, far - depth, 0) / max(far - near, 1e-9)
    shown = picture.heat(nearness * 0.85 + 0.1, 1.0)
    return np.where(there[..., None], shown, 1.0)


def save_gif(
    path: Union[str, os.PathLike], pictures: Sequence[np.ndarray], fps: float = GIF_FPS
) -> Path:
    """Write (H, W, 3) pictures in [0, 1] as a GIF that repeats; returns the path."""
    frames = [
        Image.fromarray(np.round(pixels * 255).astype(np.uint8)).quantize(
            128, dither=Image.Dither.FLOYDSTEINBERG
        )
        for pixels in pictures
    ]
    with checkpoint.atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0
        )
    return Path(path)


@config
class _View:
    """What a file says of a viewer; its occupied cells are a tensor of their own."""

    camera: Camera
    box: Box
    background: Background
    distance: Positive
    cells: Count
    step: Share
    up: tuple[Number, Number, Number] = Z


def _restored(view: _View, occupied: np.ndarray, path: Union[str, os.PathLike]) -> Viewer:
    camera = view.camera
    memory.require(
        PIXEL_BYTES * camera.width * camera.height,
        f"{path}: a view of {camera.width} x {camera.height} pixels",
        "its size",
    )
    if occupied.shape != (view.cells**3,):
        raise ValueError(f"occupied cells of shape {occupied.shape}, wanted {view.cells}^3")
    occupancy = Occupancy(view.cells, view.step, contracted=view.box.contracted)
    occupancy.carve(occupied.astype(bool))
    up = np.asarray(view.up)
    if not 0.99 < np.linalg.norm(up) < 1.01:
        raise ValueError(f"the direction that is up, {view.up}, has not the length 1")
    return Viewer(occupancy, camera, view.box, view.background, view.distance, view.up)
