"""Meshes: what is read, mended, warned of and refused; distances beside closed forms; the distance
of two surfaces."""

import json
import struct

from jgrid.scene.made import load_scene_mesh
from jgrid.surface import mesh
from jgrid.surface.files import read_mesh
from jgrid.surface.mesh import compare, gyroid_ball, iou, load_mesh, make_mesh, nearest
from jgrid.surface.polygons import Polygons, triangulate
from jgrid.surface.task import write_surface
from jgrid.surface.winding import Winding, winding

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


def test_there_is_one_answer_on_open_and_overlapping_meshes():
    bowl = make_mesh(BALL.vertices, BALL.faces[BALL.triangles_center[:, 2] < 0.2])
    overlap = make_mesh(*beside(shells(1.7), shells(1.7)))
    for made in (bowl, overlap):
        points = np.random.default_rng(1).uniform(size=(2**15, 3))
        assert not made.simple
        np.testing.assert_array_equal(made.inside(points), made.signed_distance(points) <= 0)


def test_closed_parts_are_asked_one_by_one():
    vertices, faces = beside(shells(1.7, -0.5), shells(1.7), shells(1))
    faces = faces[:-1]  # the last one is open
    points = np.random.default_rng(0).uniform([-2, -2, -2], [8, 2, 2], (20000, 3))
    expected = winding(vertices, faces, points)
    np.testing.assert_allclose(Winding(vertices, faces)(points), expected, atol=0.05)
    assert (np.abs(expected - 2) < 0.05).any()  # where two overlap


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


def shells(*radii):
    """Concentric balls, those with a negative radius inside out."""
    faces = [
        (BALL.faces if r > 0 else BALL.faces[:, ::-1]) + i * len(BALL.vertices)
        for i, r in enumerate(radii)
    ]
    return np.concatenate([abs(r) * BALL.vertices for r in radii]), np.concatenate(faces)


def beside(*parts):
    """Parts (vertices, faces) in a row."""
    shifts = np.cumsum([0, *(len(part[0]) for part in parts)])
    vertices = [part[0] + [3 * i, 0, 0] for i, part in enumerate(parts)]
    return np.concatenate(vertices), np.concatenate([p[1] + n for p, n in zip(parts, shifts)])


def volume(vertices, faces):
    """Of what a mesh takes to be inside, in the units it came in."""
    made = make_mesh(vertices, faces)
    return made.inside(np.random.default_rng(0).uniform(size=(40000, 3))).mean() * made.scale**3


UNIT = 4 / 3 * np.pi
PARTS = {
    "one of three inside out": (beside(shells(1), shells(-1), shells(1)), 3),
    "a hollow beside one that is inside out": (beside(shells(1, -0.8), shells(-1)), 2 - 0.512),
    "a hollow ball inside out beside a ball": (beside(shells(-1, 0.8), shells(1)), 2 - 0.512),
    "a hollow whose outside is turned": (shells(-1, -0.8), 1 - 0.512),
    "a core in a hollow that is inside out": (shells(1, -0.8, -0.5), 1 - 0.512 + 0.125),
    "all turned, one within another": (beside(shells(-1, -0.8), shells(-1)), 2),
    "one within another is swallowed": (shells(1, 0.8), 1),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_turned_one_by_one(name):
    mesh_, expected = PARTS[name]
    assert volume(*mesh_) == pytest.approx(UNIT * expected, rel=0.04)


def test_the_note_says_how_many_parts_were_turned():
    made = make_mesh(*beside(shells(1), shells(-1), shells(1)))
    assert made.simple and made.notes == ("1 of 3 parts faced inwards: turned",)


def test_copies_are_dropped():
    alike = make_mesh(BALL.vertices, np.concatenate([BALL.faces, BALL.faces[:50, [1, 2, 0]]]))
    assert alike.simple and alike.notes == ("50 copies of faces dropped",)
    back = make_mesh(BALL.vertices, np.concatenate([BALL.faces[:, ::-1], BALL.faces]))
    assert back.simple and back.notes[0] == "5,120 copies of faces dropped"
    assert back.signed_distance([[0.5, 0.5, 0.5]])[0] == pytest.approx(-0.45, abs=1e-3)
    fin = np.array([[*BALL.edges[0], len(BALL.vertices)]])
    made = make_mesh(
        np.concatenate([BALL.vertices, [[1.5, 1.5, 1.5]]]),
        np.concatenate([BALL.faces, fin, fin[:, ::-1]]),
    )
    assert made.simple and made.notes == ("2 faces back to back that enclose nothing dropped",)


def test_a_two_sided_solid_with_a_wall_loses_the_wall():
    one = trimesh.creation.box().subdivide()
    two = one.copy().apply_translation([1, 0, 0])
    faces = np.concatenate([one.faces, two.faces + len(one.vertices)])
    both = np.concatenate([faces, faces[:, ::-1]])
    assert volume(np.concatenate([one.vertices, two.vertices]), both) == pytest.approx(2, rel=0.04)


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


def outline(n, rng):
    """A star-shaped polygon with corners on the lines between others, in a tilted plane."""
    angle = (np.arange(n) + rng.uniform(0, 0.9, n)) * 2 * np.pi / n
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.2, 1, (n, 1))
    corners = np.concatenate([corners, (corners + np.roll(corners, -1, 0)) / 2], 1).reshape(-1, 2)
    tilt = trimesh.transformations.random_rotation_matrix(rng.uniform(size=3))[:3, :3]
    return corners, np.pad(corners, ((0, 0), (0, 1))) @ tilt.T, tilt[:, 2]


