"""Where a scene is, as its cameras say: the point they look at, the box that holds what they see,
and whether that ends; or what is wrong with their poses."""

import warnings
from dataclasses import replace
from typing import NamedTuple, Optional

from jgrid.scene.camera import Box
from jgrid.scene.locate import listed
from jgrid.scene.views import Views, edges

import numpy as np
from numpy.typing import ArrayLike

USUAL = Box(1.5)  # NeRF-synthetic's, and that of made scenes
FILL = 1.25  # half the side of a box, over the radius of what the cameras see there
FILL_CONTRACTED = 1.6  # the same of one around which all else is contracted
ENOUGH = 50  # points of a scene, at least, that say where it is
INLIERS = (5.0, 95.0)  # percentiles of the points along an axis, between which the scene is
NEAR = 90.0  # the same of their distances from what the cameras look at
KEPT = (0.9, 2.5)  # the same of a box that is the usual one, or the file's, and is kept
ROUNDS = 20  # of the search for the point that the cameras look at
WAYS = 0.02  # mean square of a sine: cameras whose axes differ less say nothing of a distance
SURE = 0.2  # the same where poses are inverted: those of a walk ahead then look at one point, too
AIMED = 0.2  # sine of the angle by which cameras that look at a point miss it
MET = 0.001  # of the rays: fewer meet a box by chance
MET_BESIDE = 0.25  # the same of a box beside what the cameras look at
ASTRAY = 30.0  # times farther, or nearer, than the others a picture's place is none
PLAIN = 12 / 255  # by which a backdrop of one colour may differ from it
BACKDROPS = {"white": 1.0, "black": 0.0}  # an object's pictures may have

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV's axes of a camera (right, down, ahead), or back
READINGS = {  # how else poses may be read, and how much the cameras' axes must differ then
    "they have OpenCV's axes (right, down, ahead) where OpenGL's (right, up, back) are read: turn"
    " the second and third column round": (lambda poses: poses @ FLIP, WAYS),
    "they are world-to-camera where camera-to-world is read: invert them": (np.linalg.inv, SURE),
    "they are world-to-camera with OpenCV's axes where camera-to-world with OpenGL's axes is read:"
    " invert them, then turn the second and third column round": (
        lambda poses: np.linalg.inv(poses) @ FLIP,
        SURE,
    ),
}


class Aim(NamedTuple):
    """The point (3,) that cameras look at; distance of each (N,); ahead: the share that have it in
    front; miss: the sine of the angle by which they miss it, the median; ways: the mean square of a
    sine, how much their axes differ."""

    point: np.ndarray
    distance: np.ndarray
    ahead: float
    miss: float
    ways: float

    @property
    def shared(self) -> bool:
        """Whether they do look at one point."""
        return self.ahead >= 0.9 and self.miss < AIMED and self.ways > WAYS


def aim(poses: np.ndarray) -> Aim:
    """What cameras at poses (N, 4, 4) look at: the point with the least sum of distances from
    their axes."""
    origin = poses[:, :3, 3]
    about = np.median(origin, axis=0)  # large coordinates would cost digits
    axis = -poses[:, :3, 2]
    across = np.eye(3) - axis[:, :, None] * axis[:, None, :]
    weight = np.ones(len(poses))
    for _ in range(ROUNDS):
        normal = (weight[:, None, None] * across).sum(0)
        target = (weight[:, None] * (across @ (origin - about)[:, :, None])[..., 0]).sum(0)
        point = np.linalg.lstsq(normal, target, rcond=1e-9)[0] + about
        away = np.linalg.norm((across @ (point - origin)[:, :, None])[..., 0], axis=1)
        weight = 1 / np.maximum(away, 0.1 * np.median(away) + 1e-12 * np.abs(origin).max() + 1e-300)
        weight /= weight.max()
    distance = np.linalg.norm(point - origin, axis=1)
    ahead = ((point - origin) * axis).sum(1) > 0
    miss = np.median(away / np.maximum(distance, 1e-300))
    return Aim(point, distance, ahead.mean(), miss, np.linalg.eigvalsh(across.mean(0))[0])


def misread(poses: np.ndarray) -> Optional[str]:
    """In words, the reading of these poses under which the cameras look at one point, where they
    do not as they are; None where there is none."""
    found = aim(poses)
    if found.ahead >= 0.75 and found.miss < 2 * AIMED and not _one_place(poses):
        return None
    for words, (reading, least) in READINGS.items():
        other = reading(poses)
        found = aim(other)
        if found.shared and found.ways > least and not _one_place(other):
            return words
    return None


