"""Fields: a grid or nothing, then a network or nothing; and the configs that build them.

A config is a frozen dataclass; its fields are the command line's flags, and `build(task)`, or
`build(Domain(dim, n_out))` where there is no task, makes the field.
"""

from dataclasses import asdict

from jgrid.config import config_from_dict
from jgrid.field.base import Domain, Field, count_parameters, in_chunks
from jgrid.field.budget import check_memory
from jgrid.field.grids import (
    DecoderConfig,
    DenseGridConfig,
    FilterConfig,
    FourierGridConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MulFAGridConfig,
    RadialGridConfig,
    VMGridConfig,
)
from jgrid.field.networks import (
    FourierNetConfig,
    MFNConfig,
    OptDNNConfig,
    OptDNNGridConfig,
    SirenConfig,
    WireConfig,
)

__all__ = [
    "DecoderConfig",
    "DenseGridConfig",
    "Domain",
    "FIELDS",
    "Field",
    "FilterConfig",
    "FourierGridConfig",
    "FourierNetConfig",
    "HashGridConfig",
    "LiteralMulFAGridConfig",
    "MFNConfig",
    "MulFAGridConfig",
    "OptDNNConfig",
    "OptDNNGridConfig",
    "RadialGridConfig",
    "SirenConfig",
    "VMGridConfig",
    "WireConfig",
    "check_memory",
    "count_parameters",
    "field_from_dict",
    "field_to_dict",
    "in_chunks",
]

FIELDS = {
    "grid:mulfa": MulFAGridConfig,
    "grid:mulfa-literal": LiteralMulFAGridConfig,
    "grid:hash": HashGridConfig,
    "grid:dense": DenseGridConfig,
    "grid:fourier": FourierGridConfig,
    "grid:radial": RadialGridConfig,
    "grid:vm": VMGridConfig,
    "net:siren": SirenConfig,
    "net:fourier": FourierNetConfig,
    "net:mfn": MFNConfig,
    "net:wire": WireConfig,
    "net:optdnn": OptDNNConfig,
    "grid:optdnn": OptDNNGridConfig,
}


def field_to_dict(config):
    """A field's config as plain data, with its command-line name under "kind"."""
    kind = next(name for name, cls in FIELDS.items() if isinstance(config, cls))
    return {"kind": kind, **asdict(config)}


def field_from_dict(values):
    """The inverse of `field_to_dict`. Raises ValueError for an unknown kind or entry, or one of
    another type."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        raise ValueError(f"unknown field {kind!r}; there are {', '.join(FIELDS)}")
    return config_from_dict(
        FIELDS[kind], {name: value for name, value in values.items() if name != "kind"}, kind
    )