@pytest.mark.parametrize("seed", range(40))
def test_polygons_are_cut_without_overlap(seed):
    """The triangles' areas add up to the polygon's, all turned as it is; each of its edges is
    theirs, once."""
    rng = np.random.default_rng(seed)
    flat, places, up = outline(rng.integers(4, 12), rng)
    n = len(flat)
    turn = rng.integers(n)
    corners = np.roll(np.arange(n), turn)
    faces = triangulate(places, Polygons(np.array([n]), corners))
    a, b, c = np.moveaxis(places[faces], 1, 0)
    areas = np.cross(b - a, c - a) @ up / 2
    x, y = flat.T
    whole = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    assert areas.sum() == pytest.approx(whole) and (areas > -1e-9).all()
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2).tolist()
    assert all(edges.count([i, (i + 1) % n]) == 1 for i in range(n))


def test_quads_are_cut_from_their_first_corner_where_that_can_be():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    arrow = np.array([[0, 0, 0], [2, 1, 0], [0, 2, 0], [0.6, 1, 0.0]])
    one = Polygons(np.array([4]), np.arange(4))
    assert triangulate(square, one).tolist() == [[0, 1, 2], [2, 3, 0]]
    assert triangulate(arrow, one).tolist() == [[1, 2, 3], [3, 0, 1]]


def gltf(nodes, scene=(0,), uri=None, colours=()):
    """A box as glTF, which nodes place; the translations of two instances are in accessor 2.
    colours: of its vertices, an array or None for each primitive; without any there is one."""
    box = trimesh.creation.box()
    places = box.vertices.astype("<f4").tobytes()
    corners = box.faces.astype("<u4").tobytes()
    moves = np.array([[0, 0, 0], [5, 0, 0]], "<f4").tobytes()
    painted = [own for own in colours if own is not None]
    parts = [places, corners, moves, *(own.tobytes() for own in painted)]
    blob = b"".join(parts)
    starts = np.cumsum([0, *map(len, parts[:-1])]).tolist()
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(part)}
        for start, part in zip(starts, parts)
    ]
    kinds = [(5126, 8, "VEC3"), (5125, 36, "SCALAR"), (5126, 2, "VEC3")]
    kinds += [(5121 if own.dtype == np.uint8 else 5126, 8, "VEC4") for own in painted]
    numbers = iter(range(3, len(kinds)))
    primitives = [
        {"attributes": {"POSITION": 0, **({} if own is None else {"COLOR_0": next(numbers)})}}
        for own in colours or [None]
    ]
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": list(scene)}],
        "nodes": nodes,
        "meshes": [{"primitives": [{**primitive, "indices": 1} for primitive in primitives]}],
        "buffers": [{"byteLength": len(blob), **({"uri": uri} if uri else {})}],
        "bufferViews": views,
        "accessors": [
            {"bufferView": i, "componentType": c, "count": n, "type": t}
            for i, (c, n, t) in enumerate(kinds)
        ],
    }
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(blob), 0x004E4942) + blob
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def test_instances_and_mirrored_nodes_of_gltf(tmp_path):
    path = tmp_path / "a.glb"
    instances = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 2}}}
    turn = [0, np.sin(np.pi / 4), 0, np.cos(np.pi / 4)]  # x becomes -z
    path.write_bytes(gltf([{"mesh": 0, "rotation": turn, "extensions": instances}]))
    read = read_mesh(path)
    np.testing.assert_allclose(read.bounds, [[-0.5, -0.5, -5.5], [0.5, 0.5, 0.5]], atol=1e-6)
    assert len(read.faces) == 24 and read.volume == pytest.approx(2)
    path.write_bytes(gltf([{"children": [1], "scale": [1, -2, 1]}, {"mesh": 0}]))
    assert read_mesh(path).volume == pytest.approx(2) and not load_mesh(path).notes


