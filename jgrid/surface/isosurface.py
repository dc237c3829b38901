"""The zero set of a function of points: meshed by marching cubes near it alone, and seen along
rays.

Functions take points (N, 3) float32 in the unit cube and return (N,) values in units of the cube,
negative inside. What is asked of them beyond their sign is that they do not grow more than
`steepness` times as fast as a distance."""

from collections.abc import Iterator
from typing import Callable, Optional

import numpy as np
from numpy.typing import ArrayLike
from skimage.measure import marching_cubes
from tqdm import tqdm

Function = Callable[[np.ndarray], np.ndarray]  # points (N, 3) -> values (N,)
Surface = tuple[np.ndarray, np.ndarray]  # vertices (V, 3) and faces (F, 3)
# origin (3,), directions (N, 3) -> the points (N, 3) that rays meet, which rays do, (N,), normals
Cast = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

BLOCK = 8  # cells along a block's side
COARSEST = 8  # cubes along the unit cube's side with which the search begins, at most
STEEPNESS = 1.5  # what a fitted field's slope may be
CHUNK = 2**11  # blocks whose values are held at once
# blocks that marching cubes takes as one array; in taller ones float32 coordinates would be coarse
STACK = 14
# in cells: values nearer to zero are moved there, so that no vertex falls on a node
LEAST = 1e-4
STEPS = 96  # along a ray
LAST = 3  # further steps of those that hit, without a tolerance
VIEW = (35.0, 20.0)  # where the camera stands: azimuth and elevation in degrees
FAR = 1.8  # and how far away, in diagonals of what it sees
LIGHTS = (
    ((0.5, 0.8, 0.6), (0.80, 0.75, 0.68)),
    ((-0.7, 0.1, 0.5), (0.16, 0.19, 0.25)),
    ((0.0, -0.9, -0.3), (0.06, 0.05, 0.04)),
)
AMBIENT = (0.20, 0.21, 0.23)
CLAY = (0.93, 0.90, 0.86)


