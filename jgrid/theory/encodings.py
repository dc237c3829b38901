"""An encoding of the coordinates on a picture: what a network on it makes of the pixels between,
trained and by its kernel alone.

Both are trained on [::2, ::2] and tested on [1::2, 1::2] (Tancik et al. 2020).
"""

from jgrid.encoding import FREQUENCIES, FourierFeatures
from jgrid.image.metrics import psnr
from jgrid.network import MLP
from jgrid.theory.kernels import composed_ntk, kernel_regression

import jittor as jt
import numpy as np
from jittor import nn

# frequencies; hidden layers and their neurons
FEATURES = 128
WIDTH = 128
DEPTH = 3


def _halves(pixels):
    """Points and colours to train on, and to test on."""
    height, width, channels = pixels.shape
    y, x = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    points = np.stack([x, y], axis=-1).astype(np.float32)
    return [
        (v[s, s].reshape(-1, v.shape[2]))
        for s in (slice(0, None, 2), slice(1, None, 2))
        for v in (points, pixels.astype(np.float32))
    ]


def _frequencies(encoding, sigma, seed):
    """(P, 2), or None for the coordinates themselves; encoding: "none" or one of FREQUENCIES."""
    np.random.seed(seed)
    return None if encoding == "none" else FREQUENCIES[encoding](2, FEATURES, sigma)


def encoded_fit(
    pixels: np.ndarray,
    encoding: str,
    sigma: float,
    steps: int,
    batch: int = 4096,
    seed: int = 0,
) -> float:
    """Test PSNR of an MLP with a sigmoid on an encoding, after `steps` steps of Adam at 1e-3:
    pixels (H, W, C) in [0, 1]."""
    jt.set_global_seed(seed)
    frequencies = _frequencies(encoding, sigma, seed)
    gamma = None if frequencies is None else FourierFeatures(frequencies)
    mlp = MLP(2 if gamma is None else gamma.n_out, pixels.shape[2], WIDTH, DEPTH)
    model = nn.Sequential(*([] if gamma is None else [gamma]), mlp, nn.Sigmoid())
    inputs, colours, points, truth = _halves(pixels)
    optimizer = jt.optim.Adam(list(mlp.parameters()), lr=1e-3)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = random.choice(len(inputs), min(batch, len(inputs)), replace=False)
        optimizer.step(((model(jt.array(inputs[chosen])) - jt.array(colours[chosen])) ** 2).mean())
    return psnr(truth, model(jt.array(points)).numpy())


def kernel_fit(pixels: np.ndarray, encoding: str, sigma: float, seed: int = 0) -> float:
    """Test PSNR of regression with the encoding's NTK, what a very wide MLP without a sigmoid gives
    when trained for ever; no training.

    Dense: for a few thousand pixels.
    """
    frequencies = _frequencies(encoding, sigma, seed)
    inputs, colours, points, truth = _halves(pixels)
    kernel, between = (
        composed_ntk(x, inputs, DEPTH + 1, WIDTH, frequencies) for x in (inputs, points)
    )
    mean = colours.mean(0)
    return psnr(truth, kernel_regression(kernel, between, colours - mean) + mean)
