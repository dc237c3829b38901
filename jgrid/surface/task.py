"""Fitting a surface: f(x) = signed distance of x to a mesh."""

from dataclasses import dataclass
from pathlib import Path

from jgrid import checkpoint, picture
from jgrid.checkpoint import atomic_path
from jgrid.field import Domain, field_from_dict, in_chunks
from jgrid.surface.isosurface import extract, preview
from jgrid.surface.mesh import compare, iou
from jgrid.task import AbstractTask, Epochs

import jittor as jt
import numpy as np
import trimesh
from typing_extensions import Literal

EVALUATED = 2**20  # uniform points of `evaluate`
NEAR = 2**17  # its points near the surface
NEAR_SPREAD = 0.01  # their distance from it, a standard deviation
SLICE = 384  # pixels along the sides of a slice
BORDER = 0.01  # of the cube, in which no fitted surface lies
ISO_LINES = 0.05  # apart, in units of the cube
POINT_BYTES = 160  # of a point of the pool while it is drawn


@dataclass(frozen=True)
class SDFConfig:
    """What a field of distances learns from: half of the points on the surface, three eighths near
    it, one eighth anywhere."""

    pool: int = 2**19
    """Points drawn once, whose distances are computed before training and used again; 0: fresh
    points at every step, which is slow."""
    noise: Literal["gaussian", "logistic"] = "gaussian"
    """How points near the surface are spread about points on it."""
    spread: float = 0.01
    """Scale of that noise along each axis, in units of the cube."""
    wander: float = 0.5
    """How far the pool's points anywhere move at random at every step, as a part of their distance
    to the surface, by which that distance then changes at most: the loss forgives as much. 0: they
    stay."""
    loss: Literal["l1", "relative", "mape", "clamp"] = "l1"
    """l1: |f - d|; relative: (f - d)^2 / (d^2 + 0.01); mape: |f - d| / (|d| + 0.01); clamp: |f -
    d|, both cut at --sdf.clamp."""
    clamp: float = 0.1
    """Where the clamp loss cuts distances."""
    eikonal: float = 0.0
    """Weight of | |grad f| - 1 |, the mean over all points; not 0 makes a step several times
    slower."""
    normal: float = 0.0
    """Weight of |grad f - n|, the mean over points on the surface, n its normal there; slow
    likewise."""

    def __post_init__(self):
        if self.pool < 0 or 0 < self.pool < 8:
            raise ValueError(f"--sdf.pool must be 0 or at least 8, got {self.pool}")
        if not 0 <= self.wander < 1:
            raise ValueError(f"--sdf.wander must be from 0 to below 1, got {self.wander}")
        for name, least in (
            ("spread", True),
            ("clamp", True),
            ("eikonal", False),
            ("normal", False),
        ):
            value = getattr(self, name)
            if not (0 < value < np.inf or value == 0 and not least):
                raise ValueError(
                    f"--sdf.{name} must be {'positive' if least else 'at least 0'}, got {value}"
                )


def values_of(model):
    """A field as a function of numpy points (N, 3) -> (N,), for `isosurface`."""
    return lambda points: in_chunks(model, points)[:, 0]


def load_model(path):
    """(model, scale, offset (3,)) of a file of fit_sdf; ValueError, naming what is wrong, where it
    is another."""
    tensors, saved = checkpoint.read(path)
    try:
        scale = saved["scale"]
        offset = saved["offset"]
        model = field_from_dict(saved["field"]).build(Domain(3, 1))
    except KeyError as error:
        raise ValueError(f"{path}: not a model of fit_sdf ({error} is missing)") from None
    numbers = [scale, *offset] if isinstance(offset, list) and len(offset) == 3 else [None]
    if not all(isinstance(v, (int, float)) and abs(v) < 1e300 for v in numbers) or not scale > 0:
        raise ValueError(f"{path}: scale and offset are not a positive number and three numbers")
    checkpoint.assign(model, tensors, str(path))
    return model, float(scale), [float(v) for v in offset]


def surface_of(model, resolution, progress=False):
    """The field's zero set as a closed mesh in the cube (vertices, faces): what reaches the last
    BORDER of the cube is cut off there.

    A mesh that was fitted ends before; specks of a field that knows little of the cube's border
    would leave the mesh open."""
    function = values_of(model)
    return extract(
        lambda points: np.maximum(function(points), np.abs(points - 0.5).max(1) - (0.5 - BORDER)),
        resolution,
        progress=progress,
    )


