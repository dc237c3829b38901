"""The public names of jgrid, which `jgrid` itself brings when the first of them is asked for."""

from jgrid.encoding import FourierFeatures
from jgrid.field import (
    DenseGridConfig,
    Field,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MFNConfig,
    MulFAGridConfig,
    OptDNNConfig,
    OptDNNGridConfig,
    RadialGridConfig,
    SirenConfig,
    VMGridConfig,
    WireConfig,
)
from jgrid.grid import Grid, ProductGrid
from jgrid.image.files import load_image
from jgrid.image.task import ImageTask
from jgrid.index import AbstractIndex, FourierIndex, GridIndex, PointIndex
from jgrid.kernel import (
    AbstractKernel,
    InterpolationKernel,
    MulFAGainKernel,
    MulFAKernel,
    MulFALiteralKernel,
    RadialKernel,
)
from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire
from jgrid.optdnn.methods import METHODS, Method, analyse, find_method
from jgrid.optdnn.network import OptDNN
from jgrid.scene.camera import Box, Camera
from jgrid.scene.files import load_views
from jgrid.scene.made import make_scene
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.radiance import RadianceConfig, RadianceField
from jgrid.scene.task import ViewsConfig, ViewsTask
from jgrid.scene.views import Views
from jgrid.solver import LeastSquares, SolveConfig, project, solve, warm_start
from jgrid.surface.mesh import Mesh, load_mesh, make_mesh
from jgrid.surface.task import SDFConfig, SDFTask
from jgrid.trainer import Fit, TrainConfig, Trainer, fit

__all__ = [
    "AbstractIndex",
    "AbstractKernel",
    "Box",
    "Camera",
    "DenseGridConfig",
    "Field",
    "Fit",
    "FourierFeatures",
    "FourierFilter",
    "FourierGridConfig",
    "FourierIndex",
    "FourierNetConfig",
    "GaborFilter",
    "Grid",
    "GridIndex",
    "HashGridConfig",
    "ImageTask",
    "InterpolationKernel",
    "LeastSquares",
    "LiteralMulFAGridConfig",
    "METHODS",
    "MFN",
    "MFNConfig",
    "MLP",
    "Mesh",
    "Method",
    "MulFAGainKernel",
    "MulFAGridConfig",
    "MulFAKernel",
    "MulFALiteralKernel",
    "Occupancy",
    "OptDNN",
    "OptDNNConfig",
    "OptDNNGridConfig",
    "PointIndex",
    "ProductGrid",
    "RadialGridConfig",
    "RadialKernel",
    "RadianceConfig",
    "RadianceField",
    "SDFConfig",
    "SDFTask",
    "Siren",
    "SirenConfig",
    "SolveConfig",
    "TrainConfig",
    "Trainer",
    "VMGridConfig",
    "Views",
    "ViewsConfig",
    "ViewsTask",
    "Wire",
    "WireConfig",
    "analyse",
    "find_method",
    "fit",
    "load_image",
    "load_mesh",
    "load_views",
    "make_mesh",
    "make_scene",
    "project",
    "solve",
    "warm_start",
]
