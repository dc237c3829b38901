"""What apps/tables.py runs: the fields of each table and its sizes."""

from dataclasses import replace
from typing import Any, NamedTuple, Optional

from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MFNConfig,
    MulFAGridConfig,
    OptDNNGridConfig,
    RadialGridConfig,
    SirenConfig,
    WireConfig,
    presets,
)
from jgrid.field.presets import NO_DECODER, SCENE, SURFACE

import numpy as np
from diagnose_fields import CANDIDATES, MODELS

MULFA = "MulFAGrid"
OPTDNN = "OptDNN (Nesterov) on linear grids"
SMALL = DecoderConfig()


def _with_linear_kernel(field: MulFAGridConfig, rival: HashGridConfig) -> HashGridConfig:
    """The linear grid of the field's index, with the hash grid's own decoder and rates."""
    index = ("finest", "coarsest", "levels", "channels", "table_size", "fold", "profile")
    return replace(rival, **{name: getattr(field, name) for name in index})


IMAGE = {
    MULFA: presets.IMAGE["grid:mulfa"],
    "linear grid of the same index": _with_linear_kernel(
        presets.IMAGE["grid:mulfa"], presets.IMAGE["grid:hash"]
    ),
    "linear grid, 2 levels": presets.IMAGE["grid:dense"],
    "linear grid, 4 levels, two hidden layers": DenseGridConfig(
        finest=235, coarsest=30, levels=4, channels=4, decoder=DecoderConfig(depth=2)
    ),
    OPTDNN: presets.IMAGE["grid:optdnn"],
    "hash grid": presets.IMAGE["grid:hash"],
    "FourierGrid": presets.IMAGE["grid:fourier"],
    "radial kernels": presets.IMAGE["grid:radial"],
    "Fourier features": presets.IMAGE["net:fourier"],
    "MFN": presets.IMAGE["net:mfn"],
    "SIREN": presets.IMAGE["net:siren"],
    "WIRE": presets.IMAGE["net:wire"],
    "literal kernel of the paper": presets.IMAGE["grid:mulfa-literal"],
}
PUBLISHED = {
    MULFA: IMAGE[MULFA],
    "hash grid": IMAGE["hash grid"],
    "linear grid of the same index": IMAGE["linear grid of the same index"],
}
# for crops of 128 pixels: as many parameters to a pixel as the others have on Kodak's pictures, and
# networks a quarter as wide
_MULFA_SMALL = MulFAGridConfig(
    finest=87,
    coarsest=9,
    levels=4,
    channels=8,
    table_size=376,
    decoder=DecoderConfig(width=32, gated=True),
)
_HASH_SMALL = HashGridConfig(finest=62, coarsest=6, levels=6, table_size=907, decoder=SMALL)
IMAGE_SMALL = {
    MULFA: _MULFA_SMALL,
    "linear grid of the same index": _with_linear_kernel(_MULFA_SMALL, _HASH_SMALL),
    "linear grid, 2 levels": DenseGridConfig(finest=37, coarsest=8),
    OPTDNN: OptDNNGridConfig(finest=46, coarsest=6),
    "hash grid": _HASH_SMALL,
    "FourierGrid": FourierGridConfig(finest=20),
    "radial kernels": RadialGridConfig(nodes=960),
    "Fourier features": FourierNetConfig(features=64, sigma=5.0, width=64, lr=5e-3),
    "MFN": MFNConfig(width=64, scale=64.0),
    "SIREN": SirenConfig(width=64, lr=1e-3),
    "WIRE": WireConfig(width=45),
    "literal kernel of the paper": LiteralMulFAGridConfig(finest=37, coarsest=8),
}
SDF = {
    MULFA: SURFACE["grid:mulfa"],
    "linear grid": SURFACE["grid:dense"],
    OPTDNN: SURFACE["grid:optdnn"],
    "hash grid": SURFACE["grid:hash"],
    "SIREN": SirenConfig(),
    "Fourier features": FourierNetConfig(sigma=3.0),
}
SDF_SMALL = {
    MULFA: replace(SURFACE["grid:mulfa"], finest=64, coarsest=8, levels=4, table_size=3200),
    "linear grid": replace(SURFACE["grid:dense"], finest=24, coarsest=8, decoder=SMALL),
    OPTDNN: replace(SURFACE["grid:optdnn"], finest=24, coarsest=8),
    "hash grid": replace(
        SURFACE["grid:hash"], finest=64, coarsest=8, levels=4, table_size=2**13, decoder=SMALL
    ),
    "SIREN": SirenConfig(width=64, lr=1e-3),
    "Fourier features": FourierNetConfig(features=64, sigma=2.0, width=64),
}
VIEWS = {
    MULFA: SCENE["grid:mulfa"],
    "hash grid": SCENE["grid:hash"],
    "linear grid": SCENE["grid:dense"],
    "VM": SCENE["grid:vm"],
    "FourierGrid": SCENE["grid:fourier"],
    OPTDNN: SCENE["grid:optdnn"],
}
VIEWS_SMALL = {
    MULFA: replace(VIEWS[MULFA], finest=64, coarsest=8, table_size=2**14),
    "linear grid": replace(VIEWS["linear grid"], finest=40, coarsest=16, levels=2),
    "hash grid": replace(VIEWS["hash grid"], finest=64, coarsest=8, table_size=2**14),
    "VM": replace(VIEWS["VM"], finest=64, rank=12),
    OPTDNN: replace(VIEWS[OPTDNN], finest=40, coarsest=16, levels=2),
}
THEORY = {
    **{
        name: CANDIDATES[name]
        for name in (
            "linear, 80 cells",
            "linear, 4 levels to 80 cells",
            "hash, tables of 2000",
            "FourierGrid, 40 cells, 1 octaves",
            "radial, 4000 nodes",
        )
    },
    "MulFA, the literal random kernel": LiteralMulFAGridConfig(
        finest=80, coarsest=10, levels=4, decoder=NO_DECODER
    ),
}
ENCODINGS = {
    "none": 0,
    "basic": 0,
    "positional": 4,
    "gaussian, narrow": 1,
    "gaussian": 5,
    "gaussian, wide": 25,
}
ENCODINGS_LARGE = {
    "none": 0,
    "basic": 0,
    "positional": 6,
    "gaussian, narrow": 2,
    "gaussian": 10,
    "gaussian, wide": 50,
}


