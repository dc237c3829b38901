"""Pictures: files, the task of fitting one, metrics."""

from jgrid.image.files import load_image
from jgrid.image.light import Tone, tone_of
from jgrid.image.metrics import psnr, ssim, ssim_gaussian
from jgrid.image.task import ImageTask, pixel_centres, place_nodes, render

__all__ = [
    "ImageTask",
    "Tone",
    "load_image",
    "pixel_centres",
    "place_nodes",
    "psnr",
    "render",
    "ssim",
    "ssim_gaussian",
    "tone_of",
]
