"""OBJ, OFF and STL: the bytes of a file as vertices and triangles.

Readers raise ValueError, and whatever else damaged bytes make them raise; they add to `notes` what
they assumed."""

import re

from jgrid.surface.polygons import Content, Polygons, triangulate

import numpy as np

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
UTF_8 = b"\xef\xbb\xbf"
SPACES = (b" ", b"\t")
# words before OFF say what stands behind a vertex's coordinates; 4 and n, that there are others
OFF_HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF(\s+BINARY)?", re.IGNORECASE)
STL_HEAD = 84
STL_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])


def read_obj(data: bytes, notes: list[str]) -> Content:
    """Wavefront OBJ: its vertices, their colours, and its polygons; curves, surfaces, lines, points
    and materials are left out."""
    rows = [row.strip() for row in _text(data).replace(b"\\\n", b" ").split(b"\n")]
    at_vertex = [i for i, row in enumerate(rows) if row[:1] == b"v" and row[1:2] in SPACES]
    at_face = [i for i, row in enumerate(rows) if row[:1] == b"f" and row[1:2] in SPACES]
    vertices, others = _vertices([rows[i][2:].split(b"#")[0] for i in at_vertex])
    faces = [rows[i][2:].split(b"#")[0] for i in at_face]
    # a corner is vertex/texture/normal
    text = re.sub(rb"/\S*", b"", b" ".join(faces))
    corners = _numbers(text, np.int64, "face")
    counts = _columns(faces)
    before = np.repeat(np.searchsorted(at_vertex, at_face), counts)
    # they count from 1, or back from the last vertex so far
    corners = np.where(corners < 0, corners + before, corners - 1)
    wrong = (corners < 0) | (corners >= len(vertices))
    if wrong.any():
        place = int(np.repeat(at_face, counts)[wrong.argmax()])
        raise ValueError(
            f"a face names a missing vertex: `{rows[place][:60].decode('latin-1')}`, of"
            f" {len(vertices):,} vertices, which OBJ counts from index 1"
        )
    colours = others[:, :3] if others.shape[1] >= 3 else None
    return vertices, triangulate(vertices, Polygons(counts, corners)), colours


def read_off(data: bytes, notes: list[str]) -> Content:
    """Object File Format, as text: its vertices and polygons, without their colours and normals."""
    text = re.sub(rb"#[^\n]*", b"", _text(data))
    header = OFF_HEADER.match(text)
    if header and (header.group(4) or header.group(5)):
        raise ValueError("an OFF of points that have other than three coordinates")
    if header and header.group(6):
        raise ValueError("a binary OFF; export it as text")
    rows = [row for row in text[header.end() if header else 0 :].split(b"\n") if row.strip()]
    first = rows[0].split() if rows else []
    if not all(word.isdigit() for word in first) or not 2 <= len(first) <= 3:
        raise ValueError("not an OFF file: it does not begin with OFF and its counts")
    n, m = (int(word) for word in first[:2])
    if len(rows) < 1 + n + m:
        raise ValueError(
            f"its header announces {n:,} vertices and {m:,} faces, but it has {len(rows) - 1:,}"
            " lines for them"
        )
    vertices, _ = _vertices(rows[1 : 1 + n])
    faces = [row.split() for row in rows[1 + n : 1 + n + m]]
    counts = np.array([int(row[0]) for row in faces], np.int64)
    corners = [row[1 : 1 + count] for row, count in zip(faces, counts)]
    if any(len(row) < count for row, count in zip(corners, counts)):
        raise ValueError("a face has fewer corners than its line says")
    flat = b" ".join(word for row in corners for word in row)
    polygons = Polygons(counts, check_corners(_numbers(flat, np.int64, "face"), n))
    return vertices, triangulate(vertices, polygons), None


def read_stl(data: bytes, notes: list[str]) -> Content:
    """STL, binary or text: a soup of triangles. Binary ones may begin with the word solid too."""
    announced = int.from_bytes(data[80:STL_HEAD], "little")
    held = max(len(data) - STL_HEAD, 0) // STL_FACE.itemsize
    text = b"\0" not in data[:512] and re.search(rb"\bvertex\s", data[:4096], re.IGNORECASE)
    if text and announced != held:
        vertices = _stl_text(data)
    elif announced > held or 0 < announced < held:
        raise ValueError(f"its header announces {announced:,} faces, but it holds {held:,}")
    else:
        if not announced and held:
            notes.append(f"the header announces 0 faces; all {held:,} that follow are read")
        faces = np.frombuffer(data, STL_FACE, held, STL_HEAD) if held else np.zeros(0, STL_FACE)
        vertices = faces["corners"].reshape(-1, 3)
    return vertices.astype(np.float64), np.arange(len(vertices)).reshape(-1, 3), None


def _stl_text(data: bytes) -> np.ndarray:
    words = re.findall(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", data, re.IGNORECASE)
    vertices = _numbers(b" ".join(b" ".join(row) for row in words), np.float64, "vertex")
    loops = len(re.findall(rb"\bouter\s+loop\b", data, re.IGNORECASE))
    if len(words) != 3 * loops:
        raise ValueError(f"{loops:,} facets with {len(words):,} vertices, not three each")
    return vertices.reshape(-1, 3)


def check_corners(corners: np.ndarray, n: int) -> np.ndarray:
    """The same; ValueError where one is none of n vertices, counted from 0."""
    if len(corners) and (corners.min() < 0 or corners.max() >= n):
        wrong = corners.min() if corners.min() < 0 else corners.max()
        raise ValueError(f"a face names a missing vertex: index {wrong:,} of {n:,}, counted from 0")
    return corners


def _text(data: bytes) -> bytes:
    """ASCII in any superset of it, with line ends of Unix; other letters only occur in names."""
    if data[:2] in UTF_16:
        data = data.decode("utf-16").encode()
    return data.removeprefix(UTF_8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _vertices(rows: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Lines as (coordinates (V, 3), further columns that all lines have (V, n))."""
    if not rows:
        return np.zeros((0, 3)), np.zeros((0, 0))
    columns = _columns(rows)
    if columns.min() < 3:
        raise ValueError(
            f"a vertex of fewer than 3 numbers: `{rows[columns.argmin()][:60].decode('latin-1')}`"
        )
    if columns.min() < columns.max():
        rows = [b" ".join(row.split()[: columns.min()]) for row in rows]
    values = _numbers(b" ".join(rows), np.float64, "vertex").reshape(len(rows), -1)
    return np.ascontiguousarray(values[:, :3]), values[:, 3:]


def _columns(rows: list[bytes]) -> np.ndarray:
    return np.fromiter((len(row.split()) for row in rows), np.int64, len(rows))


def _numbers(text: bytes, dtype: type, what: str) -> np.ndarray:
    """Numbers with spaces between them; ValueError, naming the first word that is none."""
    words = text.split()
    kind = float if dtype is np.float64 else int
    try:
        return np.fromiter(map(kind, words), dtype, len(words))
    except (ValueError, OverflowError):
        pass
    for word in words:
        try:
            dtype(word)
        except (ValueError, OverflowError):
            break
    comma = "; decimal commas? Export it with points" if b"," in word else ""
    raise ValueError(f"a {what} has `{word[:60].decode('latin-1')}` in a number's place{comma}")
