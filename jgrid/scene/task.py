"""Novel views: a radiance field from photographs with known cameras."""

import time
from pathlib import Path

from jgrid import parallel, picture
from jgrid.grid import Grid
from jgrid.image.metrics import psnr, ssim
from jgrid.index import GridIndex
from jgrid.ops.render import distortion
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.render import render_rays
from jgrid.scene.viewer import BACKGROUNDS, Viewer, depth_picture
from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from scipy.ndimage import distance_transform_edt

UPDATE_EVERY = 16  # steps between looks at the occupancy
MOST_RAYS = 2**15  # of a step
TV_POINTS = 2**12  # whose cells' total variation a step looks at


def hull(views, points, box, radius):
    """Which points (N, 3) of the unit cube some picture shows and none as empty, to within `radius`
    of the cube's side: (N,) bool."""
    world = (points - 0.5) * 2 * box.half + np.asarray(box.centre)
    keep = np.ones(len(points), bool)
    shown = np.zeros(len(points), bool)
    camera = views.camera
    for pixels, pose in zip(views.pixels, views.poses):
        alive = np.flatnonzero(keep)
        local = (world[alive] - pose[:3, 3]) @ pose[:3, :3]
        empty = pixels[..., 3] == 0
        # pixels to the silhouette
        away = distance_transform_edt(empty) if not empty.all() else np.full(empty.shape, np.inf)
        place = camera.project(local)
        with np.errstate(invalid="ignore"):
            u, v = np.floor(place).T
            seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        reach = 1 + radius * 2 * box.half * max(camera.fx, camera.fy) / -local[seen, 2]
        keep[alive[seen]] = away[v[seen].astype(int), u[seen].astype(int)] <= reach
        shown[alive[seen]] = True
    return keep & shown


