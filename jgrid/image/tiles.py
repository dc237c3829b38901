"""In which order a picture's pixels are trained on."""

import math

import numpy as np


def in_strips(seen: np.ndarray, rows: int) -> np.ndarray:
    """The flat numbers of the pixels where `seen` (H, W) is True, by strips of so many rows, column
    after column within them: (N,) uint32, or int64 for more than 2^32 pixels."""
    height, width = seen.shape
    pixels = np.arange(seen.size, dtype=np.uint32 if seen.size < 2**32 else np.int64)
    pixels = pixels.reshape(height, width)
    whole = height - height % rows
    strips = pixels[:whole].reshape(-1, rows, width).transpose(0, 2, 1).ravel()
    order = np.concatenate([strips, pixels[whole:].T.ravel()])
    return order if seen.all() else order[seen.ravel()[order]]


class Tiles:
    """Pixels of a picture, one of every tile at a step: n tiles of k neighbours each, whose pixels
    take turns in k steps, an epoch. Every tile begins at a pixel of its own; all move on by the
    same stride, the epoch's own.

    A step then sees all parts of the picture alike, so its gradient varies less than that of pixels
    drawn from all, and neighbours in the picture are neighbours in the batch, and so in the caches.

    seen: (H, W), which pixels take part. What comes is decided by the seed and the step alone.
    """

    def __init__(self, seen: np.ndarray, seed: int):
        self._seen = seen
        self._total = int(np.count_nonzero(seen))
        self._seed = seed
        self._n = 0
        self._epoch = -1

    def rows(self, step: int, n: int) -> np.ndarray:
        """The flat numbers of n pixels, or of all where there are fewer. An epoch leaves out the
        rest that n does not divide, in another place each time."""
        n = min(n, self._total)
        k = self._total // n
        if n != self._n:
            self._n = n
            self._epoch = -1
            self._order = in_strips(self._seen, max(1, round(k**0.5)))
        epoch, turn = divmod(step, k)
        if epoch != self._epoch:
            self._epoch = epoch
            rng = np.random.default_rng((self._seed, epoch))
            begin = rng.integers(self._total) if self._total % n else 0
            self._first = begin + k * np.arange(n)
            self._start = rng.integers(k, size=n)
            self._stride = rng.choice([s for s in range(1, k + 1) if math.gcd(s, k) == 1])
        place = self._first + (self._start + turn * self._stride) % k
        return self._order.take(place, mode="wrap")
