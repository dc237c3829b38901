"""glTF and GLB: the triangles of all nodes of the scene, placed."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import unquote, unquote_to_bytes

from jgrid.surface.formats import check_corners
from jgrid.surface.ply import strip_triangles
from jgrid.surface.polygons import Content

import numpy as np
from tqdm import tqdm
from trimesh import transformations

MAGIC = b"glTF"
JSON = 0x4E4F534A
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TRIANGLES = 4
STRIP = 5
FAN = 6
# what changes where points lie, and is not read
REFUSED = {
    "KHR_draco_mesh_compression": "compressed by Draco; export it without compression",
    "EXT_meshopt_compression": "compressed by meshopt; export it without compression",
    "KHR_meshopt_compression": "compressed by meshopt; export it without compression",
}
INSTANCES = "EXT_mesh_gpu_instancing"


def read_gltf(data: bytes, notes: list[str], path: Path, progress: bool = False) -> Content:
    """glTF 2.0, as JSON or GLB: meshes as the nodes of the scene place them, instances too, and the
    vertices' colours. Mirrored ones are turned. Materials, skins and morphs are left out.

    ValueError for what is compressed. Buffers in other files are looked for beside it.
    """
    tree, chunk = _parts(data)
    needed = {*tree.get("extensionsRequired", []), *tree.get("extensionsUsed", [])}
    for name, words in REFUSED.items():
        if name in needed and _used(tree, name):
            raise ValueError(f"{words} ({name})")
    if tree.get("skins"):
        notes.append("a skin is not applied: the mesh is read in its resting pose")
    file = _File(tree, chunk, path)
    vertices = []
    faces = []
    colours = []
    count = 0
    placed = list(_nodes(tree, file))
    for number, matrix in tqdm(placed, "parts", disable=not progress, delay=2, leave=False):
        for places, triangles, own in file.mesh(number):
            if not np.array_equal(matrix, np.eye(4)):
                places = places @ matrix[:3, :3].T + matrix[:3, 3]
            if np.linalg.det(matrix[:3, :3]) < 0:
                triangles = triangles[:, ::-1]
            vertices.append(places)
            faces.append(triangles + count)
            colours.append(own)
            count += len(places)
    if not vertices:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64), None
    coloured = [own[:, :3] for own in colours if own is not None]
    whole = np.concatenate(coloured) if len(coloured) == len(colours) else None
    if coloured and whole is None:
        missing = len(colours) - len(coloured)
        notes.append(f"{missing} of {len(colours)} parts have no colours, so none are read")
    return np.concatenate(vertices), np.concatenate(faces), whole


class _File:
    """What a glTF names by numbers: accessors as arrays, meshes as triangles; each read once."""

    def __init__(self, tree: dict[str, Any], chunk: bytes, path: Path):
        self.tree = tree
        self.path = path
        self._chunk = chunk
        self._buffers: dict[int, bytes] = {}
        self._meshes: dict[int, list[Content]] = {}

    def mesh(self, number: int) -> list[Content]:
        """Vertices, triangles and colours of each primitive that has triangles."""
        if number not in self._meshes:
            primitives = self.tree["meshes"][number]["primitives"]
            parts = [
                self._primitive(p) for p in primitives if p.get("mode", TRIANGLES) >= TRIANGLES
            ]
            self._meshes[number] = parts
        return self._meshes[number]

    def _primitive(self, primitive: dict[str, Any]) -> Content:
        attributes = primitive["attributes"]
        places = self.real(attributes["POSITION"])
        if "indices" in primitive:
            row = self.array(primitive["indices"]).ravel().astype(np.int64)
            row = check_corners(row, len(places))
        else:
            row = np.arange(len(places))
        mode = primitive.get("mode", TRIANGLES)
        if mode == STRIP:
            faces = strip_triangles(row)
        elif mode == FAN:
            middle = np.full(max(len(row) - 2, 0), row[0] if len(row) else 0)
            faces = np.stack([middle, row[1:-1], row[2:]], 1)
        else:
            faces = row[: len(row) // 3 * 3].reshape(-1, 3)
        colours = None
        if "COLOR_0" in attributes:
            colours = self.array(attributes["COLOR_0"])
            if colours.dtype.kind == "u":
                colours = colours / np.iinfo(colours.dtype).max
        return places, faces, colours

    def array(self, number: int) -> np.ndarray:
        """An accessor as it lies there: (count, width)."""
        accessor = self.tree["accessors"][number]
        kind = np.dtype(COMPONENTS[accessor["componentType"]])
        width = WIDTHS[accessor["type"]]
        count = accessor["count"]
        if "bufferView" in accessor:
            values = self._view(accessor, kind, width, count)
        else:
            if count * width * kind.itemsize > 2**30:
                raise ValueError(f"an accessor announces {count:,} zeros")
            values = np.zeros((count, width), kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            at = np.dtype(COMPONENTS[sparse["indices"]["componentType"]])
            rows = self._view(sparse["indices"], at, 1, sparse["count"]).ravel()
            values = values.copy()
            values[rows] = self._view(sparse["values"], kind, width, sparse["count"])
        return values

    def real(self, number: int) -> np.ndarray:
        """An accessor in float64; integers that stand for [-1, 1] as what they stand for."""
        values = self.array(number)
        if self.tree["accessors"][number].get("normalized") and values.dtype.kind in "iu":
            return np.maximum(values / np.iinfo(values.dtype).max, -1.0)
        return values.astype(np.float64)

    def _view(self, place: dict[str, Any], kind: np.dtype, width: int, count: int) -> np.ndarray:
        view = self.tree["bufferViews"][place["bufferView"]]
        buffer = self._buffer(view["buffer"])
        start = view.get("byteOffset", 0) + place.get("byteOffset", 0)
        size = width * kind.itemsize
        stride = view.get("byteStride") or size
        end = min(view.get("byteOffset", 0) + view["byteLength"], len(buffer))
        if start < 0 or count < 0 or (count and start + (count - 1) * stride + size > end):
            raise ValueError(f"an accessor announces {count:,} rows, more than its buffer holds")
        return np.ndarray((count, width), kind, buffer, start, (stride, kind.itemsize))

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            self._buffers[number] = self._read(self.tree["buffers"][number].get("uri"))
        return self._buffers[number]

    def _read(self, uri: Optional[str]) -> bytes:
        if uri is None:
            return self._chunk
        if uri.startswith("data:"):
            head, _, content = uri.partition(",")
            return base64.b64decode(content) if ";base64" in head else unquote_to_bytes(content)
        folder = self.path.parent.resolve()
        for name in (unquote(uri), uri):
            file = (folder / name.replace("\\", "/")).resolve()
            if folder in file.parents and file.is_file():
                return file.read_bytes()
        raise ValueError(f"its buffer {uri} is not there, beside it")


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and, of a GLB, the bytes behind it."""
    if data[:4] != MAGIC:
        return json.loads(data), b""
    if int.from_bytes(data[4:8], "little") != 2:
        raise ValueError("a GLB of another version than 2")
    chunks = []
    start = 12
    while start + 8 <= len(data):
        size = int.from_bytes(data[start : start + 4], "little")
        chunks.append((int.from_bytes(data[start + 4 : start + 8], "little"), start + 8, size))
        start += 8 + size
    if start > len(data):
        raise ValueError(f"its chunks announce {start:,} bytes, but it holds {len(data):,}")
    if not chunks or chunks[0][0] != JSON:
        raise ValueError("a GLB without JSON")
    pieces = [data[start : start + size] for _, start, size in chunks]
    return json.loads(pieces[0]), pieces[1] if len(pieces) > 1 else b""


