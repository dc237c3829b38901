"""Novel views: a radiance field from photographs with known cameras."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional, Union

from jgrid import parallel
from jgrid.config import Weight, config
from jgrid.grid import Grid
from jgrid.index import GridIndex
from jgrid.ops.render import distortion
from jgrid.scene import losses
from jgrid.scene.camera import Box, upwards
from jgrid.scene.evaluation import Evaluation
from jgrid.scene.hull import carve, leave_seen
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.perpicture import PerPicture
from jgrid.scene.radiance import RadianceConfig, RadianceField
from jgrid.scene.rays import check_cameras, check_depths, drawn, without_pixels
from jgrid.scene.render import Samples, render_rays
from jgrid.scene.viewer import BACKGROUNDS, Background, Viewer
from jgrid.scene.views import Views, values_at
from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn

AGAIN = (0.25, 0.5)  # of the training, in which doubtful carving is looked at again
STANDING = 0.2  # of the training, in which cameras stand still: through fog they go anywhere
UPDATE_EVERY = 16  # steps between looks at the occupancy
MOST_RAYS = 2**15  # of a step
TV_POINTS = 2**12  # whose cells' total variation a step looks at


@config
class ViewsConfig:
    """What a radiance field learns from photographs: where it looks, and its losses besides the
    squared error of the colours."""

    background: Background = "white"
    """What transparent pixels show, in the renderings and in the PSNR."""
    cells: Annotated[int, Interval(ge=1, le=512)] = 96
    """Cells of the occupancy grid along an axis."""
    samples: Annotated[int, Interval(ge=8, le=4096)] = 256
    """Samples across the box, or where it is contracted across the cube of all space, twice as
    wide; only those in occupied cells are computed."""
    carve: bool = True
    """Begin with the hull of the silhouettes, where the pictures are transparent and the box is not
    contracted, as the occupied cells; with those that three cameras see where all is enclosed."""
    entropy: Weight = 0.0
    """Weight of the entropy of the rays' opacity: more pushes them to be empty or opaque."""
    sparsity: Weight = 0.0
    """Weight of log(1 + 2 tau^2) of the samples' optical depths tau (Plenoxels): more thins what is
    dense."""
    distortion: Weight = 0.0
    """Weight of the distortion loss (mip-NeRF 360): more gathers what a ray sees in one place."""
    tv: Weight = 0.0
    """Weight of the total variation of the grids' features, of random occupied cells at each step:
    more smooths."""
    depth: Weight = 0.0
    """Weight of the squared error of the expected depth, in sides of the box, where the depth maps
    of the training pictures know it."""
    refine_poses: Weight = 0.0
    """Learning rate of a turn (radians) and a shift (sides of the box) of each training picture's
    camera; 0: the poses are taken as they are. Nothing is carved then."""
    exposure: Weight = 0.0
    """Learning rate of a gain and an offset of each training picture's colours; 0: all are exposed
    alike."""
    coarse_to_fine: Annotated[float, Interval(ge=0, le=0.9)] = 0.0
    """Part of the training in which the levels of a grid come in one by one, the coarsest first; 0:
    all are there from the start."""
    colour: RadianceConfig = RadianceConfig()


