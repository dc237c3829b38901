"""A surface's colours as glTF has them: of its vertices, or in a picture that is laid over it."""

import os
from pathlib import Path
from typing import Any, Callable, Union

from jgrid import checkpoint, memory
from jgrid.scene.camera import Z, standing
from jgrid.scene.export import Surface

import numpy as np
import trimesh
from PIL import Image
from scipy.ndimage import distance_transform_edt

TEXEL_BYTES = 160  # of a texture, while it is baked
CANDIDATES = 2**22  # texels that may lie in triangles, looked at at once
PADDING = 2  # texels between charts
Colours = Callable[[np.ndarray, np.ndarray], np.ndarray]  # points, normals -> colours, (N, 3) each
Y_FROM_Z = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # glTF's y is up
UNLIT = "KHR_materials_unlit"  # colours that are light already


def require_texture(size: int) -> None:
    """NotEnough, or an ImportError that says what to install, before a texture of size^2 texels is
    begun."""
    import_xatlas()
    memory.require(TEXEL_BYTES * size**2, f"a texture of {size} x {size} texels", "`texture`")


def import_xatlas() -> Any:
    try:
        import xatlas
    except ImportError:
        raise ValueError("`texture` needs xatlas: pip install xatlas") from None
    return xatlas


def textured(surface: Surface, size: int, colours: Colours) -> trimesh.Trimesh:
    """The surface, cut into charts by xatlas, with a texture of size^2 texels of its colours."""
    xatlas = import_xatlas()
    require_texture(size)
    atlas = xatlas.Atlas()
    low = surface.vertices.min(0)
    scale = np.ptp(surface.vertices, axis=0).max()
    atlas.add_mesh(((surface.vertices - low) / scale).astype(np.float32), surface.faces)
    pack = xatlas.PackOptions()
    pack.resolution = size
    pack.padding = PADDING
    pack.bilinear = True
    atlas.generate(pack_options=pack)
    vertex, faces, uv = atlas.get_mesh(0)
    faces = faces.astype(np.int64)
    # xatlas keeps near the size that is asked for, and gives places in what it took
    points = surface.vertices[vertex]
    normals = surface.normals[vertex]
    face, share = rasterised(uv[faces], size)
    picture = np.zeros((size * size, 3), np.uint8)
    drawn = face >= 0
    corners = faces[face[drawn]]
    share = share[drawn][..., None]
    seen = colours((points[corners] * share).sum(1), (normals[corners] * share).sum(1))
    picture[drawn] = np.round(255 * seen)
    nearest = distance_transform_edt(
        ~drawn.reshape(size, size), return_distances=False, return_indices=True
    )
    picture = picture.reshape(size, size, 3)[tuple(nearest)]
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(picture), metallicFactor=0.0, roughnessFactor=1.0
    )
    # trimesh counts v from below, glTF and pictures from above
    visual = trimesh.visual.TextureVisuals(
        uv=np.stack([uv[:, 0], 1 - uv[:, 1]], 1), material=material
    )
    return trimesh.Trimesh(points, faces, visual=visual, process=False)


def rasterised(triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the triangles (F, 3, 2) in [0, 1]^2 each of size^2 texels is in, row by row (-1:
    none), and the shares of its corners there: (size^2,) and (size^2, 3)."""
    corners = triangles.astype(np.float64) * size - 0.5  # middles of texels at whole numbers
    low = np.clip(np.ceil(corners.min(1)), 0, size).astype(np.int64)
    high = np.clip(np.floor(corners.max(1)), -1, size - 1).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    count = extent.prod(1)
    face = np.full(size * size, -1, np.int64)
    share = np.zeros((size * size, 3), np.float32)
    group = np.cumsum(count) // CANDIDATES
    for rows in np.split(np.arange(len(count)), np.flatnonzero(np.diff(group)) + 1):
        which = np.repeat(rows, count[rows])
        number = np.arange(len(which)) - np.repeat(
            np.cumsum(count[rows]) - count[rows], count[rows]
        )
        texel = low[which] + np.stack(
            [number % np.maximum(extent[which, 0], 1), number // np.maximum(extent[which, 0], 1)], 1
        )
        weights = _shares(corners[which], texel)
        inside = (weights > -1e-6).all(1)
        place = texel[inside, 1] * size + texel[inside, 0]
        face[place] = which[inside]
        share[place] = weights[inside]
    return face, share


def _shares(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Barycentric coordinates (N, 3) of points (N, 2) in triangles (N, 3, 2); not finite where one
    has no area."""
    a = corners[:, 1] - corners[:, 0]
    b = corners[:, 2] - corners[:, 0]
    p = points - corners[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        v = (p[:, 0] * b[:, 1] - p[:, 1] * b[:, 0]) / area
        w = (a[:, 0] * p[:, 1] - a[:, 1] * p[:, 0]) / area
    return np.stack([1 - v - w, v, w], 1)


def coloured(surface: Surface, colours: np.ndarray) -> trimesh.Trimesh:
    """The surface with colours (V, 3) in [0, 1] of its vertices."""
    levels = np.round(255 * colours).astype(np.uint8)
    return trimesh.Trimesh(surface.vertices, surface.faces, vertex_colors=levels, process=False)


def save_glb(
    path: Union[str, os.PathLike],
    mesh: trimesh.Trimesh,
    up: tuple[float, float, float] = Z,
    linear: bool = False,
) -> Path:
    """Write a mesh as GLB: its node turns the direction `up`, of length 1, of its world to glTF's
    y, so that it stands upright; returns the path.

    A texture is shown without light of the viewer's. linear: so are vertices' colours, which then
    are linear, as glTF means them; else they are the picture's, as trimesh reads and writes
    them."""
    middle = mesh.bounds.mean(0)
    placed = mesh.copy()
    placed.vertices = mesh.vertices - middle  # float32 would cost digits of large coordinates
    turn = np.eye(4)
    turn[:3, :3] = Y_FROM_Z @ standing(up)
    turn[:3, 3] = turn[:3, :3] @ middle
    unlit = linear or mesh.visual.kind == "texture"
    if linear and mesh.visual.kind == "vertex":
        colours = mesh.visual.vertex_colors.copy()
        colours[:, :3] = np.round(255 * to_linear(colours[:, :3] / 255))
        placed.visual.vertex_colors = colours
    scene = trimesh.Scene()
    scene.add_geometry(placed, node_name="scene", geom_name="scene", transform=turn)
    data = trimesh.exchange.gltf.export_glb(
        scene, include_normals=False, tree_postprocessor=_without_light if unlit else None
    )
    with checkpoint.atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def _without_light(tree: dict[str, Any]) -> None:
    plain = {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}
    for material in tree.setdefault("materials", [plain]):
        material["extensions"] = {UNLIT: {}}
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive.setdefault("material", 0)
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), UNLIT]


def to_linear(colours: np.ndarray) -> np.ndarray:
    """Linear intensities of sRGB colours, both in [0, 1] (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
