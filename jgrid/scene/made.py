"""Scenes made from a mesh: lit, patterned, photographed from all around."""

import os
import warnings
from pathlib import Path
from typing import Union

from jgrid.scene.camera import Camera, sphere_poses
from jgrid.scene.files import save_views
from jgrid.scene.surroundings import surroundings as seen_around
from jgrid.scene.views import Views
from jgrid.surface.files import read_mesh

import igl
import numpy as np
import trimesh


def make_scene(
    folder: Union[str, os.PathLike],
    mesh: trimesh.Trimesh,
    size: int = 100,
    train: int = 40,
    test: int = 8,
    distance: float = 3.2,
    angle: float = 0.7,
    surroundings: bool = False,
    depths: bool = False,
    moving: bool = False,
) -> Path:
    """Render a mesh from all around and save it as a scene: exact cameras and exact truth.

    size: pixels along a side; train, test: pictures of each split; distance: of the cameras from
    the middle; angle: that they see, in radians; surroundings: with ground, balls, hills and sky;
    depths: with depth maps of the mesh; moving: a ball is elsewhere in each training picture, and
    masks leave it out. Returns the folder.
    """
    scene = MeshScene(mesh, surroundings)
    focal = size / 2 / np.tan(angle / 2)
    camera = Camera(size, size, focal, focal, size / 2, size / 2)
    for split, n, turn in (("train", train, 0.0), ("test", test, 1.0)):
        poses = sphere_poses(n, distance, turn=turn)
        pixels = np.stack([scene.render(camera, pose) for pose in poses])
        maps = np.stack([scene.depth(camera, pose) for pose in poses]) if depths else None
        kept = None
        if moving and split == "train":
            covered = np.stack([scene.put_ball(pixels[k], camera, poses[k], k) for k in range(n)])
            kept = ~covered
        save_views(folder, split, Views(pixels, poses, [camera] * n, kept, depths=maps))
    return Path(folder)


def load_scene_mesh(path: Union[str, os.PathLike]) -> trimesh.Trimesh:
    """A mesh file as one trimesh.Trimesh, with its colours, its size between 0.7 and 1.5 whatever
    its units; ValueError where it is none."""
    mesh = read_mesh(path)
    for note in mesh.metadata["notes"]:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    mesh.remove_infinite_values()
    if not len(mesh.faces) or not 1e-30 < mesh.extents.max() < 1e30:
        raise ValueError(f"{path}: no mesh with faces and finite vertices that are apart")
    # vertices are merged that are 1e-8 apart, so units must not matter; powers of 2 change no bits
    mesh.apply_scale(2.0 ** -np.round(np.log2(mesh.extents.max())))
    mesh.merge_vertices()
    return mesh


