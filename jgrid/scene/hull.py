"""What silhouettes, the transparent pixels of pictures, and the cameras say of where a scene is."""

import warnings
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Optional

from jgrid import memory
from jgrid.scene.camera import Box
from jgrid.scene.locate import listed
from jgrid.scene.occupancy import Occupancy
from jgrid.scene.place import point_text
from jgrid.scene.views import Views, edges

import numpy as np
from scipy.ndimage import distance_transform_edt

SEVERAL = 2  # pictures must show a point as empty, for it to be so
MEET = 3  # of the rays of fewer cameras nothing tells at what depth they end
DOUBT = 0.15  # of the pictures may be wrong about a point, once they contradict one another
LOST = 0.005  # of what a picture shows: less is no contradiction
SUSPECTS = 12  # pictures, each tried against as many others
WITNESSES = 3  # of these, at least, that lose something make a culprit
FEW = 0.25  # of all pictures: more cannot be said to be wrong
COARSE = 16  # points along an axis that stand for the whole box
# of the pictures see a point that says whose fault something is: one near a camera, or behind the
# scene, would fill what others miss
COMMON = 0.5
HULL_BYTES = 200  # of a cell, besides 4 for each picture that may show it as empty
WIDER = (2, 4, 8)  # times as large a box that may hold what one cuts


class Hull(NamedTuple):
    """keep (N,) bool: where the scene may be; contradict: whether the silhouettes contradict one
    another; culprits: numbers of the pictures whose fault that is, where it can be told; cut:
    whether they show more than the box holds."""

    keep: np.ndarray
    contradict: bool = False
    culprits: tuple[int, ...] = ()
    cut: bool = False


def carve(views: Views, occupancy: Occupancy, box: Box) -> tuple[Views, bool]:
    """Leave the hull of the silhouettes as the occupied cells; returns the views without those that
    contradict the others, and whether there are such.

    ValueError where the hull is empty, or the silhouettes are the wrong way round."""
    if inverted(views):
        raise ValueError(
            "the pictures are opaque all along their edges and transparent inside: their masks"
            " (alpha) are the wrong way round; invert them, or set `carve` to False"
        )
    _require(occupancy, HULL_BYTES + int(4 * DOUBT * len(views.poses)))
    found = hull(views, occupancy.centres(), np.sqrt(3) / 2 / occupancy.cells, box)
    if not found.keep.any():
        raise ValueError(
            f"no part of the box (half its side {box.half:.4g}, centre {point_text(box.centre)}) is"
            " covered in the pictures; give the scene's `box` and `centre`, or set `carve` to False"
        )
    if found.contradict:
        names = listed([views.name(n) for n in found.culprits])
        whose = f"of {names} contradict the others" if names else "contradict one another"
        left_out = "these pictures are left out" if names else "a few alone carve nothing"
        warnings.warn(
            f"silhouettes {whose}: masks lost something, or poses are wrong; {left_out}",
            stacklevel=3,
        )
    if found.cut:
        warnings.warn(
            f"the pictures show more than the box (half its side {box.half:.4g}, centre"
            f" {point_text(box.centre)}) holds; a larger `box` would hold it",
            stacklevel=3,
        )
    occupancy.carve(found.keep)
    return views.without(np.array(found.culprits, int)), found.contradict


def leave_seen(views: Views, occupancy: Occupancy, box: Box) -> None:
    """Leave the cells that at least MEET cameras see, or all where these are fewer, as the occupied
    ones: in the others, mostly close to a camera, training would hang what one picture shows."""
    _require(occupancy, HULL_BYTES)
    centres = box.to_world(occupancy.centres())
    balls = _Balls(centres, 0.0)
    enough = min(MEET, len(views.poses))
    cameras = np.zeros(len(centres), int)
    for n in range(len(views.poses)):
        seen, *_ = balls.project(views, n, np.flatnonzero(cameras < enough))
        cameras[seen] += 1
    occupancy.carve(cameras >= enough)


def _require(occupancy: Occupancy, of_cell: int) -> None:
    cells = occupancy.cells
    memory.require(of_cell * cells**3, f"the hull in {cells}^3 cells", "`cells`")


def hull(views: Views, points: np.ndarray, radius: float, box: Box) -> Hull:
    """Which points (N, 3) of the unit cube some picture shows as not empty and not SEVERAL as
    empty, to within `radius` of the cube's side.

    One picture may err: a hole in its mask. More of them do where the points that none shows as
    empty do not fill the silhouettes; then a point goes where, too, a share DOUBT of the pictures
    that see it say so.
    """
    look = _Silhouettes(views, points, radius, box)
    seen, empty, _ = look.count(SEVERAL)
    several = Hull((empty < seen) & (empty < SEVERAL))
    if look.filled_by((seen > 0) & (empty == 0)):
        return several
    if _cuts(views, points, radius, box):
        return several._replace(cut=True)  # no picture contradicts another
    seen, empty, gone = look.count(max(SEVERAL, DOUBT * len(views.poses)))
    keep = (empty < seen) & (empty < np.maximum(SEVERAL, DOUBT * seen))
    common = keep & (seen >= COMMON * len(views.poses))
    return Hull(keep, True, _culprits(look, common, gone))


