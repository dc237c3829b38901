"""Scenes: cameras, photographs, radiance fields, the task of fitting one, viewing it."""

from jgrid.scene.camera import Box, Camera, circle_poses, look_at, sphere_poses
from jgrid.scene.files import load_views, save_views
from jgrid.scene.made import load_scene_mesh, make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceConfig, RadianceField
from jgrid.scene.render import render_rays, render_view
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.viewer import Viewer, load_viewer
from jgrid.scene.views import Views

__all__ = [
    "Box",
    "Camera",
    "Occupancy",
    "RadianceConfig",
    "RadianceField",
    "Viewer",
    "Views",
    "ViewsConfig",
    "ViewsTask",
    "circle_poses",
    "load_scene_mesh",
    "load_viewer",
    "load_views",
    "look_at",
    "make_scene",
    "render_rays",
    "render_view",
    "save_views",
    "sphere_poses",
]
