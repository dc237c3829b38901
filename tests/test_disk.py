"""A full disk or a folder that cannot be written: one clear line, exit code 2, and the last good
model as it was."""

import errno
import os
import subprocess
import sys

from jgrid import checkpoint, cli
from jgrid.field import DecoderConfig, DenseGridConfig
from jgrid.image.task import load_model
from jgrid.trainer import TrainConfig

import fit_image
import numpy as np
import pytest
from conftest import DEVICE
from PIL import Image

FIELD = DenseGridConfig(
    finest=8, coarsest=4, levels=2, channels=2, decoder=DecoderConfig(width=8, depth=1)
)
TRAIN = TrainConfig(steps=4, batch=64, eval_every=2, warmup=1)
FLAGS = [
    "--device",
    DEVICE,
    "--train.steps",
    "4",
    "--train.batch",
    "64",
    "--train.eval-every",
    "2",
    "grid:dense",
    "--field.finest",
    "8",
    "--field.coarsest",
    "4",
    "--field.levels",
    "2",
    "--field.channels",
    "2",
    "--field.decoder.width",
    "8",
]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)).save(
        path
    )
    return path


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def finished(photo, disk):
    """The folder of a run and the model in it."""
    out = disk / "out"
    fit_image.main(fit_image.Config(image=photo, out=out, device=DEVICE, train=TRAIN, field=FIELD))
    return out, (out / "model.safetensors").read_bytes()


def assert_ends_with_one_line(photo, out, words, monkeypatch, capfd):
    monkeypatch.setattr(
        sys, "argv", ["fit_image.py", "--image", str(photo), "--out", str(out), *FLAGS]
    )
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_image.Config, fit_image.main)
    printed = capfd.readouterr().err
    errors = [
        line for line in printed.replace("\r", "\n").splitlines() if line.startswith("error: ")
    ]
    assert (
        ended.value.code == 2
        and len(errors) == 1
        and words in errors[0]
        and "Traceback" not in printed
    )


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("left", [0, 4096, 8192], ids=lambda left: f"{left} bytes left")
def test_a_full_disk(photo, finished, monkeypatch, capfd, left):
    out, model = finished
    (out / "metrics.jsonl").write_text("")
    before = files(out)
    with open(out.parent / "rest", "wb", buffering=0) as rest:
        with pytest.raises(OSError):
            while rest.write(bytes(4096)):
                pass
        rest.truncate(rest.tell() - left)
    assert_ends_with_one_line(photo, out, "No space left on device", monkeypatch, capfd)
    assert ((out / "model.safetensors").read_bytes() == model) == (left < 8192) and files(
        out
    ) == before
    load_model(out / "model.safetensors")  # where there was room for it, it is the new one


def test_a_read_only_disk(photo, finished, monkeypatch, capfd):
    out, model = finished
    subprocess.run(["mount", "-o", "remount,ro", str(out.parent)], check=True)
    assert_ends_with_one_line(photo, out, "Read-only file system", monkeypatch, capfd)
    assert (out / "model.safetensors").read_bytes() == model


# the same where nothing can be mounted
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, function, number):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, {"a": np.ones(5, np.float32)}, {"b": 1})

    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match=f"{os.strerror(number)}.*model.safetensors"):
        checkpoint.save(path, {"a": np.zeros(5, np.float32)}, {"b": 2})
    monkeypatch.undo()
    tensors, config = checkpoint.read(path)
    assert (
        tensors["a"].sum() == 5 and config == {"b": 1} and files(tmp_path) == ["model.safetensors"]
    )


def test_a_disk_that_is_full_for_safetensors_is_an_oserror(tmp_path, disk):
    with pytest.raises(OSError, match="model.safetensors"):
        checkpoint.save(disk / "model.safetensors", {"a": np.ones(10**6, np.float32)}, {})
    assert files(disk) == []
