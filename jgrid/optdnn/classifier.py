"""Networks on pictures: OptDNNs of convolutions or attention in stages, DenseNet beside them, and
what they cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Callable, Optional

from jgrid.config import ArgumentError, config
from jgrid.optdnn.blocks import Affine, AttentionBlock, Conv, ConvBlock, ConvNeXtBlock
from jgrid.optdnn.methods import Method, find_method
from jgrid.optdnn.network import OptDNN

import jittor as jt
import numpy as np
from annotated_types import Interval
from jittor import nn
from typing_extensions import Literal

BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "conv": ConvBlock,
    "convnext": ConvNeXtBlock,
    "attention": AttentionBlock,
}
# of each number that a layer puts out: with its gradient, and what lies between layers
ACTIVATION_BYTES = 24


class DenseStage(nn.Module):
    """DenseNet's stage: every layer sees all before it side by side, a 1 x 1 convolution at the end
    (Huang et al. 2017)."""

    def __init__(self, channels: int, layers: int, growth: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            [ConvBlock(channels + k * growth, growth, 2 * growth) for k in range(layers)]
        )
        self.out = Conv(channels + layers * growth, channels, 1)

    def execute(self, x: jt.Var) -> jt.Var:
        for block in self.blocks:
            x = jt.concat([x, block(x)], dim=1)
        return self.out(x)


class ImageClassifier(nn.Module):
    """x (N, C, H, W) -> logits (N, classes): a convolution, stages with down-sampling by 2 between
    them, the mean, a linear layer.

    stages: [(channels, module that keeps the shape)]; side: of the pictures, for learned positions,
    which attention needs (None: no positions); patch: stride of the first convolution.
    """

    def __init__(
        self,
        n_in: int,
        classes: int,
        stages: Sequence[tuple[int, nn.Module]],
        patch: int = 2,
        side: Optional[int] = None,
    ):
        super().__init__()
        widths = [n_in] + [channels for channels, _ in stages]
        strides = [patch] + [2] * (len(stages) - 1)
        self.down = nn.ModuleList(
            [
                Conv(a, b, max(3, s), stride=s, padding=1 if s < 3 else 0)
                for a, b, s in zip(widths[:-1], widths[1:], strides)
            ]
        )
        self.stages = nn.ModuleList([stage for _, stage in stages])
        if side:
            # what the first convolution leaves
            side = -(-side // patch) if patch < 3 else side // patch
        self.positions = jt.randn((1, widths[1], side, side)) * 0.02 if side else None
        self.norm = nn.BatchNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def execute(self, x: jt.Var) -> jt.Var:
        for n, (down, stage) in enumerate(zip(self.down, self.stages)):
            x = down(x)
            if n == 0 and self.positions is not None:
                x = x + self.positions
            x = stage(x)
        return self.head(nn.relu(self.norm(x)).mean(dims=(2, 3)))


def optdnn_classifier(
    method: Method,
    n_in: int,
    classes: int,
    side: int,
    channels: Sequence[int] = (16, 32),
    layers: int = 2,
    block: str = "conv",
    learnable: bool = False,
    patch: int = 2,
) -> ImageClassifier:
    """An `ImageClassifier` of OptDNN stages: `layers` layers at each of `channels`, the pictures
    (n_in, side, side).

    With gradient descent: "conv" is a ResNet, "convnext" a ConvNeXt, "attention" a ViT with both
    halves of a layer in one module. ValueError for implicit methods with other blocks than "conv",
    which alone can be made contractions here, and where nothing is left of the pictures.
    """
    implicit = bool(np.diag(method.tableau(0).D).any())
    if implicit and block != "conv":
        raise ValueError(f"`block` must be conv, a contraction, in implicit methods, got {block}")
    if patch > side:
        raise ValueError(
            f"`patch` {patch}, the first stride, leaves nothing of pictures of {side} pixels"
        )

    def stage(width: int) -> OptDNN:
        def make_block(contract: bool = False) -> nn.Module:
            return BLOCKS[block](width, contract=True) if contract else BLOCKS[block](width)

        return OptDNN(method, make_block, layers, learnable)

    stages = [(width, stage(width)) for width in channels]
    positions = side if block == "attention" else None
    return ImageClassifier(n_in, classes, stages, patch, positions)


def dense_classifier(
    n_in: int,
    classes: int,
    channels: Sequence[int] = (16, 32),
    layers: int = 2,
    parameters: Optional[int] = None,
    patch: int = 2,
) -> ImageClassifier:
    """A DenseNet of the same stages; its growth is the one that comes nearest to so many
    `parameters`."""

    def build(growth: int) -> ImageClassifier:
        stages = [(width, DenseStage(width, layers, growth)) for width in channels]
        return ImageClassifier(n_in, classes, stages, patch)

    if parameters is None:
        return build(min(channels) // 2)
    return min(
        (build(growth) for growth in range(2, 2 * max(channels), 2)),
        key=lambda net: abs(size(net) - parameters),
    )


DENSE = "densenet"  # what methods are compared with, no method
LEARNABLE = "-learnable"  # after a method's name: its coefficients are trained too


Size = Annotated[int, Interval(ge=1, le=2**14)]


@config
class ClassifierConfig:
    """What a network on pictures (n_in, side, side) is built of: of a method in METHODS, with
    `-learnable` after its name for trained coefficients, as `optdnn_classifier`; or "densenet", of
    about as many parameters as gradient descent's."""

    network: str
    n_in: Size
    classes: Size
    side: Size
    channels: tuple[Size, ...] = (16, 32)
    layers: Annotated[int, Interval(ge=1, le=1000)] = 2
    block: Literal["conv", "convnext", "attention"] = "conv"
    patch: Size = 2

    def check(self) -> None:
        if not self.channels:
            raise ArgumentError("channels", "needs a number for each stage")

    def build(self) -> ImageClassifier:
        """The network, with random weights; ValueError as `find_method` and
        `optdnn_classifier`."""
        if self.network == DENSE:
            like = size(replace(self, network="gd").build())
            return dense_classifier(
                self.n_in, self.classes, self.channels, self.layers, like, self.patch
            )
        return optdnn_classifier(
            find_method(self.network.removesuffix(LEARNABLE)),
            self.n_in,
            self.classes,
            self.side,
            self.channels,
            self.layers,
            self.block,
            self.network.endswith(LEARNABLE),
            self.patch,
        )


