"""python -m jgrid.data: what it finds whole, missing and damaged; and its stand-ins."""

import json
import shutil
import sys

from jgrid import data
from jgrid.image.files import load_image
from jgrid.labelled import load_labelled, read_idx

import numpy as np
import pytest
from PIL import Image


def test_a_name_is_found_here_or_among_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JGRID_DATA", "sets")
    (tmp_path / "sets" / "scenes" / "chair").mkdir(parents=True)
    assert data.find("chair", "scenes") == data.data_folder() / "scenes" / "chair"
    with pytest.raises(ValueError, match="chair: no such file or folder, neither here nor in sets"):
        data.find("chair")
    (tmp_path / "chair").mkdir()
    assert str(data.find("chair", "scenes")) == "chair"


def test_the_real_sets_are_as_published(data_folder, tmp_path, capsys):
    kept = [name for name in ("meshes", "mnist", "scenes") if (data_folder / name).is_dir()]
    assert data.main([str(data_folder), *kept]) == 0
    printed = capsys.readouterr().out
    assert "incomplete" not in printed and (
        "mnist          ok          4 as published" in printed or "mnist" not in kept
    )
    if "meshes" in kept:
        shutil.copytree(data_folder / "meshes", tmp_path / "meshes")
        (tmp_path / "meshes" / "skull.obj").chmod(0o644)
        (tmp_path / "meshes" / "skull.obj").write_bytes(b"v 0 0 0\n")
        (tmp_path / "meshes" / "scorpion.obj").unlink()
        assert data.main([str(tmp_path)]) == 1
        printed = capsys.readouterr().out
        assert (
            "2 as published" in printed
            and "skull.obj: readable, but not the published file" in printed
        )
        assert "missing: scorpion.obj" in printed


def test_stand_ins_can_be_read_and_are_not_taken_for_the_sets(tmp_path, capsys):
    assert data.main([str(tmp_path), "--stand-in"]) == 0
    assert load_image(tmp_path / "kodak" / "kodim01.png").shape == (256, 256, 3)
    (pictures, labels), (test, _) = load_labelled(tmp_path / "mnist")
    assert (
        pictures.shape == (1500, 1, 28, 28)
        and test.shape == (297, 1, 28, 28)
        and set(labels) == set(range(10))
    )
    assert read_idx(tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").max() == 255
    assert data.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert (
        printed.count("incomplete") == 4
        and "kodim01.png: RGB of 256 x 256 pixels, wanted RGB of 768 x 512" in printed
    )
    assert "uint8 (1500, 28, 28), wanted uint8 (60000, 28, 28)" in printed
    assert data.main([str(tmp_path), "kodak", "--stand-in"]) == 2  # what is there is left alone
    assert "left alone" in capsys.readouterr().err


def test_stand_ins_without_scikit_learn_end_with_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert data.main([str(tmp_path), "mnist", "--stand-in"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install scikit-learn" in line and not (tmp_path / "mnist").exists()


def test_scenes(tmp_path, capsys):
    scene = tmp_path / "scenes" / "box"
    for split in ("train", "test"):
        (scene / split).mkdir(parents=True)
        Image.new("RGBA", (4, 4)).save(scene / split / "r_0.png")
        frames = [{"file_path": f"./{split}/r_0", "transform_matrix": np.eye(4).tolist()}]
        (scene / f"transforms_{split}.json").write_text(
            json.dumps({"camera_angle_x": 0.7, "frames": frames})
        )
    assert data.main([str(tmp_path), "scenes"]) == 0
    (scene / "test" / "r_0.png").unlink()
    assert (
        data.main([str(tmp_path), "scenes"]) == 1
        and "its picture ./test/r_0 is missing" in capsys.readouterr().out
    )
    (scene / "transforms_test.json").write_text("{}")
    assert (
        data.main([str(tmp_path), "scenes"]) == 1
        and "not a transforms file" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "arguments, code", [(["nowhere"], 2), ([".", "paintings"], 2), ([".", "kodak"], 1)]
)
def test_wrong_commands(arguments, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert data.main(arguments) == code
    captured = capsys.readouterr()
    assert (
        captured.err.startswith("error: ") and captured.err.count("\n") == 1
        if code == 2
        else "no folder kodak" in captured.out
    )