def extract(
    function: Function,
    resolution: int,
    sparse: bool = True,
    steepness: float = STEEPNESS,
    progress: bool = False,
    blocks: Optional[np.ndarray] = None,
) -> Surface:
    """Marching cubes of function = 0 on resolution^3 cells of the unit cube: vertices (V, 3)
    float64 and faces (F, 3), turned outwards.

    sparse: evaluate only blocks of 8^3 cells near the surface, found from coarse to fine by
    |f(centre)| <= steepness * half a diagonal, and those next to them into which the surface goes
    on, so that what is found is found whole; else all of them. blocks: those (B, 3) to begin with,
    by their numbers along the axes, where they are known. (scikit-image's marching cubes, to which
    each block is given, knows only whole arrays.)
    """
    if resolution < 2:
        raise ValueError(f"marching cubes needs a `resolution` of at least 2, got {resolution}")
    per_side = -(-resolution // BLOCK)
    if blocks is None and sparse:
        blocks = _near(function, resolution, per_side, steepness)
    elif blocks is None:
        blocks = _lattice(per_side)
    known = np.zeros([per_side + 2] * 3, bool)  # a block that was taken, or lies outside the cube
    known[[0, -1]] = known[:, [0, -1]] = known[:, :, [0, -1]] = True
    vertices = []
    faces = []
    keys = []
    count = 0
    with tqdm(
        total=len(blocks), desc="marching cubes", unit="block", disable=not progress, leave=False
    ) as bar:
        while len(blocks):
            known[tuple((blocks + 1).T)] = True
            reached = []
            for i in range(0, len(blocks), CHUNK):
                chunk = blocks[i : i + CHUNK]
                values = _values(function, chunk, resolution)
                reached += _across(values < 0, chunk)
                for v, f, k in _march(values, chunk, resolution):
                    vertices.append(v)
                    faces.append(f + count)
                    keys.append(k)
                    count += len(v)
                bar.update(len(chunk))
            blocks = np.unique(np.concatenate(reached), axis=0)
            blocks = blocks[~known[tuple((blocks + 1).T)]]
            bar.total += len(blocks)
    if not count:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    return _weld(np.concatenate(vertices) / resolution, np.concatenate(faces), np.concatenate(keys))


def preview(
    function: Function,
    bounds: ArrayLike,
    size: int = 512,
    up: int = 1,
    cast: Optional[Cast] = None,
    colour: Optional[Function] = None,
) -> np.ndarray:
    """A picture of the surface within bounds (2, 3): (size, size, 3) in [0, 1]; Lambert's law under
    three lights that stand by the camera.

    cast: of an origin (3,) and directions (N, 3), the points (N, 3) that rays meet, which rays do,
    (N,), and the normals there; None: sphere tracing. colour: of the points that are seen, (N, 3)
    in [0, 1]; None: clay.
    """
    origin, directions, axes = camera(size, bounds, up)
    if cast:
        points, hit, normal = cast(origin, directions)
        points = points[hit]
        normal = normal[hit]
    else:
        points, hit = trace(function, origin, directions)
        points = points[hit]
        normal = normals(function, points)
    room = openness(function, points, normal)[:, None]
    light = room * AMBIENT
    for direction, strength in LIGHTS:
        towards = np.array(direction) @ axes / np.linalg.norm(direction)
        light = light + np.maximum(normal @ towards, 0)[:, None] * strength * (0.6 + 0.4 * room)
    pixels = np.ones((size * size, 3))
    own = CLAY if colour is None else colour(points)
    pixels[hit] = np.clip(light * own, 0, 1) ** (1 / 2.2)
    return pixels.reshape(size, size, 3)


def camera(size: int, bounds: ArrayLike, up: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A camera that frames the box `bounds` (2, 3) in a square picture: origin (3,), unit
    directions (size^2, 3) of its rays, row by row, and its axes right, above, back (3, 3). up: the
    axis of the cube that points up."""
    azimuth, elevation = np.radians(VIEW)
    upwards, across, ahead = np.eye(3)[[up, (up + 1) % 3, (up + 2) % 3]]
    back = (
        np.cos(elevation) * (np.sin(azimuth) * ahead + np.cos(azimuth) * across)
        + np.sin(elevation) * upwards
    )
    right = np.cross(upwards, back) / np.cos(elevation)
    above = np.cross(back, right)
    low, high = np.asarray(bounds)
    origin = (low + high) / 2 + FAR * np.linalg.norm(high - low) * back
    corners = np.where(_lattice(2), high, low) - origin
    half = 1.04 * np.abs(corners @ np.stack([right, above], 1) / -(corners @ back)[:, None]).max()
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    directions = offset[None, :, None] * right - offset[:, None, None] * above - back
    directions = directions.reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return origin, directions, np.stack([right, above, back])


def trace(
    function: Function, origin: np.ndarray, directions: np.ndarray, tolerance: float = 3e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Sphere tracing: go on by the distance until it is nearly 0. Rays (3,) and (N, 3) -> points
    (N, 3) and which of them hit, (N,).

    Rays begin where they enter the unit cube and end where they leave it.
    """
    with np.errstate(divide="ignore"):
        ends = np.stack([(0.0 - origin) / directions, (1.0 - origin) / directions])
        sides = np.sort(ends, axis=0)
    near = np.maximum(sides[0].max(1), 0) + 1e-6
    far = sides[1].min(1)
    t = near.copy()
    hit = np.zeros(len(near), bool)
    active = np.flatnonzero(near < far)
    for _ in range(STEPS):
        if not len(active):
            break
        value = function((origin + t[active, None] * directions[active]).astype(np.float32))
        hit[active] = value < tolerance
        t[active] += np.where(value < tolerance, 0, value * 0.95)
        active = active[(value >= tolerance) & (t[active] < far[active])]
    for _ in range(LAST):
        t[hit] += function((origin + t[hit, None] * directions[hit]).astype(np.float32))
    return origin + t[:, None] * directions, hit


def normals(function: Function, points: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Unit gradients at points (N, 3), by differences along the corners of a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    around = (points[:, None] + step * corners).reshape(-1, 3).astype(np.float32)
    gradient = function(around).reshape(-1, 4) @ corners
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def openness(
    function: Function, points: np.ndarray, normal: np.ndarray, reach: float = 0.08, taps: int = 4
) -> np.ndarray:
    """How little of the room above points is taken, in [0, 1] (N,): values along the normal beside
    the way gone (ambient occlusion)."""
    shut = np.zeros(len(points))
    for tap in range(1, taps + 1):
        step = reach * tap / taps
        value = function((points + step * normal).astype(np.float32))
        shut += np.maximum(step - value, 0) / step / 2 ** (tap - 1)
    return np.clip(1 - 0.5 * shut, 0, 1)


def _lattice(n: int) -> np.ndarray:
    """The n^3 cells of a cube: (n^3, 3)."""
    return np.indices((n, n, n)).reshape(3, -1).T


def _near(function: Function, resolution: int, per_side: int, steepness: float) -> np.ndarray:
    """Blocks (B, 3) that the zero set may meet."""
    size = 1
    while -(-per_side // size) > COARSEST:
        size *= 2
    cubes = _lattice(-(-per_side // size))
    halves = _lattice(2)
    while True:
        low = cubes * (size * BLOCK / resolution)
        side = size * BLOCK / resolution
        # the part of a cube outside [0, 1] is as far from the centre
        value = function(np.minimum(low + side / 2, 1).astype(np.float32))
        cubes = cubes[np.abs(value) <= steepness * side * np.sqrt(3) / 2]
        if size == 1:
            return cubes
        size //= 2
        cubes = (2 * cubes[:, None] + halves).reshape(-1, 3)
        cubes = cubes[(cubes * size < per_side).all(1)]


def _values(function: Function, blocks: np.ndarray, resolution: int) -> np.ndarray:
    """Values at the nodes of blocks (B, 3): (B, 9, 9, 9) float32; nodes beyond the cube have those
    of its border."""
    points = np.minimum((blocks[:, None] * BLOCK + _lattice(BLOCK + 1)) / resolution, 1)
    values = np.asarray(function(points.reshape(-1, 3).astype(np.float32)), np.float32)
    least = np.float32(LEAST / resolution)
    values = np.where(np.abs(values) < least, np.where(values < 0, -least, least), values)
    return values.reshape(len(blocks), *[BLOCK + 1] * 3)


def _across(negative: np.ndarray, blocks: np.ndarray) -> list[np.ndarray]:
    """The neighbours of blocks across faces on which the sign changes: a list of (n, 3)."""
    reached = []
    for axis in range(3):
        for node, step in ((0, -1), (BLOCK, 1)):
            face = negative.take(node, axis=axis + 1).reshape(len(blocks), -1)
            reached.append(blocks[face.any(1) & ~face.all(1)] + step * np.eye(3, dtype=int)[axis])
    return reached


def _march(
    values: np.ndarray, blocks: np.ndarray, resolution: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Marching cubes of blocks, several in one array: (vertices in cells, faces, keys) of each
    array.

    A key names the edge of the lattice on which a vertex lies, for those at the border of a block,
    which another block may have as well; it is -1 for the others.
    """
    n = BLOCK + 1
    inside = np.minimum(resolution - blocks * BLOCK, BLOCK)  # cells of a block that lie in the cube
    cell = np.arange(n)
    # a cell goes by its upper corner; the first ones would join two blocks
    used = (cell >= 1) & (cell <= inside[..., None])
    used = used[:, 0, :, None, None] & used[:, 1, None, :, None] & used[:, 2, None, None, :]
    flat = values.reshape(len(values), -1)
    mixed = np.flatnonzero((flat.min(1) < 0) & (flat.max(1) > 0))
    for i in range(0, len(mixed), STACK):
        rows = mixed[i : i + STACK]
        try:
            v, f, _, _ = marching_cubes(
                values[rows].reshape(-1, n, n), 0.0, mask=used[rows].reshape(-1, n, n)
            )
        except RuntimeError:  # no surface in the cells that are used
            continue
        row = (v[:, 0] / n).astype(int)
        local = v.astype(np.float64)
        local[:, 0] -= row * n
        v = local + blocks[rows[row]] * BLOCK
        node = np.floor(v)
        moved = v > node
        axis = np.where(moved.any(1), moved.argmax(1), 3)
        place = np.ravel_multi_index(tuple(node.astype(np.int64).T), [resolution + 1] * 3)
        key = place * 4 + axis
        border = ((local == 0) | (local == BLOCK)).any(1)
        yield v, f.astype(np.int64), np.where(border, key, -1)


def _weld(vertices: np.ndarray, faces: np.ndarray, keys: np.ndarray) -> Surface:
    """Vertices of one key made one, exactly, where comparing places would need a tolerance; faces
    that this empties go."""
    keys = np.where(keys < 0, -1 - np.arange(len(keys)), keys)
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    faces = place.ravel()[faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    return vertices[first], faces