def test_colours_of_gltf_in_bytes_and_in_floats(tmp_path):
    path = tmp_path / "a.glb"
    grey = np.full((8, 4), 128, np.uint8)
    white = np.ones((8, 4), np.float32)
    path.write_bytes(gltf([{"mesh": 0}], colours=(grey, white)))
    read = np.asarray(read_mesh(path).visual.vertex_colors)
    assert (read[:8, :3] == 128).all() and (read[8:, :3] == 255).all()
    path.write_bytes(gltf([{"mesh": 0}], colours=(grey, None)))
    assert "1 of 2 parts have no colours" in read_mesh(path).metadata["notes"][0]


@pytest.mark.parametrize(
    "content, words",
    [
        (gltf([{"children": [1]}, {"mesh": 0, "children": [0]}]), "no tree"),
        (gltf([{"mesh": 0}], uri="../a.bin"), "is not there"),
        (gltf([{"mesh": 0}])[:-30], "its chunks announce"),
        (gltf([{"mesh": 0}]).replace(b'"count": 36', b'"count": 99'), "announces 99 rows"),
    ],
)
def test_gltf_that_cannot_be_read_is_said(tmp_path, content, words):
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.glb").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_mesh(tmp_path / "in" / "a.glb")


def test_colours_are_read(tmp_path):
    """Of the three formats that have them, as made scenes show them."""
    colours = np.random.default_rng(0).integers(0, 256, (len(BALL.vertices), 4), np.uint8)
    colours[:, 3] = 255
    ball = trimesh.Trimesh(BALL.vertices, BALL.faces, vertex_colors=colours, process=False)
    ball.export(tmp_path / "a.glb")
    ball.export(tmp_path / "a.ply")
    (tmp_path / "b.ply").write_bytes(ball.export(file_type="ply", encoding="ascii"))
    ball.export(tmp_path / "a.obj", digits=12)
    for name in ("a.glb", "a.ply", "b.ply", "a.obj"):
        read = load_scene_mesh(tmp_path / name)
        assert read.visual.kind == "vertex"
        order = np.lexsort(read.vertices.round(6).T)
        expected = colours[np.lexsort(BALL.vertices.round(6).T)]
        np.testing.assert_allclose(read.visual.vertex_colors[order], expected, atol=1)


def test_units_do_not_matter_to_made_scenes(tmp_path):
    for size in (1e-9, 1.0, 1e6):
        BALL.copy().apply_scale(size).export(tmp_path / "a.stl")
        read = load_scene_mesh(tmp_path / "a.stl")
        assert len(read.vertices) == len(BALL.vertices) and 0.7 < read.extents.max() < 1.5


def test_surfaces_are_written_as_exactly_as_it_takes(tmp_path):
    for shift, kind in ((0.0, b"property float x"), (4.6e6, b"property double x")):
        vertices = BALL.vertices + shift
        path = write_surface(tmp_path / "a.ply", vertices, BALL.faces, 0.5 + BALL.vertices / 2.5)
        assert kind in path.read_bytes()
        for read in (read_mesh(path), trimesh.load_mesh(path, process=False)):
            np.testing.assert_allclose(read.vertices, vertices, atol=1e-6)
            np.testing.assert_array_equal(read.faces, BALL.faces)
            assert np.ptp(read.visual.vertex_colors[:, 0]) > 200


def test_text_keeps_the_digits_that_float_would_lose(tmp_path):
    far = trimesh.Trimesh(BALL.vertices + 4.6e6, BALL.faces, process=False)
    content = far.export(file_type="ply", encoding="ascii").decode()
    head, _, body = content.partition("end_header\n")
    lines = [" ".join(f"{x:.6f}" for x in v) for v in far.vertices]
    lines += body.splitlines()[len(lines) :]
    (tmp_path / "a.ply").write_text(head + "end_header\n" + "\n".join(lines))
    np.testing.assert_allclose(read_mesh(tmp_path / "a.ply").vertices, far.vertices, atol=1e-6)


def test_likely_mistakes_are_said():
    far = (BALL.vertices + 4.6e6).astype(np.float32)
    assert "single precision far from the origin" in make_mesh(far, BALL.faces).notes[0]
    stray = np.concatenate([BALL.vertices, 1e3 + BALL.vertices / 100])
    made = make_mesh(stray, np.concatenate([BALL.faces, BALL.faces + len(BALL.vertices)]))
    assert "stray part" in made.notes[0]
    assert not make_mesh(*beside(shells(1), shells(0.1))).notes


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
