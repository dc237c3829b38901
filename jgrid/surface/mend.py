"""What is mended in triangles before distances are asked of them: places, copies, orientation.

Vertices lie in the unit cube; what was done is added to `notes`, for people."""

from collections import defaultdict

from jgrid.surface.polygons import area_vectors
from jgrid.surface.winding import closed_parts, edge_uses, edges_of, winding

import igl
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

WELD = 1e-8  # vertices nearer to each other than this are one
FLAT = 1e-14  # twice the area of a face that has none
HULL = 0.75  # an open part that shuts off as much of what is seen from its middle is a body
ASKED = 8  # points of a part of which it is asked whether they are in another
WITHIN = 0.9  # how many of them must be


def weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One vertex for each place, and no unused ones; faces with two equal corners go."""
    used, faces = np.unique(faces, return_inverse=True)
    vertices, _, _, faces = igl.remove_duplicate_vertices(
        vertices[used], faces.reshape(-1, 3), WELD
    )
    return vertices, faces[(faces != np.roll(faces, 1, axis=1)).all(1)]


def drop_degenerate(vertices: np.ndarray, faces: np.ndarray, notes: list[str]) -> np.ndarray:
    whole = np.linalg.norm(area_vectors(vertices[faces]), axis=1) > FLAT
    if whole.all():
        return faces
    notes.append(f"{(~whole).sum():,} degenerate faces dropped")
    return faces[whole]


def drop_copies(vertices: np.ndarray, faces: np.ndarray, notes: list[str]) -> np.ndarray:
    """One of the faces that have the same corners, turned as most of them are.

    Where as many are turned one way as the other, the surface has two sides: one of them is kept
    if it closes the rest, as a two-sided solid does, and none if it ends in the air or parts two
    rooms."""
    corners = np.sort(faces, axis=1)
    n = faces.max() + 1
    _, edge = np.unique(corners[:, 0] * n + corners[:, 1], return_inverse=True)
    _, first, group = np.unique(edge * n + corners[:, 2], return_index=True, return_inverse=True)
    if len(first) == len(faces):
        return faces
    rising = faces < np.roll(faces, -1, axis=1)
    sense = np.where(rising.sum(1) == 2, 1, -1)  # even permutations of the sorted corners, or odd
    net = np.bincount(group, sense)
    # of each group the first face that is turned as most are
    fitting = np.flatnonzero(sense * net[group] >= 0)
    _, at = np.unique(group[fitting], return_index=True)
    kept = fitting[at]
    void = net == 0
    if void.any():
        void[void] = _leave_open(vertices, faces[kept], np.flatnonzero(void))
    sheets = int(void[group].sum())
    copies = int(len(faces) - sheets - (~void).sum())
    if copies:
        notes.append(f"{copies:,} copies of faces dropped")
    if sheets:
        notes.append(f"{sheets:,} faces back to back that enclose nothing dropped")
    return faces[np.sort(kept[~void])]


def orient(vertices: np.ndarray, faces: np.ndarray, notes: list[str]) -> np.ndarray:
    """Faces turned alike within each part, as most of its area was, and each part outwards; a part
    that lies in another one's material may face inwards, for it is a cavity."""
    faces, part = _turn_alike(vertices, faces, notes)
    turned = _inwards(vertices, faces, part)
    if not turned.any():
        return faces
    if turned.all():
        notes.append("faces pointed inwards: all turned")
    else:
        notes.append(f"{turned.sum():,} of {len(turned):,} parts faced inwards: turned")
    return np.ascontiguousarray(np.where(turned[part][:, None], faces[:, ::-1], faces))


def _leave_open(vertices: np.ndarray, faces: np.ndarray, two_sided: np.ndarray) -> np.ndarray:
    """Which of the two-sided faces, by their numbers, leave fewer edges open when they go: decided
    for patches of them that hang together, small ones first."""
    edges = edges_of(faces)
    degree = np.bincount(edges.ravel())
    own = edges[two_sided]
    count = np.bincount(own.ravel(), minlength=len(degree))
    inner = (degree == 2) & (count == 2)
    face = np.repeat(np.arange(len(own)), 3)[inner[own].ravel()]
    edge = own.ravel()[inner[own].ravel()]
    link = coo_matrix((np.ones(len(edge)), (face, edge)), (len(own), len(degree))).tocsr()
    n, patch = connected_components(link @ link.T, directed=False)
    areas = np.linalg.norm(area_vectors(vertices[faces[two_sided]]), axis=1)
    goes = np.zeros(n, bool)
    rims = np.split(own[np.argsort(patch, kind="stable")], np.cumsum(np.bincount(patch))[:-1])
    for number in np.argsort(np.bincount(patch, areas), kind="stable"):
        rim, uses = np.unique(rims[number], return_counts=True)
        before = (degree[rim] % 2).sum()
        after = ((degree[rim] - uses) % 2).sum()
        if after < before:
            goes[number] = True
            degree[rim] -= uses
    return goes[patch]