class Preset(NamedTuple):
    """Sizes of a table: the fields (fourier: encodings and their sigma); steps of the equal-steps
    column; points a step; runs; the longest step, in the reference's, of a field that gets equal
    steps; pixels along a side of pictures (None: all), or of generated views; how many subjects of
    a folder are taken (None: all)."""

    fields: dict[str, Any]
    steps: int
    batch: int = 2**16
    seeds: int = 1
    patience: float = np.inf
    side: Optional[int] = None
    subjects: Optional[int] = None


PRESETS = {
    "image": {
        "cpu": Preset(IMAGE_SMALL, 300, 2**13, 2, patience=6, side=128, subjects=2),
        "paper": Preset(IMAGE, 20000, 2**18, 3),
        "pictures": Preset(IMAGE, 600, patience=2.5),
        "published": Preset(PUBLISHED, 20000),
    },
    "sdf": {
        "cpu": Preset(SDF_SMALL, 200, 2**13, subjects=2),
        "paper": Preset(SDF, 20000, 2**18, 3),
    },
    "views": {
        "cpu": Preset(VIEWS_SMALL, 200, 2**12, side=64, subjects=1),
        "paper": Preset(VIEWS, 30000, 2**18, 3),
    },
    "theory": {
        "cpu": Preset(THEORY, 300, side=128, subjects=2),
        "paper": Preset(MODELS, 2000),
    },
    "fourier": {
        "cpu": Preset(ENCODINGS, 500, seeds=2, side=64),
        "paper": Preset(ENCODINGS_LARGE, 2000, seeds=3, side=128),
    },
}
