"""What is wrong with an input is said, and does no harm: a few cases of each target of `fuzz`, and
by name what users fear most."""

import gc
import gzip
import json
import os
import pickle
import struct

from jgrid import checkpoint, cli
from jgrid.image.files import load_image
from jgrid.image.task import load_model as load_image_model
from jgrid.labelled import read_idx
from jgrid.scene.files import load_views
from jgrid.scene.viewer import load_viewer
from jgrid.surface import task as sdf
from jgrid.surface.mesh import load_mesh
from jgrid.weightspace.zoo import Zoo

import fit_views
import fuzz
import numpy as np
import pytest
from fuzz_cases import READERS, meshes, model_bytes, pictures, png16, to_bytes, transforms
from fuzz_damage import HOSTILE, Link, Payload, zipped
from hypothesis import given, settings
from hypothesis import strategies as st

LOADERS = (load_image_model, sdf.load_model, load_viewer, Zoo.load)


@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_or_read(name):
    """`python -m tests.fuzz --cases 2000` tries more."""
    counts = fuzz.fuzz(name, 10 if name == "command lines" else 40, seed=3, strict=True)
    # what was not damaged, or not much, is read
    assert counts["cases"] >= 10 and 0 < counts["refused"] < counts["cases"]


def hang(folder):
    while True:
        pass


HARM = {
    "tracebacks": lambda folder: {}["key"],
    "hangs": hang,
    "memory": lambda folder: (_ for _ in ()).throw(ValueError("MemoryError: no room")),
    "escaped_writes": lambda folder: open(folder.parent / "written", "w").close(),
}


@pytest.mark.parametrize("kind", HARM)
def test_harm_is_seen(monkeypatch, kind):
    monkeypatch.setitem(READERS, "harm", (st.just({"file": b"content"}), HARM[kind]))
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    counts = fuzz.fuzz("harm", 1, report=lambda text: None)
    assert counts["cases"] == 1 and [name for name in fuzz.KINDS if counts[name]] == [kind]


