"""The fields' defaults for each subject, by their command-line kind.

IMAGE: pictures, every kind, which is what the configs say themselves; SURFACE: signed distances,
below 900,000 parameters; SCENE: radiance on a CPU; LINEAR: pictures without a decoder, so that the
field is linear in its features, can be solved for, and is what the theory predicts.
"""

from jgrid.field import FIELDS
from jgrid.field.grids import (
    DecoderConfig,
    DenseGridConfig,
    FourierGridConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MulFAGridConfig,
    RadialGridConfig,
    VMGridConfig,
)
from jgrid.field.networks import OptDNNGridConfig

IMAGE = {kind: config() for kind, config in FIELDS.items()}

# what surfaces and scenes were measured with: pictures' wider decoders were not tried there
_GATED = DecoderConfig(width=32, gated=True)
_ONE_LAYER = DecoderConfig()
_TWO_LAYERS = DecoderConfig(depth=2)
SURFACE = {
    "grid:mulfa": MulFAGridConfig(
        finest=192,
        coarsest=16,
        levels=6,
        channels=4,
        table_size=2**15,
        spread=0.1,
        decoder=_GATED,
        lr_features=1e-2,
        lr_network=5e-3,
    ),
    "grid:hash": HashGridConfig(
        finest=192,
        coarsest=16,
        levels=6,
        channels=2,
        table_size=2**16,
        decoder=_TWO_LAYERS,
        lr_features=1e-2,
        lr_network=5e-3,
    ),
    "grid:dense": DenseGridConfig(
        finest=70,
        coarsest=16,
        levels=3,
        channels=2,
        decoder=_TWO_LAYERS,
        lr_features=1e-2,
        lr_network=5e-3,
    ),
    "grid:optdnn": OptDNNGridConfig(
        finest=70, coarsest=16, levels=3, channels=2, lr_features=1e-2, lr_network=3e-3
    ),
}

SCENE = {
    "grid:mulfa": MulFAGridConfig(
        finest=128,
        coarsest=16,
        levels=4,
        channels=4,
        table_size=2**17,
        spread=0.1,
        decoder=_GATED,
        lr_features=4e-2,
        lr_network=1e-2,
    ),
    "grid:hash": HashGridConfig(
        finest=128,
        coarsest=16,
        levels=4,
        channels=4,
        table_size=2**17,
        decoder=_ONE_LAYER,
        lr_features=4e-2,
        lr_network=1e-2,
    ),
    "grid:dense": DenseGridConfig(
        finest=80, coarsest=20, levels=3, channels=4, lr_features=3e-2, lr_network=1e-2
    ),
    "grid:vm": VMGridConfig(finest=128, rank=16),
    "grid:fourier": FourierGridConfig(finest=48),
    "grid:optdnn": OptDNNGridConfig(finest=80, coarsest=20, levels=3, lr_features=3e-2),
}

NO_DECODER = DecoderConfig(depth=0)
# four levels, since without a decoder each adds but one number
LINEAR = {
    "grid:mulfa": MulFAGridConfig(
        finest=235, coarsest=30, levels=4, table_size=2**22, decoder=NO_DECODER
    ),
    "grid:mulfa-literal": LiteralMulFAGridConfig(
        finest=235, coarsest=30, levels=4, decoder=NO_DECODER
    ),
    "grid:hash": HashGridConfig(
        finest=312, coarsest=13, levels=8, table_size=20000, decoder=NO_DECODER
    ),
    "grid:dense": DenseGridConfig(finest=235, coarsest=30, levels=4, decoder=NO_DECODER),
    "grid:fourier": FourierGridConfig(decoder=NO_DECODER),
    "grid:radial": RadialGridConfig(decoder=NO_DECODER),
}