class ViewsTask(AbstractTask):
    """Mean squared error of the colours of random rays, each over a random background where the
    pictures are transparent.

    train, test: Views; box: of the world that holds the scene; background: what is behind it in the
    pictures, "white" or "black"; cells: of the occupancy grid along an axis; steps: samples across
    the unit cube; carve: begin with the hull of the silhouettes, which a contracted box has not;
    entropy, sparsity, distortion, tv: weights of the losses of `_priors`; coarse_to_fine: part of
    the training in which the levels fade in.
    """

    dim = 3
    n_out = 4
    metric = "psnr"

    def __init__(
        self,
        train,
        test,
        box,
        background="white",
        cells=96,
        steps=256,
        carve=True,
        entropy=0.0,
        seed=0,
        sparsity=0.0,
        distortion=0.0,
        tv=0.0,
        coarse_to_fine=0.0,
    ):
        self.train = train
        self.test = test
        self.box = box
        self.seed = seed
        self.background = BACKGROUNDS[background]
        self.entropy = entropy
        self.sparsity = sparsity
        self.distortion = distortion
        self.tv = tv
        self.coarse_to_fine = coarse_to_fine
        self.occupancy = Occupancy(cells, 1 / steps, seed=seed, contracted=box.contracted)
        self._transparent = train.transparent
        farthest = (
            np.abs(
                np.concatenate([train.poses, test.poses])[:, :3, 3] - np.asarray(box.centre)
            ).max()
            / box.half
        )
        if box.contracted and farthest > steps / 8:  # its first step might leap over the box
            raise ValueError(
                f"a camera is {farthest:.3g} times half the box's side away; raise --box or"
                " --samples"
            )
        if carve and self._transparent and not box.contracted:
            keep = hull(train, self.occupancy.centres(), box, np.sqrt(3) / 2 / cells)
            if not keep.any():
                raise ValueError(
                    f"no part of the box (half its side {box.half}, centre {box.centre}) is covered"
                    " in all pictures; give the scene's --box, or --no-carve"
                )
            self.occupancy.carve(keep)
        distance = float(
            np.median(np.linalg.norm(train.poses[:, :3, 3] - np.asarray(box.centre), axis=1))
        )
        self.viewer = Viewer(self.occupancy, train.camera, box, background, distance)
        self._pixels = train.pixels.reshape(-1, 4)
        # of each step; of a ray, lately
        self.samples = []
        self._per_ray = 32.0
        # since the progress bar last asked
        self._rays = 0
        self._looked = time.time()

    def sample(self, step, n):
        """Rays that together have about n samples."""
        rng = np.random.default_rng((self.seed, step))
        n_rays = int(np.clip(n / max(self._per_ray, 1.0), 1, MOST_RAYS))
        chosen = rng.integers(0, len(self._pixels), n_rays)
        view, pixel = np.divmod(chosen, self.train.camera.width * self.train.camera.height)
        origin, direction = self.train.camera.rays(self.train.poses[view], pixel)
        rgba = self._pixels[chosen].astype(np.float32) / 255
        behind = (
            rng.uniform(size=(n_rays, 3))
            if self._transparent
            else np.full((n_rays, 3), self.background)
        )
        batch = {
            "origin": self.box.to_unit(origin),
            "direction": direction,
            "jitter": rng.uniform(size=n_rays),
            "behind": behind,
            "colour": rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * behind,
        }
        return {
            name: jt.array(values.astype(np.float32)).stop_grad() for name, values in batch.items()
        }

    def loss(self, model, batch):
        if len(self.samples) % UPDATE_EVERY == 0:
            self.occupancy.update(model.density, everything=not self.samples)
        values, samples = render_rays(
            model, self.occupancy, batch["origin"], batch["direction"], batch["jitter"]
        )
        n, rays = parallel.total(int(samples.first[-1]), len(values))
        self.samples.append(int(n))
        self._rays += rays
        self._per_ray = 0.9 * self._per_ray + 0.1 * n / rays
        opacity = values[:, 3:]
        mse = ((values[:, :3] + (1.0 - opacity) * batch["behind"] - batch["colour"]) ** 2).mean()
        return {"mse": mse, **self._priors(model, opacity, samples)}

    def prepare(self, model, progress):
        if self.coarse_to_fine:
            for grid in (module for module in model.modules() if isinstance(module, Grid)):
                grid.fade_in(progress / self.coarse_to_fine)

    def check(self, model):
        """ValueError, with the flag's name, where the model has not what the options want."""
        grids = [module for module in model.modules() if isinstance(module, Grid)]
        if self.tv and not (grids and all(isinstance(grid.index, GridIndex) for grid in grids)):
            raise ValueError("--tv needs a field of grids with cells")
        if self.coarse_to_fine and not (grids and all(grid.groups > 1 for grid in grids)):
            raise ValueError(
                "--coarse-to-fine needs a field of several levels in front of a decoder"
            )

    def _priors(self, model, opacity, samples):
        """Losses that know no picture, those with a weight, as means over the R rays; tau_s is the
        density of a sample times the step:

            entropy (DVGO):               - o log o - (1 - o) log(1 - o), o the opacity
            sparsity (Plenoxels):         sum_s log(1 + 2 tau_s^2)
            distortion (mip-NeRF 360):    `ops.render.distortion`, in sides of the cube; a
            contracted cube's t > 1/2 become 1 - 1/(4t)
            tv (TensoRF, DVGO):           the grid's `total_variation`, at random in occupied cells
        """
        losses = {}
        if self.entropy:
            o = jt.clamp(opacity, 1e-5, 1 - 1e-5)
            losses["entropy"] = -self.entropy * (o * jt.log(o) + (1 - o) * jt.log(1 - o)).mean()
        # Adam would move features that no ray sees as far as others, to and fro
        if self.tv and samples.first[-1]:
            x = self.occupancy.random_points(
                TV_POINTS, np.random.default_rng((self.seed, len(self.samples), 1))
            )
            losses["tv"] = self.tv * model.field.grid.total_variation(jt.array(x))
        if self.sparsity and samples.first[-1]:
            losses["sparsity"] = (
                self.sparsity
                * jt.log(1.0 + 2.0 * (samples.density * self.occupancy.step) ** 2).sum()
                / len(opacity)
            )
        if self.distortion and samples.first[-1]:
            middle = samples.t
            if self.box.contracted:
                middle = jt.minimum(middle, 1.0 - 0.25 / jt.maximum(middle, 0.5))
            step = jt.full_like(middle, self.occupancy.step).stop_grad()
            losses["distortion"] = (
                self.distortion * distortion(samples.density, middle, step, samples.first).mean()
            )
        return losses

    def state(self):
        return {
            "density": self.occupancy.density,
            "updates": np.array([self.occupancy.updates]),
            "samples": np.array(self.samples, np.int64),
            "per_ray": np.array([self._per_ray]),
        }

    def restore(self, state, name):
        for entry, wanted in self.state().items():
            found = state[entry]
            if (
                found.dtype != wanted.dtype
                or found.ndim != wanted.ndim
                or entry != "samples"
                and found.shape != wanted.shape
            ):
                raise ValueError(
                    f"{name}: task.{entry} is {found.dtype} {found.shape}, wanted {wanted.dtype}"
                    f" {wanted.shape}"
                )
        self.occupancy.restore(state["density"], int(state["updates"][0]))
        self.samples = state["samples"].tolist()
        self._per_ray = float(state["per_ray"][0])

    def status(self):
        now = time.time()
        rate = self._rays / max(now - self._looked, 1e-6)
        self._rays = 0
        self._looked = now
        return {"rays/s": f"{rate:,.0f}", "samples/ray": f"{self._per_ray:.1f}"}

    def evaluate(self, model):
        rendered = [
            self.viewer.picture(model, pose, self.test.camera)[0] for pose in self.test.poses
        ]
        pairs = [(self.test.on(n, self.background), colour) for n, colour in enumerate(rendered)]
        return {
            name: float(np.mean([metric(*pair) for pair in pairs]))
            for name, metric in (("psnr", psnr), ("ssim", ssim))
        }

    def export(self, model, out_dir):
        out_dir = Path(out_dir)
        paths = []
        for folder in ("test", "comparison"):
            (out_dir / folder).mkdir(exist_ok=True)
        for n, pose in enumerate(self.test.poses):
            truth = self.test.on(n, self.background)
            colour, depth, _ = self.viewer.picture(model, pose, self.test.camera)
            error = np.abs(colour - truth).max(axis=2)
            paths += [
                picture.save(out_dir / "test" / f"{n:03d}.png", colour),
                picture.save(
                    out_dir / "comparison" / f"{n:03d}.png",
                    picture.side_by_side(
                        [
                            ("truth", truth),
                            (f"{psnr(truth, colour):.2f} dB", colour),
                            ("error", picture.with_scale(picture.heat(error, 0.2), 0.2)),
                            ("depth", depth_picture(depth)),
                        ]
                    ),
                ),
            ]
        return paths + [self.viewer.turntable(model, out_dir / "turntable.gif")]
