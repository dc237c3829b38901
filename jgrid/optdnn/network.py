"""Networks from methods: OptDNN, and the networks on coordinates and pictures around it."""
from jgrid.optdnn.blocks import Affine, AttentionBlock, ConvBlock, ConvNeXtBlock, TwoLayer
from jgrid.optdnn.implicit import Solver
from jgrid.optdnn.methods import Tableau, advance, combine, sparse

import jittor as jt
import numpy as np
from jittor import nn

BLOCKS = {"conv": ConvBlock, "convnext": ConvNeXtBlock, "attention": AttentionBlock}


class OptDNN(nn.Module):
    """`layers` layers of a Method, every gradient replaced by a module; x -> the output, of x's shape.

    make_block(contract=False) makes a module T of x's shape to x's shape; with contract=True one that makes an implicit layer and so
    must be a contraction. learnable: the coefficients U, V, B (the methods' alpha and beta) that are not 0 are trained too, which
    frees the network of the method's convergence condition. solver: for implicit layers.
    """

    def __init__(self, method, make_block, layers, learnable=False, solver=None):
        super().__init__()
        self.start, self.solver = method.start, solver or Solver()
        tableaux = [method.tableau(k) for k in range(layers)]
        self.stages = len(tableaux[0].U)
        self.blocks = nn.ModuleList([make_block(contract=True) if implicit else make_block() for t in tableaux for implicit in np.diag(t.D)])
        self.layers = [Tableau(*map(sparse, t)) for t in tableaux]
        self.readout = sparse(method.readout(len(tableaux[-1].V))[None])[0]
        if learnable:
            rows = [row for t in self.layers for matrix in (t.U, t.V, t.B) for row in matrix] + [self.readout]
            self.coefficients = jt.array(np.float32([c for row in rows for _, c in row]))
            self.layers, self.readout = self._numbered()

    def _numbered(self):
        """The tableaux with the place in `coefficients` instead of each number that is learned."""
        place = iter(range(len(self.coefficients)))

        def numbered(row):
            return [(i, next(place)) for i, _ in row]
        layers = [Tableau([numbered(r) for r in t.U], t.D, [numbered(r) for r in t.V], [numbered(r) for r in t.B]) for t in self.layers]
        return layers, numbered(self.readout)

    def _coefficients(self, rows):
        """The rows with Jittor scalars for places in `coefficients`; numbers stay."""
        return [[(i, self.coefficients[c] if isinstance(c, int) else c) for i, c in row] for row in rows]

    def execute(self, x):
        streams, blocks = [u * x for u in self.start], list(self.blocks)
        for k, tableau in enumerate(self.layers):
            modules = blocks[k * self.stages:(k + 1) * self.stages]
            streams = advance(Tableau(*map(self._coefficients, tableau)), streams, modules, self.solver)
        return combine(self._coefficients([self.readout])[0], streams)


class DenseStage(nn.Module):
    """DenseNet's stage: every layer sees all before it side by side, a 1 x 1 convolution at the end (Huang et al. 2017)."""

    def __init__(self, channels, layers, growth):
        super().__init__()
        self.blocks = nn.ModuleList([ConvBlock(channels + k * growth, growth, 2 * growth) for k in range(layers)])
        self.out = nn.Conv(channels + layers * growth, channels, 1)

    def execute(self, x):
        for block in self.blocks:
            x = jt.concat([x, block(x)], dim=1)
        return self.out(x)


class ImageClassifier(nn.Module):
    """x (N, C, H, W) -> logits (N, classes): a convolution, stages with down-sampling by 2 between them, the mean, a linear layer.

    stages: [(channels, module that keeps the shape)]; side: of the pictures, for learned positions, which attention needs (None:
    no positions); patch: stride of the first convolution.
    """

    def __init__(self, n_in, classes, stages, patch=2, side=None):
        super().__init__()
        widths = [n_in] + [channels for channels, _ in stages]
        strides = [patch] + [2] * (len(stages) - 1)
        self.down = nn.ModuleList([nn.Conv(a, b, max(3, s), stride=s, padding=1 if s < 3 else 0)
                                   for a, b, s in zip(widths[:-1], widths[1:], strides)])
        self.stages = nn.ModuleList([stage for _, stage in stages])
        self.positions = jt.randn((1, widths[1], side // patch, side // patch)) * 0.02 if side else None
        self.norm, self.head = nn.BatchNorm(widths[-1]), nn.Linear(widths[-1], classes)

    def execute(self, x):
        for n, (down, stage) in enumerate(zip(self.down, self.stages)):
            x = down(x)
            if n == 0 and self.positions is not None:
                x = x + self.positions
            x = stage(x)
        return self.head(nn.relu(self.norm(x)).mean(dims=(2, 3)))


def coordinate_network(n_in, n_out, method, width=64, hidden=64, layers=4, activation="relu", learnable=False, copies=(), bias=0.0):
    """(N, n_in) -> (N, n_out): an affine map to `width` numbers unless there are as many, an OptDNN of two-layer blocks, an affine map.

    copies=(K,): K such networks side by side, (K, N, n_in) -> (K, N, n_out). bias: the last bias starts there.
    """
    def block(contract=False):
        return TwoLayer(width, hidden, activation, copies=copies, contract=contract)
    lift = [] if n_in == width else [Affine(n_in, width, copies, bias=0.5)]
    out = Affine(width, n_out, copies)
    out.bias = out.bias + bias
    return nn.Sequential(*lift, OptDNN(method, block, layers, learnable), out)


def multiply_adds(model, x):
    """Multiplications of `model` on one batch x, by its convolutions, linear maps and attention: what tables call FLOPs or MACs.

    Counted as they are run: an implicit layer's iterations each count.
    """
    total = 0

    def count(module, arguments, output):
        nonlocal total
        size = int(np.prod(output.shape))
        if isinstance(module, AttentionBlock):
            total += 2 * size * output.shape[2] * output.shape[3]
        elif isinstance(module, ConvBlock):              # with contract its convolutions are called as functions
            taps = sum(int(np.prod(conv.weight.shape)) for conv in (module.first, module.second)) if module.contract else 0
            total += size // output.shape[1] * taps
        elif isinstance(module, Affine):
            total += size * module.weight.shape[-2]
        else:
            total += size * int(np.prod(module.weight.shape[1:]))
    counted = [m for m in model.modules() if isinstance(m, (nn.Conv, nn.Linear, Affine, AttentionBlock, ConvBlock))]
    for module in counted:
        module.register_forward_hook(count)
    try:
        with jt.no_grad():
            model(x).sync()
    finally:
        for module in counted:
            module.remove_forward_hook()
    return total