def _turn_alike(
    vertices: np.ndarray, faces: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(faces that agree with their neighbours, the part of each: what hangs together by edges of
    two faces)."""
    turned, part = igl.bfs_orient(faces)
    if edge_uses(faces)[1]:
        return faces, part
    cross = area_vectors(vertices[faces])
    area = np.linalg.norm(cross, axis=1)
    kept = np.where((cross * area_vectors(vertices[turned])).sum(1) > 0, area, -area)
    alike = np.where((np.bincount(part, kept) < 0)[part][:, None], turned[:, ::-1], turned)
    changed = (cross * area_vectors(vertices[alike])).sum(1) < 0
    if changed.any():
        notes.append(f"{changed.sum():,} faces turned to agree with their neighbours")
    return np.ascontiguousarray(alike), part


def _inwards(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Which parts (P,) must be turned.

    Bodies, closed or nearly so: those in the air face outwards. Of those in another one's material
    nothing can be said, they stay; but where the one around was turned they are cavities. Sheets
    are judged together where there is little else, and go with most of the bodies where not."""
    n = int(part.max()) + 1
    middle = vertices.mean(0)
    spread = _volumes(vertices[faces] - middle)
    if n == 1:
        return np.array([spread.sum() < 0])
    order = np.argsort(part, kind="stable")
    parts = np.split(faces[order], np.cumsum(np.bincount(part))[:-1])
    area = np.linalg.norm(area_vectors(vertices[faces]), axis=1)
    areas = np.bincount(part, area)
    own = np.stack(
        [np.bincount(part, area * axis) / areas for axis in vertices[faces].mean(1).T], 1
    )
    volume = np.bincount(part, _volumes(vertices[faces] - own[part][:, None]))
    body = closed_parts(faces, part)
    for i in np.flatnonzero(~body):
        body[i] = abs(winding(vertices, parts[i], own[i : i + 1])[0]) > HULL
    turned = np.zeros(n, bool)
    bodies = np.flatnonzero(body)
    turned[bodies] = _inside_out(vertices, [parts[i] for i in bodies], volume[bodies])
    if areas[~body].sum() > areas[body].sum():
        turned[~body] = spread[~body[part]].sum() < 0
    else:
        turned[~body] = 2 * areas[turned].sum() > areas[body].sum()
    return turned


def _inside_out(vertices: np.ndarray, bodies: list[np.ndarray], volume: np.ndarray) -> np.ndarray:
    """Which bodies must be turned, from the outermost to those in others."""
    inwards = volume < 0
    if not inwards.any():
        return inwards
    around = _around(vertices, bodies, np.abs(volume))
    if inwards.all() and (around < 0).sum() > 1:
        return inwards  # the file as a whole: no sign of what is a cavity
    faces_in = inwards.copy()  # as it is decided
    for i in np.argsort(-np.abs(volume), kind="stable"):
        outer = around[i]
        if outer < 0 or faces_in[outer]:
            faces_in[i] = False  # in the air
        elif inwards[outer]:
            faces_in[i] = True
    return faces_in != inwards


def _around(vertices: np.ndarray, bodies: list[np.ndarray], size: np.ndarray) -> np.ndarray:
    """The smallest body in which each lies, -1 for those in none."""
    low = np.stack([vertices[faces].min((0, 1)) for faces in bodies])
    high = np.stack([vertices[faces].max((0, 1)) for faces in bodies])
    along = np.argsort(low[:, 0], kind="stable")
    starts = np.searchsorted(low[along, 0], low[:, 0])
    ends = np.searchsorted(low[along, 0], high[:, 0])
    within: dict[int, list[int]] = defaultdict(list)
    for i, faces in enumerate(bodies):
        others = along[starts[i] : ends[i]]
        fits = (low[others] >= low[i]).all(1) & (high[others] <= high[i]).all(1)
        others = others[fits & (size[others] < size[i])]
        if len(others):
            points = [_some(vertices[bodies[j]].mean(1)) for j in others]
            inside = np.abs(winding(vertices, faces, np.concatenate(points))) > 0.5
            ends_ = np.cumsum([len(p) for p in points])[:-1]
            for j, answers in zip(others, np.split(inside, ends_)):
                if answers.mean() >= WITHIN:
                    within[int(j)].append(i)
    around = np.full(len(bodies), -1)
    for j, outer in within.items():
        around[j] = min(outer, key=lambda i: size[i])
    return around


def _some(points: np.ndarray) -> np.ndarray:
    return points[np.linspace(0, len(points) - 1, min(ASKED, len(points))).astype(int)]


def _volumes(corners: np.ndarray) -> np.ndarray:
    """Six times the volume between triangles (N, 3, 3) and the origin."""
    a, b, c = np.moveaxis(corners, 1, 0)
    return (a * np.cross(b, c)).sum(1)
