"""Meshes: what is read, mended, warned of and refused; distances beside closed forms; the distance
of two surfaces."""

import struct

from jgrid.surface import mesh
from jgrid.surface.mesh import compare, gyroid_ball, iou, load_mesh, make_mesh, nearest

import numpy as np
import pytest
import trimesh

POINTS = np.random.default_rng(0).uniform(size=(4000, 3))
# flat faces lie at most 1.6e-3 of the radius inside the sphere
BALL = trimesh.creation.icosphere(4)


def cube(shift=0.0):
    return trimesh.creation.box().apply_translation([shift, 0, 0])


def box_distance(p, half):
    q = np.abs(p) - half
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


def test_box_has_its_closed_form():
    """Exactly: its faces are flat. The longest side becomes 0.9."""
    box = trimesh.creation.box(extents=[4, 2, 1]).apply_translation([7, -3, 100])
    made = make_mesh(box.vertices, box.faces)
    expected = box_distance(POINTS - 0.5, 0.9 * np.array([0.5, 0.25, 0.125]))
    np.testing.assert_allclose(made.signed_distance(POINTS), expected, atol=1e-12)
    np.testing.assert_allclose(
        made.vertices * made.scale + made.offset,
        box.vertices[np.lexsort(box.vertices.T[::-1])],
        atol=1e-12,
    )
    assert made.scale == pytest.approx(4 / 0.9) and made.simple and not made.notes
    np.testing.assert_allclose(made.bounds(), [[0.05, 0.275, 0.3875], [0.95, 0.725, 0.6125]])