def _cuts(views: Views, points: np.ndarray, radius: float, box: Box) -> bool:
    """Whether a larger box holds what the pictures show: one with no camera inside, but for the
    first."""
    away = np.abs(views.poses[:, :3, 3] - np.asarray(box.centre)).max(1).min()
    for times in WIDER:
        larger = replace(box, half=times * box.half)
        if times > WIDER[0] and larger.half > away:
            break
        wider = _Silhouettes(views, points, radius, larger)
        seen, empty, _ = wider.count(1)
        if wider.filled_by((seen >= COMMON * len(views.poses)) & (empty == 0)):
            return True
    return False


def _culprits(look: "_Silhouettes", keep: np.ndarray, gone: list[np.ndarray]) -> tuple[int, ...]:
    """The pictures, where they are few, that show what the others say is not there, or whose empty
    pixels alone take away what others show."""
    cover = partial(look.balls.cover, look.views)
    pictures = np.arange(len(gone))
    filled = [cover(n, keep) for n in pictures]
    # of what all points cover: the box's own cover reaches a little farther
    found = {int(n) for n in pictures if look.lost(n, filled[n], cover(n)) > 4 * LOST}
    against = np.array([keep[points].sum() for points in gone])
    for n in np.argsort(-against, kind="stable")[:SUSPECTS]:
        left = keep.copy()
        left[gone[n]] = False
        others = pictures[pictures != n]
        others = others[:: max(1, len(others) // SUSPECTS)]
        lost = [look.lost(k, cover(k, left), filled[k]) for k in others]
        if sum(share > LOST for share in lost) >= WITNESSES:
            found.add(int(n))
    return tuple(sorted(found)) if len(found) <= FEW * len(gone) else ()


def inverted(views: Views) -> bool:
    """Whether nearly all pictures are opaque all along their edges, and transparent inside."""
    wrong = 0
    for picture in views.pixels:
        shown = picture[..., 3] > 127
        middle = shown[tuple(slice(size // 4, size - size // 4) for size in shown.shape)]
        wrong += edges(shown).mean() > 0.99 and middle.mean() < 0.5
    return wrong > 0.9 * len(views.pixels)


class _Balls(NamedTuple):
    """Balls of a radius around points (N, 3) of the world."""

    centres: np.ndarray
    radius: float

    def project(self, views: Views, n: int, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        """Those of the chosen balls whose centres lie in picture n; their rows, columns, and radii
        in pixels."""
        camera = views.cameras[n]
        pose = views.poses[n]
        local = (self.centres[chosen] - pose[:3, 3]) @ pose[:3, :3]
        with np.errstate(invalid="ignore"):
            u, v = np.floor(camera.project(local)).T
            seen = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        reach = 1 + self.radius * camera.magnification(local[seen])
        return chosen[seen], v[seen].astype(int), u[seen].astype(int), reach

    def cover(self, views: Views, n: int, keep: Optional[np.ndarray] = None) -> np.ndarray:
        """The pixels (H, W) of picture n that the balls cover, or those to keep."""
        chosen = np.arange(len(self.centres)) if keep is None else np.flatnonzero(keep)
        _, row, column, reach = self.project(views, n, chosen)
        octave = np.floor(2 * np.log2(reach))  # of like radii, each as large as their least
        covered = np.zeros(views.pixels[n].shape[:2], bool)
        for of in np.unique(octave):
            these = octave == of
            hit = np.zeros_like(covered)
            hit[row[these], column[these]] = True
            covered |= _distance(~hit) <= reach[these].min()
        return covered


class _Silhouettes:
    """What pictures show, and the points of a box that may be it."""

    def __init__(self, views: Views, points: np.ndarray, radius: float, box: Box):
        self.views = views
        self.balls = _Balls(box.to_world(points), radius * box.side)
        lattice = (np.indices((COARSE,) * 3).reshape(3, -1).T + 0.5) / COARSE
        self.box = _Balls(box.to_world(lattice), np.sqrt(3) / 2 / COARSE * box.side)

    def count(self, most: float) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """How many pictures see each point (N,), how many show it as empty (N,), and which points
        each shows so; a point that `most` show as empty is asked for no more."""
        seen = np.zeros(len(self.balls.centres), np.int32)
        empty = np.zeros(len(seen), np.int32)
        gone = []
        for n in range(len(self.views.poses)):
            there, row, column, reach = self.balls.project(
                self.views, n, np.flatnonzero(empty < most)
            )
            gone.append(there[_distance(self.views.empty(n))[row, column] > reach].astype(np.int32))
            seen[there] += 1
            empty[gone[-1]] += 1
        return seen, empty, gone

    def filled_by(self, keep: np.ndarray) -> bool:
        """Whether the points to keep cover what the pictures show of the box."""
        pictures = range(len(self.views.poses))
        return all(self.lost(n, self.balls.cover(self.views, n, keep)) <= LOST for n in pictures)

    def lost(self, n: int, covered: np.ndarray, before: Optional[np.ndarray] = None) -> float:
        """Of what picture n shows, the share that is not covered, but was before (None: by the
        box)."""
        opaque = self.views.opaque(n)
        lost = opaque & ~covered
        if lost.any():
            lost &= self.box.cover(self.views, n) if before is None else before
        return lost.sum() / max(1, opaque.sum())


def _distance(empty: np.ndarray) -> np.ndarray:
    """Of each pixel to the nearest that is not empty, in pixels."""
    return distance_transform_edt(empty) if not empty.all() else np.full(empty.shape, np.inf)