def knot(points: int = 400, around: int = 32, thickness: float = 0.28) -> trimesh.Trimesh:
    """A trefoil knot as a mesh, the app's own subject."""
    s = 2 * np.pi * np.arange(points) / points
    x = np.sin(s) + 2 * np.sin(2 * s)
    y = np.cos(s) - 2 * np.cos(2 * s)
    z = -np.sin(3 * s)
    line = np.stack([x, y, z], axis=1) / 3
    tangent = np.roll(line, -1, 0) - np.roll(line, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    normal = np.cross(side, tangent)
    a = 2 * np.pi * np.arange(around) / around
    ring = np.cos(a)[:, None] * side[:, None] + np.sin(a)[:, None] * normal[:, None]
    vertices = (line[:, None] + thickness / 2 * ring).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(points), np.arange(around), indexing="ij")
    corner = [
        ((i + di) % points * around + (j + dj) % around).ravel()
        for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    lower = np.stack([corner[0], corner[1], corner[2]], 1)
    upper = np.stack([corner[0], corner[2], corner[3]], 1)
    return trimesh.Trimesh(vertices, np.concatenate([lower, upper]), process=False)


class MeshScene:
    """A mesh in the middle of the unit sphere, lit by one lamp and the sky, with a pattern and a
    gloss that moves with the viewer.

        colour = albedo(p) (ambient + diffuse max(0, n . l)) + gloss max(0, n . h)^shininess,   h
        between lamp l and viewer.

    The albedo is the mesh's own vertex colours where it has them, else bands of colour along p.
    surroundings: what `scene.surroundings` shows is around it; else nothing, transparent.
    """

    LAMP = np.array([0.48, 0.36, 0.8])
    AMBIENT = 0.35
    DIFFUSE = 0.6
    GLOSS = 0.45
    SHININESS = 40
    BALL = np.array([0.8, 0.15, 0.1])  # the colour of the one that moves
    RADIUS = 0.2

    def __init__(self, mesh: trimesh.Trimesh, surroundings: bool = False):
        mesh = mesh.copy()
        mesh.vertices = mesh.vertices - mesh.bounds.mean(0)
        mesh.vertices /= np.linalg.norm(mesh.vertices, axis=1).max()
        self.mesh = mesh
        self.surroundings = surroundings
        self._lamp = self.LAMP / np.linalg.norm(self.LAMP)
        self._solid = (
            np.ascontiguousarray(mesh.vertices, np.float64),
            np.ascontiguousarray(mesh.faces, np.int64),
        )
        self._tree = igl.AABB()
        self._tree.init(*self._solid)
        self.colours = None
        if mesh.visual.kind == "vertex":
            self.colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255

    def shade(self, points: np.ndarray, face: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Colours (N, 3) of surface points on their faces, seen along `direction`."""
        corners = self.mesh.faces[face]
        share = trimesh.triangles.points_to_barycentric(self.mesh.vertices[corners], points)
        share = share[..., None]
        normal = (self.mesh.vertex_normals[corners] * share).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        normal *= np.where((normal * direction).sum(1, keepdims=True) > 0, -1, 1)
        if self.colours is None:
            albedo = _bands(points)
        else:
            albedo = (self.colours[corners] * share).sum(1)
        half = self._lamp - direction
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        lit = np.maximum(0, normal @ self._lamp)[:, None]
        gloss = np.maximum(0, (normal * half).sum(1, keepdims=True)) ** self.SHININESS
        return np.clip(albedo * (self.AMBIENT + self.DIFFUSE * lit) + self.GLOSS * gloss, 0, 1)

    def render(self, camera: Camera, pose: np.ndarray, samples: int = 2) -> np.ndarray:
        """(H, W, 4) uint8 with straight alpha, samples x samples rays a pixel."""
        fine = camera.resized(camera.width * samples, camera.height * samples)
        origin, direction, face, t = self._meet(fine, pose)
        hit = face >= 0
        rgba = np.zeros((len(origin), 4))
        met = origin + t[:, None] * direction
        rgba[hit, :3] = self.shade(met[hit], face[hit], direction[hit])
        rgba[:, 3] = hit | self.surroundings
        if self.surroundings:
            rgba[~hit, :3] = seen_around(origin[~hit], direction[~hit])
        # a mean of premultiplied colours
        tiles = rgba.reshape(camera.height, samples, camera.width, samples, 4).mean((1, 3))
        tiles[..., :3] /= np.maximum(tiles[..., 3:], 1e-6)
        return np.round(np.clip(tiles, 0, 1) * 255).astype(np.uint8)

    def put_ball(
        self, pixels: np.ndarray, camera: Camera, pose: np.ndarray, n: int, samples: int = 2
    ) -> np.ndarray:
        """Draw the ball that moves, where it is at time n, into `pixels`, what `render` gave;
        returns the pixels (H, W) bool of which it covers a part."""
        fine = camera.resized(camera.width * samples, camera.height * samples)
        origin, direction, face, t = self._meet(fine, pose)
        away = origin - [np.cos(2.4 * n), np.sin(2.4 * n), 0.5 * np.sin(1.7 * n)]
        half = -(away * direction).sum(1)
        square = half**2 - (away * away).sum(1) + self.RADIUS**2
        near = half - np.sqrt(np.maximum(square, 0))
        before = (square > 0) & (near > 0) & ((face < 0) | (near < t))
        normal = (away + near[:, None] * direction) / self.RADIUS
        lit = self.AMBIENT + self.DIFFUSE * np.maximum(0, normal @ self._lamp)
        ball = np.append(255 * lit[:, None] * self.BALL, np.full((len(lit), 1), 255.0), axis=1)
        shape = (camera.height, samples, camera.width, samples)
        share = before.reshape(shape).mean((1, 3))[..., None]
        mean = (ball * before[:, None]).reshape(*shape, 4).mean((1, 3)) / np.maximum(share, 1e-6)
        alpha = 255 * share + (1 - share) * pixels[..., 3:]
        seen = 255 * share * mean[..., :3] + (1 - share) * pixels[..., 3:] * pixels[..., :3]
        drawn = np.append(seen / np.maximum(alpha, 1e-6), alpha, axis=2)
        pixels[:] = np.round(np.where(share > 0, drawn, pixels))
        return share[..., 0] > 0

    def depth(self, camera: Camera, pose: np.ndarray) -> np.ndarray:
        """(H, W) float32: how far the mesh is along the camera's axis, in the middle of each pixel;
        0 where it is not."""
        _, direction, face, t = self._meet(camera, pose)
        ahead = -direction @ pose[:3, 2]
        depth = np.where(face >= 0, t * ahead, 0.0)
        return depth.reshape(camera.height, camera.width).astype(np.float32)

    def _meet(self, camera: Camera, pose: np.ndarray) -> tuple[np.ndarray, ...]:
        """The camera's rays, the face that each meets, -1 where none, and how far away."""
        # as cameras of files see them: in float32
        origin, direction = (
            np.ascontiguousarray(a.astype(np.float32).astype(float)) for a in camera.rays(pose)
        )
        face, t, _ = self._tree.intersect_ray_first(*self._solid, origin, direction)
        return origin, direction, face, t


def _bands(points: np.ndarray) -> np.ndarray:
    """A pattern of coloured bands: (N, 3)."""
    x = points[:, :1]
    y = points[:, 1:2]
    z = points[:, 2:]
    phase = np.concatenate([6 * x + 2 * z, 6 * y - 2 * z, 7 * z], axis=1)
    band = 0.5 + 0.5 * np.tanh(6 * np.sin(22 * (x + y * 0.6 + z)))
    return (0.5 + 0.4 * np.sin(phase + [0.0, 2.1, 4.2])) * (0.55 + 0.45 * band)
