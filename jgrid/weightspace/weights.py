"""A zoo's weights as networks read them: standardised, with the signs and phases of a rule, and
varied in training."""

from dataclasses import replace
from typing import Annotated, Optional

from jgrid.config import Share, Weight, config
from jgrid.weightspace.baselines import align
from jgrid.weightspace.grids import PARTS
from jgrid.weightspace.layers import to_features, to_weights
from jgrid.weightspace.space import WeightSpace
from jgrid.weightspace.symmetry import canonical
from jgrid.weightspace.zoo import Zoo

import jittor as jt
import numpy as np
from annotated_types import Interval
from typing_extensions import Literal

Turn = Annotated[float, Interval(ge=0, le=180)]
Shift = Annotated[float, Interval(ge=0, le=2)]


@config
class ViewConfig:
    """How weights are varied in training, drawn anew for every field and step."""

    permute: bool = False
    """By a random element of the group."""
    signs: Literal["canonical", "vary", "keep"] = "keep"
    """Of neurons whose function is odd, as sines are: a neuron's row and bias may be negated with
    its column in the next layer. Those of `symmetry.canonical`, with its phases, in evaluation too;
    random ones; or as they are."""
    noise: Weight = 0.0
    """Deviation of normal noise, in the weights' own."""
    drop: Share = 0.0
    """Probability with which a weight is set to its mean."""
    turn: Turn = 0.0
    """Of fields of two coordinates and more: the largest angle of `random_moves`, in degrees."""
    scale: Share = 0.0
    """Of fields: coordinates are multiplied by up to 1 +- this."""
    shift: Shift = 0.0
    """Of fields: they are moved by up to this along each coordinate, which is in [-1, 1]."""


AS_THEY_ARE = ViewConfig()


class Weights:
    """Weights of a zoo, {name: (F, *sizes)}, standardised with one mean and deviation per tensor
    (per entry would not be equivariant), and varied as `views` says.

    The statistics are of the fields `known`, those that are trained on. omega: the sines' own.
    """

    def __init__(
        self,
        space: WeightSpace,
        weights: dict[str, np.ndarray],
        known: np.ndarray,
        views: ViewConfig = AS_THEY_ARE,
        *,
        omega: float,
    ):
        self.space = space
        self.omega = omega
        self.weights = canonical(weights, omega) if views.signs == "canonical" else weights
        self.views = views
        self.mean = {name: float(value[known].mean()) for name, value in self.weights.items()}
        self.deviation = {
            name: float(value[known].std()) + 1e-12 for name, value in self.weights.items()
        }

    def raw(
        self, index: np.ndarray, rng: Optional[np.random.Generator] = None
    ) -> dict[str, np.ndarray]:
        """{name: (B, *sizes)} of fields by their numbers; moved, and varied by the group's
        elements, where there is an rng."""
        chosen = {name: self.weights[name][index] for name, _ in self.space.tensors}
        if rng is None:
            return chosen
        views = self.views
        if views.turn or views.scale or views.shift:
            dim = chosen["W1"].shape[2]
            moves = random_moves(len(index), dim, views.turn, views.scale, views.shift, rng)
            chosen = moved(chosen, *moves)
            # the rules of the first layer look at its weights and biases
            if views.signs == "canonical":
                chosen = canonical(chosen, self.omega)
        if views.permute or views.signs == "vary":
            self._vary(chosen, len(index), rng)
        return chosen

    def features(
        self, index: np.ndarray, rng: Optional[np.random.Generator] = None
    ) -> list[jt.Var]:
        """The standardised weights of fields as a network reads them, varied where there is an
        rng."""
        views = self.views
        scaled = {}
        for name, value in self.raw(index, rng).items():
            value = (value - self.mean[name]) / self.deviation[name]
            if rng is not None and views.noise:
                value = value + views.noise * rng.standard_normal(value.shape, np.float32)
            if rng is not None and views.drop:
                value = value * (rng.random(value.shape, np.float32) >= views.drop)
            scaled[name] = jt.array(value.astype(np.float32)).stop_grad()
        return to_features(self.space, scaled)

    def unscaled(self, features: list[jt.Var]) -> dict[str, jt.Var]:
        """The inverse of `features`: {name: (B, *sizes)} as the fields have them."""
        return {
            name: value * self.deviation[name] + self.mean[name]
            for name, value in to_weights(self.space, features).items()
        }

    def _vary(self, chosen: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> None:
        """Permute the neurons of n fields in place, or change their signs, as `views` says."""
        for hidden, size in self.space.sizes.items():
            order = None
            sign = None
            if self.views.permute:
                order = rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1)
            if self.views.signs == "vary":
                sign = rng.choice(np.array([-1, 1], np.float32), (n, size))
            for name, axes in self.space.tensors:
                labels = [label for label, _ in axes]
                if hidden not in labels:
                    continue
                shape = [n] + [size if label == hidden else 1 for label in labels]
                axis = 1 + labels.index(hidden)
                if order is not None:
                    chosen[name] = np.take_along_axis(chosen[name], order.reshape(shape), axis)
                if sign is not None:
                    chosen[name] = chosen[name] * sign.reshape(shape)


