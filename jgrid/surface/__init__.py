"""Surfaces: meshes, marching cubes on fields, the task of fitting signed distances."""

from jgrid.surface.isosurface import extract, preview
from jgrid.surface.mesh import Mesh, compare, load_mesh, make_mesh
from jgrid.surface.task import SDFConfig, SDFTask, surface_of, values_of, write_surface

__all__ = [
    "Mesh",
    "SDFConfig",
    "SDFTask",
    "compare",
    "extract",
    "load_mesh",
    "make_mesh",
    "preview",
    "surface_of",
    "values_of",
    "write_surface",
]
