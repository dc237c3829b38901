"""How `fuzz` damages what is good: strategies of bytes and of JSON values."""

import copy
import functools
import gzip
import io
import pickle
import struct
import zipfile
import zlib
from typing import NamedTuple

from hypothesis import strategies as st


class Link(NamedTuple):
    """A file that is a symbolic link."""

    target: str


class Payload:
    """What a pickle runs when it is loaded."""

    def __reduce__(self):
        return open, ("pickle-was-here", "w")


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped", content)
    return file.getvalue()


ZEROS = bytes(2**26)
HOSTILE = [
    b"",
    b"\0" * 100,
    b"\xff" * 100,
    b"this is no such file",
    b"[" * 100_000,
    b'{"frames":' * 50_000,
    b"9" * 5000,
    pickle.dumps(Payload()),
    gzip.compress(ZEROS),
    zipped(ZEROS),
    gzip.compress(gzip.compress(ZEROS)),
    b"\x7fELF" + bytes(60),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch escaped)(w)file\n",
    struct.pack("<Q", 2**62) + b"{}",
    struct.pack(">2xBB4I", 8, 4, *[2**32 - 1] * 4),
]
DEEP = functools.reduce(lambda value, _: [value], range(100), 0)
NASTY = [
    0,
    -1,
    1,
    2**31,
    2**31 - 1,
    2**63,
    10**400,
    10**9,
    1e308,
    1e-320,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "0",
    "nan",
    "linear",
    "../outside/secret.png",
    "../../outside/secret",
    "/etc/passwd",
    "a\0b",
    "x" * 5000,
    "\ud800",
    ".",
    "..",
    "/",
    DEEP,
    [],
    {},
    True,
    None,
    [[1, 2], [3]],
    [float("nan")] * 4,
]
LEAF = (
    st.sampled_from(NASTY)
    | st.sampled_from(NASTY)
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=6)
)
ANY = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def one_in(n):
    """True once in n times; numbers that hypothesis draws are at their ends much more often."""
    return st.sampled_from([False] * (n - 1) + [True])


PLACES = st.integers(0, 127) | st.integers(0, 2**20)
WELL_CHOSEN = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"nan ",
    b"1e39",
    b"-1 ",
    b"\n",
]
BYTES = st.sampled_from(WELL_CHOSEN) | st.binary(min_size=1, max_size=8)
MISHAPS = st.sampled_from(["flip", "flip", "put", "put", "insert", "cut", "drop", "repeat"])


def with_crc(png):
    """A PNG whose chunks have the checksums of what they hold, so that damage gets past them."""
    made = [png[:8]]
    at = 8
    while at + 12 <= len(png):
        end = min(at + 8 + int.from_bytes(png[at : at + 4], "big"), len(png))
        body = png[at + 4 : end]
        made.append(png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at = end + 4
    return b"".join(made)


@st.composite
def damaged(draw, content):
    """A file's bytes after a few mishaps."""
    if draw(one_in(12)):
        return draw(st.sampled_from(HOSTILE))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3, 4]))):
        at = draw(PLACES) % max(len(content), 1)
        kind = draw(MISHAPS)
        if kind == "flip" and content:
            content = (
                content[:at]
                + bytes([content[at] ^ 1 << draw(st.integers(0, 7))])
                + content[at + 1 :]
            )
        elif kind in ("put", "insert"):
            new = draw(BYTES)
            content = content[:at] + new + content[at + (len(new) if kind == "put" else 0) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "drop":
            content = content[:at] + content[at + draw(st.integers(1, 64)) :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 64] * draw(st.integers(1, 50)) + content[at:]
    return with_crc(content) if content[:4] == b"\x89PNG" and draw(st.booleans()) else content


def spots(value):
    """(container, key) of everything inside a JSON value."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from spots(inner)


@st.composite
def altered(draw, value):
    """A JSON value, an object, with entries replaced, removed or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        found = list(spots(value))
        if not found:
            return draw(ANY)
        holder, key = found[draw(st.sampled_from(range(len(found))))]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "scale", "remove", "add"]))
        if kind == "replace":
            holder[key] = copy.deepcopy(draw(ANY))  # lists of NASTY must not change
        elif kind == "scale" and type(holder[key]) in (int, float):
            holder[key] *= draw(st.sampled_from([-1, 10, 10**5, 10**12, 0.5]))
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=6))] = copy.deepcopy(draw(ANY))
    return draw(ANY) if draw(one_in(30)) else value
