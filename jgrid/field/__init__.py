"""Fields: a grid or nothing, then a network or nothing; and the configs that build them.

A config is a frozen dataclass; its fields are the command line's flags, and `build(dim, n_out,
aspect, place)` makes the field. `aspect` (dim,) says how long the domain is along each axis
relative to the others: cells come out square, and as many as in a square of the same resolution;
`place(n)` -> (n, dim) in [0, 1] puts scattered nodes where the subject wants them (None: evenly).
"""

from dataclasses import asdict, fields, is_dataclass

from jgrid.field.base import Field, check_memory, count_parameters
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
    "config_from_dict",
    "count_parameters",
    "field_from_dict",
    "field_to_dict",
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


def config_from_dict(cls, values, name):
    """A config of plain data, as `dataclasses.asdict` makes it; ValueError for what it has no entry
    for, or one of another type."""
    if not isinstance(values, dict):
        raise ValueError(f"{name} is no object with entries")
    types = {f.name: f.type for f in fields(cls)}
    unknown = values.keys() - types.keys()
    if unknown:
        raise ValueError(f"{name} has no {', '.join(sorted(map(str, unknown)))}")
    made = {}
    for entry, value in values.items():
        wanted = types[entry]
        if is_dataclass(wanted):
            value = config_from_dict(wanted, value, f"{name}'s {entry}")
        elif isinstance(value, bool) != (wanted is bool) or not isinstance(
            value, (int, float) if wanted is float else wanted
        ):
            raise ValueError(
                f"{name}'s {entry} must be of type {wanted.__name__}, got {value!r:.40}"
            )
        made[entry] = value
    return cls(**made)