def pointwise_loss(kind, f, d, clamp=0.1, slack=0.0):
    """The mean of one of SDFConfig's losses over f and d, (N,) each, where |f - d| may be as large
    as `slack` for nothing."""
    if kind == "clamp":
        f = f.clamp(-clamp, clamp)
        d = d.clamp(-clamp, clamp)
    error = jt.maximum((f - d).abs() - slack, 0.0)
    if kind == "relative":
        return (error**2 / (d**2 + 0.01)).mean()
    return (error / (d.abs() + 0.01) if kind == "mape" else error).mean()


def _length(v):
    """|v| of (N, 3), with a gradient at 0 too."""
    return (v.sqr().sum(1) + 1e-12).sqrt()


def write_surface(path, vertices, faces, colours=None):
    """A mesh as a PLY file, colours (V, 3) in [0, 1] of its vertices; returns the path."""
    levels = None if colours is None else np.round(255 * colours).astype(np.uint8)
    with atomic_path(path) as temporary:
        trimesh.Trimesh(vertices, faces, vertex_colors=levels, process=False).export(
            temporary, file_type="ply"
        )
    return Path(path)


def slice_through(function, up, at=0.5):
    """Values on the plane across the cube that looks along the axis after `up`: (SLICE, SLICE), up
    upwards."""
    axis = (np.arange(SLICE) + 0.5) / SLICE
    points = np.full((SLICE, SLICE, 3), at, np.float32)
    points[..., up] = axis[:, None]
    points[..., (up + 2) % 3] = axis[None, :]
    return np.asarray(function(points.reshape(-1, 3))).reshape(SLICE, SLICE)