def _one_place(poses: np.ndarray) -> bool:
    places = poses[:, :3, 3]
    return bool(len(places) > 1 and np.ptp(places, axis=0).max() <= 1e-9 * np.abs(places).max())


def check_poses(poses: np.ndarray) -> None:
    """ValueError, with the likely cause, where the cameras look away from one another's scene, or
    all are in one place."""
    words = misread(poses)
    if words:
        raise ValueError(
            f"the cameras look away from any common point, by their poses; likely {words}. Where"
            " they do look outwards, give the scene's `box` and `centre`"
        )
    if _one_place(poses):
        raise ValueError(
            f"all {len(poses)} cameras are in one place, {point_text(poses[0, :3, 3])}: nothing"
            " says how far away anything is, and their poses are likely not known"
        )


def check_box(views: Views, box: Box) -> None:
    """ValueError where hardly a ray of the pictures meets a box, or few do and the cameras look at
    a point outside it."""
    share = met(views, box)
    found = aim(views.poses)
    beside = found.shared and np.abs(found.point - np.asarray(box.centre)).max() > box.half
    if share < MET or (share < MET_BESIDE and beside):
        words = misread(views.poses)
        cause = f"by their poses, likely {words}; else " if words else ""
        at = f", and the cameras look at {_short(found.point)}" if found.shared else ""
        raise ValueError(
            f"{share:.1%} of the pictures' rays meet the box (half its side {box.half:.4g}, centre"
            f" {point_text(box.centre)}){at}: {cause}give the scene's `box` and `centre`"
        )


def astray(poses: np.ndarray) -> np.ndarray:
    """Numbers of the few cameras that are ASTRAY times as far from what most look at as these, or
    that much nearer."""
    found = aim(poses)
    if not found.ahead >= 0.75 or found.miss > 2 * AIMED or len(poses) < 5:
        return np.empty(0, int)
    ratio = found.distance / np.median(found.distance)
    lost = np.flatnonzero((ratio > ASTRAY) | (ratio < 1 / ASTRAY))
    return lost if len(lost) <= max(1, 0.1 * len(poses)) else np.empty(0, int)


def without_astray(train: Views, test: Views) -> tuple[Views, Views]:
    """The views but those of `astray` cameras, of which a warning names the pictures."""
    lost = astray(np.concatenate([train.poses, test.poses]))
    if not len(lost):
        return train, test
    n = len(train.poses)
    names = [train.name(k) if k < n else test.name(k - n) for k in lost]
    warnings.warn(
        f"{listed(names)}: the camera is more than {ASTRAY:g} times as far from what the others"
        " look at as these are, or that much nearer; left out",
        stacklevel=2,
    )
    return train.without(lost[lost < n]), test.without(lost[lost >= n] - n)


class Choice(NamedTuple):
    """A box, and the reason for it, in words."""

    box: Box
    reason: str


def choose(
    views: Views,
    half: Optional[float] = None,
    centre: Optional[tuple[float, float, float]] = None,
    contract: bool = False,
    background: float = 1.0,
) -> Choice:
    """The box of a scene: half its side as given, around the origin or the centre given; else the
    one that the scene's file states, or the usual one, where the cameras agree with it; else one
    around what they look at, as large as what they see of it. Where the scene comes with points,
    the box is around most of those near what the cameras look at, if that is smaller, or around
    most of all where these look at no one point.

    It is contracted where that is asked for, and, of a box whose size is not given, where the scene
    has no end: the pictures are opaque, and their edges are not of the background's colour, or the
    file states a much larger box.

    ValueError as of `check_poses`, unless the size is given.
    """
    if half is not None:
        return Choice(Box(half, centre or (0.0, 0.0, 0.0), contract), "as given")
    check_poses(views.poses)
    found = aim(views.poses)
    endless = not views.transparent and not plain(views, background)
    why = _backdrop(views) if endless and not contract else ""
    points = views.points if views.points is not None and len(views.points) >= ENOUGH else None
    if not found.shared and points is not None:
        return _around_points(points, centre, contract or not views.transparent)
    if not found.shared:
        return _around(views, centre, contract)
    seen = float(np.median(found.distance)) * views.tangent
    stated = views.stated
    for box, reason in ((stated, "as the scene's file states"), (USUAL, "the usual one")):
        if box and not centre and points is None and _agrees(box, found.point, seen):
            return Choice(replace(box, contracted=contract or endless), reason + why)
    reason = "what the cameras look at"
    if stated and stated.half > KEPT[1] * seen:
        reason += f", of the {stated.half:.3g} that the scene's file states"
        endless = not views.transparent
    contracted = contract or endless
    half = (FILL_CONTRACTED if contracted else FILL) * seen
    middle = np.asarray(centre or found.point)
    if points is not None:
        around = FILL * float(np.percentile(np.abs(points - middle).max(1), NEAR))
        if around < half:
            half = around
            reason = "the scene's points around what the cameras look at"
    return Choice(_box(half, middle, contracted), reason + why)


