"""Seeing a fitted scene: from a camera, on a turntable, as a file that comes without its
photographs."""

from dataclasses import asdict
from pathlib import Path

import jgrid.scene.render as rendering
from jgrid import checkpoint, memory, picture
from jgrid.image.task import PIXEL_BYTES
from jgrid.scene.camera import Box, Camera, circle_poses
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import radiance_from_dict

import numpy as np
from PIL import Image

BACKGROUNDS = {"white": 1.0, "black": 0.0}
FRAMES = 36  # of a turntable


class Viewer:
    """What it takes to see a fitted radiance field: where it is dense, a camera, the box of the
    world, the background, the distance of a turntable from the box's centre."""

    def __init__(self, occupancy, camera, box, background, distance):
        self.occupancy = occupancy
        self.camera = camera
        self.box = box
        self.background = background
        self.distance = distance

    def picture(self, model, pose, camera=None):
        """Colours (H, W, 3), depth (H, W) and opacity (H, W)."""
        return rendering.picture(
            model,
            self.occupancy,
            camera or self.camera,
            pose,
            self.box,
            BACKGROUNDS[self.background],
        )

    def turntable(self, model, path, frames=FRAMES):
        """A GIF once around the scene; returns the path."""
        poses = circle_poses(frames, self.distance)
        poses[:, :3, 3] += self.box.centre
        return save_gif(path, [self.picture(model, pose)[0] for pose in poses])

    def save(self, path, model, configs):
        """Write the model, {"field", "colour"} configs and this viewer to one file."""
        tensors = {name: value.numpy() for name, value in model.state_dict().items()}
        view = {
            "camera": asdict(self.camera),
            "box": asdict(self.box),
            "background": self.background,
            "distance": self.distance,
            "cells": self.occupancy.cells,
            "step": self.occupancy.step,
        }
        checkpoint.save(
            path,
            {**tensors, "occupied": self.occupancy.occupied.astype(np.uint8)},
            {**configs, "view": view},
        )


def load_viewer(path):
    """(viewer, model) of a file that `Viewer.save` wrote; ValueError, naming what is wrong, where
    it is another."""
    tensors, saved = checkpoint.read(path)
    try:
        view = saved["view"]
        model = radiance_from_dict(saved)
        occupied = tensors.pop("occupied")
        camera = view["camera"]
        box = view["box"]
        cells = view["cells"]
        sizes = [camera["width"], camera["height"], cells]
        lengths = [camera["fx"], camera["fy"], box["half"], view["distance"]]
        places = [camera["cx"], camera["cy"], *camera["distortion"], *box["centre"]]
        if (
            not all(type(n) is int and 0 < n < 2**15 for n in sizes)
            or not _finite(lengths)
            or min(lengths) <= 0
            or not _finite(places)
        ):
            raise ValueError("its camera or its box")
        memory.require(
            PIXEL_BYTES * sizes[0] * sizes[1],
            f"{path}: a view of {sizes[0]} x {sizes[1]} pixels",
            "its size",
        )
        if (
            len(camera["distortion"]) != 4
            or len(box["centre"]) != 3
            or occupied.shape != (cells**3,)
        ):
            raise ValueError("the sizes of its parts")
        if (
            view["background"] not in BACKGROUNDS
            or not _finite([view["step"]])
            or type(box["contracted"]) is not bool
        ):
            raise ValueError("its background, its step or its contraction")
        occupancy = Occupancy(cells, view["step"], contracted=box["contracted"])
        occupancy.carve(occupied.astype(bool))
        camera = Camera(**{**camera, "distortion": tuple(camera["distortion"])})
        viewer = Viewer(
            occupancy,
            camera,
            Box(box["half"], tuple(box["centre"]), box["contracted"]),
            view["background"],
            view["distance"],
        )
    except memory.NotEnough:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a model of fit_views ({error})") from None
    checkpoint.assign(model, tensors, str(path))
    return viewer, model


def _finite(numbers):
    return all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e30 for n in numbers
    )


def depth_picture(depth):
    """Expected depth (H, W), inf where nothing is, as colours, on a scale of logarithms: near
    bright, far dark, nothing white."""
    depth = np.log(np.maximum(depth, 1e-6))
    there = np.isfinite(depth)
    if not there.any():
        return np.ones((*depth.shape, 3))
    near = depth[there].min()
    far = depth[there].max()
    shown = picture.heat(np.where(there, far - depth, 0) / max(far - near, 1e-9) * 0.85 + 0.1, 1.0)
    return np.where(there[..., None], shown, 1.0)


def save_gif(path, pictures, fps=12):
    """Write (H, W, 3) pictures in [0, 1] as a GIF that repeats; returns the path."""
    frames = [
        Image.fromarray(np.round(p * 255).astype(np.uint8)).quantize(
            128, dither=Image.Dither.FLOYDSTEINBERG
        )
        for p in pictures
    ]
    with checkpoint.atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0
        )
    return Path(path)