def test_sphere_and_torus_to_the_error_of_their_faceting():
    sphere = make_mesh(BALL.vertices, BALL.faces)
    error = sphere.signed_distance(POINTS) - (np.linalg.norm(POINTS - 0.5, axis=1) - 0.45)
    # the facets lie inside: distances to them are larger
    assert -1e-12 < error.min() and error.max() < 0.45 * 1.6e-3
    n = 200
    major = 0.35
    minor = 0.1
    u, v = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    a = 2 * np.pi * u.ravel() / n
    b = 2 * np.pi * v.ravel() / n
    ring = major + minor * np.cos(b)
    corner = [
        np.ravel_multi_index(((u + i) % n, (v + j) % n), (n, n)).ravel()
        for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    faces = np.concatenate(
        [
            np.stack([corner[0], corner[1], corner[2]], 1),
            np.stack([corner[0], corner[2], corner[3]], 1),
        ]
    )
    torus = make_mesh(np.stack([ring * np.cos(a), ring * np.sin(a), minor * np.sin(b)], 1), faces)
    x, y, z = (POINTS - 0.5).T
    error = torus.signed_distance(POINTS) - (np.hypot(np.hypot(x, y) - major, z) - minor)
    sagitta = (major + minor) * (1 - np.cos(np.pi / n)) + minor * (1 - np.cos(np.pi / n))
    assert np.abs(error).max() < sagitta
    assert torus.report == {
        "vertices": n * n,
        "faces": 2 * n * n,
        "closed": True,
        "components": 1,
        "genus": 1,
    }


def test_scenes_and_formats(tmp_path):
    for kind in ("obj", "ply", "stl", "off", "glb"):
        BALL.export(tmp_path / f"ball.{kind}")
        made = load_mesh(tmp_path / f"ball.{kind}")
        assert made.report == {
            "vertices": 2562,
            "faces": 5120,
            "closed": True,
            "components": 1,
            "genus": 0,
        }, kind
    trimesh.Scene([BALL, cube(3.0)]).export(tmp_path / "scene.glb")
    made = load_mesh(tmp_path / "scene.glb")
    assert made.report["components"] == 2 and made.report["genus"] == 0 and made.simple


def test_many_points_are_answered_in_their_order(monkeypatch):
    made = make_mesh(cube().vertices, cube().faces)
    monkeypatch.setattr(mesh, "CHUNK", 300)
    np.testing.assert_allclose(
        made.signed_distance(POINTS[:1000]), box_distance(POINTS[:1000] - 0.5, 0.45), atol=1e-12
    )


def test_inside_is_the_sign_of_the_distance():
    made = gyroid_ball(48)
    points = np.concatenate([POINTS, made.vertices[:500] + 1e-6])
    np.testing.assert_array_equal(made.inside(points), made.signed_distance(points) <= 0)
    assert 0.05 < made.inside(POINTS).mean() < 0.6


def test_rays_meet_the_first_face():
    made = make_mesh(cube().vertices, cube().faces)
    directions = np.array([[0, 0, -1.0], [0, 0, 1.0], [0.3, 0.2, -1.0]])
    points, hit, normals = made.cast(np.array([0.4, 0.6, 3.0]), directions)
    assert hit.tolist() == [True, False, False]
    np.testing.assert_allclose(points[0], [0.4, 0.6, 0.95])
    np.testing.assert_allclose(normals[0], [0, 0, 1])


def test_samples_are_even_by_area():
    box = trimesh.creation.box(extents=[1, 1, 0.1])
    made = make_mesh(box.vertices, box.faces)
    points, normals = made.sample(20000, np.random.default_rng(1))
    np.testing.assert_allclose(made.signed_distance(points), 0, atol=1e-12)
    flat = np.abs(normals[:, 2]) > 0.5
    assert flat.mean() == pytest.approx(2 / 2.4, abs=0.01)
    np.testing.assert_allclose(points[flat, :2].mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(points[flat, :2].var(0), 0.9**2 / 12, rtol=0.03)
    outwards = box_distance(points + 1e-3 * normals - 0.5, 0.9 * np.array([0.5, 0.5, 0.05]))
    np.testing.assert_allclose(outwards, 1e-3, atol=1e-12)


# What is mended or borne, the warning, and the sign at the middle of the cube and in its corner
def test_inverted_faces_are_turned():
    made = make_mesh(BALL.vertices, BALL.faces[:, ::-1])
    assert made.simple and "all turned" in made.notes[0]
    assert made.signed_distance([[0.5, 0.5, 0.5]])[0] == pytest.approx(-0.45, abs=1e-3)


def test_some_inverted_faces_are_turned_like_the_rest():
    faces = BALL.faces.copy()
    faces[1000:2000] = faces[1000:2000, ::-1]
    made = make_mesh(BALL.vertices, faces)
    clean = make_mesh(BALL.vertices, BALL.faces)
    assert made.simple and made.notes == ("1,000 faces turned to agree with their neighbours",)
    np.testing.assert_allclose(
        made.signed_distance(POINTS), clean.signed_distance(POINTS), atol=1e-12
    )


def test_a_cavity_stays_one():
    inner = BALL.copy().apply_scale(0.5)
    faces = np.concatenate([BALL.faces, inner.faces[:, ::-1] + len(BALL.vertices)])
    made = make_mesh(np.concatenate([BALL.vertices, inner.vertices]), faces)
    assert made.simple and not made.notes
    assert made.signed_distance([[0.5, 0.5, 0.5]])[0] == pytest.approx(0.225, abs=1e-3)


def test_an_open_mesh_takes_the_winding_numbers_sign():
    made = make_mesh(BALL.vertices, BALL.faces[BALL.triangles_center[:, 2] < 0.8])
    assert (
        not made.simple
        and "not closed" in made.notes[0]
        and not made.report["closed"]
        and made.report["genus"] is None
    )
    low = POINTS[POINTS[:, 2] < 0.6]
    expected = np.linalg.norm(low - [0.5, 0.5, made.bounds()[0, 2] + 0.45], axis=1) - 0.45
    np.testing.assert_allclose(made.signed_distance(low), expected, atol=2e-3)


def test_a_fin_on_a_closed_mesh_is_no_surface():
    tip = np.array([[2.0, 2.0, 2.0]])
    made = make_mesh(
        np.concatenate([BALL.vertices, tip]),
        np.concatenate([BALL.faces, [[*BALL.edges[0], len(BALL.vertices)]]]),
    )
    assert (
        not made.simple
        and "of more than two faces" in made.notes[0]
        and "1 faces do not part" in made.notes[1]
    )
    assert len(made.faces) == len(BALL.faces) and len(made.hull) == len(BALL.faces) + 1


def test_overlapping_shells_are_their_union():
    parts = [
        trimesh.creation.box(extents=[2, 1, 1])
        .subdivide()
        .subdivide()
        .subdivide()
        .subdivide()
        .apply_translation([x, 0, y])
        for x, y in ((-0.5, 0.013), (0.5, 0.0))
    ]
    both = trimesh.util.concatenate(parts)
    made = make_mesh(both.vertices, both.faces)
    assert not made.simple and "overlaps" in made.notes[0] and "no surface" in made.notes[1]
    points = POINTS * made.scale + made.offset
    each = [box_distance(points - [x, 0, y], [1, 0.5, 0.5]) for x, y in ((-0.5, 0.013), (0.5, 0.0))]
    union = np.minimum(*each)
    assert ((made.signed_distance(POINTS) < 0) == (union < 0))[np.abs(union) > 1e-3].all()
    outside = union > 0
    np.testing.assert_allclose(
        made.signed_distance(POINTS)[outside] * made.scale, union[outside], atol=0.02
    )
    deep = np.array([[0.5, 0.5, 0.5]])  # in both: the faces of one inside the other do not count
    assert made.signed_distance(deep)[0] * made.scale < -0.4


def test_degenerate_faces_are_dropped():
    # a second vertex in the place of the first
    slack = np.concatenate([BALL.vertices, BALL.vertices[:1]])
    faces = np.concatenate([BALL.faces, [[0, 0, 1], [0, len(BALL.vertices), 2]]])
    made = make_mesh(slack, faces)
    assert (
        made.simple
        and len(made.faces) == len(BALL.faces)
        and len(made.vertices) == len(BALL.vertices)
    )
    line = np.concatenate([BALL.vertices, BALL.vertices[:1] / 2 + BALL.vertices[1:2] / 2])
    assert (
        make_mesh(line, np.concatenate([BALL.faces, [[0, 1, len(BALL.vertices)]]])).notes[0]
        == "1 degenerate faces dropped"
    )


OFF = "OFF\n3 {} 0\n0 0 0\n1 0 {}\n0 1 0\n3 0 1 2\n"
PLY = (
    "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float"
    " y\nproperty float z\nelement face 10000000\nproperty list uchar int"
    " vertex_indices\nend_header\n"
)
WRONG = {
    "empty.obj": (b"", "empty"),
    "comment.obj": (b"# nothing\n", "no faces"),
    "text.stl": (b"hello", "no faces"),
    "text.txt": (b"hello", "not a mesh"),
    "nan.off": (OFF.format(1, "nan").encode(), "not finite"),
    "triangle.off": (OFF.format(1, 0).encode(), "encloses nothing"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "in one point"),
    "line.obj": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "degenerate"),
    "index.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "index"),
    "header.stl": (
        b"\0" * 80 + struct.pack("<I", 10_000_000) + b"\0" * 500,
        "announces 10,000,000 faces, but it holds 10",
    ),
    "header.ply": (PLY.encode() + b"\0" * 100, "announces 10,000,000 rows of face"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, name):
    content, words = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as raised:
        load_mesh(tmp_path / name)
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_limits(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no such file"):
        load_mesh(tmp_path / "nowhere.obj")
    with pytest.raises(ValueError, match="missing"):
        make_mesh(BALL.vertices, BALL.faces + 100)
    monkeypatch.setattr(mesh, "MOST_FACES", 5000)
    with pytest.raises(ValueError, match="5,120 faces, more than 5,000"):
        make_mesh(BALL.vertices, BALL.faces)


def test_compare_has_its_closed_form():
    """Parallel squares: the mean distance is the gap, all normals agree; a turned one has its
    angle."""
    square = (
        np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
    )
    lifted = square[0] + [0, 0, 0.01], square[1][:, ::-1]
    result = compare(square, lifted, n=2000, threshold=0.02)
    assert result == pytest.approx(
        {"chamfer": 0.01, "f_score": 1.0, "normal_error_deg": 0.0}, abs=1e-6
    )
    assert compare(square, lifted, n=2000, threshold=0.005)["f_score"] == 0.0
    angle = np.radians(10)
    tilted = (
        square[0]
        @ np.array(
            [[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]]
        ),
        square[1],
    )
    assert compare(square, tilted, n=2000)["normal_error_deg"] == pytest.approx(10.0, abs=1e-4)
    # all of it lies on the square, of which half lies 1/4 away in the mean
    half = square[0] * [0.5, 1, 1], square[1]
    assert compare(square, half, n=20000)["chamfer"] == pytest.approx((0.125 + 0) / 2, rel=0.03)
    assert compare(square, half, n=20000)["f_score"] == pytest.approx(2 * 0.501 / 1.501, rel=0.02)


def test_nearest_and_iou():
    vertices = cube().vertices
    faces = cube().faces
    distance, face = nearest(vertices, faces, np.array([[0.1, 0.2, 2.5], [-4.5, 0.1, 0.2]]))
    np.testing.assert_allclose(distance, [2.0, 4.0])
    np.testing.assert_allclose(cube().face_normals[face], [[0, 0, 1], [-1, 0, 0]], atol=1e-12)
    a = np.array([1, 1, 1, 0, 0], bool)
    b = np.array([0, 1, 1, 1, 0], bool)
    assert iou(a, b) == 0.5 and iou(a, a) == 1.0 and iou(a & False, b & False) == 1.0


def test_the_default_subject():
    made = gyroid_ball(64)
    assert made.simple and made.report["components"] == 1 and made.report["genus"] > 10


def test_real_meshes(data_folder):
    genus = {"nefertiti.obj": 0, "skull.obj": 2, "scorpion.obj": 0, "featuretype.stl": 9}
    for name, expected in genus.items():
        made = load_mesh(data_folder / "meshes" / name)
        assert (
            made.simple
            and made.report["genus"] == expected
            and made.report["components"] == 1
            and not made.notes
        )
