"""jgrid: grid-based neural fields on Jittor.

Dimensions: N points, D input dimensions, K nodes per point, M nodes in a grid, C channels, L
levels, P features of gamma; R rays, S samples per ray. Grids see [0, 1]^D; tasks convert world
units. Signed distance is negative inside. Colours are float32 in [0, 1], sRGB. Poses are
camera-to-world with OpenGL axes (right, up, back). Seconds are seconds; learning rates are per
step."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# While Python locates the module of `python -m jgrid.runtime`, which may not be imported before it
# runs, argv[0] is "-m"
if sys.argv[:1] != ["-m"]:
    from jgrid import runtime

    runtime.watch_for_jittor()

if TYPE_CHECKING:
    from jgrid import optdnn, theory, weightspace  # noqa: F401
    from jgrid.face import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """A module or a public name, imported when it is first asked for: so Jittor, which may
        have to be compiled, is not imported before it is needed."""
        unknown = AttributeError(f"module 'jgrid' has no attribute {name!r}")
        if name.startswith("_") and name != "__all__":
            raise unknown
        try:
            return importlib.import_module(f"jgrid.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"jgrid.{name}":
                raise
        face = importlib.import_module("jgrid.face")
        if name not in ("__all__", *face.__all__):
            raise unknown
        globals()[name] = getattr(face, name)
        return globals()[name]

    def __dir__() -> list[str]:
        """The public names, for who looks around."""
        return sorted({*globals(), *importlib.import_module("jgrid.face").__all__})
