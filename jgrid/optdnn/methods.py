"""First-order optimisation methods as data, and what theory says of the networks that follow from
them.

Replace every gradient -grad f by a module T with a two-layer network inside, and a method becomes a
network (optimisation-inspired DNNs, OptDNN; TPAMI 2024). Its general update x_{k+1} = sum_i
alpha_{k,i} x_i + sum_i beta_{k,i} T_i(x_i) is written here with the sums a method needs kept in a
few streams, as Butcher's general linear methods are. The paper's own table of networks was not
available: the family below is this library's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

# numbers, numpy arrays or Jittor variables; modules T map them, and solve(T, r, d) gives the y with
# y = r + d T(y); what stands for an implicit T may be of any kind that solve knows
Array = Any
Module = Callable[..., Array]
Solve = Callable[[Module, Array, Any], Array]
Rows = list[list[tuple[int, Any]]]  # a sparse matrix: (column, coefficient) pairs


class Tableau(NamedTuple):
    """One layer on S streams x_s with J modules T_j, the coefficients of

        y_j = sum_s U_js x_s + sum_{i <= j} D_ji T_i(y_i),     x'_s = sum_r V_sr x_r + sum_j B_sj
        T_j(y_j).

    U (J, S), D (J, J) lower triangular, V (S', S), B (S', J). D_jj other than 0 makes y_j implicit.
    """

    U: np.ndarray
    D: np.ndarray
    V: np.ndarray
    B: np.ndarray


class SparseTableau(NamedTuple):
    """A tableau of `sparse` matrices, whose coefficients may be numbers, Jittor scalars, or places
    in a list of these."""

    U: Rows
    D: Rows
    V: Rows
    B: Rows


@dataclass(frozen=True)
class Method:
    """start: the streams at the start, as multiples of the input; tableau(k): layer k; readout(S):
    the output's coefficients."""

    start: tuple[int, ...]
    tableau: Callable[[int], Tableau]
    readout: Callable[[int], np.ndarray] = lambda n_streams: np.eye(n_streams)[0]


def _tableau(U: Any, V: Any, B: Any, D: Any = None) -> Tableau:
    """A layer of nested lists; D is zero unless given."""
    U, V, B = (np.array(m, float, ndmin=2) for m in (U, V, B))
    D = np.zeros((len(U), len(U))) if D is None else np.array(D, float, ndmin=2)
    return Tableau(U, D, V, B)


def gradient_descent() -> Method:
    """x+ = x + T(x): ResNet."""
    return Method((1,), lambda k: _tableau([1], [1], [1]))


def heavy_ball(beta: float = 0.9) -> Method:
    """x+ = x + beta (x - x_prev) + T(x), Polyak 1964."""
    return Method((1, 1), lambda k: _tableau([1, 0], [[1 + beta, -beta], [1, 0]], [[1], [0]]))


def nesterov(most: float = 0.9) -> Method:
    """y = x + c_k (x - x_prev), x+ = y + T(y), c_k = min(k / (k + 3), most), Nesterov 1983.

    Without the bound (most = 1) the roots 1 and c_k meet and it follows an equation of second order
    instead; up to 27 layers are the same."""

    def layer(k: int) -> Tableau:
        c = min(k / (k + 3), most)
        return _tableau([1 + c, -c], [[1 + c, -c], [1, 0]], [[1], [0]])

    return Method((1, 1), layer)


def apg2(least: float = 0.1) -> Method:
    """y = (1 - th) x + th z, z+ = z + T(y), x+ = (1 - th) x + th z+, th_k = max(2 / (k + 2),
    least): accelerated gradients in three sequences (Auslender and Teboulle 2006); without the
    bound x would be an average over more and more of the past."""

    def layer(k: int) -> Tableau:
        th = max(2 / (k + 2), least)
        return _tableau([1 - th, th], [[1 - th, th], [0, 1]], [[th], [1]])

    return Method((1, 1), layer)


def _two_gradients(now: float, before: float) -> Method:
    """x+ = x + now T(x) - before T_prev(x_prev), the first layer plain."""

    def layer(k: int) -> Tableau:
        if k == 0:
            return _tableau([1, 0], [[1, 0], [0, 0]], [[1], [1]])
        return _tableau([1, 0], [[1, -before], [0, 0]], [[now], [1]])

    return Method((1, 0), layer)


def optimistic() -> Method:
    """x+ = x + 2 T(x) - T_prev(x_prev), optimistic gradient, Popov 1980."""
    return _two_gradients(2, 1)


def adams_bashforth() -> Method:
    """x+ = x + 3/2 T(x) - 1/2 T_prev(x_prev): of second order."""
    return _two_gradients(1.5, 0.5)


