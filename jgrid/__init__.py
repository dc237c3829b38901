"""jgrid: grid-based neural fields on Jittor.

Dimensions: N points, D input dimensions, K nodes per point, M nodes in a grid, C channels, L
levels, P features of gamma; R rays, S samples per ray. Grids see [0, 1]^D; tasks convert world
units. Signed distance is negative inside. Colours are float32 in [0, 1], sRGB. Poses are
camera-to-world with OpenGL axes (right, up, back). Seconds are seconds; learning rates are per
step."""

import importlib
import sys
from types import ModuleType

__version__ = "0.1.0"

# While Python locates the module of `python -m jgrid.runtime`, which must run even where Jittor
# cannot, argv[0] is "-m"
if sys.argv[:1] != ["-m"]:
    from jgrid import runtime

    runtime.prepare()
    runtime.speed_up_compiling()

    from jgrid.encoding import FourierFeatures  # noqa: E402
    from jgrid.field import (  # noqa: E402
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
    from jgrid.grid import Grid, ProductGrid  # noqa: E402
    from jgrid.image.files import load_image  # noqa: E402
    from jgrid.image.task import ImageTask  # noqa: E402
    from jgrid.index import AbstractIndex, FourierIndex, GridIndex, PointIndex  # noqa: E402
    from jgrid.kernel import (
        AbstractKernel,
        InterpolationKernel,
        MulFAGainKernel,
        MulFAKernel,
        MulFALiteralKernel,
        RadialKernel,
    )  # noqa: E402
    from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire  # noqa: E402
    from jgrid.optdnn.methods import METHODS, Method, analyse, find_method  # noqa: E402
    from jgrid.optdnn.network import OptDNN  # noqa: E402
    from jgrid.scene.camera import Box, Camera  # noqa: E402
    from jgrid.scene.files import Views, load_views  # noqa: E402
    from jgrid.scene.made import make_scene  # noqa: E402
    from jgrid.scene.occupancy import Occupancy  # noqa: E402
    from jgrid.scene.radiance import RadianceConfig, RadianceField  # noqa: E402
    from jgrid.scene.task import ViewsConfig, ViewsTask  # noqa: E402
    from jgrid.solver import LeastSquares, SolveConfig, project, solve, warm_start  # noqa: E402
    from jgrid.surface.mesh import Mesh, load_mesh, make_mesh  # noqa: E402
    from jgrid.surface.task import SDFConfig, SDFTask  # noqa: E402
    from jgrid.trainer import Fit, TrainConfig, Trainer, fit  # noqa: E402

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

# Wings of their own, each with a face of few names, imported when they are first asked for
WINGS = ("theory", "optdnn", "weightspace")


def __getattr__(name: str) -> ModuleType:
    if name in WINGS:
        return importlib.import_module(f"jgrid.{name}")
    raise AttributeError(f"module 'jgrid' has no attribute {name!r}")