def _nodes(tree: dict[str, Any], file: _File) -> Iterator[tuple[int, np.ndarray]]:
    """(mesh, where it lies (4, 4)) of all nodes of the scene, or of the first one, or without
    scenes of all."""
    nodes = tree.get("nodes", [])
    if tree.get("scenes"):
        roots = tree["scenes"][tree.get("scene", 0)].get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    left = [(i, np.eye(4)) for i in roots]
    seen = set()
    while left:
        i, above = left.pop()
        if i in seen:
            raise ValueError(f"its node {i} is in two places, so its nodes are no tree")
        seen.add(i)
        node = nodes[i]
        matrix = above @ _matrix(node)
        if "mesh" in node:
            instances = node.get("extensions", {}).get(INSTANCES)
            for own in _instances(instances, file) if instances else [np.eye(4)]:
                yield node["mesh"], matrix @ own
        left += [(child, matrix) for child in node.get("children", [])]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """A node's place within the one above it: T R S."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    return _placed(
        np.array(node.get("translation", [0, 0, 0]), np.float64),
        np.array(node.get("rotation", [0, 0, 0, 1]), np.float64),
        np.array(node.get("scale", [1, 1, 1]), np.float64),
    )


def _placed(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """rotation: a quaternion, its real part last."""
    x, y, z, w = rotation
    matrix = transformations.quaternion_matrix([w, x, y, z])
    matrix[:3, :3] *= scale
    matrix[:3, 3] = translation
    return matrix


def _instances(extension: dict[str, Any], file: _File) -> list[np.ndarray]:
    arrays = {name: file.real(i) for name, i in extension["attributes"].items()}
    n = max(len(values) for values in arrays.values())
    columns = [
        arrays.get(name, np.tile(default, (n, 1)))
        for name, default in (
            ("TRANSLATION", [0.0, 0, 0]),
            ("ROTATION", [0.0, 0, 0, 1]),
            ("SCALE", [1.0, 1, 1]),
        )
    ]
    return [_placed(*rows) for rows in zip(*columns)]


def _used(tree: dict[str, Any], name: str) -> bool:
    """Whether a buffer or a mesh has this extension."""
    primitives = [p for mesh in tree.get("meshes", []) for p in mesh.get("primitives", [])]
    return any(
        name in thing.get("extensions", {}) for thing in [*tree.get("bufferViews", []), *primitives]
    )
