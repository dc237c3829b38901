"""Which faces of a mesh that overlaps, or is open, are its surface: those that part inside from
outside."""

from jgrid.surface.polygons import area_vectors
from jgrid.surface.winding import Winding

import numpy as np

SKIN = 1e-4  # on which side of a face a point is, is asked this far from it
SMALL = 1 / 64  # faces with longer edges may be surface in part, and are cut
MOST = 20_000  # of them, the largest ones
# where a face is looked at, as shares of its corners: in the middle, and if it is large elsewhere
MIDDLE = [np.full(3, 1 / 3)]
ELSEWHERE = [np.roll([1 - 2 * r, r, r], turn) for r in (1 / 6, 0.03) for turn in range(3)]


def parting(
    vertices: np.ndarray, hull: np.ndarray, around: Winding, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the faces `hull` that has inside on one side and outside on the other: (vertices,
    to which some may have been added, faces); around: the winding number of all.

    A face is looked at in its middle; a large one in other places too, and quartered where they
    differ."""
    places = vertices
    faces = hull
    kept = []
    while len(faces):
        corners = places[faces]
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        large = edges.max(1) > SMALL
        if large.sum() > MOST:
            areas = np.linalg.norm(area_vectors(corners), axis=1)
            large &= areas >= np.partition(areas[large], -MOST)[-MOST]
        parts = np.zeros(len(faces), bool)
        cut = np.zeros(len(faces), bool)
        parts[~large] = _parts(around, corners[~large], MIDDLE)[0]
        looks = _parts(around, corners[large], MIDDLE + ELSEWHERE)
        parts[large] = looks[0]
        cut[large] = (looks != looks[0]).any(0)
        kept.append(faces[parts & ~cut])
        places, faces = _quarters(places, faces[cut])
    hidden = len(hull) - len(kept[0])
    if hidden:
        notes.append(
            f"{hidden:,} faces do not part inside from outside, or not everywhere, and are no"
            " surface there"
        )
    return places, np.concatenate(kept)


def _parts(around: Winding, corners: np.ndarray, looks: list[np.ndarray]) -> np.ndarray:
    """Whether triangles (N, 3, 3) part inside from outside at the points that each look makes of
    their corners: (looks, N)."""
    cross = area_vectors(corners)
    step = SKIN * cross / np.linalg.norm(cross, axis=1, keepdims=True)
    points = np.stack([np.einsum("fcx,c->fx", corners, look) for look in looks])
    # in one call, which builds its trees anew
    both = np.concatenate([points + step, points - step]).reshape(-1, 3)
    inside = (around(both) > 0.5).reshape(2, len(looks), -1)
    return inside[0] != inside[1]


def _quarters(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces cut at the middles of their edges: (vertices with the middles behind them, faces)."""
    a, b, c = faces.T
    ab, bc, ca = len(vertices) + np.arange(3 * len(faces)).reshape(3, -1)
    middles = [vertices[[p, q]].mean(0) for p, q in ((a, b), (b, c), (c, a))]
    made = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return (
        np.concatenate([vertices, *middles]),
        np.concatenate([np.stack(corners, 1) for corners in made]),
    )