class ViewsTask(AbstractTask):
    """Mean squared error of the colours of random rays, each over a random background where the
    pictures are transparent. Where they are opaque and the box is contracted, the field is
    `enclosed`.

    train, test: pictures with their cameras; box: of the world that holds the scene; seed: of the
    rays and of the cells that are looked at; progress: whether bars show how far the renderings
    are.

    ValueError where no part of the box is in all pictures, a camera is too far away for a
    contracted one, or transparent pictures are said to be enclosed.
    """

    dim = 3
    n_out = 4
    metric = "psnr"
    learned: Optional[PerPicture] = None

    def __init__(
        self,
        train: Views,
        test: Views,
        box: Box,
        config: ViewsConfig = ViewsConfig(),
        seed: int = 0,
        progress: bool = False,
    ):
        self.box = box
        self.config = config
        self.seed = seed
        self.background = BACKGROUNDS[config.background]
        self._transparent = train.transparent
        enclosed = config.colour.enclosed
        if enclosed is None:
            enclosed = box.contracted and not self._transparent
        if enclosed and self._transparent:
            raise ValueError("`enclosed` needs opaque pictures: transparent ones show nothing")
        self.colour = replace(config.colour, enclosed=enclosed)
        self.occupancy = Occupancy(
            config.cells,
            1 / config.samples,
            seed=seed,
            contracted=box.contracted,
            enclosed=enclosed,
        )
        check_cameras(train, test, box, config.samples)
        test = test.without(without_pixels(test))
        # silhouettes from wrong places would carve wrongly
        trusted = config.carve and not config.refine_poses
        self._doubtful = False  # whether training may undo the carving
        if trusted and self._transparent and not box.contracted:
            train, self._doubtful = carve(train, self.occupancy, box)
            check_cameras(train, test, box, config.samples)
        elif config.carve and enclosed:
            leave_seen(train, self.occupancy, box)
        self._again = False  # whether carved cells are looked at
        self.train = train
        self.test = test
        if config.depth:
            check_depths(train, box, seed)
        away = np.linalg.norm(train.poses[:, :3, 3] - np.asarray(box.centre), axis=1)
        self.viewer = Viewer(
            self.occupancy,
            train.camera,
            box,
            config.background,
            float(np.median(away)),
            upwards(train.poses),
        )
        self.evaluation = Evaluation(test, self.viewer, progress)
        if config.refine_poses or config.exposure:
            self.learned = PerPicture(len(train.poses), config.exposure, config.refine_poses)
        self._moving = False  # whether cameras move
        self.step_samples: list[int] = []  # how many samples each step had
        self._per_ray = 32.0  # samples, lately
        self._rays = 0.0  # since the progress bar last asked
        self._looked = time.time()

    def build(self, config: Any) -> RadianceField:
        """The radiance field over a field's config; ValueError where the losses ask for what such a
        field has not."""
        model = self.colour.build(config)
        grids = _grids(model)
        if self.config.tv and not (
            grids and all(isinstance(grid.index, GridIndex) for grid in grids)
        ):
            raise ValueError("`tv` needs a field of grids with cells")
        if self.config.coarse_to_fine and not (grids and all(grid.groups > 1 for grid in grids)):
            raise ValueError(
                "`coarse_to_fine` needs a field of several levels in front of a decoder"
            )
        return model

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        """Rays that together have about n samples."""
        rng = np.random.default_rng((self.seed, step))
        n_rays = int(np.clip(n / max(self._per_ray, 1.0), 1, MOST_RAYS))
        view, pixel = drawn(self.train, rng, n_rays)
        origin, direction = self.train.rays(view, pixel)
        rgba = values_at(self.train.pixels, view, pixel).astype(np.float32) / 255
        if self._transparent:
            behind = rng.uniform(size=(n_rays, 3))
        else:
            behind = np.full((n_rays, 3), self.background)
        batch = {
            "origin": self.box.to_unit(origin),
            "direction": direction,
            "jitter": rng.uniform(size=n_rays),
            "behind": behind,
            "colour": rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:]) * behind,
        }
        if self.config.depth:
            batch["depth"] = self.train.lengths(view, pixel, direction) / self.box.side
        arrays = {name: values.astype(np.float32) for name, values in batch.items()}
        if self.learned:
            arrays["view"] = view.astype(np.int32)
        return {name: jt.array(values).stop_grad() for name, values in arrays.items()}

    def prepare(self, model: nn.Module, progress: float) -> None:
        """Fade in the levels, and say when doubtful carving is looked at again, and from when on
        cameras move."""
        self._again = self._doubtful and AGAIN[0] <= progress < AGAIN[1]
        self._moving = self.config.refine_poses > 0 and progress >= STANDING
        if self.config.coarse_to_fine:
            for grid in _grids(model):
                grid.fade_in(progress / self.config.coarse_to_fine)

    def loss(self, model: RadianceField, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        if len(self.step_samples) % UPDATE_EVERY == 0:
            self.occupancy.update(
                model.density, everything=not self.step_samples, carved=self._again
            )
        rays = (batch["origin"], batch["direction"])
        if self.learned and self._moving:
            rays = self.learned.moved(*rays, batch["view"])
        values, samples = render_rays(
            model, self.occupancy, *rays, batch["jitter"], "depth" in batch, self._moving
        )
        n, n_rays = parallel.total(int(samples.offsets[-1]), len(values))
        self.step_samples.append(int(n))
        self._rays += n_rays
        self._per_ray = 0.9 * self._per_ray + 0.1 * n / n_rays
        opacity = values[:, -1:]
        colour = values[:, :3]
        behind = batch["behind"] if samples.behind is None else samples.behind
        if self.learned and self.config.exposure:
            colour = self.learned.exposed(colour, opacity, batch["view"])
            # opaque pictures show what is behind as exposed as the rest
            if not self._transparent:
                behind = self.learned.exposed(behind, jt.ones(1), batch["view"])
        colour = colour + (1.0 - opacity) * behind
        mse = ((colour - batch["colour"]) ** 2).mean()
        found = {"mse": mse, **self._priors(model, opacity, samples)}
        if "depth" in batch:
            off = losses.depth(values[:, 3], values[:, 4], batch["depth"], self.box.contracted)
            found["depth"] = self.config.depth * off
        return found

    def _priors(self, model: RadianceField, opacity: jt.Var, samples: Samples) -> dict[str, jt.Var]:
        """Losses that know no picture, those with a weight, as means over the R rays: `entropy` and
        the sum of the samples' `sparsity` of scene.losses; `ops.render.distortion`, in sides of the
        cube, lengths of a contracted one as `squeezed`; and the grid's `total_variation`, at random
        in occupied cells (TensoRF, DVGO)."""
        weights = self.config
        found = {}
        if weights.entropy:
            found["entropy"] = weights.entropy * losses.entropy(opacity)
        if samples.density is None or samples.t is None:
            return found
        # in occupied cells only: Adam would move features that no ray sees as far as the others
        if weights.tv:
            rng = np.random.default_rng((self.seed, len(self.step_samples), 1))
            x = self.occupancy.random_points(TV_POINTS, rng)
            found["tv"] = weights.tv * model.field.grid.total_variation(jt.array(x))
        if weights.sparsity:
            tau = samples.density * self.occupancy.step
            found["sparsity"] = weights.sparsity * losses.sparsity(tau).sum() / len(opacity)
        if weights.distortion:
            middle = samples.t
            if self.box.contracted:
                middle = losses.squeezed(middle)
            step = jt.full_like(middle, self.occupancy.step).stop_grad()
            apart = distortion(samples.density, middle, step, samples.offsets)
            found["distortion"] = weights.distortion * apart.mean()
        return found

    def state(self) -> dict[str, np.ndarray]:
        return {
            "density": self.occupancy.density,
            "updates": np.array([self.occupancy.updates]),
            "samples": np.array(self.step_samples, np.int64),
            "per_ray": np.array([self._per_ray]),
        }

    def restore(self, state: dict[str, np.ndarray], name: str) -> None:
        for entry, own in self.state().items():
            found = state[entry]
            alike = found.dtype == own.dtype and found.ndim == own.ndim
            if not alike or entry != "samples" and found.shape != own.shape:
                raise ValueError(
                    f"{name}: task.{entry} is {found.dtype} {found.shape}, wanted {own.dtype}"
                    f" {own.shape}"
                )
        self.occupancy.restore(state["density"], int(state["updates"][0]))
        self.step_samples = state["samples"].tolist()
        self._per_ray = float(state["per_ray"][0])

    def status(self) -> dict[str, str]:
        now = time.time()
        rate = self._rays / max(now - self._looked, 1e-6)
        self._rays = 0.0
        self._looked = now
        return {"rays/s": f"{rate:,.0f}", "samples/ray": f"{self._per_ray:.1f}"}

    def evaluate(self, model: RadianceField) -> dict[str, float]:
        """Means over the test pictures, of the pixels that count."""
        return self.evaluation.measure(model, range(len(self.test.poses)))

    def glance(self, model: RadianceField) -> dict[str, float]:
        """Means over the `glanced` test pictures; `views` says how many, where not all."""
        some = {} if len(self.glanced) == len(self.test.poses) else {"views": len(self.glanced)}
        return {**self.evaluation.measure(model, self.glanced), **some}

    @property
    def glanced(self) -> list[int]:
        """The test pictures that are looked at during training."""
        return self.evaluation.glanced

    def export(self, model: RadianceField, out_dir: Union[str, os.PathLike]) -> list[Path]:
        """Every test picture, each beside its truth, its error and its depth, what was learned of
        the training pictures, a turntable."""
        out_dir = Path(out_dir)
        paths = self.evaluation.save(model, out_dir)
        if self.learned:
            paths += self.learned.save(out_dir, self.train, self.box)
        return [*paths, self.viewer.turntable(model, out_dir / "turntable.gif")]


def _grids(model: nn.Module) -> list[Grid]:
    return [module for module in model.modules() if isinstance(module, Grid)]
