"""What people do with meshes: solids whose distance is known, written as files of the world."""

import json
import struct
import sys
import unittest.mock
from functools import partial
from pathlib import Path

import jgrid

import numpy as np
import trimesh
from habits import Habit, Wrong

# --- solids: f(points) is the signed distance, negative inside


def box(low, high):
    low = np.array(low, float)
    high = np.array(high, float)

    def distance(points):
        q = np.abs(points - (low + high) / 2) - (high - low) / 2
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)

    return distance


def ball(centre, radius):
    return lambda points: np.linalg.norm(points - np.array(centre), axis=1) - radius


def torus(centre, large, small):
    def distance(points):
        x, y, z = (points - np.array(centre)).T
        return np.hypot(np.hypot(x, y) - large, z) - small

    return distance


def prism(outline, low, high):
    """An outline (n, 2) in x and y, from one height to another."""
    a = np.array(outline, float)
    b = np.roll(a, -1, 0)

    def distance(points):
        p = points[:, None, :2]
        along = np.clip(((p - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)
        away = np.linalg.norm(p - a - along[..., None] * (b - a), axis=-1).min(1)
        y = points[:, None, 1]
        crosses = (a[:, 1] > y) != (b[:, 1] > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        inside = (crosses & (points[:, None, 0] < at)).sum(1) % 2 == 1
        flat = np.where(inside, -away, away)
        tall = np.abs(points[:, 2] - (low + high) / 2) - (high - low) / 2
        out = np.hypot(np.maximum(flat, 0), np.maximum(tall, 0))
        return out + np.minimum(np.maximum(flat, tall), 0)

    return distance


def union(*solids):
    """Exact where the solids are apart."""
    return lambda points: np.min([solid(points) for solid in solids], axis=0)


def minus(solid, hollow):
    """Exact where the hollow is inside the solid."""
    return lambda points: np.maximum(solid(points), -hollow(points))


# --- their surfaces: vertices and polygons, turned outwards


def box_faces(low=(-1, -1, -1), high=(1, 1, 1)):
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    vertices = np.array(low) + corners * (np.array(high) - np.array(low))
    quads = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [1, 3, 7, 5], [3, 2, 6, 7], [2, 0, 4, 6]]
    return vertices.astype(float), quads


def prism_faces(outline, low, high, first=0):
    """first: the corner at which the caps begin."""
    n = len(outline)
    vertices = [[*corner, z] for z in (low, high) for corner in outline]
    top = [n + (first + i) % n for i in range(n)]
    bottom = [(first - i) % n for i in range(n)]
    sides = [[i, (i + 1) % n, n + (i + 1) % n, n + i] for i in range(n)]
    return np.array(vertices, float), [bottom, top, *sides]


def ball_faces(centre=(0, 0, 0), radius=1.0, fine=3):
    made = trimesh.creation.icosphere(fine, radius)
    return made.vertices + np.array(centre), made.faces.tolist()


def torus_faces(centre=(0, 0, 0), large=3.0, small=1.0):
    made = trimesh.creation.torus(large, small, major_sections=96, minor_sections=48)
    return made.vertices + np.array(centre), made.faces.tolist()


def join(*parts):
    vertices = np.concatenate([part[0] for part in parts])
    shifts = np.cumsum([0, *(len(part[0]) for part in parts)])
    return vertices, [
        [i + n for i in face] for (_, faces), n in zip(parts, shifts) for face in faces
    ]


def turned(part):
    return part[0], [face[::-1] for face in part[1]]


def split(part):
    """Triangles in place of convex polygons."""
    return part[0], [[f[0], f[i], f[i + 1]] for f in part[1] for i in range(1, len(f) - 1)]


def apart(part):
    """Every face with vertices of its own."""
    return join(*((part[0][face], [list(range(len(face)))]) for face in part[1]))


# --- files


def obj(part, v="v {} {} {}", f="f {}", corner="{}", head=""):
    points = [v.format(*(repr(float(c)) for c in vertex)) for vertex in part[0]]
    faces = [f.format(" ".join(corner.format(i + 1) for i in face)) for face in part[1]]
    return "\n".join([head, *points, *faces, ""]).encode()


def ply(
    part,
    kind="ascii",
    head=(),
    count="uchar",
    index="int",
    name="vertex_indices",
    real="float",
    before=(),
    after=(),
    first=(),
    extra=b"",
):
    """before, after, first: (type, name, value) of properties of faces, before and after their
    list, and of vertices, before their coordinates."""
    sizes = {"uchar": "B", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d",
             "uint8": "B", "int32": "i", "float32": "f"}  # fmt: skip
    order = ">" if kind == "binary_big_endian" else "<"
    lines = ["ply", f"format {kind} 1.0", *head, f"element vertex {len(part[0])}"]
    lines += [f"property {t} {n}" for t, n, _ in first] + [f"property {real} {c}" for c in "xyz"]
    lines += [f"element face {len(part[1])}", *(f"property {t} {n}" for t, n, _ in before)]
    lines += [f"property list {count} {index} {name}", *(f"property {t} {n}" for t, n, _ in after)]
    rows = [[*first, *((real, 0, c) for c in vertex)] for vertex in part[0].tolist()]
    rows += [
        [*before, (count, 0, len(face)), *((index, 0, i) for i in face), *after] for face in part[1]
    ]
    if kind == "ascii":
        body = "\n".join(" ".join(str(value) for *_, value in row) for row in rows).encode() + b"\n"
    else:
        body = b"".join(struct.pack(order + sizes[t], value) for row in rows for t, _, value in row)
    return "\n".join([*lines, "end_header", ""]).encode() + body + extra


def stl(part, head=b"", count=None, colour=0, normals=True):
    vertices, faces = split(part)
    rows = []
    for a, b, c in vertices[np.array(faces)]:
        normal = np.cross(b - a, c - a) if normals else np.zeros(3)
        rows.append(struct.pack("<12fH", *normal, *a, *b, *c, colour))
    n = len(rows) if count is None else count
    return head.ljust(80, b" " if head else b"\0") + struct.pack("<I", n) + b"".join(rows)


def stl_text(part, name="solid box", end="endsolid box", number="{:.6f}"):
    vertices, faces = split(part)
    lines = [name]
    for corners in vertices[np.array(faces)]:
        lines += [" facet normal 0 0 0", "  outer loop"]
        lines += ["   vertex " + " ".join(number.format(c) for c in corner) for corner in corners]
        lines += ["  endloop", " endfacet"]
    return "\n".join([*lines, end, ""]).encode()


def off(part, head="OFF\n{v} {f} 0", after="", between="", colour=""):
    lines = [head.format(v=len(part[0]), f=len(part[1]))]
    lines += [" ".join(repr(float(c)) for c in vertex) + colour for vertex in part[0]] + [between]
    lines += [f"{len(face)} {' '.join(map(str, face))}{after}" for face in part[1]]
    return "\n".join(lines).encode() + b"\n"


def gltf(primitives, nodes, arrays, uri=None, change=None):
    """{name: content} of mesh.gltf; arrays: (values, type, entries of the accessor); primitives: of
    mesh 0, whose numbers are those of the arrays."""
    codes = {"uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
    blob = b""
    views = []
    accessors = []
    for values, kind, entries in arrays:
        blob += b"\0" * (-len(blob) % 4)
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": values.nbytes})
        accessors.append({"bufferView": len(views) - 1, "count": len(values), "type": kind,
                          "componentType": codes[str(values.dtype)], **entries})  # fmt: skip
        blob += values.tobytes()
    roots = [i for i in range(len(nodes)) if not nodes[i].pop("hidden", False)]
    children = {child for node in nodes for child in node.get("children", [])}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [i for i in roots if i not in children]}],
        "nodes": nodes,
        "meshes": [{"primitives": primitives}],
        "buffers": [{"uri": uri or "mesh.bin", "byteLength": len(blob)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    if change:
        change(tree)
    name = "mesh.bin" if uri is None else "my mesh.bin"
    return {"mesh.gltf": json.dumps(tree).encode(), name: blob}


def arrays_of(part, index="uint16"):
    vertices, faces = split(part)
    points = vertices.astype(np.float32)
    bounds = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    return [(points, "VEC3", bounds), (np.array(faces, index).ravel(), "SCALAR", {})]


TRIANGLES = {"attributes": {"POSITION": 0}, "indices": 1}


# --- what is asked


def place(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def first_mesh(files):
    return next(name for name in files if Path(name).suffix.lower() != ".bin")


def compare(mesh, solid, low, high, exact=True, tolerance=0.01, where=None):
    """Wrong, where the distances to a mesh, in its file's units, are not those to the solid."""
    low = np.array(low, float)
    high = np.array(high, float)
    size = (high - low).max()
    rng = np.random.default_rng(0)
    points = rng.uniform(low - size / 10, high + size / 10, (20000, 3))
    near = points[np.abs(solid(points)) < size / 20][:2000]
    points = np.concatenate([points[:2000], near])
    on = mesh.sample(4000, rng)[0] * mesh.scale + mesh.offset
    if where:
        points = points[where(points)]
        on = on[where(on)]
    truth = solid(points)
    unit = (points - mesh.offset) / mesh.scale
    found = mesh.signed_distance(unit) * mesh.scale
    off = np.abs(found - truth) / size
    if not exact:  # inside, where solids meet, the least of their distances is not that of all
        off = np.where(truth > 0, off, np.where(found < 0, 0, off))
    off = np.where((np.abs(truth) < tolerance * size) & (np.abs(found) < tolerance * size), 0, off)
    share = (off > tolerance).mean()
    if share > 0.005:
        raise Wrong(
            f"{share:.1%} of distances off, by up to {off.max():.3f} of the size;"
            f" {(found < 0).mean():.3f} inside, {(truth < 0).mean():.3f} are"
        )
    share = (np.abs(solid(on)) > tolerance * size).mean()
    if share > 0.005:
        raise Wrong(f"{share:.1%} of the surface is no surface of the solid")
    return "; ".join(mesh.notes)


def asks(files, solid, low=(-1, -1, -1), high=(1, 1, 1), **options):
    """A habit's question: the distances to the mesh of these files, {name: bytes}."""

    def ask(folder):
        made = files() if callable(files) else files
        place(folder, made)
        return compare(jgrid.load_mesh(folder / first_mesh(made)), solid, low, high, **options)

    return ask


CUBE = box((-1, -1, -1), (1, 1, 1))
BALL = ball((0, 0, 0), 1)
cube = box_faces()

L_OUTLINE = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
ARROW = [(0, 0), (2, 1), (0, 2), (0.6, 1)]  # a quad that is not convex
GEAR = [
    ((1.0 if n % 4 < 2 else 0.6) * np.cos(2 * np.pi * n / 48),
     (1.0 if n % 4 < 2 else 0.6) * np.sin(2 * np.pi * n / 48)) for n in range(48)
]  # fmt: skip
OUTLINES = {"L": (L_OUTLINE, (0, 0), (2, 2)), "gear": (GEAR, (-1, -1), (1, 1)),
            "arrow": (ARROW, (0, 0), (2, 2))}  # fmt: skip


def concave(kind, name, outline, write, ending, first=0, seen=""):
    points, low, high = OUTLINES[outline]
    part = prism_faces(points, 0, 1, first)
    ask = asks({f"mesh.{ending}": write(part)}, prism(points, 0, 1), (*low, 0), (*high, 1))
    return Habit(kind, name, ask, seen=seen)


def three_boxes(flip=()):
    parts = [box_faces((3 * n, 0, 0), (3 * n + 1, 1, 1)) for n in range(3)]
    solid = union(*(box((3 * n, 0, 0), (3 * n + 1, 1, 1)) for n in range(3)))
    parts = [turned(part) if n in flip else part for n, part in enumerate(parts)]
    return join(*parts), solid, (0, 0, 0), (7, 1, 1)


def orientation():
    kind = "orientation per component"

    def habit(name, part, solid, low, high, seen="", write=obj, ending="obj", **options):
        files = {f"mesh.{ending}": write(part)}
        return Habit(kind, name, asks(files, solid, low, high, **options), seen=seen)

    shell = minus(box((-2,) * 3, (2,) * 3), CUBE)
    outer = box_faces((-2,) * 3, (2,) * 3)
    inner = turned(cube)
    wide = ((-2,) * 3, (2,) * 3)
    aside = box((4, -1, -1), (6, 1, 1))
    far = box_faces((4, -1, -1), (6, 1, 1))
    balls = union(ball((0, 0, 0), 1), ball((3, 0, 0), 1))
    open_box = (cube[0], cube[1][:1] + cube[1][2:])
    rng = np.random.default_rng(0)
    mixed = [f if rng.uniform() < 0.6 else f[::-1] for f in ball_faces()[1]]
    meet = union(box((0, 0, 0), (1, 1, 1)), box((1, 1, 0), (2, 2, 1)))
    meeting = join(box_faces((0, 0, 0), (1, 1, 1)), turned(box_faces((1, 1, 0), (2, 2, 1))))
    kernel = union(shell, ball((0, 0, 0), 0.6))
    overlap = union(CUBE, box((0, 0, 0), (2, 2, 2)))
    overlapping = join(cube, turned(box_faces((0, 0, 0), (2, 2, 2))))
    return [
        habit("three boxes, one inside out", *three_boxes({1})),
        habit("three boxes, two inside out", *three_boxes({0, 2}),
              seen="trimesh: fix_inversion looked at the volume of all bodies together"),
        habit("three boxes, all inside out", *three_boxes({0, 1, 2})),
        habit("two balls, one inside out",
              join(ball_faces(), turned(ball_faces((3, 0, 0)))), balls, (-1, -1, -1), (4, 1, 1)),
        habit("two balls, one inside out, as STL",
              join(ball_faces(), turned(ball_faces((3, 0, 0)))), balls, (-1, -1, -1), (4, 1, 1),
              write=stl, ending="stl"),
        habit("a shell with a hollow, turned as it should be", join(outer, inner), shell, *wide,
              seen="trimesh: processing a hollow mesh flips the normals of its hollow"),
        habit("a shell with a hollow, all inside out", turned(join(outer, inner)), shell, *wide,
              seen="~ Open3D: orient_triangles turns hollows outwards"),
        habit("a shell with a hollow beside a box inside out", join(outer, inner, turned(far)),
              union(shell, aside), (-2, -2, -2), (6, 2, 2),
              seen="trimesh: fix_normals of several bodies"),
        habit("a ball in a shell's hollow", join(outer, inner, ball_faces((0, 0, 0), 0.6)),
              kernel, *wide),
        habit("an open box beside a closed one that is inside out",
              join(open_box, turned(far)), union(CUBE, aside), (-1, -1, -1), (6, 1, 1),
              exact=False, where=lambda p: (p[:, 0] > 3.5) | (np.abs(p).max(1) < 0.4),
              seen="trimesh: fix_normals leaves closed bodies alone where another one is open"),
        habit("every face turned at random", (ball_faces()[0], mixed), BALL, (-1,) * 3, (1,) * 3,
              seen="libigl: fast winding numbers of faces that are not oriented alike"),
        habit("two boxes that meet in an edge, one inside out", meeting, meet, (0, 0, 0),
              (2, 2, 1), exact=False),
        habit("two boxes that overlap, one inside out", overlapping, overlap, (-1, -1, -1),
              (2, 2, 2), exact=False),
    ]  # fmt: skip


def blocks():
    """Three boxes as OBJ, each with its vertices and negative indices to them."""
    lines = []
    for n in range(3):
        vertices, faces = box_faces((3 * n, 0, 0), (3 * n + 1, 1, 1))
        lines += [f"o block{n}"] + [f"v {x} {y} {z}" for x, y, z in vertices]
        lines += ["f " + " ".join(str(i - 8) for i in face) for face in faces]
    return "\n".join(lines).encode() + b"\n"


def blocks_with_normals():
    lines = []
    for n in range(3):
        vertices, faces = box_faces((3 * n, 0, 0), (3 * n + 1, 1, 1))
        lines += [f"g block{n}"] + [f"v {x} {y} {z}" for x, y, z in vertices]
        lines += ["vt 0 0", "vn 0 0 1"]
        lines += ["f " + " ".join(f"{i - 8}/-1/-1" for i in face) for face in faces]
    return "\n".join(lines).encode() + b"\n"


def slit_plate():
    """A plate with a square hole, whose caps are one polygon each that runs into the hole and back
    along a slit."""
    ring = [(-2, -2), (2, -2), (2, 2), (-2, 2)]
    hole = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    vertices = [[*p, z] for z in (0, 1) for p in (*ring, *hole)]
    top = [8, 9, 10, 11, 8, 12, 15, 14, 13, 12]
    faces = [top, [i - 8 for i in top[::-1]]]
    faces += [[i, (i + 1) % 4, 8 + (i + 1) % 4, 8 + i] for i in range(4)]
    faces += [[4 + (i + 1) % 4, 4 + i, 12 + i, 12 + (i + 1) % 4] for i in range(4)]
    return np.array(vertices, float), faces


def strips():
    """A ball of tristrips: rows of latitude, ended by -1."""
    n = 24
    m = 48
    angle = np.pi * np.arange(n + 1) / n
    turn = 2 * np.pi * np.arange(m) / m
    vertices = np.stack(
        [np.outer(np.sin(angle), np.cos(turn)), np.outer(np.sin(angle), np.sin(turn)),
         np.outer(np.cos(angle), np.ones(m))], -1).reshape(-1, 3)  # fmt: skip
    strip = []
    for i in range(n):
        for j in range(m + 1):
            strip += [i * m + j % m, (i + 1) * m + j % m]
        strip.append(-1)
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {c}" for c in "xyz"]
    lines += ["element tristrips 1", "property list int int vertex_indices", "end_header"]
    lines += [" ".join(f"{c:.6f}" for c in v) for v in vertices]
    return "\n".join([*lines, f"{len(strip)} {' '.join(map(str, strip))}", ""]).encode()


def without_detector(ask):
    """As where nothing that guesses encodings is installed, which nothing asks people to do."""

    def asked(folder):
        absent = dict.fromkeys(("charset_normalizer", "chardet"))
        with unittest.mock.patch.dict(sys.modules, absent):
            return ask(folder)

    return asked


def polygons():
    # long because it is a list
    kind = "polygons taken on trust"
    plate = minus(box((-2, -2, 0), (2, 2, 1)), box((-1, -1, -1), (1, 1, 2)))
    extra = np.concatenate([cube[0], [[0, -1, -1], [0, -1, 1]]])
    midway = [[0, 2, 3, 1, 8], [9, 5, 7, 6, 4], [8, 1, 5, 9, 4, 0], *cube[1][3:]]
    tilt = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3]
    gear = prism_faces(GEAR, 0, 1)
    three = three_boxes()

    def habit(name, content, seen="", words=(), solid=CUBE, low=(-1,) * 3, high=(1,) * 3,
              ending="obj", plain=False, **options):  # fmt: skip
        ask = asks({f"mesh.{ending}": content}, solid, low, high, **options)
        return Habit(kind, name, without_detector(ask) if plain else ask, words, seen=seen)

    text = obj(cube).decode()
    return [
        concave(kind, "an L whose caps are one polygon", "L", obj, "obj"),
        concave(kind, "an L whose caps begin at another corner", "L", obj, "obj", 1,
                "mm3d: OBJ with concave N-gons"),
        concave(kind, "an L whose caps begin at the inner corner", "L", obj, "obj", 3),
        concave(kind, "a gear whose caps are one polygon", "gear", obj, "obj", 0,
                "assimp: incorrect triangulation of a polygon"),
        concave(kind, "a gear as OFF", "gear", off, "off"),
        concave(kind, "a gear as PLY", "gear", ply, "ply"),
        concave(kind, "a gear as binary PLY", "gear", partial(ply, kind="binary_little_endian"),
                "ply"),
        concave(kind, "quads that are not convex", "arrow", obj, "obj", 0,
                "assimp: one triangle missing in a quad"),
        concave(kind, "quads that are not convex, from another corner", "arrow", obj, "obj", 1),
        concave(kind, "quads that are not convex, as PLY", "arrow", ply, "ply"),
        concave(kind, "quads that are not convex, as OFF", "arrow", off, "off", 1),
        habit("a gear in a tilted plane", obj((gear[0] @ tilt.T, gear[1])),
              solid=lambda p: prism(GEAR, 0, 1)(p @ tilt), low=(-1.5,) * 3, high=(1.5,) * 3,
              seen="assimp: part of a mesh is missing after aiProcess_Triangulate"),
        habit("a hole joined to its outline by a slit", obj(slit_plate()), solid=plate,
              low=(-2, -2, 0), high=(2, 2, 1), exact=False, tolerance=0.02,
              where=lambda p: np.abs(p[:, 2] - 0.5) < 0.49,  # above the hole `minus` is not exact
              seen="~ assimp: polygons with holes"),
        habit("corners in the middle of edges", obj((extra, midway)),
              seen="assimp: an extra face of a polygon with a corner on its edge"),
        habit("a corner named twice", obj((cube[0], [[f[0], *f] for f in cube[1]])),
              seen="assimp: degenerate polygons after export from STL"),
        habit("three blocks with indices relative to their own vertices", blocks(),
              solid=three[1], low=three[2], high=three[3],
              seen="trimesh: negative indices count from the face, not from the end of the file"),
        habit("relative indices of normals and textures too", blocks_with_normals(),
              solid=three[1], low=three[2], high=three[3],
              seen="VTK through f3d: unexpected point index"),
        habit("relative and absolute indices mixed",
              obj((cube[0], cube[1][:3])) +
              "".join("f " + " ".join(str(i - 8) for i in f) + "\n" for f in cube[1][3:]).encode(),
              seen="three.js: negative indices"),
        habit("a continued line", text.replace("f 1 3 ", "f 1 3 \\\n ").encode(),
              seen="trimesh: OBJ with a backslash at the end of lines"),
        habit("a continued line, the backslash at a number",
              text.replace("f 1 3 ", "f 1 3\\\n").encode(),
              seen="ComfyUI: a continued line merged two indices"),
        habit("names in Latin-1, no detector installed",
              "# gr\xf6\xdfe\no K\xf6rper\n".encode("latin-1") + obj(cube), plain=True,
              seen="~ trimesh: No module named 'chardet'"),
        habit("a material file's name in Latin-1", b"mtllib W\xfcrfel.mtl\n" + obj(cube),
              plain=True),
        habit("names in Shift-JIS", "o 立方体\n".encode("shift-jis") + obj(cube), plain=True),
        habit("a byte order mark", b"\xef\xbb\xbf" + text.lstrip().encode(),
              seen="~ tinyobjloader: UTF-8 BOM"),
        habit("UTF-16, as PowerShell writes", text.encode("utf-16"), words=("UTF-16", "encod"),
              seen="~ Blender: OBJ written through a pipe of PowerShell"),
        habit("tabs", text.replace("v ", "v\t").replace(" ", "\t").encode(),
              seen="MeshLab: no vertex found behind a tab"),
        habit("indented lines", text.replace("v ", "  v ").replace("f ", "\tf ").encode()),
        habit("line ends of old Macs", text.replace("\n", "\r").encode()),
        habit("line ends of Windows", text.replace("\n", "\r\n").encode()),
        habit("colours behind the vertices", obj(cube, v="v {} {} {} 1 0 0.5"),
              seen="~ Open3D: OBJ of MeshLab with vertex colours"),
        habit("weights behind the vertices", obj(cube, v="v {} {} {} 1.0")),
        habit("plus signs", text.replace("v 1.0", "v +1.0").encode(),
              seen="MeshLab: box of +0.5 and -0.5"),
        habit("decimal commas", text.replace(".0", ",0").encode(), words=("comma", "number"),
              seen="~ Rhino and three.js: exported under a German locale"),
        habit("corners with normals", obj(cube, corner="{}//1", head="vn 0 0 1")),
        habit("corners with empty textures and normals", obj(cube, corner="{0}/", head=""),
              seen="~ tinyobjloader: f 1/ 2/ 3/"),
        habit("comments at the ends of lines", obj(cube, f="f {} # side"),
              seen="~ assimp: comments behind faces"),
        habit("backslashes in a material's name", obj(cube, f="usemtl A\\Matte\\brown\nf {}"),
              seen="assimp: usemtl with a relative path of Windows"),
        habit("lines and points among the faces", obj(cube, f="l 1 2\np 3\nf {}"),
              seen="assimp: STL of a mesh with lines"),
        habit("faces of vertices of an earlier object",
              text.replace("f 5", "o second\nf 5").encode()),
        habit("indices that begin at 0", "".join(
              [text[:text.index("f ")]] + ["f " + " ".join(map(str, f)) + "\n" for f in cube[1]]
              ).encode(), words=("index", "vertex"),
              seen="~ libigl: faces written from numpy without adding 1"),
        habit("an index beyond the vertices", text.replace("f 1 ", "f 99 ").encode(),
              words=("missing vertex", "vertex", "99")),
        habit("only curves and surfaces of NURBS", b"v 0 0 0\nv 1 0 0\nv 0 1 0\ncstype bspline\n"
              b"deg 3 3\nsurf 0 1 0 1 1 2 3\nend\n", words=("no faces", "surf"),
              seen="~ Rhino: OBJ saved as NURBS"),
        Habit(kind, "an ending in capitals", asks({"MESH.OBJ": obj(cube)}, CUBE)),
        habit("two soups of triangles in one", obj(apart(split(cube)))),
    ]  # fmt: skip


def containers():
    # long because it is a list
    """Ways in which PLY, STL, OFF and glTF are written."""
    kind = "formats of meshes"
    binary = partial(ply, kind="binary_little_endian")

    def habit(
        name, content, ending, seen="", words=(), part=(CUBE, (-1,) * 3, (1,) * 3), **options
    ):
        files = content if isinstance(content, dict) else {f"mesh.{ending}": content}
        return Habit(kind, name, asks(files, *part, **options), words, seen=seen)

    split_cube = split(cube)
    mixed = (cube[0], [*cube[1][:3], *split((cube[0], cube[1][3:]))[1]])
    three = three_boxes()
    solids = b"".join(
        stl_text(box_faces((3 * n, 0, 0), (3 * n + 1, 1, 1)), f"solid b{n}", f"endsolid b{n}")
        for n in range(3)
    )
    upper = stl_text(cube).upper()
    flags = [("uchar", "flags", 0), ("float", "quality", 0.5)]
    edges = ply(cube).replace(b"end_header", b"element edge 1\nproperty int vertex1\n"
                              b"property int vertex2\nend_header") + b"0 1\n"  # fmt: skip
    crlf = binary(cube).replace(b"end_header\n", b"end_header\x00")
    crlf = crlf.split(b"\x00", 1)
    crlf = crlf[0].replace(b"\n", b"\r\n") + b"\r\n" + crlf[1]
    ball_strip = (BALL, (-1,) * 3, (1,) * 3)
    cloud = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    cloud += "property float z\nend_header\n0 0 0\n1 0 0\n0 1 0\n"
    return [
        habit("PLY: strips", strips(), "ply", "~ Stanford: the large models as tristrips",
              words=("strip",), part=ball_strip),
        habit("PLY: the list is called vertex_index", ply(cube, name="vertex_index"), "ply",
              "trimesh: no field of name vertex_indices"),
        habit("PLY: counts of two bytes", binary(cube, count="ushort", index="uint"), "ply",
              "MeshLab: list ushort uint"),
        habit("PLY: counts of four bytes", binary(cube, count="int"), "ply"),
        habit("PLY: doubles", binary(cube, real="double"), "ply", "three.js: 64-bit PLY"),
        habit("PLY: names of types with sizes", ply(cube, count="uint8", index="int32",
              real="float32"), "ply", "Pcx: unsupported property type float64"),
        habit("PLY: flags behind the list", binary(cube, after=flags), "ply",
              "~ MeshLab: faces with flags and quality"),
        habit("PLY: flags before the list", binary(cube, before=flags), "ply",
              "~ ETH3D: face properties before the indices"),
        habit("PLY: flags before the list, as text", ply(cube, before=flags), "ply"),
        habit("PLY: normals before the places",
              ply(cube, first=[("float", n, 0.0) for n in ("nx", "ny", "nz")]), "ply"),
        habit("PLY: big-endian", ply(cube, kind="binary_big_endian"), "ply"),
        habit("PLY: comments and obj_info", ply(cube, head=("comment by Greg Turk",
              "obj_info num_cols 512")), "ply"),
        habit("PLY: a binary file with a header of Windows", crlf, "ply",
              "~ Open3D: PLY header with CRLF"),
        habit("PLY: edges behind the faces", edges, "ply"),
        habit("PLY: triangles and quads", ply(mixed), "ply", "Open3D: a cube of quads"),
        habit("PLY: triangles and quads, binary", binary(mixed), "ply",
              "corto: quads are not read correctly"),
        habit("PLY: bytes behind the end", binary(cube, extra=b"\0" * 8), "ply",
              "trimesh: file is unexpected length"),
        habit("PLY: points without faces", cloud.encode(), "ply", "trimesh: only vertices",
              words=("no faces", "points")),
        habit("STL: binary, but begins with solid", stl(cube, b"solid base"), "stl",
              "numpy-stl and assimp: binary STL of SolidWorks"),
        habit("STL: text with its end in two words", stl_text(cube, end="end solid cube"), "stl",
              "numpy-stl: end solid"),
        habit("STL: several solids", solids, "stl", "~ trimesh: STL with several solids",
              part=three[1:]),
        habit("STL: text without a name", stl_text(cube, "solid", "endsolid"), "stl",
              "fstl: ASCII STL of OpenSCAD"),
        habit("STL: text in capitals", upper, "stl", "~ assimp: FACET NORMAL"),
        habit("STL: exponents", stl_text(cube, number="{:.6E}"), "stl"),
        habit("STL: normals of zero", stl(cube, normals=False), "stl"),
        habit("STL: colours in the spare bytes", stl(cube, b"COLOR=abcd", colour=0x8FFF), "stl",
              "~ Magics: STL with colours"),
        habit("STL: the header says 0 faces", stl(cube, count=0), "stl",
              "~ assimp: STL written as a stream", words=("announce", "0 faces", "header")),
        habit("STL: the header says half of the faces", stl(cube, count=6), "stl",
              words=("announce", "header", "holds")),
        habit("STL: cut short", stl(cube)[:-120], "stl", words=("announce", "holds")),
        habit("OFF: counts beside the word", off(cube, "OFF{v} {f} 0"), "off",
              "PyMesh: ModelNet40"),
        habit("OFF: counts behind the word", off(cube, "OFF {v} {f} 0"), "off",
              "mayo: counts on the line of OFF"),
        habit("OFF: comments", off(cube, "OFF\n# made by hand\n{v} {f} 0", between="# faces"),
              "off", "trimesh: comments in OFF"),
        habit("OFF: comments first", off(cube, "# made by hand\nOFF\n{v} {f} 0"), "off"),
        habit("OFF: colours of vertices", off(cube, "COFF\n{v} {f} 0", colour=" 255 0 0 255"),
              "off", "MeshLab: LiDAR as COFF"),
        habit("OFF: colours of vertices under OFF", off(cube, colour=" 0.5 0.5 0.5 1"), "off",
              "MeshLab: colours without COFF", words=("number", "colour", "COFF", "reshape")),
        habit("OFF: normals of vertices", off(cube, "NOFF\n{v} {f} 0", colour=" 0 0 1"), "off",
              "blender-off-addon: NOFF"),
        habit("OFF: colours of faces", off(cube, after=" 255 0 0"), "off",
              "CGAL: OFF with colours"),
        habit("OFF: empty lines", off(cube, "OFF\n\n{v} {f} 0\n", between="\n"), "off"),
        habit("OFF: no count of edges", off(cube, "OFF\n{v} {f}"), "off"),
        habit("OFF: no first word", off(split_cube, "{v} {f} 0"), "off",
              words=("not an OFF", "begin", "header")),
        *gltf_habits(habit),
        Habit(kind, "GLB: a machine of 600 parts, within 15 s", many_parts, seen=""),
    ]  # fmt: skip


def many_parts(folder):
    import time

    scene = trimesh.Scene()
    for n in range(600):
        part = trimesh.creation.box((0.8, 0.8, 0.8))
        part.apply_translation([n % 10, n // 10 % 10, n // 100])
        scene.add_geometry(part, node_name=f"part{n}", geom_name=f"part{n}")
    (folder / "engine.glb").write_bytes(scene.export(file_type="glb"))
    started = time.time()
    mesh = jgrid.load_mesh(folder / "engine.glb")
    seconds = time.time() - started

    def solid(points):
        cell = np.clip(np.round(points), 0, [9, 9, 5])
        return box((-0.4,) * 3, (0.4,) * 3)(points - cell)

    said = compare(mesh, solid, (-0.4,) * 3, (9.4, 9.4, 5.4))
    if seconds > 15:
        raise Wrong(f"{seconds:.0f} s")
    return said


def gltf_habits(habit):
    # long because it is a list
    moved = [{"mesh": 0, "translation": [5, 0, 0]}, {"children": [0], "scale": [2, 2, 2]}]
    there = (box((8, -2, -2), (12, 2, 2)), (8, -2, -2), (12, 2, 2))
    twice = [{"mesh": 0}, {"mesh": 0, "translation": [4, 0, 0]}]
    two = (union(CUBE, box((3, -1, -1), (5, 1, 1))), (-1,) * 3, (5, 1, 1))
    mirrored = [{"mesh": 0}, {"mesh": 0, "translation": [4, 0, 0], "scale": [-1, 1, 1]}]
    matrix = np.eye(4)
    matrix[:3, 3] = (5, 0, 0)
    matrix[:3, :3] *= 2
    by_matrix = (box((3, -2, -2), (7, 2, 2)), (3, -2, -2), (7, 2, 2))
    points, indices = arrays_of(cube)
    far = box((1e6, 5e6, 0), (1e6 + 2, 5e6 + 2, 2))
    far_node = [{"mesh": 0, "translation": [1e6 + 1, 5e6 + 1, 1]}]

    def quantised(tree):
        tree["extensionsUsed"] = tree["extensionsRequired"] = ["KHR_mesh_quantization"]
        tree["accessors"][0].update(componentType=5122, normalized=True)

    def needs(name):
        def change(tree):
            tree["extensionsUsed"] = tree["extensionsRequired"] = [name]
            primitive = tree["meshes"][0]["primitives"][0]
            primitive["extensions"] = {name: {"bufferView": 1, "attributes": {"POSITION": 0}}}
            for accessor in tree["accessors"]:
                del accessor["bufferView"]

        return change

    def meshopt(tree):
        name = "EXT_meshopt_compression"
        tree["extensionsUsed"] = tree["extensionsRequired"] = [name]
        size = tree["buffers"][0]["byteLength"]
        tree["buffers"].append({"byteLength": size, "extensions": {name: {"fallback": True}}})
        for view in tree["bufferViews"]:
            view["extensions"] = {name: {**view, "byteStride": 12, "mode": "ATTRIBUTES"}}
            view["buffer"] = 1

    def sparse(tree):
        tree["accessors"][0].pop("bufferView")
        tree["accessors"][0]["sparse"] = {
            "count": 8,
            "indices": {"bufferView": 2, "componentType": 5123},
            "values": {"bufferView": 0},
        }

    shorts = np.pad(np.round(points[0] * 32767 / 2).astype(np.int16), ((0, 0), (0, 1)))

    def strided(tree):
        quantised(tree)
        tree["bufferViews"][0]["byteStride"] = 8
        tree["accessors"][0]["count"] = 8

    lines = [TRIANGLES, {"attributes": {"POSITION": 0}, "indices": 2, "mode": 1}]
    soup = np.ascontiguousarray(points[0][indices[0]])
    # two strips round the sides, and fans of the caps
    strip = np.array([0, 4, 1, 5, 3, 7, 2, 6, 0, 4], np.uint16)
    fans = [np.array(face, np.uint16) for face in cube[1][:2]]
    parts = [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 5}] + [
        {"attributes": {"POSITION": 0}, "indices": n, "mode": 6} for n in (2, 3)
    ]
    strip = strip.reshape(-1, 2)[:, ::-1].ravel()
    rows = [(values, "SCALAR", {}) for values in (strip, *fans)]
    return [
        habit("glTF: nodes move and scale", gltf([TRIANGLES], moved, [points, indices]), "gltf",
              "pyrender: the pose of parts is lost", part=there),
        habit("glTF: a node with a matrix",
              gltf([TRIANGLES], [{"mesh": 0, "matrix": matrix.T.ravel().tolist()}],
                   [points, indices]), "gltf",
              "ifc-lite: node matrices are not composed", part=by_matrix),
        habit("glTF: one mesh at two nodes", gltf([TRIANGLES], twice, [points, indices]), "gltf",
              "~ three.js and trimesh: instances", part=two),
        habit("glTF: a mirrored part", gltf([TRIANGLES], mirrored, [points, indices]), "gltf",
              "~ trimesh: negative scale turns faces inside out", part=two),
        habit("glTF: a node that no scene shows",
              gltf([TRIANGLES], [{"mesh": 0}, {"mesh": 0, "translation": [9, 0, 0],
                                               "hidden": True}], [points, indices]), "gltf",
              "~ Blender: hidden objects in the file"),
        habit("glTF: strips and fans", gltf(parts, [{"mesh": 0}], [points, *rows]), "gltf",
              "~ trimesh: primitives of mode 5 and 6", words=("strip", "fan", "mode")),
        habit("glTF: no indices",
              gltf([{"attributes": {"POSITION": 0}}], [{"mesh": 0}], [(soup, "VEC3", {})]), "gltf",
              "gfx: meshes without an index buffer"),
        habit("glTF: indices of one byte",
              gltf([TRIANGLES], [{"mesh": 0}], arrays_of(cube, "uint8")), "gltf"),
        habit("glTF: sparse places",
              gltf([TRIANGLES], [{"mesh": 0}],
                   [points, indices, (np.arange(8, dtype=np.uint16), "SCALAR", {})],
                   change=sparse), "gltf", "gfx: sparse accessors", words=("sparse",)),
        habit("glTF: lines among the faces",
              gltf(lines, [{"mesh": 0}],
                   [points, indices, (np.array([0, 1], np.uint16), "SCALAR", {})]), "gltf",
              "~ trimesh: CAD edges in glTF"),
        habit("glTF: shortened places (KHR_mesh_quantization)",
              gltf([TRIANGLES], [{"mesh": 0, "scale": [2, 2, 2]}],
                   [(shorts, "VEC3", {}), indices], change=strided), "gltf",
              "~ gltfpack: quantised meshes load 32,767 times too large", words=("quantiz",)),
        habit("glTF: compressed by Draco",
              gltf([TRIANGLES], [{"mesh": 0}], [points, indices],
                   change=needs("KHR_draco_mesh_compression")), "gltf",
              "~ trimesh: draco meshes load empty", words=("draco",)),
        habit("glTF: compressed by meshopt",
              gltf([TRIANGLES], [{"mesh": 0}], [points, indices], change=meshopt), "gltf",
              "LGL: EXT_meshopt_compression", words=("meshopt",)),
        habit("glTF: a space in the buffer's name",
              gltf([TRIANGLES], [{"mesh": 0}], [points, indices], uri="my%20mesh.bin"), "gltf",
              "~ assimp: percent signs in the uri"),
        habit("glTF: placed in metres of UTM", gltf([TRIANGLES], far_node, [points, indices]),
              "gltf", "~ CesiumJS: large translations", part=(
                  far, (1e6, 5e6, 0), (1e6 + 2, 5e6 + 2, 2))),
    ]  # fmt: skip


def copies():
    kind = "copies of faces"
    sphere = ball_faces()
    halves = (sphere[0], sphere[1] + [face[::-1] for face in sphere[1][:100]])
    diagonal = (cube[0], split(cube)[1] + split((cube[0], [f[1:] + f[:1] for f in cube[1]]))[1])
    many = trimesh.Trimesh(*split(cube), process=False).subdivide().subdivide().subdivide()
    fine = many.vertices, many.faces.tolist()
    top = many.faces[many.triangles_center[:, 2] > 0.99].tolist()
    rooms = join(box_faces((-2, -1, -1), (0, 1, 1)), box_faces((0, -1, -1), (2, 1, 1)))
    both = box((-2, -1, -1), (2, 1, 1))
    sheet = (
        np.array([[3.0, -1, 0], [5, -1, 0], [5, 1, 0], [3, 1, 0]]),
        [[0, 1, 2, 3], [3, 2, 1, 0]],
    )
    noise = np.random.default_rng(0).normal(scale=1e-7, size=cube[0].shape)

    def habit(name, part, solid=CUBE, low=(-1,) * 3, high=(1,) * 3, seen="", words=(), **options):
        ask = asks({"mesh.obj": obj(part)}, solid, low, high, **options)
        return Habit(kind, name, ask, words, seen=seen)

    def twice(part, back):
        return join(part, turned(part) if back else part)

    return [
        habit("a side twice, alike", (cube[0], [*cube[1], cube[1][1]])),
        habit("a side twice, back to back", (cube[0], [*cube[1], cube[1][1][::-1]]),
              seen="libigl: signed_distance of a mesh with copies in the opposite sense"),
        habit("a side of many faces twice, alike", (fine[0], fine[1] + top)),
        habit("a side of many faces twice, back to back",
              (fine[0], fine[1] + [face[::-1] for face in top])),
        habit("a hundred faces of a ball back to back", halves, BALL),
        habit("every face twice, alike", (sphere[0], sphere[1] * 2), BALL,
              seen="~ trimesh: duplicate faces after merging"),
        habit("every face twice, back to back",
              (sphere[0], sphere[1] + [f[::-1] for f in sphere[1]]), BALL,
              seen="mesh_to_sdf: two-sided cars of ShapeNet have no inside"),
        habit("an object duplicated in place", twice(cube, False),
              seen="~ Blender: shift-D and escape"),
        habit("an object duplicated in place and turned", twice(cube, True),
              seen="~ SketchUp: front and back faces"),
        habit("every face three times", (cube[0], cube[1] * 3)),
        habit("one of two boxes back to back",
              join(cube, twice(box_faces((3, -1, -1), (5, 1, 1)), True)),
              union(CUBE, box((3, -1, -1), (5, 1, 1))), (-1,) * 3, (5, 1, 1)),
        habit("every quad twice, cut along its other diagonal", diagonal,
              seen="assimp: coincident faces in a model of SketchUp"),
        habit("two rooms with a common wall of two faces", rooms, both, (-2, -1, -1), (2, 1, 1),
              seen="~ Revit to OBJ: inner walls"),
        habit("a copy that is off by rounding", join(cube, (cube[0] + noise, cube[1])),
              seen="~ PyMesh: near-duplicate faces of STL"),
        habit("a two-sided sheet beside a box", join(cube, sheet),
              where=lambda p: p[:, 0] < 1.4,
              seen="mesh_to_sdf: the backrest of a chair has no volume"),
        habit("a sheet alone", sheet, words=("encloses nothing", "no inside"),
              seen="SDFGen: the sign of meshes that are not closed"),
    ]  # fmt: skip


def written(part, solid, low, high, tolerance=0.01):
    """Read a mesh as OBJ, write its surface as the app does, and read that."""

    def ask(folder):
        from jgrid.surface.task import write_surface

        place(folder, {"mesh.obj": obj(part)})
        mesh = jgrid.load_mesh(folder / "mesh.obj")
        compare(mesh, solid, low, high, tolerance=tolerance)
        path = write_surface(
            folder / "out.ply", mesh.vertices * mesh.scale + mesh.offset, mesh.faces
        )
        back = trimesh.load_mesh(path, process=False).vertices
        off = np.abs(back - (mesh.vertices * mesh.scale + mesh.offset)).max()
        cell = mesh.scale / 256
        if off > cell / 1000:
            raise Wrong(f"the file is off by {off:.3g}, a cell of the mesh is {cell:.3g}")
        return f"off by {off:.2g}"

    return ask


def precision():
    kind = "output loses precision"

    def habit(name, centre, size, seen=""):
        part = torus_faces(centre, size, size / 3)
        low = np.array(centre) - [4 / 3 * size, 4 / 3 * size, size / 3]
        high = np.array(centre) + [4 / 3 * size, 4 / 3 * size, size / 3]
        return Habit(kind, name, written(part, torus(centre, size, size / 3), low, high), seen=seen)

    return [
        habit("8 m at 4.6 million m (UTM)", (448265.0, 4611932.0, 280.0), 3.0,
              "Open3D: objects in UTM are loaded wrongly"),
        habit("a city block in feet (state plane)", (2_090_000.0, 700_000.0, 50.0), 300.0,
              "PotreeConverter: truncated coordinates"),
        habit("a house from the Earth's centre (ECEF)", (-2487002.9, -4684683.7, 3529639.0), 10.0,
              "openMVS and Open3D: ECEF as float"),
        habit("a screw at a machine's corner", (12_500.0, -3_400.0, 900.0), 2.0,
              "CloudCompare: precision lost in a mesh"),
        habit("a site grid", (400_000.0, 800_000.0, 0.0), 20.0,
              "CloudCompare: coordinates of 800,000"),
        habit("near the origin", (0.0, 0.0, 0.0), 1.0),
    ]  # fmt: skip


def two_answers():
    kind = "two answers to one question"

    def agree(part):
        def ask(folder):
            place(folder, {"mesh.obj": obj(part)})
            mesh = jgrid.load_mesh(folder / "mesh.obj")
            points = np.random.default_rng(0).uniform(0, 1, (2**15, 3))
            first = mesh.inside(points)
            second = mesh.signed_distance(points) <= 0
            share = (first != second).mean()
            if share > 1e-4:
                raise Wrong(f"inside and the sign of the distance differ at {share:.2%} of points")
            return "; ".join(mesh.notes)

        return ask

    room = box_faces((-2, -1.5, -1.25), (2, 1.5, 1.25))
    fine = trimesh.Trimesh(*split(room), process=False).subdivide().subdivide()
    open_room = (fine.vertices, fine.faces[fine.triangles_center[:, 2] < 1.24].tolist())
    sphere = ball_faces()
    centres = sphere[0][np.array(sphere[1])].mean(1)
    bowl = (sphere[0], [f for f, c in zip(sphere[1], centres) if c[2] < 0.3])
    dish = (sphere[0], [f for f, c in zip(sphere[1], centres) if c[2] < -0.5])
    holes = (sphere[0], [f for n, f in enumerate(sphere[1]) if n % 40])
    tube = prism_faces(GEAR, 0, 3)
    tube = (tube[0], tube[1][2:])
    overlapping = join(box_faces((0, 0, 0), (2, 2, 2)), cube)
    inner = (open_room[0], [f[::-1] for f in open_room[1]])
    names = [
        ("a room without a ceiling", open_room, "mesh_to_sdf: an entire room"),
        ("a room without a ceiling, turned inwards", inner, ""),
        ("a bowl", bowl, "SDFGen: only watertight meshes have a sign"),
        ("a dish", dish, ""),
        ("a scan with small holes", holes, "mesh-to-sdf of Unity: artefacts at holes"),
        ("a box without its top", (cube[0], cube[1][:1] + cube[1][2:]), ""),
        ("a tube without ends", tube, "PIFu: meshes that are not watertight"),
        ("two boxes that overlap", overlapping, "~ libigl: sign of self-intersecting meshes"),
    ]
    return [
        Habit(kind, name, agree(part), ("not closed",), seen=seen) for name, part, seen in names
    ]


def tiny_units():
    kind = "tiny units"

    def habit(name, size, write, ending, seen=""):
        part = (cube[0] * size, cube[1])
        solid = box((-size,) * 3, (size,) * 3)
        ask = asks({f"mesh.{ending}": write(part)}, solid, (-size,) * 3, (size,) * 3)
        return Habit(kind, name, ask, seen=seen)

    return [
        habit("a grain of 0.2 micrometres in metres, OBJ", 1e-7, obj, "obj"),
        habit("a grain of 0.2 micrometres in metres, STL", 1e-7, stl, "stl",
              "~ trimesh: small meshes vanish when vertices are merged"),
        habit("a cell of 2 nanometres in metres, PLY", 1e-9, ply, "ply"),
        habit("a chip of 2 micrometres in kilometres, OFF", 1e-9, off, "off"),
    ]  # fmt: skip


HABITS = [
    *tiny_units(),
    *orientation(),
    *polygons(),
    *containers(),
    *copies(),
    *precision(),
    *two_answers(),
]
