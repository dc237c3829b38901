"""Fitting an image: f(pixel centre) = colour."""
import sys
import warnings
from pathlib import Path

from jgrid import checkpoint, memory, picture
from jgrid.field import field_from_dict
from jgrid.index import r_sequence
from jgrid.metrics import psnr, ssim
from jgrid.tasks.base import AbstractTask

import jittor as jt
import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt

CHUNK = 2**17  # points per forward pass when a whole picture is rendered
PIXEL_BYTES = 80  # what a pixel takes as point, colour, prediction and in the making of a picture of it
# Pillow's modes that are read as they are: channels and the value that counts as 1
MODES = {"L": 255, "LA": 255, "RGB": 255, "RGBA": 255, "I;16": 65535, "I;16B": 65535, "I": 65535, "F": 1}
BITS_PER_SAMPLE = 258  # the TIFF tag
OTHER_HALF = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}  # of 16-bit colours


def load_image(path):
    """Any picture Pillow reads but EPS, which is a program -> (H, W, C) float32 in [0, 1], sRGB, C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.

    8 bits, 16 bits (grey; RGB and RGBA of PNG and TIFF), palettes, CMYK and float pictures; turned as its EXIF tag says; the first frame
    of an animation. Raises ValueError, saying what is wrong with the file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # of damage that the decoder mends or then raises
            image, halved = _decode(path)
            if image.mode not in MODES:
                transparent = image.mode in ("PA", "La", "RGBa") or "transparency" in image.info
                image = image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
            pixels, scale = np.asarray(image, dtype=np.float32), MODES[image.mode]
            if halved:
                pixels, scale = 256 * pixels + np.asarray(_decode(path, lower=True)[0], dtype=np.float32), 65535
    except memory.NotEnough:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; crop or shrink it first") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise ValueError(f"{path}: not a picture Pillow can read ({type(error).__name__}: {error})") from None
    return check_pixels(pixels / scale, path)


def _decode(path, lower=False):
    """(the picture, whether these are only the upper 8 of the 16 bits of its colours); lower: the lower 8 of them instead.

    Pillow has no mode for colours of 16 bits and takes one byte of each; told that they are stored the other way round, the other.
    """
    Image.init()
    with Image.open(path, formats=[name for name in Image.ID if name != "EPS"]) as opened:
        memory.require(16 * len(opened.getbands()) * opened.width * opened.height, f"{path}: a picture of {opened.width} x {opened.height} "
                       "pixels", "its size")
        if opened.mode == "I" and 32 in getattr(opened, "tag_v2", {}).get(BITS_PER_SAMPLE, ()):
            raise ValueError("a TIFF of 32-bit integers, which do not say what is white")
        stored = [str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args) for tile in opened.tile]
        colour, sixteen = opened.mode in ("RGB", "RGBA"), any(order[-4:] in OTHER_HALF for order in stored)
        if colour and not sixteen and 16 in getattr(opened, "tag_v2", {}).get(BITS_PER_SAMPLE, ()):
            raise ValueError("a TIFF of 16 bits with each colour apart")
        halved = colour and sixteen and all(order[:-4] == opened.mode for order in stored)
        if colour and sixteen and not halved:
            warnings.warn(f"{path}: of its 16 bits Pillow reads 8", stacklevel=3)
        if lower:
            orders = [order[:-4] + OTHER_HALF[order[-4:]] for order in stored]
            opened.tile = [tile._replace(args=(order, *tile.args[1:]) if isinstance(tile.args, tuple) else order)
                           for tile, order in zip(opened.tile, orders)]
        return ImageOps.exif_transpose(opened), halved


def check_pixels(pixels, name):
    """(H, W) or (H, W, C) values -> (H, W, C) float32, or ValueError where they are not finite colours in [0, 1]."""
    pixels = np.asarray(pixels, np.float32)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"{name}: wanted pixels of shape (height, width, channels), got {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name}: {(~np.isfinite(pixels)).sum()} values are not finite")
    if pixels.min() < 0 or pixels.max() > 1:
        raise ValueError(f"{name}: values from {pixels.min():g} to {pixels.max():g}, wanted 0 to 1")
    return pixels


def pixel_centres(height, width):
    """(H W, 2) centres (x, y) in [0, 1], row by row; x runs along the width."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def place_nodes(pixels, n, seed=0):
    """n nodes (x, y) in [0, 1] where a picture changes: half by the size of its gradient, half everywhere; (n, 2) float32.

    The R-sequence, shifted by the seed, through the inverse of the density's distribution: rows first, then along the row.
    """
    height, width = pixels.shape[:2]
    slopes = [np.gradient(pixels, axis=axis) for axis in (0, 1) if pixels.shape[axis] > 1]
    size = np.sqrt(sum((np.square(slope).sum(-1) for slope in slopes), start=np.zeros((height, width))))
    density = size + (size.mean() or 1.0)

    def inverse(t, weights):  # in pixels
        return np.interp(t, np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum(), np.arange(len(weights) + 1))

    even = (r_sequence(n, 2) + np.random.default_rng(seed).uniform(size=2)) % 1
    y = inverse(even[:, 1], density.sum(1))
    row, x = np.minimum(y.astype(int), height - 1), np.empty(n)
    for r in np.unique(row):
        x[row == r] = inverse(even[row == r, 0], density[r])
    return np.stack([x / width, y / height], axis=1).astype(np.float32)


