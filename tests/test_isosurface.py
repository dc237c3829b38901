"""The zero set of a function: sparse and dense marching cubes beside scikit-image's, and rays that
find it."""

from jgrid.surface.isosurface import (
    BLOCK,
    STEEPNESS,
    camera,
    extract,
    normals,
    openness,
    preview,
    trace,
)

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

CUBE = [[0.05] * 3, [0.95] * 3]
CENTRE = np.float32([0.513, 0.487, 0.521])


def sphere(p):
    return np.linalg.norm(p - CENTRE, axis=1) - 0.3217


def torus(p):
    x, y, z = (p - CENTRE).T
    return np.hypot(np.hypot(x, y) - 0.3, z) - 0.0713


def box(p):
    q = np.abs(p - 0.5) - np.float32([0.25, 0.125, 0.375])  # its faces pass exactly through nodes
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


def specks(p):
    return np.minimum(sphere(p), np.linalg.norm(p - np.float32([0.1, 0.1, 0.1]), axis=1) - 0.02)


def assert_same_surface(first, second, tolerance):
    """Vertex for vertex and face for face, in whatever order."""
    distance, partner = cKDTree(second[0]).query(first[0])
    assert distance.max() < tolerance and len(np.unique(partner)) == len(first[0]) == len(second[0])
    faces = [
        {tuple(np.roll(f, -f.argmin())) for f in each} for each in (partner[first[1]], second[1])
    ]
    assert faces[0] == faces[1]


@pytest.mark.parametrize("function", [sphere, torus, specks], ids=lambda f: f.__name__)
@pytest.mark.parametrize("resolution", [30, 64])
def test_sparse_and_dense_are_scikit_images(function, resolution):
    sparse, dense = (extract(function, resolution, sparse=s) for s in (True, False))
    assert_same_surface(sparse, dense, 1e-6)
    nodes = np.stack(np.indices([resolution + 1] * 3), -1).reshape(-1, 3) / resolution
    values = function(nodes.astype(np.float32)).reshape([resolution + 1] * 3)
    vertices, faces, _, _ = marching_cubes(values, 0.0)
    assert_same_surface(sparse, (vertices / resolution, faces), 2e-4 / resolution)


@pytest.mark.parametrize("function", [sphere, torus, box, specks], ids=lambda f: f.__name__)
def test_closed_zero_sets_become_watertight_meshes_turned_outwards(function):
    for resolution in (16, 40, 61):
        made = trimesh.Trimesh(*extract(function, resolution), process=False)
        assert made.is_watertight and made.is_winding_consistent and made.volume > 0


def test_volume_and_genus():
    made = trimesh.Trimesh(*extract(torus, 64), process=False)
    assert made.volume == pytest.approx(2 * np.pi**2 * 0.3 * 0.0713**2, rel=0.02)
    assert made.euler_number == 0
    np.testing.assert_allclose(torus(made.vertices.astype(np.float32)), 0, atol=1e-3)


def test_few_points_are_asked():
    asked = []

    def counted(p):
        asked.append(len(p))
        return sphere(p)

    extract(counted, 128)
    assert sum(asked) < 0.35 * 129**3


def test_the_surface_is_followed_where_the_bound_does_not_hold():
    """A function ten times as steep as a distance in one half: its blocks are not found from their
    centres, but from their neighbours."""

    def steep(p):
        return sphere(p) * np.where(p[:, 0] > 0.6, 10 * STEEPNESS, 1)

    sparse, dense = (
        trimesh.Trimesh(*extract(steep, 64, sparse=s), process=False) for s in (True, False)
    )
    assert sparse.is_watertight and len(sparse.faces) == len(dense.faces)


def test_a_surface_that_leaves_the_cube_is_open_there():
    made = trimesh.Trimesh(*extract(lambda p: np.linalg.norm(p, axis=1) - 0.513, 24), process=False)
    assert not made.is_watertight
    rim = made.vertices[
        np.unique(
            made.edges_sorted[trimesh.grouping.group_rows(made.edges_sorted, require_count=1)]
        )
    ]
    assert (rim.min(1) == 0).all()


def test_no_surface_and_wrong_resolution():
    vertices, faces = extract(lambda p: np.ones(len(p)), 3 * BLOCK)
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)
    with pytest.raises(ValueError, match="resolution"):
        extract(sphere, 1)


def test_rays_find_the_sphere():
    origin, directions, _ = camera(24, CUBE)
    points, hit = trace(sphere, origin, directions)
    along = directions @ (CENTRE - origin)
    gap = np.linalg.norm(origin + along[:, None] * directions - CENTRE, axis=1)
    clear = np.abs(gap - 0.3217) > 2e-3
    np.testing.assert_array_equal(hit[clear], (gap < 0.3217)[clear])
    np.testing.assert_allclose(sphere(points[hit & (gap < 0.3)]), 0, atol=1e-4)
    well = hit & (gap < 0.3)
    expected = along - np.sqrt(np.maximum(0.3217**2 - gap**2, 0))
    np.testing.assert_allclose(
        ((points - origin) * directions).sum(1)[well], expected[well], atol=2e-3
    )


@pytest.mark.parametrize("up", [0, 1, 2])
@pytest.mark.parametrize("bounds", [CUBE, [[0.1, 0.4, 0.2], [0.9, 0.5, 0.3]]], ids=["cube", "slab"])
def test_the_camera_frames_the_box_upright(up, bounds):
    size = 33
    origin, directions, axes = camera(size, bounds, up)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) > 0 and axes[1, up] > 0.9 and axes[0, up] == pytest.approx(0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions.reshape(size, size, 3)[16, 16], -axes[2])

    def seen(vectors):  # right and above, at depth 1
        return vectors @ axes[:2].T / -(vectors @ axes[2])[:, None]

    low, high = np.array(bounds)
    corners = seen(np.stack(np.meshgrid(*zip(low, high)), -1).reshape(-1, 3) - origin)
    # of the picture, half a pixel beyond the centres
    edge = seen(directions)[0] * np.array([-1, 1]) * size / (size - 1)
    assert 0.9 * edge[0] < np.abs(corners).max() < edge[0] == pytest.approx(edge[1])


def test_normals_openness_and_the_picture():
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = CENTRE + 0.3217 * directions
    np.testing.assert_allclose(normals(sphere, points), directions, atol=2e-3)
    np.testing.assert_allclose(openness(sphere, points, directions), 1, atol=1e-3)
    # under a lid
    assert (openness(lambda p: np.minimum(sphere(p), 0.01), points, directions) < 0.7).all()
    picture = preview(sphere, CUBE, 32)
    assert (
        picture.shape == (32, 32, 3)
        and (picture[0] == 1).all()
        and picture[16, 16].max() < 1
        and picture.min() >= 0
    )
    red = preview(sphere, CUBE, 32, colour=lambda p: np.ones((len(p), 3)) * [1, 0, 0])
    assert red[16, 16, 0] > 0.2 and red[16, 16, 1] == 0
    cast = preview(
        sphere,
        CUBE,
        32,
        cast=lambda o, d: (*trace(sphere, o, d), normals(sphere, trace(sphere, o, d)[0])),
    )
    np.testing.assert_allclose(cast, picture, atol=1e-6)
