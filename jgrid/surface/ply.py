"""PLY: reading of text and binary, vertices with their colours, polygons, triangle strips; writing.

Other elements and properties are skipped. Text is read as if it were binary with nothing but
doubles, so that there is one way through both."""

import struct
from dataclasses import dataclass, field
from typing import Any, Optional

from jgrid.surface.formats import check_corners
from jgrid.surface.polygons import Content, Polygons, triangulate

import numpy as np

TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")
COLOURS = (("red", "green", "blue"), ("r", "g", "b"))


@dataclass(frozen=True)
class Property:
    """kind: as what its values lie in the file; count: the type of a list's length, None of a
    single value; meant: the type that the header gives its values."""

    name: str
    meant: np.dtype
    kind: np.dtype
    count: Optional[np.dtype] = None


@dataclass(frozen=True)
class Element:
    name: str
    rows: int
    properties: list[Property] = field(default_factory=list)


def read_ply(data: bytes, notes: list[str]) -> Content:
    """PLY: vertices, triangles, colours; ValueError where the header says what does not follow."""
    elements, body = _header(data)
    vertices = np.zeros((0, 3))
    colours = None
    polygons = []
    for element in elements:
        columns, body = _rows(element, body)
        if element.name == "vertex":
            if not {"x", "y", "z"} <= columns.keys():
                raise ValueError("its vertices have no x, y and z")
            vertices = _places(element, columns)
            colours = _colours(element, columns)
        elif element.name in ("face", "tristrips"):
            lists = [columns[name] for name in CORNERS if name in columns]
            if not lists and element.rows:
                raise ValueError(f"its element {element.name} has no list {' or '.join(CORNERS)}")
            polygons += [_strips(rows) if element.name == "tristrips" else rows for rows in lists]
    known = [p._replace(corners=check_corners(p.corners, len(vertices))) for p in polygons]
    faces = [np.zeros((0, 3), np.int64), *(triangulate(vertices, p) for p in known)]
    return vertices, np.concatenate(faces), colours


def ply_bytes(
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: Optional[np.ndarray] = None,
    double: bool = False,
) -> bytes:
    """Vertices (V, 3), triangles (F, 3) and colours (V, 3) uint8 as a binary PLY; double: whether
    coordinates have 8 bytes, not 4."""
    columns = [(axis, "<f8" if double else "<f4") for axis in "xyz"]
    if colours is not None:
        columns += [(name, "u1") for name in COLOURS[0]]
    corners = np.zeros(len(vertices), columns)
    for name, values in zip("xyz", np.asarray(vertices).T):
        corners[name] = values
    for name, values in zip(COLOURS[0], [] if colours is None else colours.T):
        corners[name] = values
    rows = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"] = 3
    rows["corners"] = faces
    names = {"<f8": "double", "<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {names[kind]} {name}" for name, kind in columns),
        f"element face {len(faces)}",
        f"property list uchar int {CORNERS[0]}",
        "end_header",
    ]
    return "\n".join([*header, ""]).encode() + corners.tobytes() + rows.tobytes()


def _header(data: bytes) -> tuple[list[Element], memoryview]:
    """(elements, the bytes behind the header); text becomes doubles."""
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("not a PLY file: it does not begin with ply, or its header has no end")
    lines = data[:end].replace(b"\r", b"\n").decode("latin-1").split("\n")
    words = [line.split() for line in lines]
    formats = [row[1] for row in words if len(row) > 1 and row[0] == "format"]
    if len(formats) != 1 or formats[0] not in ORDERS:
        raise ValueError(f"a PLY of format {' '.join(formats) or 'none'}, not {', '.join(ORDERS)}")
    text = formats[0] == "ascii"
    elements: list[Element] = []
    for row in words:
        if row[:1] == ["element"]:
            elements.append(Element(row[1], int(row[2])))
            if elements[-1].rows < 0:
                raise ValueError(f"its header announces {row[2]} rows of {row[1]}")
        elif row[:1] == ["property"]:
            unknown = {*row[1:-1]} - {"list"} - TYPES.keys()
            if unknown:
                raise ValueError(f"a PLY with the unknown type {', '.join(unknown)}")
            kinds = [np.dtype(ORDERS[formats[0]] + TYPES[kind]) for kind in row[1:-1][-2:]
                     if kind != "list"]  # fmt: skip
            lie = [np.dtype("<f8") if text else kind for kind in reversed(kinds)]
            elements[-1].properties.append(Property(row[-1], kinds[-1], *lie))
    body = memoryview(data)[end + len("end_header") :]
    if not text:
        return elements, body[2 if data[3:5] == b"\r\n" else 1 :]
    numbers = bytes(body).split()
    values = np.fromiter(map(float, numbers), np.float64, len(numbers))
    return elements, memoryview(values.tobytes())