def size(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(int(np.prod(p.shape)) for p in model.parameters() if not p.is_stop_grad())


def multiply_adds(model: nn.Module, x: jt.Var) -> int:
    """Multiplications of `model` on one batch x, by its convolutions, linear maps and attention:
    what tables call FLOPs or MACs.

    Counted as they are run: an implicit layer's iterations each count.
    """

    def count(module: Any, output: jt.Var) -> int:
        size = int(np.prod(output.shape))
        if isinstance(module, AttentionBlock):
            return 2 * size * output.shape[2] * output.shape[3]
        if isinstance(module, ConvBlock):
            if not module.contract:
                return 0  # its convolutions are counted themselves
            taps = [int(np.prod(conv.weight.shape)) for conv in (module.first, module.second)]
            return size // output.shape[1] * sum(taps)
        if isinstance(module, Affine):
            return size * module.weight.shape[-2]
        return size * int(np.prod(module.weight.shape[1:]))

    return _total(model, x, (nn.Conv, nn.Linear, Affine, AttentionBlock, ConvBlock), count)


def activations(model: nn.Module, x: jt.Var) -> int:
    """Numbers that the layers of `model` put out on one batch x, attention's weights among them:
    what a step of training keeps."""

    def count(module: Any, output: jt.Var) -> int:
        size = int(np.prod(output.shape))
        if isinstance(module, AttentionBlock):
            return 2 * module.heads * output.shape[0] * (output.shape[2] * output.shape[3]) ** 2
        return 3 * size if isinstance(module, ConvBlock) and module.contract else size

    norms = (nn.BatchNorm, nn.LayerNorm)
    return _total(model, x, (nn.Conv, nn.Linear, Affine, *norms, AttentionBlock, ConvBlock), count)


def activation_bytes(model: nn.Module, x: jt.Var, batch: int) -> int:
    """What training on `batch` pictures a step keeps of its layers' outputs; x: one picture."""
    return ACTIVATION_BYTES * batch * activations(model, x)


def _total(
    model: nn.Module, x: jt.Var, kinds: tuple[type, ...], count: Callable[[Any, jt.Var], int]
) -> int:
    """The sum of count(module, output) over all calls of modules of these kinds while the model
    computes x."""
    found: list[int] = []
    counted: list[Any] = [m for m in model.modules() if isinstance(m, kinds)]
    for module in counted:
        module.register_forward_hook(
            lambda module, arguments, output: found.append(count(module, output))
        )
    try:
        with jt.no_grad():
            model(x).sync()
    finally:
        for module in counted:
            module.remove_forward_hook()
    return sum(found)
