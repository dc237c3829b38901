"""Which faces of a mesh that overlaps, or is open, are its surface: those that part inside from
outside."""

from jgrid.surface.mend import winding
from jgrid.surface.polygons import area_vectors

import numpy as np

SKIN = 1e-4  # on which side of a face a point is, is asked this far from it
SMALL = 1 / 64  # faces with longer edges may be surface in part, and are cut
# where else a large face is looked at: the corners' shares in each point
LOOKS = [
    np.roll([1 - 2 * share, share, share], turn) for share in (1 / 6, 0.03) for turn in range(3)
]


def parting(
    vertices: np.ndarray, hull: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the faces `hull` that has inside on one side and outside on the other: (vertices,
    to which some may have been added, faces).

    A face is looked at in its middle; a large one in other places too, and quartered where they
    differ."""
    places = vertices
    faces = hull
    kept = []
    while len(faces):
        corners = places[faces]
        parts = _parts(vertices, hull, corners, corners.mean(1))
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        large = np.flatnonzero(edges.max(1) > SMALL)
        cut = np.zeros(len(faces), bool)
        for look in LOOKS if len(large) else ():
            points = np.einsum("fcx,c->fx", corners[large], look)
            cut[large] |= _parts(vertices, hull, corners[large], points) != parts[large]
        kept.append(faces[parts & ~cut])
        places, faces = _quarters(places, faces[cut])
    hidden = len(hull) - len(kept[0])
    if hidden:
        notes.append(
            f"{hidden:,} faces do not part inside from outside, or not everywhere, and are no"
            " surface there"
        )
    return places, np.concatenate(kept)


def _parts(
    vertices: np.ndarray, hull: np.ndarray, corners: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Whether triangles (N, 3, 3) part inside from outside at points (N, 3) on them: (N,)."""
    cross = area_vectors(corners)
    step = SKIN * cross / np.linalg.norm(cross, axis=1, keepdims=True)
    before = winding(vertices, hull, points + step) > 0.5
    behind = winding(vertices, hull, points - step) > 0.5
    return before != behind


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