def _rows(element: Element, body: memoryview) -> tuple[dict[str, Any], memoryview]:
    """({property: values (rows,), or Polygons of a list}, the bytes behind the element)."""
    lists = [p for p in element.properties if p.count is not None]
    if not lists:
        row = np.dtype([(f"{i}", p.kind) for i, p in enumerate(element.properties)])
        _check(element, element.rows * row.itemsize, body)
        values = np.frombuffer(body, row, element.rows) if row.itemsize else np.zeros(0, row)
        columns: dict[str, Any] = {p.name: values[f"{i}"] for i, p in enumerate(element.properties)}
        return columns, body[element.rows * row.itemsize :]
    counts, starts, end = _walk(element, body)
    raw = np.frombuffer(body, np.uint8)
    columns = {
        p.name: _gather(raw, starts[:, i], counts[:, i], p.kind) for i, p in enumerate(lists)
    }
    return columns, body[end:]


def _walk(element: Element, body: memoryview) -> tuple[np.ndarray, np.ndarray, int]:
    """(counts, starts) of the lists of an element, (rows, lists) each, and where it ends: as the
    first row has them, where all rows have as many; else row by row."""
    parts = []  # of each list: bytes before it, and how to read how many there are
    before = 0
    for p in element.properties:
        if p.count is None:
            before += p.kind.itemsize
        else:
            reader = struct.Struct((">" if p.count.str[0] == ">" else "<") + p.count.char)
            parts.append((before, reader, p.kind.itemsize))
            before = 0
    _check(element, element.rows * (before + sum(b + r.size for b, r, _ in parts)), body)
    counts = np.zeros((element.rows, len(parts)), np.int64)
    starts = np.zeros((element.rows, len(parts)), np.int64)
    end = 0
    for row in range(element.rows):
        for i, (skipped, reader, size) in enumerate(parts):
            end += skipped
            count = int(reader.unpack_from(body, end)[0])
            end += reader.size
            counts[row, i] = count
            starts[row, i] = end
            end += count * size
            if count < 0 or end > len(body):
                raise ValueError(_short(element))
        end += before
        if row == 0 and _alike(element, body, end, parts, counts[0], starts[0]):
            steps = np.arange(element.rows)[:, None] * end
            return np.tile(counts[0], (element.rows, 1)), starts[0] + steps, element.rows * end
    return counts, starts, end


def _alike(
    element: Element,
    body: memoryview,
    size: int,
    parts: list,
    counts: np.ndarray,
    starts: np.ndarray,
) -> bool:
    """Whether all rows have the first one's counts, and so its size."""
    if element.rows * size > len(body):
        return False
    rows = np.frombuffer(body, np.uint8, element.rows * size).reshape(element.rows, size)
    return all(
        (rows[:, start - reader.size : start] == rows[0, start - reader.size : start]).all()
        for start, (_, reader, _) in zip(starts, parts)
    )


def _gather(raw: np.ndarray, starts: np.ndarray, counts: np.ndarray, kind: np.dtype) -> Polygons:
    """The lists of a property; one number of corners after the other."""
    ends = np.cumsum(counts)
    corners = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
    for count in np.unique(counts[counts > 0]):
        chosen = counts == count
        places = starts[chosen][:, None] + np.arange(count * kind.itemsize)
        values = raw[places].view(kind)
        corners[(ends - counts)[chosen][:, None] + np.arange(count)] = values
    return Polygons(counts, corners)


def _strips(strips: Polygons) -> Polygons:
    """Triangles of strips, in which -1 begins a new one; every second one is turned."""
    made = []
    ends = np.cumsum(strips.counts)
    for end, count in zip(ends, strips.counts):
        strip = strips.corners[end - count : end]
        breaks = np.flatnonzero(strip < 0)
        made += [strip_triangles(part) for part in np.split(strip, breaks)]
    faces = np.concatenate([np.zeros((0, 3), np.int64), *made])
    return Polygons(np.full(len(faces), 3), faces.ravel())


def strip_triangles(strip: np.ndarray) -> np.ndarray:
    """The triangles (n - 2, 3) of a strip (n,); negative numbers, and triangles with a corner
    twice, are left out."""
    strip = strip[strip >= 0]
    if len(strip) < 3:
        return np.zeros((0, 3), np.int64)
    faces = np.stack([strip[:-2], strip[1:-1], strip[2:]], 1)
    faces[1::2] = faces[1::2, ::-1]
    return faces[(faces != np.roll(faces, 1, axis=1)).all(1)]


def _places(element: Element, columns: dict) -> np.ndarray:
    """Coordinates, of the type that the header gives them unless the text has more digits that
    matter."""
    meant = {p.name: p.meant for p in element.properties}
    full = np.stack([columns[axis] for axis in "xyz"], 1).astype(np.float64)
    short = np.stack([columns[axis].astype(meant[axis]) for axis in "xyz"], 1).astype(np.float64)
    lost = np.abs(full - short).max(initial=0)
    return full if lost > 1e-6 * np.ptp(full, axis=0).max(initial=0) else short


def _colours(element: Element, columns: dict) -> Optional[np.ndarray]:
    meant = {p.name: p.meant for p in element.properties}
    for names in COLOURS:
        if set(names) <= columns.keys():
            return np.stack([columns[name].astype(meant[name]) for name in names], 1)
    return None


def _check(element: Element, size: int, body: memoryview) -> None:
    if size > len(body):
        raise ValueError(_short(element))


def _short(element: Element) -> str:
    return f"its header announces {element.rows:,} rows of {element.name}, more than it holds"