def load_model(path):
    """(model, height, width) of a file of fit_image; ValueError, naming what is wrong, where it is another."""
    tensors, saved = checkpoint.read(path)
    try:
        height, width, n_out = (saved[name] for name in ("height", "width", "n_out"))
        if not all(type(n) is int and 0 < n < 2**31 for n in (height, width, n_out)) or n_out > 2**10:
            raise ValueError(f"{path}: no picture has the size {height} x {width} x {n_out}")
        longest = max(height, width)
        model = field_from_dict(saved["field"]).build(2, n_out, (width / longest, height / longest))
    except KeyError as error:
        raise ValueError(f"{path}: not a model of fit_image ({error} is missing)") from None
    checkpoint.assign(model, tensors, str(path))
    return model, height, width


def render(model, height, width):
    """The field at the pixel centres of a height x width picture -> (H, W, C), not clipped."""
    points = pixel_centres(height, width)
    with jt.no_grad():
        parts = [model(jt.array(points[i:i + CHUNK])).numpy() for i in range(0, len(points), CHUNK)]
    return np.concatenate(parts).reshape(height, width, -1)


class ImageTask(AbstractTask):
    """Mean squared error on random pixels, without replacement within an epoch.

    pixels: (H, W, C) in [0, 1]; seed: of the order in which pixels come; held_out: the fraction of the pixels, chosen by the
    seed, that training never sees; `evaluate` then adds psnr_train and psnr_held_out.
    """

    dim = 2
    metric = "psnr"

    def __init__(self, pixels, seed=0, held_out=0.0):
        if not 0 <= held_out < 1:
            raise ValueError(f"the held-out fraction must be in [0, 1), got {held_out}")
        self.pixels, self.seed = check_pixels(pixels, "pixels"), seed
        self.height, self.width, self.n_out = self.pixels.shape
        self._centres = pixel_centres(self.height, self.width)
        self._colours = self.pixels.reshape(-1, self.n_out)
        shuffled = np.random.default_rng((seed, 2**32)).permutation(len(self._colours))
        self._held_out, self._trained = np.split(shuffled, [int(held_out * len(shuffled))])
        self._epoch, self._order = None, None

    @property
    def aspect(self):
        """How long each axis is relative to the longest, (x, y)."""
        longest = max(self.width, self.height)
        return self.width / longest, self.height / longest

    @property
    def split(self):
        """Rows of `pixel_centres` that are trained on and rows held out, rising."""
        return np.sort(self._trained), np.sort(self._held_out)

    def place(self, n):
        """n nodes where the picture changes; held-out pixels look like the nearest others here."""
        held_out = np.zeros((self.height, self.width), bool)
        held_out.flat[self._held_out] = True
        nearest = distance_transform_edt(held_out, return_distances=False, return_indices=True)
        return place_nodes(self.pixels[tuple(nearest)], n, self.seed)

    def sample(self, step, n):
        total = len(self._trained)
        n = min(n, total)
        per_epoch = total // n
        if step // per_epoch != self._epoch:
            self._epoch = step // per_epoch
            self._order = np.random.default_rng((self.seed, self._epoch)).permutation(self._trained)
        chosen = self._order[step % per_epoch * n:][:n]
        batch = {"x": self._centres.take(chosen, axis=0), "colour": self._colours.take(chosen, axis=0)}  # indexing is several times slower
        return {name: jt.array(values).stop_grad() for name, values in batch.items()}

    def samples(self):
        """All points that training sees and their colours, row by row: (N, 2) and (N, C) numpy arrays."""
        chosen = np.sort(self._trained)
        return self._centres[chosen], self._colours[chosen]

    def loss(self, model, batch):
        return {"mse": model.squared_error(batch["x"], batch["colour"])}

    def evaluate(self, model):
        prediction = render(model, self.height, self.width)
        metrics = {"psnr": psnr(self.pixels, prediction), "ssim": ssim(self.pixels, prediction)}
        if len(self._held_out):
            flat = prediction.reshape(-1, self.n_out)
            metrics["psnr_train"] = psnr(self._colours[self._trained], flat[self._trained])
            metrics["psnr_held_out"] = psnr(self._colours[self._held_out], flat[self._held_out])
        return metrics

    def export(self, model, out_dir):
        out_dir, prediction = Path(out_dir), np.clip(render(model, self.height, self.width), 0, 1)
        error = np.abs(prediction - self.pixels).max(axis=2)  # of the worst channel
        top = float(np.quantile(error, 0.999))  # a handful of outliers would leave the rest dark
        heat = picture.with_scale(picture.heat(error, top), top)
        title = f"prediction, {psnr(self.pixels, prediction):.2f} dB"
        return [picture.save(out_dir / "prediction.png", prediction),
                picture.save(out_dir / "error_map.png", heat),
                picture.save(out_dir / "comparison.png", picture.side_by_side(
                    [("target", self.pixels), (title, prediction), ("absolute error", heat)]))]
