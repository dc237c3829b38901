"""RadianceField: density and colour from any field."""

from typing import Annotated, Any, Optional

from jgrid.config import Positive, config, config_from_dict
from jgrid.field import Domain, field_from_dict
from jgrid.network import MLP

import jittor as jt
from annotated_types import Interval
from jittor import nn

LARGEST = 11.0  # exponent of the density
HARMONICS = 16  # numbers that stand for a direction


@config
class RadianceConfig:
    """The colours of a radiance field: a network of the field's features and the direction of
    view."""

    features: Annotated[int, Interval(ge=1, le=2**16)] = 15
    """Numbers the field gives for the colour, besides the density."""
    width: Annotated[int, Interval(ge=1, le=2**14)] = 64
    """Neurons of a hidden layer of the colour network."""
    depth: Annotated[int, Interval(ge=1, le=64)] = 1
    """Hidden layers of the colour network."""
    lr: Positive = 1e-2
    """Learning rate of the colour network."""
    enclosed: Optional[bool] = None
    """Something is in every direction: behind a ray's samples is the colour of the last one, not
    the background. None: where the box is contracted and the pictures are opaque."""

    def build(self, field_config: Any) -> "RadianceField":
        """The radiance field over a field of any kind."""
        return RadianceField(
            field_config.build(Domain(3, 1 + self.features)),
            self.features,
            self.width,
            self.depth,
            self.lr,
            bool(self.enclosed),
        )


class RadianceField(nn.Module):
    """A field of 1 + F numbers z, a small network, and the direction d of the ray:

        density(x) = exp(min(z_0(x), 11)),   colour(x, d) = sigmoid(MLP([z_1, ..., z_F](x), Y(d))),
        Y spherical harmonics.

    Beyond 11 the density keeps the slope at 11, so that what is too dense can become less so
    (Mueller et al. 2022).

    field: (N, 3) -> (N, 1 + F); features: F; width, depth: of the network; lr: its learning rate;
    enclosed: whether something is in every direction. Density is per side of the unit cube.
    """

    def __init__(
        self,
        field: nn.Module,
        features: int = 15,
        width: int = 64,
        depth: int = 1,
        lr: float = 1e-2,
        enclosed: bool = False,
    ):
        super().__init__()
        self.field = field
        self.lr = lr
        self.enclosed = enclosed
        self.colour = MLP(features + HARMONICS, 3, width, depth)

    def density(self, x: jt.Var) -> jt.Var:
        """x (N, 3) in the unit cube -> (N,), without a colour."""
        return self._density(self.field(x))

    def _density(self, z: jt.Var) -> jt.Var:
        z = z[:, 0]
        density = jt.exp(jt.minimum(z, LARGEST))
        beyond = jt.maximum(z - LARGEST, 0.0)
        return density + density.detach() * (beyond - beyond.detach())

    def execute(self, x: jt.Var, direction: jt.Var, ray: jt.Var) -> tuple[jt.Var, jt.Var]:
        """x (N, 3), direction (R, 3) of length 1, ray (N,) int32, the direction of each x ->
        density (N,), colour (N, 3)."""
        z = self.field(x)
        harmonics = spherical_harmonics(direction)[ray]
        seen = jt.concat([z[:, 1:], harmonics], dim=1)
        return self._density(z), jt.sigmoid(self.colour(seen))

    def use_plain_ops(self) -> None:
        """Compute by the plain twins of the fused ops from now on."""
        self.field.use_plain_ops()
        self.colour.fused = False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The field's, for the optimiser, and the colour network's."""
        return [
            *self.field.parameter_groups(),
            {"name": "colour", "params": self.colour.parameters(), "lr": self.lr},
        ]


def radiance_from_dict(values: dict[str, Any]) -> RadianceField:
    """The radiance field of {"field": of `field_to_dict`, "colour": a RadianceConfig's entries};
    ValueError or KeyError otherwise."""
    return config_from_dict(RadianceConfig, values["colour"], "colour").build(
        field_from_dict(values["field"])
    )


def spherical_harmonics(direction: jt.Var) -> jt.Var:
    """The 16 real spherical harmonics up to degree 3, for directions (R, 3) of length 1 -> (R, 16);
    orthonormal on the sphere."""
    x = direction[:, 0]
    y = direction[:, 1]
    z = direction[:, 2]
    xx = x * x
    yy = y * y
    zz = z * z
    return jt.stack(
        [
            jt.full_like(x, 0.28209479177387814),
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3.0 * zz - 1.0),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3.0 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5.0 * zz - 1.0),
            0.3731763325901154 * z * (5.0 * zz - 3.0),
            -0.4570457994644658 * x * (5.0 * zz - 1.0),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3.0 * yy),
        ],
        dim=1,
    )