def dual_averaging() -> Method:
    """x_{k+1} = x_0 + sum_{i <= k} beta_{k,i} T_i(x_i), Nesterov 2009, with all beta = 1.

    So it computes what gradient descent does; with learnable coefficients each edge has its own and
    it is a DenseNet that adds."""

    def layer(k: int) -> Tableau:
        added = np.eye(k + 2)[:, -1:]  # T_k(x_k), a stream of its own
        return _tableau(np.ones(k + 1), np.eye(k + 2, k + 1), added)

    return Method((1,), layer, np.ones)


def admm(rho: float = 0.5, step: float = 0.5) -> Method:
    """Linearised ADMM of min f(x) + g(z), x = z: with d = lambda + rho (x - z) at the newest x and
    z,

        x+ = x + T_f(x) - step d,    z+ = z + T_g(z) + step d,    lambda+ = lambda + rho (x+ - z+).
    """
    # every vector a row of coefficients of (x, z, lambda, T_f, T_g)
    x, z, multiplier, f, g = np.eye(5)
    new_x = x + f - step * (multiplier + rho * (x - z))
    new_z = z + g + step * (multiplier + rho * (new_x - z))
    rows = np.stack([new_x, new_z, multiplier + rho * (new_x - new_z)])
    return Method((1, 1, 0), lambda k: _tableau([[1, 0, 0], [0, 1, 0]], rows[:, :3], rows[:, 3:]))


def proximal_point() -> Method:
    """x+ = x + T(x+), Rockafellar 1976: implicit."""
    return Method((1,), lambda k: _tableau([1], [1], [1], [1]))


def proximal_gradient() -> Method:
    """x+ = x + T_f(x) + T_g(x+): implicit."""
    return Method((1,), lambda k: _tableau([[1], [1]], [1], [1, 1], [[0, 0], [1, 1]]))


def fista(most: float = 0.9) -> Method:
    """y = x + c_k (x - x_prev), x+ = y + T_f(y) + T_g(x+), c_k as `nesterov`'s, Beck and Teboulle
    2009: implicit."""

    def layer(k: int) -> Tableau:
        c = min(k / (k + 3), most)
        y = [1 + c, -c]
        return _tableau([y, y], [y, [1, 0]], [[1, 1], [0, 0]], [[0, 0], [1, 1]])

    return Method((1, 1), layer)


METHODS: dict[str, Callable[[], Method]] = {
    "gd": gradient_descent,
    "heavy-ball": heavy_ball,
    "nesterov": nesterov,
    "apg2": apg2,
    "optimistic": optimistic,
    "ab2": adams_bashforth,
    "dual-averaging": dual_averaging,
    "admm": admm,
    "proximal-point": proximal_point,
    "proximal-gradient": proximal_gradient,
    "fista": fista,
}
IMPLICIT = ("proximal-point", "proximal-gradient", "fista")


def find_method(name: str) -> Method:
    """The Method of a name in METHODS; ValueError for any other."""
    if name not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]()


def sparse(matrix: np.ndarray) -> Rows:
    """A matrix as the (column, coefficient) pairs of its rows, without its zeros."""
    rows: Rows = [[] for _ in matrix]
    for r, c in np.argwhere(matrix).tolist():
        rows[r].append((c, float(matrix[r, c])))
    return rows


def sparse_tableau(tableau: Tableau) -> SparseTableau:
    return SparseTableau(*map(sparse, tableau))


def combine(pairs: Iterable[tuple[int, Any]], values: Sequence[Array]) -> Optional[Array]:
    """The sum of c v_i over the pairs (i, c); None where there are none."""
    total = None
    for i, c in pairs:
        term = values[i] if isinstance(c, float) and c == 1.0 else c * values[i]
        total = term if total is None else total + term
    return total


def advance(
    tableau: SparseTableau, streams: Sequence[Array], modules: Sequence[Module], solve: Solve
) -> list[Array]:
    """One layer: streams and modules T_j -> new streams."""
    found: list[Array] = []
    for j, module in enumerate(modules):
        rest = combine(tableau.U[j], streams)
        known = combine([(i, c) for i, c in tableau.D[j] if i < j], found)
        rest = rest if known is None else rest + known
        implicit = dict(tableau.D[j]).get(j)
        if implicit is None:
            found.append(module(rest))
        else:
            # y is at hand, so T(y) = (y - r) / d needs no further evaluation
            found.append((solve(module, rest, implicit) - rest) * (1 / implicit))
    n = len(streams)
    return [
        combine([*v, *((n + j, c) for j, c in b)], [*streams, *found])
        for v, b in zip(tableau.V, tableau.B)
    ]


def outputs(
    method: Method, x: Array, modules: Iterable[Sequence[Module]], solve: Solve
) -> Iterator[Array]:
    """x_0, the input as the method reads it, then the output after each layer; `modules`: as
    `run`'s, or without end."""
    streams = [u * x for u in method.start]
    yield read(method, streams)
    for k, of_layer in enumerate(modules):
        streams = advance(sparse_tableau(method.tableau(k)), streams, of_layer, solve)
        yield read(method, streams)


