"""Triangle meshes: loaded, mended and described; distances to them; how far two surfaces are
apart."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from jgrid.surface.files import read_mesh
from jgrid.surface.mend import drop_copies, drop_degenerate, orient, weld
from jgrid.surface.parting import SKIN, parting
from jgrid.surface.polygons import area_vectors
from jgrid.surface.winding import Winding, edge_uses

import igl
import numpy as np
import trimesh
from numpy.typing import ArrayLike
from skimage.measure import marching_cubes
from tqdm import tqdm

MOST_FACES = 5_000_000
LONGEST = 0.9  # side of a normalised mesh's bounding box; the rest of the unit cube is air
CHUNK = 2**18  # points per call of libigl, which builds its tree anew in each
PROBES = 2**12  # points at which a mesh's two definitions of inside are compared
DOUBT = 1e-3  # the fraction of them that may differ, or must lie inside
COARSE = 1e-4  # of a mesh's size: steps between coordinates of which a word is said
SPECK = 0.05  # of its size: if nearly all of its surface lies within, of that too
MARGIN = 0.005  # the part of the surface at each end that may lie elsewhere


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface in the unit cube: vertices (V, 3) float64, faces (F, 3) int64, oriented outwards.

    A point x in the cube is at scale x + offset in the user's units. simple: closed and not through
    itself, so that pseudonormals give the sign of the distance; else the winding number does, of
    `hull`, all faces, while `faces` are those of it that part inside from outside. notes: what was
    mended or found, for people; painted: the mesh as its file has it, where that has colours.
    """

    vertices: np.ndarray
    faces: np.ndarray
    hull: np.ndarray
    scale: float
    offset: np.ndarray
    simple: bool
    notes: tuple[str, ...] = ()
    painted: Optional[trimesh.Trimesh] = None

    def colours(self, points: np.ndarray) -> Optional[np.ndarray]:
        """The file's colours (N, 3) in [0, 1] at the nearest point of its faces, for points (N, 3)
        in the user's units; None where it has none."""
        if self.painted is None:
            return None
        corners = np.asarray(self.painted.faces, np.int64)
        places = np.asarray(self.painted.vertices, np.float64)
        _, face, near = igl.point_mesh_squared_distance(points, places, corners)
        share = trimesh.triangles.points_to_barycentric(places[corners[face]], near)
        share = np.where(np.isfinite(share).all(1, keepdims=True), share, 1 / 3)
        own = np.asarray(self.painted.visual.vertex_colors)[corners[face], :3] / 255
        return np.clip(np.einsum("nc,ncx->nx", share, own), 0, 1)

    def signed_distance(self, points: ArrayLike, progress: bool = False) -> np.ndarray:
        """Distances (N,) float64 from points (N, 3) in the cube, negative inside; libigl's exact
        ones."""
        points = np.ascontiguousarray(points, np.float64)
        kind = igl.SIGNED_DISTANCE_TYPE_UNSIGNED
        if self.simple:
            kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        order = _along_a_curve(points)
        distance = np.empty(len(points))
        for i in tqdm(
            range(0, len(points), CHUNK),
            "distances",
            disable=not progress or len(points) <= CHUNK,
            leave=False,
        ):
            rows = order[i : i + CHUNK]
            distance[rows] = igl.signed_distance(points[rows], self.vertices, self.faces, kind)[0]
        if self.simple:
            return distance
        return np.where(self._around(points) > 0.5, -distance, distance)

    def inside(self, points: ArrayLike) -> np.ndarray:
        """Which of the points (N, 3) have a distance <= 0, (N,); of a simple mesh from the
        distances at few places where points are many.

        No surface of it lies within the distance of a place, so that all points there are on its
        side, but for a few in 100,000 where one that counts as simple passes through itself; where
        that decides nothing, cells that hold points are halved. The winding number of other meshes
        also changes sides where there is no surface, so there each point has its distance.
        """
        points = np.asarray(points, np.float64)
        answer = np.zeros(len(points), bool)
        left = np.arange(len(points))
        for cells in (8, 16, 32, 64) if self.simple else ():
            cell = np.clip(points[left] * cells, 0, cells - 1).astype(np.int64)
            number = np.ravel_multi_index(tuple(cell.T), [cells] * 3)
            numbers, which = np.unique(number, return_inverse=True)
            places = (np.stack(np.unravel_index(numbers, [cells] * 3), 1) + 0.5) / cells
            distance = self.signed_distance(places)[which]
            answer[left] = distance < 0
            left = left[np.linalg.norm(points[left] - places[which], axis=1) >= np.abs(distance)]
        answer[left] = self.signed_distance(points[left]) <= 0
        return answer

    def cast(
        self, origin: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where rays from origin (3,) first meet the surface: directions (N, 3) -> points (N, 3),
        whether they do (N,), normals (N, 3)."""
        tree = igl.AABB()
        tree.init(self.vertices, self.faces)
        origins = np.tile(origin, (len(directions), 1))
        face, t, _ = tree.intersect_ray_first(self.vertices, self.faces, origins, directions)
        hit = face >= 0
        points = origin + np.where(hit, t, 0)[:, None] * directions
        cross = area_vectors(self.vertices[self.faces])[face]
        return points, hit, cross / np.linalg.norm(cross, axis=1, keepdims=True)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n points on the surface, even by area, and the unit normals of their faces: (n, 3) and
        (n, 3)."""
        return sample(self.vertices, self.faces, n, rng)

    def bounds(self) -> np.ndarray:
        """The corners of the bounding box: (2, 3)."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    @functools.cached_property
    def _around(self) -> Winding:
        return Winding(self.vertices, self.hull)

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """{"vertices", "faces", "closed", "components", "genus"}; the genus of all components
        together, None where there is none."""
        counts, _ = edge_uses(self.hull)
        parts = int(igl.facet_components(self.hull)[0])
        used = len(np.unique(self.hull))
        closed = bool((counts == 2).all())
        manifold = closed and bool(np.all(igl.is_vertex_manifold(self.hull)))
        euler = used - len(counts) + len(self.hull)
        genus = int(parts - euler // 2) if manifold else None
        return {
            "vertices": used,
            "faces": len(self.hull),
            "closed": closed,
            "components": parts,
            "genus": genus,
        }


def load_mesh(path: Union[str, os.PathLike], progress: bool = False) -> Mesh:
    """A mesh file as `read_mesh` reads it -> Mesh; progress: bars show what takes long. Raises
    ValueError, saying what is wrong with the file."""
    loaded = read_mesh(path, progress)
    mesh = make_mesh(loaded.vertices, loaded.faces, path, loaded.metadata["notes"], progress)
    return replace(mesh, painted=loaded if loaded.visual.kind == "vertex" else None)


def make_mesh(
    vertices: ArrayLike,
    faces: ArrayLike,
    name: Union[str, os.PathLike] = "mesh",
    notes: Sequence[str] = (),
    progress: bool = False,
) -> Mesh:
    """Vertices (V, 3) in any units and faces (F, 3) -> Mesh: welded, without degenerate faces and
    copies, turned outwards part by part, in the unit cube; notes: what is known of it before.

    Raises ValueError where there is no surface or nothing inside it.
    """
    vertices = np.asarray(vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    said = list(notes)
    scale, offset = _frame(vertices, faces, name)
    said += _doubts(vertices, faces)
    with tqdm(total=4, desc="mending", disable=not progress, delay=2, leave=False) as bar:
        vertices, faces = weld((vertices - offset) / scale, faces)
        faces = drop_degenerate(vertices, faces, said)
        if not len(faces):
            raise ValueError(f"{name}: all its faces are degenerate")
        bar.update()
        faces = drop_copies(vertices, faces, said)
        if not len(faces):
            raise ValueError(f"{name}: encloses nothing: its faces are sheets of two sides")
        bar.update()
        faces = orient(vertices, faces, said)
        bar.update()
        around = Winding(vertices, faces)
        simple = _is_simple(vertices, faces, around, name, said)
        bar.update()
        kept = faces
        if not simple:
            vertices, kept = parting(vertices, faces, around, said)
    if not len(kept):
        raise ValueError(f"{name}: no face parts inside from outside")
    return Mesh(vertices, kept, faces, scale, offset, simple, tuple(said))


def gyroid_ball(cells: int = 112, waves: float = 3.0, thickness: float = 0.55) -> Mesh:
    """The subject where no file is given: a ball of which a gyroid leaves a sponge, as a mesh of
    marching cubes."""
    axis = np.linspace(-1.1, 1.1, cells + 1)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    k = waves * np.pi / 2
    gyroid = (
        np.sin(k * x) * np.cos(k * y)
        + np.sin(k * y) * np.cos(k * z)
        + np.sin(k * z) * np.cos(k * x)
    )
    ball = np.sqrt(x**2 + y**2 + z**2) - 1.0
    values = np.maximum((np.abs(gyroid) - thickness) / k, ball)
    vertices, faces, _, _ = marching_cubes(values, 0.0, allow_degenerate=False)
    part = igl.facet_components(faces.astype(np.int64))[1]
    return make_mesh(vertices, faces[part == np.bincount(part).argmax()], "gyroid ball")


def compare(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    n: int = 2**17,
    threshold: float = 1e-3,
    seed: int = 0,
) -> dict[str, float]:
    """How far two surfaces (vertices, faces) are apart: {"chamfer", "f_score", "normal_error_deg"}.

    From n points on each to the nearest point of the other: the mean distance (Chamfer-L1), the
    harmonic mean of the fractions nearer than `threshold`, and the mean angle between the two
    normals, without regard to their sense, in degrees; each the mean of both directions.
    """
    rng = np.random.default_rng(seed)
    distances = []
    fractions = []
    angles = []
    for (vertices, faces), other in ((first, second), (second, first)):
        points, normals = sample(vertices, faces, n, rng)
        distance, face = nearest(*other, points)
        cross = area_vectors(other[0][other[1]])[face]
        length = np.maximum(np.linalg.norm(cross, axis=1), 1e-30)
        cosine = np.abs((cross * normals).sum(1)) / length
        distances.append(distance.mean())
        fractions.append((distance < threshold).mean())
        angles.append(np.degrees(np.arccos(np.minimum(cosine, 1))).mean())
    f_score = 2 * fractions[0] * fractions[1] / max(sum(fractions), 1e-12)
    return {
        "chamfer": float(np.mean(distances)),
        "f_score": float(f_score),
        "normal_error_deg": float(np.mean(angles)),
    }


def iou(inside: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two sets of points, boolean (N,); 1 where both are empty."""
    union = (inside | truth).sum()
    return float((inside & truth).sum() / union) if union else 1.0


def sample(
    vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """n points on the faces, even by area, and the unit normals there: (n, 3) and (n, 3); the next
    integer of `rng` says which."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points, face = trimesh.sample.sample_surface(mesh, n, seed=int(rng.integers(2**63)))
    cross = area_vectors(vertices[faces[face]])
    return np.asarray(points), cross / np.linalg.norm(cross, axis=1, keepdims=True)


def nearest(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(distances (N,), faces (N,)) of the nearest points of a surface."""
    order = _along_a_curve(points)
    squared = np.empty(len(points))
    face = np.empty(len(points), np.int64)
    squared[order], face[order], _ = igl.point_mesh_squared_distance(points[order], vertices, faces)
    return np.sqrt(squared), face


def _frame(
    vertices: np.ndarray, faces: np.ndarray, name: Union[str, os.PathLike]
) -> tuple[float, np.ndarray]:
    """(scale, offset) of the unit cube about a mesh; ValueError where it cannot have one."""
    if not len(faces):
        raise ValueError(f"{name}: no faces")
    if len(faces) > MOST_FACES:
        raise ValueError(
            f"{name}: {len(faces):,} faces, more than {MOST_FACES:,}; simplify it first"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"{name}: a face names a missing vertex")
    bad = ~np.isfinite(vertices[faces]).all((1, 2))
    if bad.any():
        raise ValueError(f"{name}: {bad.sum():,} faces have vertices that are not finite")
    low = vertices[faces].min((0, 1))
    high = vertices[faces].max((0, 1))
    if not 0 < (high - low).max() < np.inf:
        raise ValueError(f"{name}: all vertices lie in one point, or too far apart")
    scale = float((high - low).max() / LONGEST)
    return scale, (low + high) / 2 - scale / 2


def _doubts(vertices: np.ndarray, faces: np.ndarray) -> list[str]:
    """What in a mesh's size and place is likely a mistake made before."""
    corners = vertices[faces]
    low = corners.min((0, 1))
    high = corners.max((0, 1))
    size = (high - low).max()
    said = []
    step = float(np.spacing(np.float32(np.abs([low, high]).max())))
    if step > COARSE * size and (corners == corners.astype(np.float32)).all():
        said.append(
            f"its coordinates have steps of {step:.2g}, {step / size:.2%} of its size: they were"
            " rounded to single precision far from the origin; move it there before exporting"
        )
    centres = corners.mean(1)
    area = np.linalg.norm(area_vectors((corners - low) / size), axis=1)
    main = 0.0
    for axis in centres.T:
        order = np.argsort(axis)
        share = np.cumsum(area[order]) / max(area.sum(), 1e-300)
        ends = axis[order][np.searchsorted(share, [MARGIN, 1 - MARGIN]).clip(0, len(axis) - 1)]
        main = max(main, ends[1] - ends[0])
    if 0 < main < SPECK * size:
        said.append(
            f"{1 - 2 * MARGIN:.0%} of its surface lie within {main / size:.1%} of its size: is"
            " there a stray part far away?"
        )
    return said


def _is_simple(
    vertices: np.ndarray,
    faces: np.ndarray,
    around: Winding,
    name: Union[str, os.PathLike],
    notes: list[str],
) -> bool:
    """Whether a mesh is closed, a manifold and not through itself, so that pseudonormals and the
    winding number, `around`, agree on what is inside; ValueError where nothing is."""
    counts, oriented = edge_uses(faces)
    simple = bool((counts == 2).all() and oriented)
    if not simple:
        many = (counts > 2).sum()
        open_ = (counts == 1).sum()
        notes.append(
            f"not closed or not a manifold ({open_:,} open edges, {many:,} of more than two faces):"
            " inside is where the winding number says so"
        )
    points = _probes(vertices, faces)
    inside = around(points) > 0.5
    if inside.mean() < DOUBT:
        raise ValueError(f"{name}: encloses nothing, so no distance can be negative")
    if not simple:
        return False
    closed = Mesh(vertices, faces, faces, 1.0, np.zeros(3), simple)
    distance = closed.signed_distance(points)
    if ((distance < 0) != inside)[np.abs(distance) > SKIN].mean() <= DOUBT:
        return True
    notes.append("passes through itself or overlaps: inside is where the winding number says so")
    return False


def _probes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Points in the cube and at both sides of the surface, near and less near."""
    rng = np.random.default_rng(0)
    on, normal = sample(vertices, faces, PROBES, rng)
    reach = 10 ** rng.uniform(-3, -1, (PROBES, 1))
    side = np.where(rng.uniform(size=(PROBES, 1)) < 0.5, -1, 1)
    return np.concatenate([rng.uniform(size=(PROBES, 3)), on + reach * side * normal])


def _along_a_curve(points: np.ndarray) -> np.ndarray:
    """An order in which points next to each other are near each other (Morton's): libigl then takes
    half the time."""
    cell = np.clip(np.asarray(points) * 1024, 0, 1023).astype(np.int64)
    for shift, mask in ((16, 0x30000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):
        cell = (cell | cell << shift) & mask
    return np.argsort(cell[:, 0] | cell[:, 1] << 1 | cell[:, 2] << 2)
