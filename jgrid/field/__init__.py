"""Fields: a grid or nothing, then a network or nothing; and the configs that build them.

A config is a frozen dataclass; its fields are the command line's flags, and `build(task)`, or
`build(Domain(dim, n_out))` where there is no task, makes the field.
"""

from dataclasses import asdict
from typing import Any

from jgrid.config import config_from_dict
from jgrid.field.base import (
    AbstractDomain,
    AbstractFieldConfig,
    Domain,
    Field,
    count_parameters,
    in_chunks,
)
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
    "AbstractDomain",
    "AbstractFieldConfig",
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

FIELDS: dict[str, Any] = {
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


def field_to_dict(config: Any) -> dict[str, Any]:
    """A field's config as plain data, with its command-line name under "kind".

    ValueError for a config that has none."""
    for kind, cls in FIELDS.items():
        if type(config) is cls:
            return {"kind": kind, **asdict(config)}
    raise ValueError(f"{type(config).__name__} is no field with a name (jgrid.field.FIELDS)")


def field_from_dict(values: Any) -> Any:
    """The inverse of `field_to_dict`; a MulFAGrid without `fold`, as it was saved before there was
    a choice, is hashed. ValueError for an unknown kind or entry, or a value of another type or
    beyond its limits."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in FIELDS:
        raise ValueError(f"unknown field {kind!r}; there are {', '.join(FIELDS)}")
    entries = {name: value for name, value in values.items() if name != "kind"}
    if kind == "grid:mulfa":
        entries.setdefault("fold", "hash")
    return config_from_dict(FIELDS[kind], entries, kind)
