"""Algorithm unrolling: the first steps of a proximal method on sparse problems as a network, whose
matrix, steps and thresholds are trained (LISTA, Gregor and LeCun 2010)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional

from jgrid.field import Field
from jgrid.optdnn.methods import Method, Module, fista, outputs
from jgrid.optdnn.optimise import iterates, minimise, soft_threshold
from jgrid.task import AbstractTask
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from jittor import nn
from numpy.random import default_rng

EXACT = 2000  # steps of FISTA after which LASSO counts as solved
PENALTIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # what LASSO is tried with
ISTA_RATES = (1.0, 1.9)  # of its steps, in 1 / |A|^2; from 2 on it diverges


class SparseProblems:
    """Codes x (N, n), a share `nonzero` of whose entries is standard normal, the others 0, and
    measurements y = A x + noise (N, m).

    dictionary: A (m, n), random columns of length 1; noise: its standard deviation; step: 1 /
    |A|^2."""

    def __init__(
        self, m: int = 64, n: int = 256, nonzero: float = 0.1, noise: float = 0.01, seed: int = 0
    ):
        columns = default_rng(seed).normal(size=(m, n))
        self.dictionary = (columns / np.linalg.norm(columns, axis=0)).astype(np.float32)
        self.nonzero = nonzero
        self.noise = noise
        self.seed = seed
        self.step = 1 / float(np.linalg.norm(self.dictionary, 2)) ** 2

    def draw(self, count: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The codes and the measurements of problems of this `number`, float32."""
        rng = default_rng((self.seed, number))
        m, n = self.dictionary.shape
        x = ((rng.random((count, n)) < self.nonzero) * rng.normal(size=(count, n))).astype("f4")
        y = x @ self.dictionary.T + self.noise * rng.normal(size=(count, m)).astype("f4")
        return x, y

    def terms(self, y: np.ndarray, penalty: float) -> list[Callable[..., np.ndarray]]:
        """LASSO, f(x) + g(x) = |y - A x|^2 / 2 + penalty |x|_1, as `iterates` takes it."""
        A = self.dictionary
        return [lambda x: (x @ A.T - y) @ A, lambda r, h: soft_threshold(r, h * penalty)]

    def solution(self, y: np.ndarray, penalty: float) -> np.ndarray:
        """LASSO's minimisers (N, n), by FISTA."""
        return minimise(fista(1.0), self.terms(y, penalty), self.zeros(y), self.step, EXACT)

    def zeros(self, y: np.ndarray) -> np.ndarray:
        """Where methods start for measurements (N, m): (N, n)."""
        return np.zeros((len(y), self.dictionary.shape[1]), np.float32)


class Unrolled(nn.Module):
    """`layers` steps of a method with two modules, the second implicit, on LASSO: y (N, m) -> x
    (N, n).

    In layer k T_f(x) = s_k (y - A x) W, and T_g is the soft threshold's by theta_k. W (m, n), which
    all layers share, s_k and theta_k are trained; they start as the method has them, step A, 1 and
    step penalty. ValueError for methods with other modules."""

    def __init__(self, method: Method, problems: SparseProblems, penalty: float, layers: int = 16):
        super().__init__()
        if (np.diag(method.tableau(0).D) != 0).tolist() != [False, True]:
            raise ValueError("`method` needs two modules in a layer, the second implicit alone")
        self.method = method
        self.dictionary = jt.array(problems.dictionary).stop_grad()
        self.matrix = jt.array(problems.dictionary * np.float32(problems.step))
        threshold = np.full(1, problems.step * penalty, np.float32)
        self.rates = nn.ParameterList([jt.ones(1) for _ in range(layers)])
        self.thresholds = nn.ParameterList([jt.array(threshold) for _ in range(layers)])

    def outputs(self, y: jt.Var) -> Iterator[jt.Var]:
        """x_0 = 0, then what each layer puts out."""
        start = jt.zeros((y.shape[0], self.matrix.shape[1]))
        transposed = self.dictionary.transpose()
        layers: list[list[Module]] = [
            [
                lambda x, rate=rate: rate * jt.matmul(y - jt.matmul(x, transposed), self.matrix),
                lambda r, d, threshold=threshold: soft_threshold(r, d * threshold),
            ]
            for rate, threshold in zip(self.rates, self.thresholds)
        ]
        return outputs(self.method, start, layers, lambda prox, rest, d: prox(rest, d))

    def execute(self, y: jt.Var) -> jt.Var:
        *_, last = self.outputs(y)
        return last


