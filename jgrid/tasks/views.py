"""Novel views: a radiance field from photographs with known cameras."""
import time
from dataclasses import asdict
from pathlib import Path

import jgrid.render as rendering
from jgrid import checkpoint, memory, picture
from jgrid.metrics import psnr, ssim
from jgrid.radiance import radiance_from_dict
from jgrid.render import Box, Camera, Occupancy, render_rays
from jgrid.tasks.base import AbstractTask
from jgrid.tasks.image import PIXEL_BYTES
from jgrid.tasks.scene import circle_poses

import jittor as jt
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt

BACKGROUNDS = {"white": 1.0, "black": 0.0}
UPDATE_EVERY = 16     # steps between looks at the occupancy
MOST_RAYS = 2**15     # of a step
FRAMES = 36           # of a turntable


def hull(views, points, box, radius):
    """Which points (N, 3) of the unit cube some picture shows and none as empty, to within `radius` of the cube's side: (N,) bool."""
    world = (points - 0.5) * 2 * box.half + np.asarray(box.centre)
    keep, shown, camera = np.ones(len(points), bool), np.zeros(len(points), bool), views.camera
    for pixels, pose in zip(views.pixels, views.poses):
        alive = np.flatnonzero(keep)
        local = (world[alive] - pose[:3, 3]) @ pose[:3, :3]
        empty = pixels[..., 3] == 0
        away = distance_transform_edt(empty) if not empty.all() else np.full(empty.shape, np.inf)  # pixels to the silhouette
        place = camera.project(local)
        with np.errstate(invalid="ignore"):
            u, v = np.floor(place).T
            seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        reach = 1 + radius * 2 * box.half * camera.fx / -local[seen, 2]
        keep[alive[seen]], shown[alive[seen]] = away[v[seen].astype(int), u[seen].astype(int)] <= reach, True
    return keep & shown


class Viewer:
    """What it takes to see a fitted radiance field: where it is dense, a camera, the box of the world, the background, the distance
    of a turntable from the box's centre."""

    def __init__(self, occupancy, camera, box, background, distance):
        self.occupancy, self.camera, self.box, self.background, self.distance = occupancy, camera, box, background, distance

    def picture(self, model, pose, camera=None):
        """Colours (H, W, 3), depth (H, W) and opacity (H, W)."""
        return rendering.picture(model, self.occupancy, camera or self.camera, pose, self.box, BACKGROUNDS[self.background])

    def turntable(self, model, path, frames=FRAMES):
        """A GIF once around the scene; returns the path."""
        poses = circle_poses(frames, self.distance)
        poses[:, :3, 3] += self.box.centre
        return save_gif(path, [self.picture(model, pose)[0] for pose in poses])

    def save(self, path, model, configs):
        """Write the model, {"field", "colour"} configs and this viewer to one file."""
        tensors = {name: value.numpy() for name, value in model.state_dict().items()}
        view = {"camera": asdict(self.camera), "box": asdict(self.box), "background": self.background, "distance": self.distance,
                "cells": self.occupancy.cells, "step": self.occupancy.step}
        checkpoint.save(path, {**tensors, "occupied": self.occupancy.occupied.astype(np.uint8)}, {**configs, "view": view})


def load_viewer(path):
    """(viewer, model) of a file that `Viewer.save` wrote; ValueError, naming what is wrong, where it is another."""
    tensors, saved = checkpoint.read(path)
    try:
        view, model, occupied = saved["view"], radiance_from_dict(saved), tensors.pop("occupied")
        camera, box, cells = view["camera"], view["box"], view["cells"]
        sizes = [camera["width"], camera["height"], cells]
        lengths = [camera["fx"], camera["fy"], box["half"], view["distance"]]
        places = [camera["cx"], camera["cy"], *camera["distortion"], *box["centre"]]
        if not all(type(n) is int and 0 < n < 2**15 for n in sizes) or not _finite(lengths) or min(lengths) <= 0 or not _finite(places):
            raise ValueError("its camera or its box")
        memory.require(PIXEL_BYTES * sizes[0] * sizes[1], f"{path}: a view of {sizes[0]} x {sizes[1]} pixels", "its size")
        if len(camera["distortion"]) != 4 or len(box["centre"]) != 3 or occupied.shape != (cells**3,):
            raise ValueError("the sizes of its parts")
        if view["background"] not in BACKGROUNDS or not _finite([view["step"]]):
            raise ValueError("its background or its step")
        occupancy = Occupancy(cells, view["step"])
        occupancy.carve(occupied.astype(bool))
        camera = Camera(**{**camera, "distortion": tuple(camera["distortion"])})
        viewer = Viewer(occupancy, camera, Box(box["half"], tuple(box["centre"])), view["background"], view["distance"])
    except memory.NotEnough:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a model of fit_views ({error})") from None
    checkpoint.assign(model, tensors, str(path))
    return viewer, model


def _finite(numbers):
    return all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e30 for n in numbers)


