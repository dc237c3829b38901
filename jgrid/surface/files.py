"""Files of meshes: which can be read, how much a reader may take, and what it says."""

import os
from pathlib import Path
from typing import Union

from jgrid import memory
from jgrid.surface.formats import read_obj, read_off, read_stl
from jgrid.surface.gltf import read_gltf
from jgrid.surface.ply import read_ply
from jgrid.surface.polygons import Content

import trimesh

READERS = {".obj": read_obj, ".ply": read_ply, ".stl": read_stl, ".off": read_off}
FORMATS = (*READERS, ".glb", ".gltf")
MOST_BYTES = 2**30  # that a reader may take: headers can announce anything
EXPANSION = 64  # and for each byte of its file


def read_mesh(path: Union[str, os.PathLike], progress: bool = False) -> trimesh.Trimesh:
    """An OBJ, PLY, STL, OFF, GLB or glTF file as one trimesh.Trimesh: polygons cut, the parts of a
    scene placed and together, `metadata["notes"]` saying what was assumed.

    Raises ValueError, saying what is wrong with the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: not a mesh of a format that is read: {', '.join(FORMATS)}")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path}: empty")
    notes: list[str] = []
    try:
        with memory.bounded(min(memory.available(), MOST_BYTES + EXPANSION * size)):
            vertices, faces, colours = _content(path, notes, progress)
    except MemoryError:
        raise ValueError(f"{path}: takes more memory than a mesh of {size:,} bytes may") from None
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    except Exception as error:  # a damaged file makes a reader raise whatever it likes
        raise ValueError(
            f"{path}: damaged, or not the mesh it says it is ({type(error).__name__}: {error})"
        ) from None
    return trimesh.Trimesh(
        vertices, faces, vertex_colors=colours, metadata={"notes": notes}, process=False
    )


def _content(path: Path, notes: list[str], progress: bool) -> Content:
    data = path.read_bytes()
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        return read_gltf(data, notes, path, progress)
    return reader(data, notes)
