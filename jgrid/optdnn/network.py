"""Networks from methods: OptDNN, and networks of two-layer blocks on coordinates."""

from jgrid.network import require_memory
from jgrid.optdnn.blocks import Affine, TwoLayer
from jgrid.optdnn.implicit import FixedPointSolver
from jgrid.optdnn.methods import Tableau, advance, combine, sparse

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

    def __init__(self, method, make_block, layers, learnable=False, solver=None, copies=()):
        super().__init__()
        self.start = method.start
        self.solver = solver or FixedPointSolver()
        tableaux = [method.tableau(k) for k in range(layers)]
        self.stages = len(tableaux[0].U)
        self.blocks = nn.ModuleList(
            [
                make_block(contract=True) if d else make_block()
                for t in tableaux
                for d in np.diag(t.D)
            ]
        )
        self.layers = [Tableau(*map(sparse, t)) for t in tableaux]
        self.readout = sparse(method.readout(len(tableaux[-1].V))[None])[0]
        if learnable:
            rows = [row for t in self.layers for matrix in (t.U, t.V, t.B) for row in matrix] + [
                self.readout
            ]
            # one variable each: kernels into which Jittor fuses slices of one vector do not always
            # compile
            shape = (*copies, 1, 1) if copies else (1,)
            self.coefficients = nn.ParameterList(
                [jt.array(np.full(shape, c, np.float32)) for row in rows for _, c in row]
            )
            self.layers, self.readout = self._numbered()

    def _numbered(self):
        """The tableaux with the place in `coefficients` instead of each number that is learned."""
        place = iter(range(len(self.coefficients)))

        def numbered(row):
            return [(i, next(place)) for i, _ in row]

        layers = [
            Tableau(
                [numbered(r) for r in t.U],
                t.D,
                [numbered(r) for r in t.V],
                [numbered(r) for r in t.B],
            )
            for t in self.layers
        ]
        return layers, numbered(self.readout)

    def _coefficients(self, rows):
        """The rows with Jittor scalars for places in `coefficients`; numbers stay."""
        return [
            [(i, self.coefficients[c] if isinstance(c, int) else c) for i, c in row] for row in rows
        ]

    def execute(self, x):
        streams = [u * x for u in self.start]
        blocks = list(self.blocks)
        for k, tableau in enumerate(self.layers):
            modules = blocks[k * self.stages : (k + 1) * self.stages]
            streams = advance(
                Tableau(*map(self._coefficients, tableau)), streams, modules, self.solver
            )
        return combine(self._coefficients([self.readout])[0], streams)


def coordinate_network(
    n_in,
    n_out,
    method,
    width=64,
    hidden=64,
    layers=4,
    activation="relu",
    learnable=False,
    copies=(),
    gain=0.5,
    reach=1.0,
    bias=0.0,
):
    """(N, n_in) -> (N, n_out): an affine map to `width` numbers unless there are as many, an OptDNN
    of two-layer blocks, an affine map.

    copies=(K,): K such networks side by side, (K, N, n_in) -> (K, N, n_out). gain: of each block's
    last layer at the start: how far a step goes. reach: how far from the origin the hidden neurons'
    bends lie at the start: 1 for inputs about that large, 0 for the features of a grid, which start
    far smaller. bias: the last bias starts there."""
    require_memory([width, hidden] * layers + [width], copies=int(np.prod(copies)))

    def block(contract=False):
        return TwoLayer(
            width, hidden, activation, copies=copies, gain=gain, bias=reach, contract=contract
        )

    lift = [] if n_in == width else [Affine(n_in, width, copies, bias=0.5 * reach)]
    out = Affine(width, n_out, copies)
    out.bias = out.bias + bias
    return nn.Sequential(*lift, OptDNN(method, block, layers, learnable, copies=copies), out)
