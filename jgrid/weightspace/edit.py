"""Editing in one pass: weights of a picture's field -> weights of the changed picture's field.

What is right is judged by rendering: no weights of changed pictures are ever seen."""

from typing import Annotated, Any, Optional

from jgrid.config import ArgumentError, config
from jgrid.ops.siren import fused_siren_errors, fused_sirens
from jgrid.task import AbstractTask, Epochs
from jgrid.weightspace.layers import to_weights
from jgrid.weightspace.subjects import Pictures
from jgrid.weightspace.tasks import CHUNK
from jgrid.weightspace.weights import Weights
from jgrid.weightspace.zoo import Zoo

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from scipy.ndimage import maximum_filter, minimum_filter, rotate
from typing_extensions import Literal


@config
class ChangeConfig:
    """What is done with pictures."""

    change: Literal["dilate", "erode", "turn"] = "dilate"
    """Thicken what is bright: each pixel becomes the largest of the 3 x 3 about it; thin it: the
    least; or turn the picture about its middle."""
    angle: Annotated[float, Interval(ge=-360, le=360)] = 30.0
    """By which `change` turn turns, in degrees."""

    def check(self) -> None:
        if self.change != "turn" and self.angle != ChangeConfig.angle:
            raise ArgumentError("angle", "is of `change` turn")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pictures (n, side, side, C) in [0, 1], changed; beyond the border they are as at it, and
        where they are turned, 0."""
        if self.change == "turn":
            # some need double precision, for which all at once may be too many
            turned = [rotate(one, self.angle, reshape=False, order=1) for one in pixels]
            return np.clip(turned, 0, 1).astype(np.float32)
        of_nine = maximum_filter if self.change == "dilate" else minimum_filter
        return of_nine(pixels, (1, 3, 3, 1), mode="nearest")


class EditTask(AbstractTask):
    """v' = v + deviation * model(v), one pass, such that the SIREN v' is a picture.

    weights: of the SIRENs; pictures (F, side, side, C): what they shall become, in [0, 1]; points
    (side^2, 2): the places of the pixels. `mse` is the mean squared error of the pixels of held-out
    fields, rendered, in units of [0, 1]: a quarter of what it is in [-1, 1]."""

    dim = 2
    metric = "mse"

    def __init__(
        self,
        weights: Weights,
        pictures: np.ndarray,
        points: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
        seed: int = 0,
    ):
        self.weights = weights
        # fields are fitted to values - 0.5
        self.values = pictures.reshape(len(pictures), len(points), -1) - np.float32(0.5)
        self.n_out = self.values.shape[2]
        self.points = jt.array(points).stop_grad()
        self.train = train
        self.test = test
        self._epochs = Epochs(train, seed)

    def sample(self, step: int, n: int) -> dict[str, Any]:
        return {"index": self._epochs.rows(step, n)}

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, jt.Var]:
        return {"mse": self._errors(model, batch["index"]).mean()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        # about as many as are held out
        known = self.train[:: max(1, len(self.train) // len(self.test))]
        model.eval()
        found = {"mse": self.score(model, self.test), "mse_train": self.score(model, known)}
        model.train()
        return found

    def edited(self, model: Optional[nn.Module], index: np.ndarray) -> dict[str, jt.Var]:
        """The fields' weights after the edit {name: (F, *sizes)}; model None: as they are."""
        raw = {name: jt.array(value).stop_grad() for name, value in self.weights.raw(index).items()}
        if model is None:
            return raw
        change = to_weights(self.weights.space, model(self.weights.features(index)))
        return {
            name: value + self.weights.deviation[name] * change[name] for name, value in raw.items()
        }

    def rendered(self, model: Optional[nn.Module], index: np.ndarray) -> np.ndarray:
        """The pictures (F, side^2, C) of edited fields."""
        with jt.no_grad():
            parameters = self.edited(model, index).values()
            return fused_sirens(self.points, self.weights.omega, *parameters).numpy() + 0.5

    def score(self, model: Optional[nn.Module], index: np.ndarray) -> float:
        """The mean squared error of edited fields; model None: as they are."""
        with jt.no_grad():
            found = [
                self._errors(model, index[first : first + CHUNK]).numpy()
                for first in range(0, len(index), CHUNK)
            ]
        return float(np.concatenate(found).mean())

    def _errors(self, model: Optional[nn.Module], index: np.ndarray) -> jt.Var:
        values = jt.array(self.values[index]).stop_grad()
        parameters = self.edited(model, index).values()
        return fused_siren_errors(self.points, values, self.weights.omega, *parameters)


def require_fields_of(zoo: Zoo, pictures: Pictures) -> None:
    """ValueError where a zoo is none of SIRENs of these very pictures, from the first on."""
    made = zoo.config["made"]
    if zoo.kind != "pictures" or made.get("subject") != pictures.config or made["first"] != 0:
        raise ValueError(
            "its fields are of other pictures, or of another size of them, than `subject` and"
            f" its size say: {made.get('subject')}"
        )