def _backdrop(views: Views) -> str:
    """In words, the background on which a scene has an end after all; empty where there is none."""
    for name, colour in BACKDROPS.items():
        if plain(views, colour):
            return (
                f"; the pictures' edges are all {name}, `background` {name} keeps it uncontracted"
            )
    return ""


def _around_points(
    points: np.ndarray, centre: Optional[tuple[float, float, float]], contracted: bool
) -> Choice:
    """The box around most points of a scene (P, 3)."""
    low, high = np.percentile(points, INLIERS, axis=0)
    middle = (low + high) / 2 if centre is None else np.asarray(centre)
    half = FILL * float(np.maximum(high - middle, middle - low).max())
    return Choice(
        _box(half, middle, contracted),
        "the scene's points, for the cameras look at no one point",
    )


def _around(views: Views, centre: Optional[tuple[float, float, float]], contract: bool) -> Choice:
    """The box for cameras that look at no one point."""
    places = views.poses[:, :3, 3]
    middle = (places.min(0) + places.max(0)) / 2 if centre is None else np.asarray(centre)
    reach = float(np.abs(places - middle).max())
    if views.transparent or not reach:
        usual = replace(USUAL, centre=centre or USUAL.centre, contracted=contract)
        return Choice(usual, "the usual one, for the cameras look at no one point")
    return Choice(_box(FILL * reach, middle, True), "around cameras that look at no one point")


def _box(half: float, centre: ArrayLike, contracted: bool) -> Box:
    """A box of round numbers, which can be given again."""
    digits = 2 - int(np.floor(np.log10(half)))
    x, y, z = (round(float(value), digits) + 0.0 for value in np.asarray(centre))
    return Box(round(half, digits), (x, y, z), contracted)


def _agrees(box: Box, point: np.ndarray, seen: float) -> bool:
    """Whether cameras that look at a point, and see so far around it, see this box."""
    near = np.abs(point - np.asarray(box.centre)).max() < 0.25 * box.half
    return bool(near and KEPT[0] <= box.half / seen <= KEPT[1])


def plain(views: Views, background: float) -> bool:
    """Whether nearly all pixels along the edges of the pictures, of those that count, have the
    background's colour."""
    alike = []
    for n, picture in enumerate(views.pixels):
        off = np.abs(edges(picture[..., :3]) / 255 - background).max(-1)
        alike.append((off if views.counted is None else off[edges(views.counted[n])]) < PLAIN)
    together = np.concatenate(alike)
    return bool(together.mean() > 0.95) if len(together) else True


def met(views: Views, box: Box) -> float:
    """Of the rays of the pictures, the share that meet the box: of a few pixels of each."""
    row, column = np.divmod(np.arange(17 * 17), 17)
    hits = []
    for camera, pose in zip(views.cameras, views.poses):
        pixel = (row * (camera.height - 1) // 16) * camera.width + column * (camera.width - 1) // 16
        origin, direction = camera.rays(pose, pixel)
        start = box.to_unit(origin)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (np.array([0, 1], np.float32)[:, None, None] - start) / direction
        reached = np.isfinite(direction).all(1)
        near = np.maximum(np.nanmax(ends.min(0)[reached], 1), 0)
        hits.append((near < np.nanmin(ends.max(0)[reached], 1)).mean())
    return float(np.mean(hits))


def _short(point: np.ndarray) -> str:
    return point_text([float(f"{value:.3g}") if abs(value) > 1e-9 else 0.0 for value in point])


def point_text(point: ArrayLike) -> str:
    """A point, for messages."""
    return "(" + ", ".join(f"{value:.12g}" for value in np.asarray(point)) + ")"
