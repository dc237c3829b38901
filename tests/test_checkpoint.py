"""Files that survive: they come back equal, whole or not at all; damaged ones are refused by
name."""

import json

from jgrid import checkpoint
from jgrid.network import MLP

import jittor as jt
import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIG = {"field": {"kind": "grid:dense", "levels": 3}, "rate": 0.25, "none": None}


def small():
    return MLP(3, 2, 5, 1, 0.5)


def tensors(model):
    return {name: p.numpy() for name, p in model.state_dict().items()}


@pytest.fixture
def saved(tmp_path):
    """(path, tensors) of a good file."""
    values = tensors(small())
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, values, CONFIG)
    return path, values


def test_round_trip(saved):
    path, values = saved
    found, config = checkpoint.read(path)
    assert config == CONFIG
    assert found.keys() == values.keys()
    other = small()
    checkpoint.assign(other, found)
    assert all(
        np.array_equal(tensors(other)[name], value) and tensors(other)[name].dtype == value.dtype
        for name, value in values.items()
    )
    x = jt.array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    again = small()
    checkpoint.assign(again, values)
    assert np.array_equal(other(x).numpy(), again(x).numpy())


def test_views_are_saved_as_they_look(tmp_path):
    """safetensors writes the memory of an array, which is not that of a transposed one."""
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    checkpoint.save(tmp_path / "a.safetensors", {"a": value}, {})
    np.testing.assert_array_equal(checkpoint.read(tmp_path / "a.safetensors")[0]["a"], value)


def spoiled(kind):
    values = tensors(small())
    name = "layers.0.weight"
    if kind == "missing":
        del values[name]
    elif kind == "extra":
        name = "layers.9.weight"
        values[name] = np.zeros(3, np.float32)
    elif kind == "shape":
        values[name] = values[name].T.copy()
    elif kind == "dtype":
        values[name] = values[name].astype(np.float64)
    else:
        values[name][1, 1] = {"nan": np.nan, "inf": -np.inf}[kind]
    return name, values


@pytest.mark.parametrize("kind", ["missing", "extra", "shape", "dtype", "nan", "inf"])
def test_assign_is_strict_and_leaves_the_model_alone(kind):
    name, values = spoiled(kind)
    model = small()
    before = tensors(model)
    with pytest.raises(ValueError, match="this-model.*" + name.replace(".", r"\.")):
        checkpoint.assign(model, values, "this-model")
    assert all(np.array_equal(before[entry], value) for entry, value in tensors(model).items())


def test_truncated_files_are_refused(saved, tmp_path):
    path, _ = saved
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 40, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut.safetensors"):
            checkpoint.read(cut)


def test_other_files_are_refused(tmp_path):
    weights = {"a": np.zeros(2, np.float32)}
    path = tmp_path / "other.safetensors"
    metadata = [
        None,
        {},
        {"format": "pt"},
        {"format": checkpoint.FORMAT},
        {"format": checkpoint.FORMAT, "config": "{not json"},
    ]
    for value in metadata:
        save_file(weights, path, metadata=value)
        with pytest.raises(ValueError, match="other.safetensors"):
            checkpoint.read(path)
    for content in (
        b"just text, no tensors at all",
        b"\x80\x04K\x01.",
        b"\xff" * 64,
        b"PK\x03\x04" + bytes(60),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="other.safetensors"):
            checkpoint.read(path)
    for missing in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(ValueError, match=missing.name):
            checkpoint.read(missing)


def files(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    "error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch, error):
    path, _ = saved
    whole = path.read_bytes()

    def half(arrays, filename, metadata=None):
        with open(filename, "wb") as file:
            file.write(whole[:50])
        raise error

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(type(error)):
        checkpoint.save(path, {"a": np.zeros(2, np.float32)}, {})
    assert path.read_bytes() == whole
    assert files(path.parent) == [path.name]


def test_a_write_replaces_the_old_file_at_once(saved):
    path, _ = saved
    checkpoint.save(path, {"a": np.ones(2, np.float32)}, {"b": 1})
    found, config = checkpoint.read(path)
    assert list(found) == ["a"] and config == {"b": 1}
    assert files(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~checkpoint._umask()


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    checkpoint.write_json(
        path, {"psnr": 1.5, "steps": [1, 2], "nan": [float("nan"), {"inf": float("inf")}]}
    )
    assert json.loads(path.read_text()).pop("nan") == [None, {"inf": None}]
    checkpoint.write_json(path, {"psnr": 1.5, "steps": [1, 2]})
    assert json.loads(path.read_text()) == {"psnr": 1.5, "steps": [1, 2]}
    with pytest.raises(TypeError):
        checkpoint.write_json(path, {"bad": object()})
    assert json.loads(path.read_text())["psnr"] == 1.5
    assert files(tmp_path) == ["result.json"]


def test_a_folder_that_is_missing_is_an_oserror(tmp_path):
    with pytest.raises(OSError):
        checkpoint.write_json(tmp_path / "nowhere" / "a.json", {})
