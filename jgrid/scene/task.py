"""Novel views: a radiance field from photographs with known cameras."""

import hashlib
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional, Union

from jgrid import checkpoint, memory, parallel, picture
from jgrid.config import Weight, config
from jgrid.grid import Grid
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.index import GridIndex
from jgrid.ops.render import distortion
from jgrid.scene import losses
from jgrid.scene.camera import Box, upwards
from jgrid.scene.hull import DOUBT, hull, inverted
from jgrid.scene.locate import listed
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.perpicture import PerPicture
from jgrid.scene.place import check_box, point_text
from jgrid.scene.radiance import RadianceConfig, RadianceField
from jgrid.scene.render import Samples, render_rays
from jgrid.scene.viewer import BACKGROUNDS, Background, Viewer, depth_picture
from jgrid.scene.views import Views, values_at
from jgrid.task import AbstractTask

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from tqdm import tqdm

AGAIN = (0.25, 0.5)  # of the training, in which doubtful carving is looked at again
UPDATE_EVERY = 16  # steps between looks at the occupancy
MOST_RAYS = 2**15  # of a step
TV_POINTS = 2**12  # whose cells' total variation a step looks at
SECONDS = 2.0  # before a bar is shown
GLANCE = 2**20  # pixels of the test pictures that are looked at during training
LOOKED_AT = 2**12  # pixels that tell whether depths are in the poses' units
FEW = 0.01  # of depths, that are in the box where they are not
KEPT_BYTES = 2**29  # of renderings, between an evaluation and the files
HULL_BYTES = 200  # of a cell, while the hull of the silhouettes is looked for, besides 4 for each
# picture that may show it as empty


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
    """Begin with the hull of the silhouettes, where the pictures are transparent, as the occupied
    cells; not in a contracted box."""
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

    ValueError where no part of the box is in all pictures, or a camera is too far away for a
    contracted one.
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
        self.progress = progress
        self.train = train
        self.test = test
        self.box = box
        self.config = config
        self.seed = seed
        self.background = BACKGROUNDS[config.background]
        self._transparent = train.transparent
        enclosed = config.colour.enclosed or box.contracted and not self._transparent
        self.colour = replace(config.colour, enclosed=enclosed)
        self.occupancy = Occupancy(
            config.cells,
            1 / config.samples,
            seed=seed,
            contracted=box.contracted,
            enclosed=enclosed,
        )
        self._check_cameras()
        # silhouettes from wrong places would carve wrongly
        trusted = config.carve and not config.refine_poses
        carve = trusted and self._transparent and not box.contracted
        self._doubtful = carve and self._carve()  # then training may undo the carving
        self._again = False  # whether carved cells are looked at
        train = self.train
        away = np.linalg.norm(train.poses[:, :3, 3] - np.asarray(box.centre), axis=1)
        self.viewer = Viewer(
            self.occupancy,
            train.camera,
            box,
            config.background,
            float(np.median(away)),
            upwards(train.poses),
        )
        if train.counted is not None and not any(counted.any() for counted in train.counted):
            raise ValueError("masks and lens leave no pixel to train on")
        if config.depth:
            self._check_depths()
        if config.refine_poses or config.exposure:
            self.learned = PerPicture(len(train.poses), config.exposure, config.refine_poses)
        self.step_samples: list[int] = []  # how many samples each step had
        self._per_ray = 32.0  # samples, lately
        self._rendered: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._rendered_of = b""
        self._rays = 0.0  # since the progress bar last asked
        self._looked = time.time()

    def _check_cameras(self) -> None:
        """ValueError where no ray meets the box, or the first step of one might leap over the
        contracted one."""
        if not self.box.contracted:
            check_box(self.train, self.box)
        places = np.concatenate([self.train.poses, self.test.poses])[:, :3, 3]
        farthest = np.abs(places - np.asarray(self.box.centre)).max() / self.box.half
        if self.box.contracted and farthest > self.config.samples / 8:
            raise ValueError(
                f"a camera is {farthest:.3g} times half the box's side away; raise `box` or"
                " `samples`"
            )

    def _check_depths(self) -> None:
        """ValueError where there are no depths, or hardly one is in the box."""
        train = self.train
        if train.depths is None or not any(depth.any() for depth in train.depths):
            raise ValueError(
                "`depth` needs maps that know some depth; frames of a transforms file name them as"
                " depth_file_path"
            )
        view, pixel = self._draw(np.random.default_rng(self.seed), LOOKED_AT)
        origin, direction = train.rays(view, pixel)
        length = train.lengths(view, pixel, direction)[:, None]
        met = np.abs(origin + length * direction - self.box.centre)[length[:, 0] > 0]
        inside = (met < self.box.half).all(1)
        if inside.size and inside.mean() < FEW:
            raise ValueError(
                f"of the depth maps' points {inside.mean():.1%} are in the box (half its side"
                f" {self.box.half:.4g}); depths must be in the units of the poses: whole numbers"
                " times the file's integer_depth_scale, 0.001 if it states none"
            )

    def _carve(self) -> bool:
        """Begin with the hull of the silhouettes, without the pictures that contradict the others,
        and tell whether there are such; ValueError where the hull is empty, or the silhouettes are
        the wrong way round."""
        if inverted(self.train):
            raise ValueError(
                "the pictures are opaque all along their edges and transparent inside: their masks"
                " (alpha) are the wrong way round; invert them, or set `carve` to False"
            )
        cells = self.config.cells
        of_cell = HULL_BYTES + int(4 * DOUBT * len(self.train.poses))
        memory.require(of_cell * cells**3, f"the hull in {cells}^3 cells", "`cells`")
        found = hull(self.train, self.occupancy.centres(), np.sqrt(3) / 2 / cells, self.box)
        if not found.keep.any():
            raise ValueError(
                f"no part of the box (half its side {self.box.half:.4g}, centre"
                f" {point_text(self.box.centre)}) is covered in the pictures; give the scene's"
                " `box` and `centre`, or set `carve` to False"
            )
        if found.contradict:
            names = listed([self.train.name(n) for n in found.culprits])
            whose = f"of {names} contradict the others" if names else "contradict one another"
            left_out = "these pictures are left out" if names else "a few alone carve nothing"
            warnings.warn(
                f"silhouettes {whose}: masks lost something, or poses are wrong; {left_out}",
                stacklevel=3,
            )
        if found.cut:
            warnings.warn(
                f"the pictures show more than the box (half its side {self.box.half:.4g}, centre"
                f" {point_text(self.box.centre)}) holds; a larger `box` would hold it",
                stacklevel=3,
            )
        self.occupancy.carve(found.keep)
        self.train = self.train.without(np.array(found.culprits, int))
        return found.contradict

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
        view, pixel = self._draw(rng, n_rays)
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

    def _draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """n pixels at random, of those to learn: their pictures (n,), and their numbers there."""
        train = self.train
        chosen = rng.integers(0, train.n_pixels, n)
        view, pixel = train.which(chosen)
        if train.counted is None:
            return view, pixel
        others = ~values_at(train.counted, view, pixel)
        while others.any():
            chosen[others] = rng.integers(0, train.n_pixels, others.sum())
            view, pixel = train.which(chosen)
            others = ~values_at(train.counted, view, pixel)
        return view, pixel

    def prepare(self, model: nn.Module, progress: float) -> None:
        """Fade in the levels, and say when doubtful carving is looked at again."""
        self._again = self._doubtful and AGAIN[0] <= progress < AGAIN[1]
        if self.config.coarse_to_fine:
            for grid in _grids(model):
                grid.fade_in(progress / self.config.coarse_to_fine)

    def loss(self, model: RadianceField, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        if len(self.step_samples) % UPDATE_EVERY == 0:
            self.occupancy.update(
                model.density, everything=not self.step_samples, carved=self._again
            )
        rays = (batch["origin"], batch["direction"])
        refine = self.config.refine_poses > 0
        if self.learned and refine:
            rays = self.learned.moved(*rays, batch["view"])
        values, samples = render_rays(
            model, self.occupancy, *rays, batch["jitter"], "depth" in batch, refine
        )
        n, n_rays = parallel.total(int(samples.offsets[-1]), len(values))
        self.step_samples.append(int(n))
        self._rays += n_rays
        self._per_ray = 0.9 * self._per_ray + 0.1 * n / n_rays
        opacity = values[:, -1:]
        colour = values[:, :3]
        behind = batch["behind"]
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
        return self._measure(model, range(len(self.test.poses)))

    def glance(self, model: RadianceField) -> dict[str, float]:
        """Means over the `glanced` test pictures; `views` says how many, where not all."""
        some = {} if len(self.glanced) == len(self.test.poses) else {"views": len(self.glanced)}
        return {**self._measure(model, self.glanced), **some}

    @property
    def glanced(self) -> list[int]:
        """Test pictures, evenly spread, that together have GLANCE pixels; at least one."""
        views = len(self.test.poses)
        n = min(max(1, GLANCE * views // self.test.n_pixels), views)
        return [(2 * k + 1) * views // (2 * n) for k in range(n)]

    def _measure(self, model: RadianceField, chosen: Sequence[int]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for n in self._bar(chosen, "evaluating"):
            truth = self.test.on(n, self.background)
            colour = self._render(model, n)[0]
            counted = self._counted(n)
            for metric in (psnr, ssim, ssim_gaussian):
                found.setdefault(metric.__name__, []).append(metric(truth, colour, counted))
        return {name: float(np.mean(values)) for name, values in found.items()}

    def _bar(self, views: Sequence[int], what: str) -> Iterable[int]:
        """The views, with a bar where they take more than a moment."""
        return tqdm(views, what, disable=not self.progress, unit="view", leave=False, delay=SECONDS)

    def _counted(self, n: int) -> Optional[np.ndarray]:
        """The pixels of test picture n that count; None: all."""
        return None if self.test.counted is None else self.test.counted[n]

    def _render(self, model: RadianceField, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Colours and depth from the camera of test picture n; kept until the model changes."""
        of = hashlib.sha256(self.occupancy.occupied.tobytes())
        for value in model.state_dict().values():
            of.update(value.numpy().tobytes())
        if of.digest() != self._rendered_of:
            self._rendered_of = of.digest()
            self._rendered = {}
        if n in self._rendered:
            return self._rendered[n]
        colour, depth, _ = self.viewer.picture(model, self.test.poses[n], self.test.cameras[n])
        if (len(self._rendered) + 1) * (colour.nbytes + depth.nbytes) <= KEPT_BYTES:
            self._rendered[n] = (colour, depth)
        return colour, depth

    def export(self, model: RadianceField, out_dir: Union[str, os.PathLike]) -> list[Path]:
        """Every test picture, each beside its truth, its error and its depth, a turntable, and
        refined poses."""
        out_dir = Path(out_dir)
        for folder in ("test", "comparison"):
            (out_dir / folder).mkdir(exist_ok=True)
        paths = []
        for n in self._bar(range(len(self.test.poses)), "rendering"):
            truth = self.test.on(n, self.background)
            colour, depth = self._render(model, n)
            counted = self._counted(n)
            error = np.abs(colour - truth).max(axis=2)
            error = error if counted is None else np.where(counted, error, 0.0)
            panels = [
                ("truth", truth),
                (f"{psnr(truth, colour, counted):.2f} dB", colour),
                ("error", picture.heat_map(error, 0.2)),
                ("depth", depth_picture(depth)),
            ]
            name = f"{n:03d}.png"
            paths.append(picture.save(out_dir / "test" / name, colour))
            paths.append(picture.save_panels(out_dir / "comparison" / name, panels))
        if self.learned and self.config.refine_poses:
            paths.append(self._save_poses(self.learned, out_dir / "poses.json"))
        return [*paths, self.viewer.turntable(model, out_dir / "turntable.gif")]

    def _save_poses(self, learned: PerPicture, path: Path) -> Path:
        """Write the refined poses of the training pictures as a transforms file has them."""
        frames = [
            {"file_path": self.train.name(n), "transform_matrix": pose.tolist()}
            for n, pose in enumerate(learned.refined(self.train.poses, self.box))
        ]
        checkpoint.write_json(path, {"frames": frames})
        return path


def _grids(model: nn.Module) -> list[Grid]:
    return [module for module in model.modules() if isinstance(module, Grid)]