def zoo_weights(
    zoo: Zoo,
    known: np.ndarray,
    views: ViewConfig = AS_THEY_ARE,
    parts: tuple[str, ...] = tuple(PARTS),
    aligned: bool = False,
) -> Weights:
    """The weights of a zoo, or of grids those of some `parts` (features, kernel, decoder).

    aligned: with the neurons of all permuted to resemble those of the first known field. Signs stay
    as they are where the zoo's functions are not odd.
    """
    starts = tuple(start for part in parts for start in PARTS[part])
    space = zoo.space.part([key for key in zoo.weights if key.startswith(starts)])
    values = {key: zoo.weights[key] for key, _ in space.tensors}
    if zoo.config["activation"] != "sine":
        views = replace(views, signs="keep")
    omega = zoo.config["omega"]
    if aligned:
        values = canonical(values, omega) if views.signs == "canonical" else values
        values = align(space, values, {key: value[known[0]] for key, value in values.items()})
    return Weights(space, values, known, views, omega=omega)


def random_moves(
    n: int, dim: int, turn: float, scale: float, shift: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A (n, D, D) and t (n, D) of random moves x -> A x + t: turns, each coordinate times one
    factor, shifts.

    Uniform: the angle in +-turn degrees, in the plane of the first two coordinates; the factor in 1
    +- scale; t in +-shift. ValueError for a turn where there is one coordinate only."""
    if turn and dim < 2:
        raise ValueError("`turn` needs fields of two coordinates, these have one")
    angle = np.deg2rad(rng.uniform(-turn, turn, n))
    matrix = np.tile(np.eye(dim), (n, 1, 1))
    if turn:
        cosine = np.cos(angle)
        sine = np.sin(angle)
        matrix[:, :2, :2] = np.array([[cosine, -sine], [sine, cosine]]).transpose(2, 0, 1)
    matrix *= rng.uniform(1 - scale, 1 + scale, (n, 1, 1))
    return matrix.astype(np.float32), rng.uniform(-shift, shift, (n, dim)).astype(np.float32)


def moved(
    weights: dict[str, np.ndarray], matrix: np.ndarray, offset: np.ndarray
) -> dict[str, np.ndarray]:
    """The fields f(A x + t) of fields f whose first layer is W_1 x + b_1: it becomes W_1 A x + (W_1
    t + b_1); nothing else changes.

    weights {name: (F, *sizes)}, A (F, D, D), t (F, D).
    """
    first = weights["W1"]
    return {
        **weights,
        "W1": first @ matrix,
        "b1": weights["b1"] + (first @ offset[..., None])[..., 0],
    }
