"""What `fuzz` tries: for each reader of user data, a strategy of cases and how they are read."""

import functools
import gzip
import io
import json
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

from jgrid import checkpoint, cli
from jgrid.field import FIELDS, Domain, check_memory, field_from_dict, field_to_dict
from jgrid.image.files import load_image
from jgrid.image.task import load_model as load_image_model
from jgrid.labelled import load_labelled, read_idx
from jgrid.scene import made
from jgrid.scene.files import load_views
from jgrid.scene.radiance import radiance_from_dict
from jgrid.scene.viewer import load_viewer
from jgrid.surface import mesh
from jgrid.surface import task as sdf
from jgrid.weightspace.subjects import load_pictures
from jgrid.weightspace.zoo import Zoo

import diagnose
import fit_image
import fit_sdf
import fit_views
import numpy as np
import optdnn
import tables
import trimesh
import weightspace
from fuzz_damage import Link, altered, damaged, one_in
from hypothesis import strategies as st
from PIL import Image

# --- pictures

PIXELS = (np.random.default_rng(0).uniform(size=(9, 7, 3)) * 255).astype(np.uint8)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(values):
    """(H, W, 3) 16-bit numbers as a PNG, which Pillow does not write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@functools.lru_cache(None)
def pictures():
    rgb = Image.fromarray(PIXELS)
    kinds = {
        "PNG": {},
        "JPEG": {},
        "TIFF": {},
        "BMP": {},
        "GIF": {},
        "WEBP": {},
        "PPM": {},
        "TGA": {},
    }
    made = [saved(rgb, kind, **options) for kind, options in kinds.items()]
    made += [saved(rgb.convert(mode), "PNG") for mode in ("P", "LA", "RGBA", "1")] + [
        saved(rgb, "TIFF", compression="tiff_lzw")
    ]
    made.append(saved(rgb.resize((16, 16)), "ICO", sizes=[(16, 16)]))
    return [
        *made,
        png16(PIXELS.astype(int) * 257),
        saved(rgb.convert("F"), "TIFF"),
        saved(rgb.convert("CMYK"), "JPEG"),
    ]


PICTURES = st.deferred(lambda: st.sampled_from(pictures()).flatmap(damaged))


# --- meshes


@functools.lru_cache(None)
def meshes():
    """(ending, content)."""
    ball = trimesh.creation.icosphere(1)
    made = [(kind, ball.export(file_type=kind)) for kind in ("obj", "ply", "stl", "off", "glb")]
    made += [
        ("stl", ball.export(file_type="stl_ascii")),
        ("ply", ball.export(file_type="ply", encoding="ascii")),
    ]
    made.append(
        (
            "gltf",
            ball.export(file_type="gltf", merge_buffers=True, embed_buffers=True)["model.gltf"],
        )
    )
    return [
        (kind, content.encode() if isinstance(content, str) else content) for kind, content in made
    ]


@st.composite
def mesh_files(draw):
    ending, content = draw(st.sampled_from(meshes()))
    if ending == "gltf" and draw(st.booleans()):
        content = to_bytes(draw(altered(json.loads(content))))
    elif draw(one_in(10)):
        ending = draw(
            st.sampled_from(
                [
                    "obj",
                    "ply",
                    "stl",
                    "off",
                    "glb",
                    "gltf",
                    "zip",
                    "3mf",
                    "dae",
                    "xyz",
                    "tar.gz",
                    "PLY",
                ]
            )
        )
    return {f"mesh.{ending}": draw(damaged(content)) if not draw(one_in(5)) else content}


def read_mesh(folder):
    path = next(folder.iterdir())
    refusals = []
    for read in (mesh.load_mesh, lambda p: made.MeshScene(made.load_scene_mesh(p))):
        try:
            read(path)
        except (ValueError, OSError) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


# --- scenes


def transforms(split):
    pose = np.eye(4).tolist()
    return {
        "camera_angle_x": 0.7,
        "w": 7,
        "h": 9,
        "k1": 0.1,
        "frames": [{"file_path": f"./{split}/r_{n}", "transform_matrix": pose} for n in range(2)],
    }


def to_bytes(value):
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def scenes(draw):
    png = pictures()[0]
    files = {f"{split}/r_{n}.png": png for split in ("train", "test") for n in range(2)}
    files.update(
        {f"transforms_{split}.json": to_bytes(transforms(split)) for split in ("train", "test")}
    )
    kind = draw(
        st.sampled_from(["json", "json", "json", "bytes", "picture", "link", "loop", "path"])
    )
    if kind == "json":
        files["transforms_train.json"] = to_bytes(draw(altered(transforms("train"))))
    elif kind == "bytes":
        files["transforms_train.json"] = draw(damaged(files["transforms_train.json"]))
    elif kind == "picture":
        files["train/r_1.png"] = draw(PICTURES)
    elif kind in ("link", "loop"):
        files["train/r_1.png"] = Link({"link": "../../outside/secret.png", "loop": "r_1.png"}[kind])
    else:
        read = transforms("train")
        elsewhere = [
            "../outside/secret.png",
            "./train/../../outside/secret",
            "/etc/passwd",
            "..",
            "",
        ]
        read["frames"][1]["file_path"] = draw(st.sampled_from(elsewhere) | st.text())
        files["transforms_train.json"] = to_bytes(read)
    return files


def read_scene(folder):
    escaped = False
    try:
        found = load_views(folder, "train")
        escaped = any((pixels[..., :3] == 77).all() for pixels in found.pixels)
    finally:
        load_views(folder, "test")
    if escaped:
        raise AssertionError("a picture outside the folder was read")


# --- idx


@functools.lru_cache(None)
def idx_files():
    grey = struct.pack(">2xBB3I", 8, 3, 4, 5, 5) + bytes(range(100))
    return grey, struct.pack(">2xBBI", 8, 1, 4) + bytes(4)


@st.composite
def idx_cases(draw):
    grey, classes = idx_files()
    part = draw(st.integers(0, 1))
    files = {}
    for n, (name, content) in enumerate(
        (("images-idx3-ubyte", grey), ("labels-idx1-ubyte", classes))
    ):
        pack = gzip.compress if draw(st.booleans()) else bytes
        content = draw(damaged(content)) if n == part and draw(st.booleans()) else content
        content = pack(content) if len(content) < 10**5 else content
        content = draw(damaged(content)) if n == part else content
        ending = ".gz" if pack is gzip.compress else ""
        files.update({f"{split}-{name}{ending}": content for split in ("train", "t10k")})
    if draw(one_in(10)):
        files.update(
            {
                name: draw(damaged(bytes(3073 * 2)))
                for name in ("data_batch_1.bin", "data_batch_2.bin")
            }
        )
    return files


def read_labels(folder):
    refusals = []
    path = next(p for p in sorted(folder.iterdir()) if "t10k-images" in p.name)
    for read, argument in (
        (read_idx, path),
        (lambda p: load_pictures(p, 2, 4), path),
        (load_labelled, folder),
    ):
        try:
            read(argument)
        except (ValueError, OSError) as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


# --- checkpoints


@functools.lru_cache(None)
def small_fields():
    sizes = {
        "finest": 6,
        "coarsest": 3,
        "levels": 2,
        "channels": 2,
        "table_size": 40,
        "nodes": 20,
        "rank": 3,
        "features": 3,
        "width": 5,
        "hidden": 4,
        "depth": 2,
    }
    made = []
    for cls in FIELDS.values():
        config = cls()
        config = replace(config, **{name: n for name, n in sizes.items() if hasattr(config, name)})
        made.append(
            replace(config, decoder=replace(config.decoder, width=6))
            if hasattr(config, "decoder")
            else config
        )
    return made


def zeros(model):
    return {
        name: np.zeros(value.shape, str(value.dtype)) for name, value in model.state_dict().items()
    }


@functools.lru_cache(None)
def models():
    """(tensors, config) of the files that the apps write; all zeros, so that nothing is
    computed."""
    config = small_fields()[3]
    field = field_to_dict(config)
    made = []
    made.append(
        (
            zeros(config.build(Domain(2, 3, (1.0, 0.5)))),
            {"field": field, "width": 8, "height": 4, "n_out": 3},
        )
    )
    made.append(
        (
            zeros(config.build(Domain(3, 1))),
            {"field": field, "scale": 2.0, "offset": [0.0, 1.0, 2.0]},
        )
    )
    colour = {"features": 3, "width": 4, "depth": 1, "lr": 0.01}
    about = {"field": field, "colour": colour}
    view = {
        "camera": {
            "width": 4,
            "height": 4,
            "fx": 5.0,
            "fy": 5.0,
            "cx": 2.0,
            "cy": 2.0,
            "distortion": [0.0] * 4,
        },
        "box": {"half": 1.5, "centre": [0.0] * 3, "contracted": False},
        "background": "white",
        "distance": 4.0,
        "cells": 3,
        "step": 0.01,
    }
    made.append(
        (
            {**zeros(radiance_from_dict(about)), "occupied": np.ones(27, np.uint8)},
            {**about, "view": view},
        )
    )
    space = [["W1", [["h01", 4], [None, 2]]], ["b1", [["h01", 4]]]]
    tensors = {
        "W1": np.zeros((3, 4, 2), np.float32),
        "b1": np.zeros((3, 4), np.float32),
        "labels": np.zeros(3, np.int32),
        "quality": np.ones(3, np.float32),
    }
    made.append(
        (
            tensors,
            {
                "space": space,
                "activation": "sine",
                "omega": 30.0,
                "quality": "psnr",
                "made": {},
                "seconds": 1.0,
            },
        )
    )
    return made


@functools.lru_cache(None)
def model_bytes(n):
    return written(*models()[n])


def written(tensors, config):
    """The bytes of a checkpoint, with the right checksum."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "model.safetensors", tensors, config)
        return (Path(folder) / "model.safetensors").read_bytes()


