"""Networks from methods: OptDNN, and networks of two-layer blocks on coordinates."""

from typing import Any, Callable, Optional

from jgrid.network import require_memory, weights_between
from jgrid.optdnn.blocks import Affine, TwoLayer
from jgrid.optdnn.implicit import FixedPointSolver
from jgrid.optdnn.methods import (
    Method,
    Rows,
    SparseTableau,
    advance,
    combine,
    sparse,
    sparse_tableau,
)

import jittor as jt
import numpy as np
from jittor import nn


class OptDNN(nn.Module):
    """`layers` layers of a Method, every gradient replaced by a module; x -> the output, of x's
    shape.

    make_block(contract=False) makes a module T of x's shape to x's shape; with contract=True one
    that makes an implicit layer and so must be a contraction. learnable: the coefficients U, V, B
    (the methods' alpha and beta) that are not 0 are trained too, which frees the network of the
    method's convergence condition. solver: for implicit layers. copies=(K,): x is (K, N, n), and
    each copy has its own coefficients.
    """

    def __init__(
        self,
        method: Method,
        make_block: Callable[..., nn.Module],
        layers: int,
        learnable: bool = False,
        solver: Optional[FixedPointSolver] = None,
        copies: tuple[int, ...] = (),
    ):
        super().__init__()
        self.start = method.start
        self.solver = solver or FixedPointSolver()
        tableaux = [method.tableau(k) for k in range(layers)]
        self.stages = len(tableaux[0].U)
        implicit = [d != 0 for t in tableaux for d in np.diag(t.D)]
        self.blocks = nn.ModuleList(
            [make_block(contract=True) if i else make_block() for i in implicit]
        )
        self.layers = [sparse_tableau(t) for t in tableaux]
        self.readout = sparse(method.readout(len(tableaux[-1].V))[None])
        if learnable:
            self._learn((*copies, 1, 1) if copies else (1,))

    def execute(self, x: jt.Var) -> jt.Var:
        streams = [u * x for u in self.start]
        blocks = list(self.blocks)
        for k, layer in enumerate(self.layers):
            modules = blocks[k * self.stages : (k + 1) * self.stages]
            tableau = SparseTableau(*map(self._coefficients, layer))
            streams = advance(tableau, streams, modules, self.solver)
        return combine(self._coefficients(self.readout)[0], streams)

    def _learn(self, shape: tuple[int, ...]) -> None:
        """Make a variable of each coefficient, in whose stead its place in `coefficients` stands.

        One variable each: kernels into which Jittor fuses slices of one vector do not always
        compile."""
        learned: list[jt.Var] = []

        def numbered(rows: Rows) -> Rows:
            found = []
            for row in rows:
                places = []
                for i, c in row:
                    places.append((i, len(learned)))
                    learned.append(jt.array(np.full(shape, c, np.float32)))
                found.append(places)
            return found

        self.layers = [
            SparseTableau(numbered(t.U), t.D, numbered(t.V), numbered(t.B)) for t in self.layers
        ]
        self.readout = numbered(self.readout)
        self.coefficients = nn.ParameterList(learned)

    def _coefficients(self, rows: Rows) -> Rows:
        """The rows with Jittor scalars for places in `coefficients`; numbers stay."""

        def value(c: Any) -> Any:
            return self.coefficients[c] if isinstance(c, int) else c

        return [[(i, value(c)) for i, c in row] for row in rows]


def coordinate_network(
    n_in: int,
    n_out: int,
    method: Method,
    width: int = 64,
    hidden: int = 64,
    layers: int = 4,
    activation: str = "relu",
    learnable: bool = False,
    copies: tuple[int, ...] = (),
    gain: float = 0.5,
    reach: float = 1.0,
    bias: float = 0.0,
) -> nn.Sequential:
    """(N, n_in) -> (N, n_out): an affine map to `width` numbers unless there are as many, an OptDNN
    of two-layer blocks, an affine map.

    copies=(K,): K such networks side by side, (K, N, n_in) -> (K, N, n_out). gain: of each block's
    last layer at the start: how far a step goes. reach: how far from the origin the hidden neurons'
    bends lie at the start: 1 for inputs about that large, 0 for the features of a grid, which start
    far smaller. bias: the last bias starts there."""
    weights = weights_between([width, hidden] * layers + [width])
    require_memory(int(np.prod(copies)) * weights)

    def block(contract: bool = False) -> TwoLayer:
        return TwoLayer(
            width, hidden, activation, copies=copies, gain=gain, bias=reach, contract=contract
        )

    lift = [] if n_in == width else [Affine(n_in, width, copies, bias=0.5 * reach)]
    out = Affine(width, n_out, copies)
    out.bias = out.bias + bias
    return nn.Sequential(*lift, OptDNN(method, block, layers, learnable, copies=copies), out)
