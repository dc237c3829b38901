"""Random rays of the training pictures, and whether these can see what is asked of them."""

import warnings

from jgrid.scene.camera import Box
from jgrid.scene.locate import listed
from jgrid.scene.place import check_box
from jgrid.scene.views import Views, values_at

import numpy as np

LOOKED_AT = 2**12  # pixels that tell whether depths are in the poses' units
FEW = 0.01  # of depths, that are in the box where they are not


def drawn(views: Views, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n pixels at random, of those that count: their pictures (n,), and their numbers there."""
    chosen = rng.integers(0, views.n_pixels, n)
    view, pixel = views.which(chosen)
    if views.counted is None:
        return view, pixel
    others = ~values_at(views.counted, view, pixel)
    while others.any():
        chosen[others] = rng.integers(0, views.n_pixels, others.sum())
        view, pixel = views.which(chosen)
        others = ~values_at(views.counted, view, pixel)
    return view, pixel


def check_cameras(train: Views, test: Views, box: Box, samples: int) -> None:
    """ValueError where no pixel counts, no ray meets the box, or the first of the samples of one
    might leap over the contracted one."""
    for views, use in ((train, "train on"), (test, "test with")):
        if views.counted is not None and not any(counted.any() for counted in views.counted):
            raise ValueError(f"masks and lens leave no pixel to {use}")
    if not box.contracted:
        check_box(train, box)
    places = np.concatenate([train.poses, test.poses])[:, :3, 3]
    farthest = np.abs(places - np.asarray(box.centre)).max() / box.half
    if box.contracted and farthest > samples / 8:
        raise ValueError(
            f"a camera is {farthest:.3g} times half the box's side away; raise `box` or `samples`"
        )


def without_pixels(views: Views) -> np.ndarray:
    """The numbers of pictures of which no pixel counts; a warning names them."""
    if views.counted is None:
        return np.zeros(0, int)
    lost = np.flatnonzero([not counted.any() for counted in views.counted])
    if len(lost):
        warnings.warn(
            f"masks or lens leave no pixel of {listed([views.name(n) for n in lost])} to score;"
            " these pictures are left out",
            stacklevel=3,
        )
    return lost


def check_depths(views: Views, box: Box, seed: int) -> None:
    """ValueError where there are no depths, or hardly one is in the box."""
    if views.depths is None or not any(depth.any() for depth in views.depths):
        raise ValueError(
            "`depth` needs maps that know some depth; frames of a transforms file name them as"
            " depth_file_path"
        )
    view, pixel = drawn(views, np.random.default_rng(seed), LOOKED_AT)
    origin, direction = views.rays(view, pixel)
    length = views.lengths(view, pixel, direction)[:, None]
    met = np.abs(origin + length * direction - box.centre)[length[:, 0] > 0]
    inside = (met < box.half).all(1)
    if inside.size and inside.mean() < FEW:
        raise ValueError(
            f"of the depth maps' points {inside.mean():.1%} are in the box (half its side"
            f" {box.half:.4g}); depths must be in the units of the poses: whole numbers times the"
            " file's integer_depth_scale, 0.001 if it states none"
        )