SPOILED = {
    "nan": lambda v: np.full_like(v, np.nan if v.dtype.kind == "f" else 1),
    "cut": lambda v: v[:-1],
    "turned": lambda v: v.T,
    "double": lambda v: v.astype(np.float64),
    "byte": lambda v: v.astype(np.uint8),
    "empty": lambda v: v[:0],
    "flat": lambda v: v.reshape(-1),
    "bool": lambda v: v.astype(bool),
    "half": lambda v: v.astype(np.float16),
}


@st.composite
def model_files(draw):
    n = draw(st.sampled_from(range(4)))
    kind = draw(st.sampled_from(["bytes", "bytes", "config", "config", "tensors"]))
    if kind == "bytes":
        return {"model.safetensors": draw(damaged(model_bytes(n)))}
    tensors = dict(models()[n][0])
    config = models()[n][1]
    if kind == "config":
        config = draw(altered(config))
    else:
        name = draw(st.sampled_from(sorted(tensors)))
        if draw(st.booleans()):
            tensors[name] = SPOILED[draw(st.sampled_from(sorted(SPOILED)))](tensors[name])
        else:
            tensors[draw(st.sampled_from(["w", "occupied", "labels", "../x", "grid.w"]))] = (
                tensors.pop(name)
            )
    return {"model.safetensors": written(tensors, config)}