class ViewsTask(AbstractTask):
    """Mean squared error of the colours of random rays, each over a random background where the pictures are transparent.

    train, test: Views; box: of the world that holds the scene; background: what is behind it in the pictures, "white" or "black";
    cells: of the occupancy grid along an axis; steps: samples across the box; carve: begin with the hull of the silhouettes;
    entropy: weight of the binary entropy of the rays' opacity (DVGO).
    """

    dim, n_out, metric = 3, 4, "psnr"

    def __init__(self, train, test, box, background="white", cells=96, steps=256, carve=True, entropy=0.0, seed=0):
        self.train, self.test, self.box, self.seed = train, test, box, seed
        self.background, self.entropy = BACKGROUNDS[background], entropy
        self.occupancy, self._transparent = Occupancy(cells, 1 / steps, seed=seed), train.transparent
        if carve and self._transparent:
            keep = hull(train, self.occupancy.centres(), box, np.sqrt(3) / 2 / cells)
            if not keep.any():
                raise ValueError(f"no part of the box (half its side {box.half}, centre {box.centre}) is covered in all pictures; "
                                 "give the scene's --box, or --no-carve")
            self.occupancy.carve(keep)
        distance = float(np.median(np.linalg.norm(train.poses[:, :3, 3] - np.asarray(box.centre), axis=1)))
        self.viewer = Viewer(self.occupancy, train.camera, box, background, distance)
        self._pixels = train.pixels.reshape(-1, 4)
        self.samples, self._per_ray = [], 32.0         # of each step; of a ray, lately
        self._rays, self._looked = 0, time.time()      # since the progress bar last asked

    def sample(self, step, n):
        """Rays that together have about n samples."""
        rng = np.random.default_rng((self.seed, step))
        n_rays = int(np.clip(n / max(self._per_ray, 1.0), 1, MOST_RAYS))
        chosen = rng.integers(0, len(self._pixels), n_rays)
        view, pixel = np.divmod(chosen, self.train.camera.width * self.train.camera.height)
        origin, direction = self.train.camera.rays(self.train.poses[view], pixel)
        rgba = self._pixels[chosen].astype(np.float32) / 255
        behind = rng.uniform(size=(n_rays, 3)) if self._transparent else np.full((n_rays, 3), self.background)
        batch = {"origin": self.box.to_unit(origin), "direction": direction, "jitter": rng.uniform(size=n_rays), "behind": behind,
                 "colour": rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * behind}
        return {name: jt.array(values.astype(np.float32)).stop_grad() for name, values in batch.items()}

    def loss(self, model, batch):
        if len(self.samples) % UPDATE_EVERY == 0:
            self.occupancy.update(model.density, everything=not self.samples)
        values, n = render_rays(model, self.occupancy, batch["origin"], batch["direction"], batch["jitter"])
        self.samples.append(n)
        self._rays += len(values)
        self._per_ray = 0.9 * self._per_ray + 0.1 * n / len(values)
        opacity = values[:, 3:]
        losses = {"mse": ((values[:, :3] + (1.0 - opacity) * batch["behind"] - batch["colour"]) ** 2).mean()}
        if self.entropy:
            o = jt.clamp(opacity, 1e-5, 1 - 1e-5)
            losses["entropy"] = -self.entropy * (o * jt.log(o) + (1 - o) * jt.log(1 - o)).mean()
        return losses

    def status(self):
        now = time.time()
        rate, self._rays, self._looked = self._rays / max(now - self._looked, 1e-6), 0, now
        return {"rays/s": f"{rate:,.0f}", "samples/ray": f"{self._per_ray:.1f}"}

    def evaluate(self, model):
        rendered = [self.viewer.picture(model, pose, self.test.camera)[0] for pose in self.test.poses]
        pairs = [(self.test.on(n, self.background), colour) for n, colour in enumerate(rendered)]
        return {name: float(np.mean([metric(*pair) for pair in pairs])) for name, metric in (("psnr", psnr), ("ssim", ssim))}

    def export(self, model, out_dir):
        out_dir, paths = Path(out_dir), []
        for folder in ("test", "comparison"):
            (out_dir / folder).mkdir(exist_ok=True)
        for n, pose in enumerate(self.test.poses):
            truth = self.test.on(n, self.background)
            colour, depth, _ = self.viewer.picture(model, pose, self.test.camera)
            error = np.abs(colour - truth).max(axis=2)
            paths += [picture.save(out_dir / "test" / f"{n:03d}.png", colour),
                      picture.save(out_dir / "comparison" / f"{n:03d}.png", picture.side_by_side(
                          [("truth", truth), (f"{psnr(truth, colour):.2f} dB", colour),
                           ("error", picture.with_scale(picture.heat(error, 0.2), 0.2)), ("depth", depth_picture(depth))]))]
        return paths + [self.viewer.turntable(model, out_dir / "turntable.gif")]


def depth_picture(depth):
    """Expected depth (H, W), inf where nothing is, as colours: near bright, far dark, nothing white."""
    there = np.isfinite(depth)
    if not there.any():
        return np.ones((*depth.shape, 3))
    near, far = depth[there].min(), depth[there].max()
    shown = picture.heat(np.where(there, far - depth, 0) / max(far - near, 1e-9) * 0.85 + 0.1, 1.0)
    return np.where(there[..., None], shown, 1.0)


def save_gif(path, pictures, fps=12):
    """Write (H, W, 3) pictures in [0, 1] as a GIF that repeats; returns the path."""
    frames = [Image.fromarray(np.round(p * 255).astype(np.uint8)).quantize(128, dither=Image.Dither.FLOYDSTEINBERG) for p in pictures]
    with checkpoint.atomic_path(path) as temporary:
        frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    return Path(path)
