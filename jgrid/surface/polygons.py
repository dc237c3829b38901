"""Polygons cut into triangles, concave ones by mapbox_earcut."""

from typing import NamedTuple, Optional

import mapbox_earcut
import numpy as np

# what a file holds: vertices (V, 3), triangles (F, 3), colours (V, 3) or None
Content = tuple[np.ndarray, np.ndarray, Optional[np.ndarray]]

ON = 1e-9  # of a polygon's size: a corner so near to an edge lies on it


class Polygons(NamedTuple):
    """counts (P,): the corners of each; corners (sum of counts,): the vertices there, in order."""

    counts: np.ndarray
    corners: np.ndarray


def triangulate(vertices: np.ndarray, polygons: Polygons) -> np.ndarray:
    """Polygons on vertices (V, 3) as triangles (F, 3): first what are triangles, then the halves of
    quads, then the others in the order of their numbers of corners; those of fewer than three
    corners vanish."""
    counts = polygons.counts
    starts = np.cumsum(counts) - counts
    made = [np.zeros((0, 3), np.int64)]
    if counts.max(initial=0) > 3:
        places = np.unique(vertices, axis=0, return_inverse=True)[1].ravel()
    for n in np.unique(counts[counts > 2]):
        alike = polygons.corners[starts[counts == n][:, None] + np.arange(n)]
        if n == 3:
            made.append(alike)
        elif n == 4:
            made.append(_halves(vertices, _copies_begin_alike(places, alike)))
        else:
            made.append(_fans(vertices, _copies_begin_alike(places, alike)))
    return np.concatenate(made).astype(np.int64)


def area_vectors(corners: np.ndarray) -> np.ndarray:
    """Normals (N, 3) of triangles (N, 3, 3), as long as twice their areas."""
    a, b, c = np.moveaxis(corners, 1, 0)
    return np.cross(b - a, c - a)


def _copies_begin_alike(places: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """The same polygons (P, n); those on the same places as another one, whichever way round,
    begin at the same place, and so are cut alike."""
    corners = places[polygons]
    _, group, count = np.unique(
        np.sort(corners, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    begin = np.where(count[group.ravel()] > 1, corners.argmin(1), 0)
    n = polygons.shape[1]
    return np.take_along_axis(polygons, (begin[:, None] + np.arange(n)) % n, 1)


def _halves(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Quads (Q, 4) cut from their first corner, or from the second where a half would lie outside
    the quad or have no area."""
    first = ((0, 1, 2), (2, 3, 0))
    second = ((1, 2, 3), (3, 0, 1))
    least = []
    for halves in (first, second):
        one, other = (area_vectors(vertices[quads[:, half]]) for half in halves)
        whole = one + other
        size = np.maximum((whole**2).sum(1), 1e-300)
        least.append(np.minimum((one * whole).sum(1), (other * whole).sum(1)) / size)
    better = ((least[0] < 1e-9) & (least[1] > least[0]))[:, None]
    return np.concatenate(
        [np.where(better, quads[:, b], quads[:, a]) for a, b in zip(first, second)]
    )


def _fans(vertices: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """Polygons (P, n): fans about the first corner, where all of a fan lies inside; else ears."""
    n = polygons.shape[1]
    fan = np.stack([np.zeros(n - 2, int), np.arange(1, n - 1), np.arange(2, n)], 1)
    areas = area_vectors(vertices[polygons[:, fan]].reshape(-1, 3, 3)).reshape(-1, n - 2, 3)
    whole = areas.sum(1)
    size = np.maximum((whole**2).sum(1), 1e-300)
    inside = ((areas * whole[:, None]).sum(2) > 1e-9 * size[:, None]).all(1)
    made = [polygons[inside][:, fan].reshape(-1, 3)]
    for polygon, normal in zip(polygons[~inside], whole[~inside]):
        made.append(polygon[_ears(vertices[polygon], normal)])
    return np.concatenate(made)


def _ears(places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """One polygon (n, 3) as triangles (m, 3) of its corners' numbers, turned as it is; normal: its
    own."""
    axis = np.abs(normal).argmax()
    flat = np.delete(places, axis, 1)
    flat = np.ascontiguousarray((flat - flat.mean(0)) / max(np.ptp(flat, 0).max(), 1e-300))
    n = len(flat)
    ears = mapbox_earcut.triangulate_float64(flat, np.array([n], np.uint32))
    ears = ears.reshape(-1, 3).astype(np.int64)
    if not len(ears):
        return ears
    turned = (area_vectors(places[ears]) @ normal) < 0
    ears[turned] = ears[turned, ::-1]
    return _meet(flat, ears)


def _meet(flat: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles of corners (n, 2), without flat ones, split where a corner lies on an edge: earcut
    leaves out corners on the line of their neighbours, but other faces end there."""
    made = []
    corners = flat[triangles]
    along = np.roll(corners, -1, axis=1) - corners
    height = np.abs(np.cross(along[:, 0], along[:, 1])) / np.linalg.norm(along, axis=2).max(1)
    left = triangles[height > ON].tolist()
    while left:
        triangle = left.pop()
        for a, b, c in (triangle, triangle[1:] + triangle[:1], triangle[2:] + triangle[:2]):
            along = flat[b] - flat[a]
            away = flat - flat[a]
            share = away @ along / max(along @ along, 1e-300)
            off = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0])
            on = (share > ON) & (share < 1 - ON) & (off < ON * np.sqrt(along @ along))
            if on.any():
                middle = int(np.where(on, share, 2).argmin())
                left += [[a, middle, c], [middle, b, c]]
                break
        else:
            made.append(triangle)
    return np.array(made, np.int64).reshape(-1, 3)
