"""Image metrics."""

import numpy as np
from skimage.metrics import structural_similarity


def psnr(target, prediction):
    """-10 log10(mean (clip(prediction, 0, 1) - target)^2) in dB, for values in [0, 1]; equal inputs
    give inf."""
    error = np.mean((np.clip(prediction, 0.0, 1.0).astype(np.float64) - target) ** 2)
    return float("inf") if error == 0 else float(-10.0 * np.log10(error))


def ssim(target, prediction):
    """Structural similarity of two images (H, W, C) in [0, 1], 7 x 7 windows (less in smaller
    images), mean over channels.

    NaN below 3 pixels, where no window fits.
    """
    side = min(7, *target.shape[:2])
    side -= 1 - side % 2
    if side < 3:
        return float("nan")
    return float(
        structural_similarity(
            target,
            np.clip(prediction, 0.0, 1.0).astype(target.dtype),
            win_size=side,
            channel_axis=-1,
            data_range=1.0,
        )
    )
