"""Winding numbers, and the edges and parts of which they are made up."""

import igl
import numpy as np

SLABS = 64  # of points, in which those near a part are looked for


class Winding:
    """The winding number of faces (F, 3) as a function of points (N, 3) -> (N,): near 1 inside,
    near 0 outside, between them where the surface is open.

    Closed parts count only within their bounding boxes, so each is asked alone, about the points
    there: of an engine of thousands of parts most have nothing to say of a point."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        self._vertices = vertices
        part = igl.orientable_patches(np.ascontiguousarray(faces))
        closed = closed_parts(faces, part)
        whole = closed[part]
        self._open = np.ascontiguousarray(faces[~whole])
        order = np.argsort(part[whole], kind="stable")
        sizes = np.bincount(part, minlength=len(closed))[closed]
        self._parts = np.split(faces[whole][order], np.cumsum(sizes)[:-1]) if len(sizes) else []
        self._low = np.array([vertices[faces].min((0, 1)) for faces in self._parts])
        self._high = np.array([vertices[faces].max((0, 1)) for faces in self._parts])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, np.float64)
        total = np.zeros(len(points))
        if len(self._open):
            total += winding(self._vertices, self._open, points)
        if not self._parts:
            return total
        # points in the order of their slab along x, and of y within it
        slab = np.clip(points[:, 0] * SLABS, 0, SLABS - 1).astype(np.int64)
        key = 4 * slab + np.clip(points[:, 1], -1, 2)
        order = np.argsort(key, kind="stable")
        key = key[order]
        first, last = (
            np.clip(end[:, 0] * SLABS, 0, SLABS - 1).astype(np.int64)
            for end in (self._low, self._high)
        )
        for i, part in enumerate(self._parts):
            slabs = 4 * np.arange(first[i], last[i] + 1)
            starts = np.searchsorted(key, slabs + self._low[i, 1])
            ends = np.searchsorted(key, slabs + self._high[i, 1], side="right")
            rows = np.concatenate([order[start:end] for start, end in zip(starts, ends)])
            near = points[rows]
            rows = rows[((near >= self._low[i]) & (near <= self._high[i])).all(1)]
            if len(rows):
                total[rows] += winding(self._vertices, part, points[rows])
        return total


def winding(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The winding number, by libigl's fast approximation, which is good enough to be compared with
    1/2."""
    return igl.fast_winding_number(
        vertices, np.ascontiguousarray(faces), np.ascontiguousarray(points, np.float64)
    )


def edge_uses(faces: np.ndarray) -> tuple[np.ndarray, bool]:
    """(how many faces each edge has, (E,), whether no two faces run through an edge in the same
    direction)."""
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    n = faces.max() + 1
    _, counts = np.unique(edges.min(1) * n + edges.max(1), return_counts=True)
    return counts, len(np.unique(edges[:, 0] * n + edges[:, 1])) == len(edges)


def edges_of(faces: np.ndarray) -> np.ndarray:
    """The number of the edge between each corner and the next: (F, 3)."""
    following = np.roll(faces, -1, axis=1)
    n = faces.max() + 1
    key = np.minimum(faces, following) * n + np.maximum(faces, following)
    return np.unique(key, return_inverse=True)[1].reshape(-1, 3)


def closed_parts(faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Which parts (P,) have two faces of theirs at each of their edges; part (F,): of each face."""
    edges = edges_of(faces)
    key = part[:, None] * (int(edges.max()) + 1) + edges
    _, at, counts = np.unique(key, return_index=True, return_counts=True)
    closed = np.ones(int(part.max()) + 1, bool)
    closed[np.repeat(part, 3)[at[counts != 2]]] = False
    return closed
