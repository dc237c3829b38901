"""Image metrics; `counted` (H, W) bool: of these pixels alone, where it is given."""

from typing import Any, Optional

from jgrid import picture

import numpy as np
from skimage.metrics import structural_similarity


def psnr(target: np.ndarray, prediction: np.ndarray, counted: Optional[np.ndarray] = None) -> float:
    """-10 log10(mean (clip(prediction, 0, 1) - target)^2) in dB, for values in [0, 1]; equal inputs
    give inf."""
    if counted is not None:
        target = target[counted]
        prediction = prediction[counted]
    pairs = picture.bands(np.atleast_2d(target), np.atleast_2d(prediction))
    error = sum(np.sum((np.clip(p, 0.0, 1.0).astype(np.float64) - t) ** 2) for t, p in pairs)
    error /= target.size
    return float("inf") if error == 0 else float(-10.0 * np.log10(error))


def ssim(target: np.ndarray, prediction: np.ndarray, counted: Optional[np.ndarray] = None) -> float:
    """Structural similarity of two images (H, W, C) in [0, 1], 7 x 7 windows (less in smaller
    images), mean over channels.

    NaN below 3 pixels, where no window fits.
    """
    side = min(7, *target.shape[:2])
    side -= 1 - side % 2
    return _similarity(target, prediction, counted, 3, win_size=side)


def ssim_gaussian(
    target: np.ndarray, prediction: np.ndarray, counted: Optional[np.ndarray] = None
) -> float:
    """Structural similarity as it was published (Wang et al. 2004): a Gaussian window of 11 x 11
    pixels, sigma 1.5; images (H, W, C) in [0, 1], mean over channels.

    NaN below 11 pixels, where no window fits.
    """
    return _similarity(
        target,
        prediction,
        counted,
        11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def _similarity(
    target: np.ndarray,
    prediction: np.ndarray,
    counted: Optional[np.ndarray],
    least: int,
    **window: Any,
) -> float:
    height, width = target.shape[:2]
    if min(height, width) < least:
        return float("nan")
    window |= {"channel_axis": -1, "data_range": 1.0, "full": True}
    if counted is not None:
        # alike in both where it does not count, so that it spoils no window of what does
        clipped = np.clip(prediction, 0.0, 1.0)
        pair = [np.where(counted[..., None], v, 0).astype(target.dtype) for v in (target, clipped)]
        return float(structural_similarity(*pair, **window)[1][counted].mean())
    total = 0.0
    edge = window.get("win_size", least) // 2  # where windows would reach beyond the picture
    for rows in picture.rows_of_bands(height, width):
        # of the band whole windows alone, which reach into its neighbours
        first = max(rows.start, edge)
        last = min(rows.stop, height - edge)
        if first >= last:
            continue
        around = slice(first - edge, last + edge)
        clipped = np.clip(prediction[around], 0.0, 1.0).astype(target.dtype)
        similar = structural_similarity(target[around], clipped, **window)[1]
        total += similar[edge : edge + last - first, edge : width - edge].sum(dtype=np.float64)
    return float(total / ((height - 2 * edge) * (width - 2 * edge) * target.shape[2]))
