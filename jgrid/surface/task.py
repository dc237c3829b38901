"""Fitting a surface: f(x) = signed distance of x to a mesh."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Callable, Optional, Union

from jgrid import checkpoint, picture
from jgrid.config import MOST, ArgumentError, Positive, Share, Weight, config
from jgrid.field import Domain, field_from_dict, in_chunks
from jgrid.surface.isosurface import Function, Surface, extract, preview
from jgrid.surface.mesh import Mesh, compare, iou
from jgrid.surface.ply import ply_bytes
from jgrid.task import AbstractTask, Epochs

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from typing_extensions import Literal

EVALUATED = 2**20  # uniform points of `evaluate`
NEAR = 2**17  # its points near the surface
NEAR_SPREAD = 0.01  # their distance from it, a standard deviation
SLICE = 384  # pixels along the sides of a slice
BORDER = 0.01  # of the cube, in which no fitted surface lies
ISO_LINES = 0.05  # apart, in units of the cube
POINT_BYTES = 240  # of a point of the pool while it is drawn
# pools of points on the surface, which cost nothing: their distance is known
SURFACES = 8

Noise = Literal["gaussian", "logistic"]
Loss = Literal["l1", "relative", "mape", "clamp"]


@config
class SDFConfig:
    """What a field of distances learns from: half of the points on the surface, three eighths near
    it, one eighth anywhere."""

    pool: Annotated[int, Interval(ge=0, le=MOST)] = 2**19
    """Points drawn once, whose distances are computed before training and used again, those on the
    surface after eight epochs; 0: fresh points at every step, which is slow."""
    noise: Noise = "gaussian"
    """How points near the surface are spread about points on it."""
    spread: Positive = 0.01
    """Scale of that noise along each axis, in units of the cube."""
    wander: Share = 0.5
    """How far the pool's points anywhere move at random at every step, as a part of their distance
    to the surface, by which that distance then changes at most: the loss forgives as much. 0: they
    stay."""
    loss: Loss = "l1"
    """l1: |f - d|; relative: (f - d)^2 / (d^2 + 0.01); mape: |f - d| / (|d| + 0.01); clamp: |f -
    d|, both cut at the entry clamp."""
    clamp: Positive = 0.1
    """Where the clamp loss cuts distances."""
    eikonal: Weight = 0.0
    """Weight of | |grad f| - 1 |, the mean over all points; not 0 makes a step several times
    slower."""
    normal: Weight = 0.0
    """Weight of |grad f - n|, the mean over points on the surface, n its normal there; slow
    likewise."""

    def check(self) -> None:
        if 0 < self.pool < 8:
            raise ArgumentError("pool", f"must be 0 or at least 8, got {self.pool}")


class SDFTask(AbstractTask):
    """Signed distances to a mesh in the unit cube, by SDFConfig; seed: of the points; progress:
    whether a bar shows how far the pool's distances are."""

    dim = 3
    n_out = 1
    metric = "iou"
    start = 0.0

    def __init__(
        self,
        mesh: Mesh,
        config: SDFConfig = SDFConfig(),
        seed: int = 0,
        progress: bool = False,
    ):
        self.mesh = mesh
        self.config = config
        self.seed = seed
        self._pool: dict[str, np.ndarray] = {}
        self._surfaces: list[dict[str, np.ndarray]] = []
        if config.pool:
            self._pool = self._draw(np.random.default_rng((seed, 2**32)), config.pool, progress)
            rng = np.random.default_rng((seed, 2**36))
            n_on = _shares(config.pool)[0]
            self._surfaces = [self._on_surface(rng, n_on) for _ in range(SURFACES - 1)]
        self._epochs = Epochs(config.pool, seed)

    def place(self, n: int) -> np.ndarray:
        """n nodes near the surface."""
        rng = np.random.default_rng((self.seed, 2**33))
        return np.clip(self._near(rng, n, 0.02), 0, 1).astype(np.float32)

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        if self._pool:
            batch = self._from_pool(step, n)
        else:
            batch = self._draw(np.random.default_rng((self.seed, step)), n)
        if self.config.normal:
            on = (batch["normal"] ** 2).sum(1) > 0.5
            # a mean with these weights is one over the surface
            batch["on"] = (on * (len(on) / max(on.sum(), 1))).astype(np.float32)
        variables = {name: jt.array(values) for name, values in batch.items()}
        return {
            name: v if name == "x" and self._slopes else v.stop_grad()
            for name, v in variables.items()
        }

    def _from_pool(self, step: int, n: int) -> dict[str, np.ndarray]:
        chosen = self._epochs.rows(step, n)
        batch = {
            name: values.take(chosen, axis=0)
            for name, values in self._pool.items()
            if name != "normal" or self.config.normal
        }
        n_on, n_near = _shares(self.config.pool)
        turn = self._epochs.epoch % SURFACES
        if turn:  # other points on the surface than in the epoch before
            on = np.flatnonzero(chosen < n_on)
            for name, values in self._surfaces[turn - 1].items():
                if name in batch:
                    batch[name][on] = values[chosen[on]]
        if self.config.wander:
            rng = np.random.default_rng((self.seed, 2**35, step))
            self._wander(rng, batch, np.flatnonzero(chosen >= n_on + n_near))
        return batch

    def _wander(
        self, rng: np.random.Generator, batch: dict[str, np.ndarray], anywhere: np.ndarray
    ) -> None:
        """Move these points: a distance to a surface changes by no more than its point moves."""
        way = rng.normal(size=(len(anywhere), 3))
        reach = self.config.wander * rng.uniform(size=len(anywhere))
        far = reach * np.abs(batch["distance"][anywhere])
        way *= (far / np.linalg.norm(way, axis=1))[:, None]
        batch["slack"] = np.zeros_like(batch["distance"])
        batch["slack"][anywhere] = far
        batch["x"][anywhere] = np.clip(batch["x"][anywhere] + way, 0, 1)

    def _draw(
        self, rng: np.random.Generator, n: int, progress: bool = False
    ) -> dict[str, np.ndarray]:
        """n points of the three kinds, in the order on, near, anywhere: x (n, 3), distance (n,),
        normal (n, 3), 0 off the surface."""
        n_on, n_near = _shares(n)
        on = self._on_surface(rng, n_on)
        near = self._near(rng, n_near, self.config.spread, self.config.noise)
        anywhere = rng.uniform(size=(n - n_on - n_near, 3))
        off = np.clip(np.concatenate([near, anywhere]), 0, 1).astype(np.float32)
        arrays = {
            "x": np.concatenate([on["x"], off]),
            "distance": np.concatenate([np.zeros(n_on), self.mesh.signed_distance(off, progress)]),
            "normal": np.concatenate([on["normal"], np.zeros((n - n_on, 3))]),
        }
        return {name: values.astype(np.float32) for name, values in arrays.items()}

    def _on_surface(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        """n points on the surface and their normals."""
        x, normal = self.mesh.sample(n, rng)
        return {"x": x.astype(np.float32), "normal": normal.astype(np.float32)}

    def _near(
        self, rng: np.random.Generator, n: int, spread: float, noise: Noise = "gaussian"
    ) -> np.ndarray:
        on, _ = self.mesh.sample(n, rng)
        draw = rng.logistic if noise == "logistic" else rng.normal
        return on + draw(scale=spread, size=(n, 3))

    @property
    def _slopes(self) -> bool:
        return self.config.eikonal > 0 or self.config.normal > 0

    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        kind = self.config.loss
        f = model(batch["x"])[:, 0]
        error = pointwise_loss(
            kind, f, batch["distance"], self.config.clamp, batch.get("slack", 0.0)
        )
        losses: dict[str, jt.Var] = {kind: error}
        if self._slopes:
            slope = jt.grad(f.sum(), batch["x"])
        if self.config.eikonal:
            losses["eikonal"] = self.config.eikonal * (_length(slope) - 1).abs().mean()
        if self.config.normal:
            away = _length(slope - batch["normal"]) * batch["on"]
            losses["normal"] = self.config.normal * away.mean()
        return losses

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        uniform, inside, near, distance = self._truth
        function = values_of(model)
        f = function(near)
        return {
            "iou": iou(function(uniform) <= 0, inside),
            "iou_near": iou(f <= 0, distance <= 0),
            "sdf_error": float(np.abs(f - distance).mean()),
        }

    @functools.cached_property
    def _truth(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Uniform points of the bounding box and which are inside, points near the surface and
        their distances; the same whatever the seed."""
        rng = np.random.default_rng(2**34)
        low, high = self.mesh.bounds()
        uniform = rng.uniform(low, high, (EVALUATED, 3)).astype(np.float32)
        near = np.clip(self._near(rng, NEAR, NEAR_SPREAD), 0, 1).astype(np.float32)
        return uniform, self.mesh.inside(uniform), near, self.mesh.signed_distance(near)

    def measure(self, surface: Surface) -> Mapping[str, Optional[float]]:
        """`mesh.compare` of an extracted surface (vertices, faces) with the mesh; None for each
        where there is none."""
        if not len(surface[1]):
            return dict.fromkeys(("chamfer", "f_score", "normal_error_deg"))
        return compare(surface, (self.mesh.vertices, self.mesh.faces))

    def export(
        self,
        model: nn.Module,
        out_dir: Union[str, os.PathLike],
        surface: Optional[Surface] = None,
        up: int = 1,
    ) -> list[Path]:
        """The surface in the user's units, with the colours of the mesh's file where it has any,
        the same coloured by its error, pictures of both and of a slice; surface: None extracts it;
        up: the axis that points up in the pictures."""
        out_dir = Path(out_dir)
        function = values_of(model)
        mesh = self.mesh
        vertices, faces = surface_of(model, 256) if surface is None else surface
        error = np.abs(mesh.signed_distance(vertices))
        top = float(np.quantile(error, 0.99)) if len(error) else 1.0

        def heat_at(points: np.ndarray) -> np.ndarray:
            return picture.heat(np.abs(mesh.signed_distance(points)), top) * 0.9 + 0.1

        bounds = mesh.bounds()
        target = preview(mesh.signed_distance, bounds, up=up, cast=mesh.cast)
        fit = preview(function, bounds, up=up)
        error_map = picture.with_scale(preview(function, bounds, up=up, colour=heat_at), top)
        panels = [("target", target), ("fit", fit), ("distance to the target", error_map)]
        slices = [
            ("target", slice_through(mesh.signed_distance, up)),
            ("fit", slice_through(function, up)),
        ]
        outside = vertices * mesh.scale + mesh.offset
        coloured = picture.heat(error, top)
        return [
            write_surface(out_dir / "mesh.ply", outside, faces, mesh.colours(outside)),
            write_surface(out_dir / "error_map.ply", outside, faces, coloured),
            picture.save(out_dir / "prediction.png", fit),
            picture.save_panels(out_dir / "comparison.png", panels),
            picture.contours(out_dir / "slice.png", slices, ISO_LINES),
        ]


def load_model(path: Union[str, os.PathLike]) -> tuple[nn.Module, float, list[float]]:
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


def values_of(model: Callable[[jt.Var], jt.Var]) -> Function:
    """A field as a function of numpy points (N, 3) -> (N,), for `isosurface`."""
    return lambda points: in_chunks(model, points)[:, 0]


def surface_of(
    model: Callable[[jt.Var], jt.Var], resolution: int, progress: bool = False
) -> Surface:
    """The field's zero set as a closed mesh in the cube (vertices, faces): what reaches the last
    BORDER of the cube is cut off there.

    A mesh that was fitted ends before; specks of a field that knows little of the cube's border
    would leave the mesh open.
    """
    function = values_of(model)

    def cut(points: np.ndarray) -> np.ndarray:
        return np.maximum(function(points), np.abs(points - 0.5).max(1) - (0.5 - BORDER))

    return extract(cut, resolution, progress=progress)


def write_surface(
    path: Union[str, os.PathLike],
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: Optional[np.ndarray] = None,
) -> Path:
    """A mesh as a binary PLY file, colours (V, 3) in [0, 1] of its vertices; returns the path.

    Coordinates are float32; or double, where that loses more than a thousandth of a cell, which is
    taken for a 256th of the mesh or for the median edge, whichever is shorter.
    """
    vertices = np.asarray(vertices, np.float64)
    double = False
    if len(faces):
        edges = np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=2)
        cell = min(np.ptp(vertices, axis=0).max() / 256, np.median(edges))
        double = bool(np.abs(vertices - vertices.astype(np.float32)).max() > cell / 1000)
    levels = None if colours is None else np.round(255 * colours).astype(np.uint8)
    with checkpoint.atomic_path(path) as temporary:
        temporary.write_bytes(ply_bytes(vertices, faces, levels, double))
    return Path(path)


def slice_through(function: Function, up: int, at: float = 0.5) -> np.ndarray:
    """Values on the plane across the cube that looks along the axis after `up`: (SLICE, SLICE), up
    upwards."""
    axis = (np.arange(SLICE) + 0.5) / SLICE
    points = np.full((SLICE, SLICE, 3), at, np.float32)
    points[..., up] = axis[:, None]
    points[..., (up + 2) % 3] = axis[None, :]
    return np.asarray(function(points.reshape(-1, 3))).reshape(SLICE, SLICE)


def pointwise_loss(
    kind: Loss,
    f: jt.Var,
    d: jt.Var,
    clamp: float = 0.1,
    slack: Union[float, jt.Var] = 0.0,
) -> jt.Var:
    """The mean of one of SDFConfig's losses over f and d, (N,) each, where |f - d| may be as large
    as `slack` for nothing."""
    if kind == "clamp":
        f = f.clamp(-clamp, clamp)
        d = d.clamp(-clamp, clamp)
    error = jt.maximum((f - d).abs() - slack, 0.0)
    if kind == "relative":
        return (error**2 / (d**2 + 0.01)).mean()
    return (error / (d.abs() + 0.01) if kind == "mape" else error).mean()


def _shares(n: int) -> tuple[int, int]:
    """How many of n points lie on the surface and how many near it."""
    return n // 2, 3 * n // 8


def _length(v: jt.Var) -> jt.Var:
    """|v| of (N, 3), with a gradient at 0 too."""
    return (v.sqr().sum(1) + 1e-12).sqrt()