def read_model(folder):
    refusals = []
    path = folder / "model.safetensors"
    for read in (load_image_model, sdf.load_model, load_viewer, lambda p: Zoo.load(p).space):
        try:
            read(path)
        except (ValueError, OSError) as error:
            refusals.append(error)
    if len(refusals) == 4:
        raise refusals[0]


# --- configs

CONFIGS = st.deferred(
    lambda: st.sampled_from([field_to_dict(config) for config in small_fields()]).flatmap(altered)
)


def read_config(values):
    config = field_from_dict(values)
    for dim, n_out, aspect in ((2, 3, (1.0, 0.5)), (3, 1, None)):
        check_memory(config.build(Domain(dim, n_out, aspect)), 2**16)


# --- command lines

COMMANDS = [
    (
        fit_image.Config,
        [
            "--image",
            "a.png",
            "--train.steps",
            "5",
            "--scale",
            "2",
            "grid:hash",
            "--field.levels",
            "2",
        ],
    ),
    (
        fit_image.Config,
        [
            "--held-out",
            "0.5",
            "--solver",
            "cg",
            "--solve.iterations",
            "3",
            "grid:dense",
            "--field.decoder.depth",
            "0",
        ],
    ),
    (
        fit_sdf.Config,
        [
            "--mesh",
            "a.obj",
            "--resolution",
            "32",
            "--up",
            "z",
            "--sdf.pool",
            "1024",
            "net:siren",
            "--field.width",
            "8",
        ],
    ),
    (
        fit_views.Config,
        ["--scene", "a", "--box", "2", "--no-carve", "--colour.width", "8", "--train.minutes", "1"],
    ),
    (
        diagnose.Config,
        ["--steps", "3", "--held-out", "0.1", "--fields", "linear", "hash", "--verify"],
    ),
    (tables.Config, ["image", "--pictures", "a.png", "--steps", "30"]),
    (optdnn.Command, ["images", "--channels", "4", "8", "--methods", "gd", "--lr", "0.1"]),
    (
        weightspace.Command,
        [
            "classify",
            "--fields",
            "600",
            "--models",
            "mlp",
            "--fit.hidden",
            "8",
            "8",
            "--kind",
            "siren",
        ],
    ),
]
ODD = [
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 50,
    "",
    " ",
    "--",
    "-",
    "--help",
    "-h",
    "../../x",
    "/etc/passwd",
    "x" * 3000,
    "{}",
    "None",
    "True",
    "grid:mulfa",
    "net:wire",
    "--out",
    "--train.batch",
    "--field.finest",
    "--from",
    "--bogus",
    "\ud800",
    "\x1b[31m",
    "1_000",
    "\uff10",
    "a\nb",
    "=",
    "--image=",
    "--train.steps=5",
]
WORDS = st.sampled_from(ODD) | st.text(max_size=5)


