"""What all competitors compute, in numpy: the picture, the grids' layout, the parameters they start
from."""

import numpy as np
import skimage.data

BATCH = 2**16
HASH = {
    "kind": "grid:hash",
    "finest": 512,
    "coarsest": 16,
    "levels": 16,
    "channels": 2,
    "table_size": 2**16,
    "decoder": {"depth": 2},
    "lr_features": 1e-2,
    "lr_network": 1e-2,
}
LINEAR = {
    "kind": "grid:dense",
    "finest": 188,
    "coarsest": 40,
    "levels": 2,
    "channels": 8,
    "decoder": {"depth": 1},
    "lr_features": 4e-2,
    "lr_network": 4e-2,
}
# two levels and a plain decoder, in numbers for the peers, who have no jgrid
MULFA = {**LINEAR, "kind": "grid:mulfa", "table_size": 2**22, "spread": 1.0, "constant": 0.0}
# what makes a field small, and one that has a table
LITTLE = {"finest": 24, "coarsest": 6, "levels": 2, "channels": 2}
LITTLE_TABLE = {**LITTLE, "table_size": 256}
# DVGO's shape: a dense grid and a colour network
VIEWS = {"nodes": 128, "features": 12, "width": 64, "rays": 4096, "samples": 64}
# the trainer's Adam
BETAS = (0.9, 0.95)
EPS = 1e-15
CHECK_STEPS = 3


def picture():
    """(centres (N, 2), colours (N, 3)) of scikit-image's astronaut, float32 in [0, 1]."""
    colours = (skimage.data.astronaut() / 255.0).astype(np.float32)
    height, width = colours.shape[:2]
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32), colours.reshape(-1, 3)


def check_batch():
    """A fixed batch (x, colour) on which all competitors must have the same losses."""
    x, colours = picture()
    chosen = np.random.default_rng(1).integers(0, len(x), 4096)
    return x[chosen], colours[chosen]


class Layout:
    """Levels of a 2-D grid in one table: cells along an axis, first row, rows, how many levels lie
    dense (the coarsest), nodes."""

    def __init__(self, field):
        growth = (field["finest"] / field["coarsest"]) ** (
            np.arange(field["levels"]) / (field["levels"] - 1)
        )
        self.cells = np.round(field["coarsest"] * growth).astype(np.int32)
        dense = (self.cells + 1) ** 2
        table = field.get("table_size", 2**30)
        self.size = np.minimum(dense, table)
        self.first = np.concatenate([[0], np.cumsum(self.size)[:-1]]).astype(np.int32)
        self.n_dense = int((dense <= table).sum())
        self.n_nodes = int(self.size.sum())
        self.mask = table - 1
        assert table & self.mask == 0, "the peers hash into tables whose size is a power of two"


def parameters(field, width=64):
    """[features, mix of a MulFA kernel, W_0, b_0, W_1, b_1, ...], large enough for the loss to
    depend on every part of the model."""
    rng = np.random.default_rng(0)
    channels = field["channels"]
    kernels = field.get("kernels", 1)
    sizes = [field["levels"] * kernels * channels, *[width] * field["decoder"]["depth"], 3]
    values = [rng.uniform(-0.5, 0.5, (Layout(field).n_nodes, channels))]
    if field["kind"] == "grid:mulfa":
        values.append(rng.normal(size=(field["levels"], kernels, 5, channels)))
    for a, b in zip(sizes[:-1], sizes[1:]):
        values += [rng.uniform(-1, 1, (b, a)) * np.sqrt(3 / a), rng.uniform(-0.1, 0.1, b)]
    return [v.astype(np.float32) for v in values]


def views_batch(rays, samples, **_):
    """Rays through the unit cube: x (R S, 3), direction (R, 3) of length 1, delta (R S,), colour
    (R, 3), float32."""
    rng = np.random.default_rng(2)
    start, end = (
        rng.uniform(0.02, 0.98, (2, rays, 3)) * [1, 1, 0]
        + np.array([0, 0, 1.0])[None] * np.array([0.02, 0.98])[:, None, None]
    )
    t = (np.arange(samples) + rng.uniform(size=(rays, 1))) / samples
    x = start[:, None] + t[..., None] * (end - start)[:, None]
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    delta = np.repeat(length[:, 0] / samples, samples)
    return [
        v.astype(np.float32)
        for v in (x.reshape(-1, 3), (end - start) / length, delta, rng.uniform(size=(rays, 3)))
    ]


def views_parameters(nodes, features, width, **_):
    """[table (nodes^3, 1 + F), axis 0 of space fastest, W_0, b_0, W_1, b_1, W_2, b_2] of density,
    features and colour network."""
    rng = np.random.default_rng(3)
    values = [rng.uniform(-1, 1, (nodes**3, 1 + features))]
    sizes = [features + 16, width, width, 3]
    for a, b in zip(sizes[:-1], sizes[1:]):
        values += [rng.uniform(-1, 1, (b, a)) * np.sqrt(3 / a), rng.uniform(-0.1, 0.1, b)]
    return [v.astype(np.float32) for v in values]