def run(method: Method, x: Array, modules: Sequence[Sequence[Module]], solve: Solve) -> Array:
    """The network of a method on anything with + and *: `modules[k][j]` is T_j of layer k. Returns
    the output."""
    *_, last = outputs(method, x, modules, solve)
    return last


def read(method: Method, streams: Sequence[Array]) -> Array:
    """The output that the last streams make."""
    return combine(sparse(method.readout(len(streams))[None])[0], streams)


def clock(method: Method, layers: int) -> np.ndarray:
    """Steps h_k (layers,) with which T_k = h_k f takes a network along x' = f(x) from time 0 to 1
    in equal parts.

    Where the output stands in time is linear in h_k, so each is solved for in turn. For constant
    coefficients they tend to rho'(1) / sigma(1) / layers of linear multistep theory; 0 or less says
    that there is no such step."""
    times = [0.0] * len(method.start)
    steps: list[float] = []
    for k in range(layers):
        tableau = sparse_tableau(method.tableau(k))
        unmoved = read(method, _pass_time(tableau, times, 0.0))
        gain = read(method, _pass_time(tableau, times, 1.0)) - unmoved
        steps.append(((k + 1) / layers - unmoved) / gain if gain else np.inf)
        times = _pass_time(tableau, times, steps[-1])
    return np.array(steps)


class Analysis(NamedTuple):
    """consistent, zero_stable, order (0: no convergence); roots: the eigenvalues of V after many
    layers, those of rho among them."""

    consistent: bool
    zero_stable: bool
    order: int
    roots: np.ndarray

    @property
    def universal(self) -> bool:
        """The condition of the theorem: a convergent method, so that deep networks of its form come
        near every flow."""
        return self.consistent and self.zero_stable


def analyse(method: Method, layers: int = 128) -> Analysis:
    """What linear multistep theory says of a method before anything is trained.

    consistent: T = 0 leaves every point where a T stands at the input (rho(1) = 0), and there are
    steps h_k > 0 with which time passes (rho'(1) = sigma(1) after scaling), by which x' = x is
    followed if the method is stable (Dahlquist's equivalence). zero_stable: a change of the streams
    after any layer changes later outputs by an amount that does not grow with depth; for constant
    coefficients that is the root condition (roots of rho in the unit disc, those on the circle
    simple). order: p in |error| ~ L^-p on x' = x, the start included.
    """
    consistent = _has_steps(method)
    stable = bool(_growth(method, 2 * layers) < 1.5 * _growth(method, layers // 2))
    order = 0
    if consistent and stable:
        errors = [abs(_exponential(method, n) - np.e) for n in (layers // 2, layers)]
        order = int(round(np.log2(errors[0] / errors[1])))
        consistent = order > 0
    # one stream: the input and sums that are only added to
    V = method.tableau(layers if len(method.start) > 1 else 0).V
    return Analysis(consistent, stable, order, np.linalg.eigvals(V[: len(method.start)]))


def _once(module: Module, rest: Array, d: float) -> Array:
    """Solves y = r + d T(y) where T is constant."""
    return rest + d * module(rest)


def _pass_time(tableau: SparseTableau, times: Sequence[float], h: float) -> list[float]:
    """Where streams at these times stand after a layer in which every T is h."""
    return advance(tableau, times, [lambda y: h] * len(tableau.U), _once)


def _has_steps(method: Method) -> bool:
    """Whether T = 0 leaves the input where it is, and there are steps with which time passes."""
    few = 16  # in unstable methods even rounding grows with depth
    steps = clock(method, few)
    passes = np.isfinite(steps).all() and steps[few // 2 :].min() > 1e-9
    return bool(passes and _drift(method, few) < 1e-9)


def _drift(method: Method, layers: int) -> float:
    """How far T = 0 moves a point at which some T stands, or the output, from the input 1."""
    drift: list[float] = []

    def module(y: float) -> float:
        drift.append(abs(y - 1.0))
        return 0.0

    output = run(method, 1.0, [[module] * len(method.tableau(k).U) for k in range(layers)], _once)
    return max(*drift, abs(output - 1.0))


def _growth(method: Method, layers: int) -> float:
    """The largest change of the output by a unit change of a stream after some layer before."""
    matrices = [method.tableau(k).V for k in range(layers)]
    row = method.readout(len(matrices[-1]))
    largest = np.abs(row).max()
    for V in reversed(matrices):
        row = row @ V
        largest = max(largest, np.abs(row).max())
    return largest


def _exponential(method: Method, layers: int) -> float:
    """x(1) of x' = x, x(0) = 1 by the network with T_k = h_k x."""
    steps = clock(method, layers)
    modules = [[_times(h)] * len(method.tableau(k).U) for k, h in enumerate(steps)]
    return run(method, 1.0, modules, lambda module, rest, d: rest / (1 - d * module(1.0)))


def _times(h: float) -> Module:
    return lambda y: h * y