def test_a_pickle_that_is_loaded_is_seen(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    case = st.just({"file": pickle.dumps(Payload())})
    monkeypatch.setitem(
        READERS, "harm", (case, lambda folder: pickle.loads((folder / "file").read_bytes()))
    )
    assert fuzz.fuzz("harm", 1, report=lambda text: None)["escaped_writes"] == 1


def test_counts_are_written(tmp_path, capsys):
    assert (
        fuzz.main(
            ["--cases", "5", "--readers", "idx", "configs", "--out", str(tmp_path / "fuzz.json")]
        )
        == 0
    )
    counts = json.loads((tmp_path / "fuzz.json").read_text())
    assert (
        set(counts) == {"idx", "configs"}
        and {"cases", "tracebacks", "hangs", "escaped_writes"} <= counts["idx"].keys()
    )


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__qualname__)
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Payload()),
        zipped(bytes(10**6)),
        gzip.compress(bytes(10**6)),
        b"",
        struct.pack("<Q", 2**62),
    ],
    ids=["pickle", "zip bomb", "gzip bomb", "empty", "endless header"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, monkeypatch, load, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="model.safetensors: damaged or not a safetensors file"):
        load(tmp_path / "model.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("n", range(4))
def test_every_good_checkpoint_is_read(tmp_path, n):
    (tmp_path / "model.safetensors").write_bytes(model_bytes(n))
    LOADERS[n](tmp_path / "model.safetensors")


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(at=st.integers(0, 2**20), bit=st.integers(0, 7), cut=st.booleans())
def test_one_flipped_bit_or_cut_is_refused(tmp_path_factory, at, bit, cut):
    whole = model_bytes(0)
    at %= len(whole)
    path = tmp_path_factory.mktemp("flip") / "model.safetensors"
    path.write_bytes(
        whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    )
    with pytest.raises(ValueError, match="model.safetensors"):
        checkpoint.read(path)


def test_every_byte_of_the_tensors_counts(tmp_path):
    whole = bytearray(model_bytes(3))
    path = tmp_path / "zoo.safetensors"
    for at in range(8 + struct.unpack("<Q", whole[:8])[0], len(whole)):
        whole[at] ^= 1
        path.write_bytes(whole)
        with pytest.raises(ValueError, match="checksum"):
            checkpoint.read(path)
        whole[at] ^= 1


def scene(folder, file_path=None, files=None):
    """A scene whose second picture is another file's name, or other files."""
    read = transforms("train")
    if file_path:
        read["frames"][1]["file_path"] = file_path
    png = pictures()[0]
    content = {f"{split}/r_{n}.png": png for split in ("train", "test") for n in range(2)}
    content["transforms_train.json"] = to_bytes(read)
    fuzz.place(folder, {"outside/secret.png": READERS.secret})
    fuzz.place(folder / "scene", {**content, **(files or {})})
    return folder / "scene"


ESCAPES = {
    "up": {"file_path": "../outside/secret.png"},
    "through": {"file_path": "./train/../../outside/secret"},
    "link": {"files": {"train/r_1.png": Link("../../outside/secret.png")}},
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_scene_keeps_to_its_folder(tmp_path, name):
    folder = scene(tmp_path, **ESCAPES[name])
    with pytest.raises(
        ValueError, match="transforms_train.json: names .*, which is not in its folder; `outside`"
    ):
        load_views(folder, "train")
    assert (load_views(folder, "train", outside=True).pixels[1, ..., :3] == 77).all()


def test_a_whole_path_is_outside_too(tmp_path):
    folder = scene(tmp_path, str(tmp_path / "outside" / "secret.png"))
    with pytest.raises(ValueError, match="`outside`"):
        load_views(folder, "train")
    inside = scene(tmp_path / "b", str(tmp_path / "b" / "scene" / "test" / "r_0.png"))
    assert len(load_views(inside, "train").poses) == 2


def test_the_apps_flag_lets_a_scene_out(tmp_path, monkeypatch, capfd):
    def read(*_):
        raise ValueError("all was read")

    folder = scene(
        tmp_path, **ESCAPES["up"], files={"transforms_test.json": to_bytes(transforms("test"))}
    )
    monkeypatch.setattr(fit_views, "check_memory", read)
    for flags, words in (([], "--outside"), (["--outside"], "all was read")):
        with pytest.raises(SystemExit) as ended:
            fit_views.main(
                cli.parse(
                    fit_views.Config,
                    ["--scene", str(folder), "--box", "1", "--out", str(tmp_path / "out"), *flags],
                )
            )
        assert ended.value.code == 2 and words in capfd.readouterr().err
    gc.collect()  # Jittor would otherwise compute the weights of the models


def test_a_folder_may_be_reached_by_a_link(tmp_path):
    scene(tmp_path)
    os.symlink(tmp_path / "scene", tmp_path / "link")
    assert len(load_views(tmp_path / "link", "train").poses) == 2


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "bz2", "3mf", "xyz"])
def test_archives_are_no_meshes(tmp_path, ending):
    (tmp_path / f"bomb.{ending}").write_bytes(HOSTILE[9])
    with pytest.raises(ValueError, match="format that is read: .obj"):
        load_mesh(tmp_path / f"bomb.{ending}")


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(struct.pack(">2xBBI", 8, 1, 2**29) + bytes(10)))
    with pytest.raises(ValueError, match="cut short"):
        read_idx(tmp_path / "a")


def test_a_postscript_program_is_no_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match="not a picture"):
        load_image(path)


def test_16_bit_colours_keep_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 4, 3))
    (tmp_path / "a.png").write_bytes(png16(values))
    np.testing.assert_array_equal(
        np.round(load_image(tmp_path / "a.png").astype(float) * 65535), values
    )


def test_a_glb_that_announces_more_than_it_holds_is_refused(tmp_path):
    content = bytearray(dict(meshes())["glb"])
    (tmp_path / "a.glb").write_bytes(content)
    assert len(load_mesh(tmp_path / "a.glb").faces) == 80
    content[15] = 0x90
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(ValueError, match="its chunks announce 2,4"):
        load_mesh(tmp_path / "a.glb")
