"""What a fitted scene gives to other programs: its surface with colours, points of it, its
density."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from jgrid import checkpoint, memory
from jgrid.field import in_chunks
from jgrid.scene.camera import sphere_poses
from jgrid.scene.radiance import RadianceField
from jgrid.scene.render import RAYS, render_rays
from jgrid.scene.viewer import Viewer
from jgrid.surface.isosurface import BLOCK, extract
from jgrid.surface.task import write_surface

import igl
import jittor as jt
import numpy as np
import trimesh
from scipy import ndimage
from tqdm import tqdm

CLIP = 4.0  # of a logarithm: beyond it a density is as good as none, or as any
LOOKS = 12  # from all around, to find the level
LOOK_PIXELS = 2**12  # of each
HOLLOWS = 128  # cells along an axis, in which hollows are looked for
AROUND = 8  # directions from which a point's colour is looked at
AHEAD = 2  # sampling steps before a point, where that look begins
CHUNK = 2**15  # points at once
BLOCK_BYTES = 2**16  # of the mesh in a block, with all that is made of it
CHUNK_BYTES = 2**28  # of the blocks that are looked at at once
CELL_BYTES = 16  # of a density volume, while it is filled and packed
POINT_BYTES = 2**8  # of a point, while its colour is looked at


class Surface(NamedTuple):
    """vertices (V, 3) float64 of the world, faces (F, 3), turned outwards; dropped: how many small
    parts were left out."""

    vertices: np.ndarray
    faces: np.ndarray
    dropped: int = 0

    @property
    def normals(self) -> np.ndarray:
        """Of the vertices, outwards: (V, 3)."""
        return np.array(trimesh.Trimesh(self.vertices, self.faces, process=False).vertex_normals)


class Solid:
    """A fitted scene as a solid in its box: where the density, per unit of the world's length, is
    above a level. What is outside the box, of a contracted one, is left out, and so are cells that
    the viewer takes for empty.

    viewer, model: of `load_viewer`; progress: whether bars show what takes long.
    """

    def __init__(self, viewer: Viewer, model: RadianceField, progress: bool = False):
        self.viewer = viewer
        self.model = model
        self.box = viewer.box
        self.progress = progress

    def density(self, points: np.ndarray) -> np.ndarray:
        """Per unit of the world's length, (N,), at points (N, 3) of the box, which is [0, 1]^3
        here."""
        occupancy = self.viewer.occupancy
        unit = (np.asarray(points, np.float32) - 0.5) * np.float32(self._share) + np.float32(0.5)
        x, y, z = np.clip((unit * occupancy.cells).astype(int), 0, occupancy.cells - 1).T
        there = occupancy.occupied[x + occupancy.cells * (y + occupancy.cells * z)]
        found = np.zeros(len(unit), np.float32)
        found[there] = in_chunks(self.model.density, unit[there]) / self.box.side
        return found

    @property
    def _share(self) -> float:
        """The box's side in the unit cube of the field."""
        return 2 * self.box.half / self.box.side

    def level(self) -> float:
        """The density at which the solid covers as many pixels, seen from all around, as the
        renderings do with an opacity above 1/2; ValueError where nothing is seen."""
        poses = sphere_poses(LOOKS, self.viewer.distance, lowest=-0.9)
        poses[:, :3, 3] += self.box.centre
        camera = self.viewer.camera.smaller(LOOK_PIXELS)
        peaks = []
        opaque = []
        for pose in poses:
            origin, direction = camera.rays(pose)
            reached = np.isfinite(direction).all(1)
            peak, depth = self._along(self.box.to_unit(origin[reached]), direction[reached])
            peaks.append(peak)
            opaque.append(depth > np.log(2))
        share = np.concatenate(opaque).mean()
        level = float(np.quantile(np.concatenate(peaks), 1 - share)) / self.box.side
        if not level > 0:
            raise ValueError("nothing dense is in the box; the scene may need a longer training")
        return level

    def _along(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest density and the optical depth within the box of rays, in the unit cube."""
        occupancy = self.viewer.occupancy
        jitter = jt.full((len(origin),), 0.5)
        offsets, samples = occupancy.march(jt.array(origin), jt.array(direction), jitter)
        peak = np.zeros(len(origin), np.float32)
        depth = np.zeros(len(origin), np.float32)
        if offsets[-1]:
            x = samples(offsets)[0].numpy()
            density = in_chunks(self.model.density, x)
            density[np.abs(x - 0.5).max(1) > self._share / 2] = 0
            some = np.diff(offsets) > 0
            peak[some] = np.maximum.reduceat(density, offsets[:-1][some])
            depth[some] = np.add.reduceat(density, offsets[:-1][some]) * occupancy.step
        return peak, depth

    def surface(
        self,
        level: float,
        resolution: int = 256,
        watertight: bool = False,
        parts: float = 0.0,
        faces: Optional[int] = None,
        hollow: bool = False,
    ) -> Surface:
        """Where the density is `level`: marching cubes of its logarithm on resolution^3 cells of
        the box.

        watertight: closed at the box's border too; parts: ones whose area is less than this share
        of the largest one's are left out; faces: how many of them are left, by quadrics (Garland
        and Heckbert 1997); hollow: whether what nobody sees into keeps its inner surface, about
        which pictures say nothing. ValueError where there is no surface; NotEnough before it takes
        more memory than there is.
        """
        blocks = self._blocks(resolution)
        memory.require(
            CHUNK_BYTES + BLOCK_BYTES * len(blocks),
            f"a surface of {resolution}^3 cells",
            "`resolution`",
        )
        filled = None if hollow else self._hollows(level)

        def below(points: np.ndarray) -> np.ndarray:
            density = np.maximum(self.density(points), 1e-30)
            value = np.clip(np.log(level) - np.log(density), -CLIP, CLIP)
            if filled is not None:
                cell = np.minimum((points * HOLLOWS).astype(int), HOLLOWS - 1)
                value[filled[tuple(cell.T)]] = -CLIP
            if watertight:  # half a cell before the border
                past = (np.abs(points - 0.5).max(1) - 0.5) * resolution + 0.5
                value = np.maximum(value, 2 * CLIP * past)
            return value

        vertices, triangles = extract(below, resolution, progress=self.progress, blocks=blocks)
        if not len(triangles):
            raise ValueError(
                f"there is no surface at a density of {level:.4g} per unit of length; try another"
                " `level`"
            )
        world = np.asarray(self.box.centre) + (vertices * 2 - 1) * self.box.half
        triangles, dropped = _large(world, triangles, parts)
        if faces is not None and faces < len(triangles):
            world, triangles = igl.qslim(world, triangles.astype(np.int32), faces)[:2]
        return Surface(*_used(world, triangles), dropped)

    def _hollows(self, level: float) -> np.ndarray:
        """Cells, of HOLLOWS^3, of air that neither the box's border nor the cameras' distance
        reaches, and next to it."""
        air = self._lattice(HOLLOWS) < level
        part = ndimage.label(air)[0]
        open_ = np.zeros(part.max() + 1, bool)
        for axis in range(3):
            open_[part.take([0, -1], axis)] = True
        places = sphere_poses(LOOKS, self.viewer.distance / (2 * self.box.half), lowest=-0.9)
        cell = np.floor((places[:, :3, 3] + 0.5) * HOLLOWS).astype(int)
        cell = cell[((cell >= 0) & (cell < HOLLOWS)).all(1)]
        open_[part[tuple(cell.T)]] = True
        outside = air & open_[part]
        return ndimage.binary_dilation(air & ~outside) & ~ndimage.binary_dilation(outside)

    def _lattice(self, n: int) -> np.ndarray:
        """The density in the middles of n^3 cells of the box, (n, n, n) in x, y and z."""
        middle = ((np.arange(n) + 0.5) / n).astype(np.float32)
        plane = np.stack(np.meshgrid(middle, middle, indexing="ij"), -1).reshape(-1, 2)
        density = np.empty([n] * 3, np.float32)
        for i in tqdm(range(n), "density", disable=not self.progress, leave=False, delay=2):
            points = np.concatenate([np.full((len(plane), 1), middle[i]), plane], 1)
            density[i] = self.density(points).reshape(n, n)
        return density

    def _blocks(self, resolution: int) -> np.ndarray:
        """Blocks (B, 3) of BLOCK^3 cells of the box that occupied cells overlap."""
        cells = self.viewer.occupancy.cells
        edge = ((np.arange(cells + 1) / cells) - 0.5) / self._share + 0.5
        block = np.arange(-(-resolution // BLOCK)) * BLOCK / resolution
        end = np.minimum(block + BLOCK / resolution, 1)
        overlap = (edge[:-1] < end[:, None]) & (edge[1:] > block[:, None])
        found = self.viewer.occupancy.occupied.reshape([cells] * 3).T.astype(np.float32)
        for _ in range(3):  # each puts the next axis first
            found = np.tensordot(found, overlap.T.astype(np.float32), (0, 0))
        return np.argwhere(found > 0)

    def colours(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """What is seen of surface points (N, 3) of the world: (N, 3) in [0, 1], the mean over
        AROUND directions about the normal, as many as Lambert's law would have of each; rays begin
        AHEAD steps before the point, so that it is the rendering's colour."""
        k = np.arange(AROUND) + 0.5
        height = 1 - 2 * k / AROUND
        angle = np.pi * (3 - np.sqrt(5)) * k
        side = np.sqrt(1 - height**2)
        sphere = np.stack([side * np.cos(angle), side * np.sin(angle), height], 1)
        found = np.empty((len(points), 3), np.float32)
        starts = range(0, len(points), CHUNK)
        for i in tqdm(starts, "colours", disable=not self.progress, leave=False, delay=2):
            unit = self.box.to_unit(points[i : i + CHUNK])
            seen = np.zeros((len(unit), 4), np.float32)
            for towards in sphere:
                # 0.99: never of length 0
                back = normals[i : i + CHUNK] + 0.99 * towards
                back /= np.linalg.norm(back, axis=1, keepdims=True)
                start = unit + AHEAD * self.viewer.occupancy.step * back
                seen += in_chunks(self._look, np.concatenate([start, -back], 1), RAYS)
            found[i : i + CHUNK] = seen[:, :3] / np.maximum(seen[:, 3:], 1e-6)
        return np.clip(found, 0, 1)

    def _look(self, rays: jt.Var) -> jt.Var:
        """Colour and opacity (R, 4) along rays (R, 6)."""
        jitter = jt.full((rays.shape[0],), 0.5)
        return render_rays(self.model, self.viewer.occupancy, rays[:, :3], rays[:, 3:], jitter)[0]

    def volume(self, resolution: int) -> dict[str, Any]:
        """{"density" (N, N, N) float32 per unit of length, "origin" (3,), "spacing", "axes"}:
        density[i, j, k] is at origin + spacing (i, j, k), the middle of a cell, in x, y and z of
        the world."""
        memory.require(
            CELL_BYTES * resolution**3, f"a density of {resolution}^3 cells", "`resolution`"
        )
        spacing = 2 * self.box.half / resolution
        return {
            "density": self._lattice(resolution),
            "origin": np.asarray(self.box.centre) - self.box.half + spacing / 2,
            "spacing": spacing,
            "axes": "density[i, j, k] is at origin + spacing * (i, j, k) = (x, y, z)",
        }

    def cloud(self, surface: Surface, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """n points of a surface, even by area, and their colours: (n, 3) and (n, 3)."""
        memory.require(POINT_BYTES * n, f"{n:,} points", "`points`")
        mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
        points, face = trimesh.sample.sample_surface(mesh, n, seed=seed)
        points = np.asarray(points)
        return points, self.colours(points, mesh.face_normals[face])


def _large(vertices: np.ndarray, faces: np.ndarray, parts: float) -> tuple[np.ndarray, int]:
    """The faces of parts with at least this share of the largest one's area; how many have less."""
    part = igl.facet_components(faces)[1]
    area = np.bincount(part, trimesh.triangles.area(vertices[faces]))
    kept = area >= parts * area.max()
    return faces[kept[part]], int((~kept).sum())


def _used(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the vertices of no face."""
    used, place = np.unique(faces, return_inverse=True)
    return np.asarray(vertices)[used], place.reshape(faces.shape)


def save_volume(path: Union[str, os.PathLike], volume: dict[str, Any]) -> Path:
    """Write `Solid.volume` as a compressed NPZ file; returns the path."""
    with checkpoint.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **volume)
    return Path(path)


def save_points(path: Union[str, os.PathLike], points: np.ndarray, colours: np.ndarray) -> Path:
    """Write points (N, 3) and their colours as a binary PLY file; returns the path."""
    return write_surface(path, points, np.zeros((0, 3), np.int64), colours)