class SparseTask(AbstractTask):
    """Solving sparse problems, new ones in every step; `test` were never seen: measurements and
    what is to be found, the codes, or where `penalty` is given the solutions of LASSO with it.

    The loss is the squared error of the codes as a share of their mean square, or LASSO's
    objective, which needs no solutions."""

    metric = "nmse_db"

    def __init__(self, problems: SparseProblems, penalty: Optional[float] = None, test: int = 500):
        self.problems = problems
        self.penalty = penalty
        self.dim, self.n_out = problems.dictionary.shape
        self._dictionary = jt.array(problems.dictionary.T.copy()).stop_grad()
        self.test = self._drawn(test, 0)

    def sample(self, step: int, n: int) -> dict[str, jt.Var]:
        x, y = self.problems.draw(n, step + 2)  # 0: the test; 1: what methods are tuned on
        return {"x": jt.array(x), "y": jt.array(y)}

    def loss(self, model: nn.Module, batch: dict[str, jt.Var]) -> dict[str, jt.Var]:
        x = model(batch["y"])
        if self.penalty is None:
            error = ((x - batch["x"]) ** 2).mean()
            return {"squared_error": error * (1 / self.problems.nonzero)}
        residual = batch["y"] - jt.matmul(x, self._dictionary)
        lasso = (residual**2).sum() / 2 + self.penalty * jt.abs(x).sum()
        return {"lasso": lasso / len(x)}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        y, wanted = self.test
        with jt.no_grad():
            return {"nmse_db": error_db(model(jt.array(y)).numpy(), wanted)}

    def errors_of_layers(self, network: Unrolled) -> list[float]:
        """On the test, after 0, 1, 2, ... layers, in dB."""
        y, wanted = self.test
        with jt.no_grad():
            return [error_db(x.numpy(), wanted) for x in network.outputs(jt.array(y))]

    def errors_of_iterations(
        self, method: Method, most: int, rates: Sequence[float] = (1.0,)
    ) -> np.ndarray:
        """Of the method itself on the test, after 0 to `most` steps, in dB: at each number of steps
        with the penalty and the step, one of `rates` / |A|^2, that are best on other problems for
        this number; a LASSO of given penalty keeps it."""
        tuning = self._drawn(250, 1)
        tried = []
        for penalty in PENALTIES if self.penalty is None else (self.penalty,):
            for rate in rates:
                step = rate * self.problems.step
                tried.append(
                    [self._curve(method, data, penalty, step, most) for data in (tuning, self.test)]
                )
        tuned, tested = np.array(tried).transpose(1, 0, 2)
        return np.take_along_axis(tested, tuned.argmin(0)[None], axis=0)[0]

    def _drawn(self, count: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Measurements, and what is to be found in them."""
        x, y = self.problems.draw(count, number)
        return y, x if self.penalty is None else self.problems.solution(y, self.penalty)

    def _curve(
        self,
        method: Method,
        data: tuple[np.ndarray, np.ndarray],
        penalty: float,
        step: float,
        most: int,
    ) -> list[float]:
        y, wanted = data
        terms = self.problems.terms(y, penalty)
        found = iterates(method, terms, self.problems.zeros(y), step)
        return [error_db(x, wanted) for x in itertools.islice(found, most + 1)]


def train_unrolled(
    task: SparseTask, network: Unrolled, lr: float, config: TrainConfig
) -> dict[str, Any]:
    """A network's error on the task's test, its size, and how its training went."""
    result = Trainer(task, Field(None, network, {"network": lr}), config).fit()
    return {key: result[key] for key in ("nmse_db", "parameters", "seconds_train", "loss")}


def error_db(found: np.ndarray, wanted: np.ndarray) -> float:
    """10 log10(|found - wanted|^2 / |wanted|^2), over all problems together."""
    return 10 * float(np.log10(np.square(found - wanted).sum() / np.square(wanted).sum()))


def fewest(errors: Sequence[float], error: float) -> Optional[int]:
    """After how many steps, from 0, the errors are first as low as this one; None: never."""
    reached = np.flatnonzero(np.asarray(errors) <= error)
    return int(reached[0]) if len(reached) else None