class SDFTask(AbstractTask):
    """Signed distances to a mesh in the unit cube, by SDFConfig; seed: of the points."""

    dim = 3
    n_out = 1
    metric = "iou"
    start = 0.0

    def __init__(self, mesh, config=SDFConfig(), seed=0, progress=False):
        self.mesh = mesh
        self.config = config
        self.seed = seed
        self._pool = (
            self._draw(np.random.default_rng((seed, 2**32)), config.pool, progress)
            if config.pool
            else None
        )
        self._epochs = Epochs(config.pool, seed)
        self._truth = None

    def place(self, n):
        """n nodes near the surface."""
        rng = np.random.default_rng((self.seed, 2**33))
        return np.clip(self._near(rng, n, 0.02), 0, 1).astype(np.float32)

    def _near(self, rng, n, spread, noise="gaussian"):
        on, _ = self.mesh.sample(n, rng)
        return on + (rng.logistic if noise == "logistic" else rng.normal)(scale=spread, size=(n, 3))

    def _draw(self, rng, n, progress=False):
        """n points of the three kinds, in the order on, near, anywhere: x (n, 3), distance (n,),
        normal (n, 3), 0 off the surface."""
        n_on = n // 2
        n_near = 3 * n // 8
        on, normal = self.mesh.sample(n_on, rng)
        off = np.concatenate(
            [
                self._near(rng, n_near, self.config.spread, self.config.noise),
                rng.uniform(size=(n - n_on - n_near, 3)),
            ]
        )
        off = np.clip(off, 0, 1).astype(np.float32)
        distance = np.concatenate([np.zeros(n_on), self.mesh.signed_distance(off, progress)])
        normal = np.concatenate([normal, np.zeros((n - n_on, 3))])
        arrays = {"x": np.concatenate([on, off]), "distance": distance, "normal": normal}
        return {name: values.astype(np.float32) for name, values in arrays.items()}

    def sample(self, step, n):
        if self._pool is None:
            batch = self._draw(np.random.default_rng((self.seed, step)), n)
        else:
            total = self.config.pool
            chosen = self._epochs.rows(step, n)
            batch = {
                name: values.take(chosen, axis=0)
                for name, values in self._pool.items()
                if name != "normal" or self.config.normal
            }
            if self.config.wander:
                self._wander(
                    np.random.default_rng((self.seed, 2**35, step)),
                    batch,
                    np.flatnonzero(chosen >= total // 2 + 3 * total // 8),
                )
        if self.config.normal:
            on = (batch["normal"] ** 2).sum(1) > 0.5
            # a mean with these weights is one over the surface
            batch["on"] = (on * (len(on) / max(on.sum(), 1))).astype(np.float32)
        batch = {name: jt.array(values) for name, values in batch.items()}
        return {
            name: v if name == "x" and self._slopes else v.stop_grad() for name, v in batch.items()
        }

    def _wander(self, rng, batch, anywhere):
        """Move these points: a distance to a surface changes by no more than its point moves."""
        way = rng.normal(size=(len(anywhere), 3))
        far = (
            self.config.wander
            * rng.uniform(size=len(anywhere))
            * np.abs(batch["distance"][anywhere])
        )
        way *= (far / np.linalg.norm(way, axis=1))[:, None]
        batch["slack"] = np.zeros_like(batch["distance"])
        batch["slack"][anywhere] = far
        batch["x"][anywhere] = np.clip(batch["x"][anywhere] + way, 0, 1)

    @property
    def _slopes(self):
        return self.config.eikonal > 0 or self.config.normal > 0

    def loss(self, model, batch):
        f = model(batch["x"])[:, 0]
        losses = {
            self.config.loss: pointwise_loss(
                self.config.loss, f, batch["distance"], self.config.clamp, batch.get("slack", 0.0)
            )
        }
        if self._slopes:
            slope = jt.grad(f.sum(), batch["x"])
        if self.config.eikonal:
            losses["eikonal"] = self.config.eikonal * (_length(slope) - 1).abs().mean()
        if self.config.normal:
            losses["normal"] = (
                self.config.normal * (_length(slope - batch["normal"]) * batch["on"]).mean()
            )
        return losses

    def evaluate(self, model):
        if self._truth is None:
            rng = np.random.default_rng(2**34)  # the same points whatever the seed
            low, high = self.mesh.bounds()
            uniform = rng.uniform(low, high, (EVALUATED, 3)).astype(np.float32)
            near = np.clip(self._near(rng, NEAR, NEAR_SPREAD), 0, 1).astype(np.float32)
            self._truth = uniform, self.mesh.inside(uniform), near, self.mesh.signed_distance(near)
        function, (uniform, inside, near, distance) = values_of(model), self._truth
        f = function(near)
        return {
            "iou": iou(function(uniform) <= 0, inside),
            "iou_near": iou(f <= 0, distance <= 0),
            "sdf_error": float(np.abs(f - distance).mean()),
        }

    def measure(self, surface):
        """`mesh.compare` of an extracted surface (vertices, faces) with the mesh; None for each
        where there is none."""
        if not len(surface[1]):
            return dict.fromkeys(("chamfer", "f_score", "normal_error_deg"))
        return compare(surface, (self.mesh.vertices, self.mesh.faces))

    def export(self, model, out_dir, surface=None, up=1):
        """The surface in the user's units, the same coloured by its error, pictures of both and of
        a slice; surface: None extracts it."""
        out_dir = Path(out_dir)
        function = values_of(model)
        mesh = self.mesh
        vertices, faces = surface_of(model, 256) if surface is None else surface
        error = np.abs(mesh.signed_distance(vertices))
        top = float(np.quantile(error, 0.99)) if len(error) else 1.0

        def heat_at(points):
            return picture.heat(np.abs(mesh.signed_distance(points)), top) * 0.9 + 0.1

        bounds = mesh.bounds()
        target = preview(mesh.signed_distance, bounds, up=up, cast=mesh.cast)
        fit = preview(function, bounds, up=up)
        error_map = picture.with_scale(preview(function, bounds, up=up, colour=heat_at), top)
        panels = [("target", target), ("fit", fit), ("distance to the target", error_map)]
        return [
            write_surface(out_dir / "mesh.ply", vertices * mesh.scale + mesh.offset, faces),
            write_surface(
                out_dir / "error_map.ply",
                vertices * mesh.scale + mesh.offset,
                faces,
                picture.heat(error, top),
            ),
            picture.save(out_dir / "prediction.png", fit),
            picture.save(out_dir / "comparison.png", picture.side_by_side(panels)),
            picture.contours(
                out_dir / "slice.png",
                [
                    ("target", slice_through(mesh.signed_distance, up)),
                    ("fit", slice_through(function, up)),
                ],
                ISO_LINES,
            ),
        ]