@st.composite
def command_lines(draw):
    n = draw(st.sampled_from(range(len(COMMANDS))))
    words = list(COMMANDS[n][1])
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        at = draw(st.sampled_from(range(len(words) + 1)))
        kind = draw(st.sampled_from(["replace", "replace", "insert", "remove", "swap"]))
        if kind == "insert" or at >= len(words):
            words.insert(at, draw(WORDS))
        elif kind == "replace":
            words[at] = draw(WORDS)
        elif kind == "remove":
            del words[at]
        else:
            other = draw(st.sampled_from(range(len(words))))
            words[at], words[other] = words[other], words[at]
    return n, tuple(words)


def read_command(case):
    cli.parse(COMMANDS[case[0]][0], list(case[1]))


class Readers(dict):
    """{name: (strategy, reader)}; readers of files take the folder of a case."""

    secret = saved(Image.fromarray(np.full((9, 7, 3), 77, np.uint8)), "PNG")


READERS = Readers(
    {
        "images": (
            PICTURES.map(lambda content: {"picture.png": content}),
            lambda folder: load_image(folder / "picture.png"),
        ),
        "meshes": (mesh_files(), read_mesh),
        "scenes": (scenes(), read_scene),
        "idx": (idx_cases(), read_labels),
        "checkpoints": (model_files(), read_model),
        "configs": (CONFIGS, read_config),
        "command lines": (command_lines(), read_command),
    }
)
