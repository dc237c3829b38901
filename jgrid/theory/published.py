"""The 1-D set-ups of the authors' published analysis script (the predecessor of MulFAGrid), quirks
and all, to compare with.

github.com/sjtuytc/UnboundedNeRFPytorch, FourierGrid/run_gtk_analysis.py.
"""

import numpy as np
from scipy.special import j1


def voxel_grid(x: np.ndarray, nodes: int) -> np.ndarray:
    """Phi (N, nodes): the two hat weights of x (N,) in [0, 1) between nodes j / nodes; beyond the
    last one there is none."""
    scaled = np.asarray(x, np.float64) * nodes
    return np.maximum(0, 1 - np.abs(scaled[:, None] - np.arange(nodes)))


def fourier_grid(x: np.ndarray, nodes: int, bands: int) -> np.ndarray:
    """Phi (N, bands * nodes): a voxel grid for each band, at (sin(f pi x) + 1) / 2 in even bands
    and (cos + 1) / 2 in odd ones.

    f = 2 xor (band // 2), where a power was meant: 2, 3, 0, 1, 6, 7, 4, 5, 10, 11. The script drops
    each band's node 0; it sums the bands here and takes their mean where it regresses.
    """
    parts = []
    for band in range(bands):
        wave = np.cos if band % 2 else np.sin
        part = voxel_grid((wave((2 ^ (band // 2)) * np.pi * np.asarray(x)) + 1) / 2, nodes)
        part[:, 0] = 0
        parts.append(part)
    return np.concatenate(parts, axis=1)


def bessel_regression() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (28,), y (28,) = J_1(n / 4) scaled to [0, 1], and the 7 points trained on, every fourth."""
    y = j1(np.arange(28) / 4)
    return np.arange(28) / 28, (y - y.min()) / (y.max() - y.min()), np.arange(0, 28, 4)


def label_pairs() -> list[np.ndarray]:
    """(y1, y2), (120, 120) each: matplotlib's `axes3d.get_test_data(0.05)` axes, [-3, 3) over
    2.95."""
    axis = np.arange(-3.0, 3.0, 0.05)
    return np.meshgrid(axis / axis.max(), axis / axis.max())


def two_point_map(phi: np.ndarray) -> np.ndarray:
    """Delta = y^T G^-1 y over `label_pairs` for Phi at two points."""
    inverse = np.linalg.inv(phi @ phi.T)
    y1, y2 = label_pairs()
    return inverse[0, 0] * y1**2 + (inverse[0, 1] + inverse[1, 0]) * y1 * y2 + inverse[1, 1] * y2**2
