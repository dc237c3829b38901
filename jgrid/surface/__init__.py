"""Surfaces: meshes, marching cubes on fields, the task of fitting signed distances."""
