"""The apps as their users meet them: what a run leaves behind, and how it ends when the user
errs."""

import dataclasses
import json
import os
import subprocess
import sys

from jgrid import checkpoint, cli
from jgrid.field import (
    FIELDS,
    DecoderConfig,
    DenseGridConfig,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MFNConfig,
    MulFAGridConfig,
    OptDNNConfig,
    OptDNNGridConfig,
    RadialGridConfig,
    SirenConfig,
    VMGridConfig,
    WireConfig,
    field_to_dict,
)
from jgrid.image.files import load_image
from jgrid.run import again_folder
from jgrid.solver import SolveConfig
from jgrid.trainer import TrainConfig

import fit_image
import jittor as jt
import numpy as np
import pytest
from conftest import DEVICE
from PIL import Image

HEIGHT = 12
WIDTH = 16
DECODER = DecoderConfig(width=8, depth=1)
SMALL = [
    DenseGridConfig(finest=8, coarsest=4, levels=2, channels=2, profile="linear", decoder=DECODER),
    HashGridConfig(
        finest=16,
        coarsest=4,
        levels=2,
        channels=2,
        table_size=50,
        profile="linear",
        decoder=DECODER,
    ),
    MulFAGridConfig(
        finest=8, coarsest=4, levels=2, channels=2, octaves=1, profile="linear", decoder=DECODER
    ),
    LiteralMulFAGridConfig(finest=8, coarsest=4, levels=2, channels=2, octaves=1, decoder=DECODER),
    SirenConfig(width=11, depth=1),
    FourierNetConfig(features=4, width=11, depth=1),
    MFNConfig(width=11, depth=1),
    WireConfig(width=5, depth=2),
    FourierGridConfig(finest=5, octaves=1, channels=2, decoder=DECODER),
    RadialGridConfig(nodes=30, channels=2, decoder=DECODER),
    VMGridConfig(finest=8, rank=4, decoder=DECODER),
    OptDNNConfig(features=4, width=8, hidden=8, depth=2),
    OptDNNGridConfig(finest=8, coarsest=4, levels=2, channels=2, width=8, hidden=8, depth=2),
]
TRAIN = TrainConfig(steps=4, batch=64, eval_every=2, warmup=1)
every_field = pytest.mark.parametrize("field", SMALL, ids=lambda field: type(field).__name__)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    ).save(path)
    return path


def files(folder):
    return sorted(p.name for p in folder.iterdir())


RUN = [
    "comparison.png",
    "config.json",
    "error_map.png",
    "metrics.jsonl",
    "model.safetensors",
    "prediction.png",
    "psnr.png",
    "result.json",
]


@every_field
def test_a_run_leaves_everything_behind(photo, tmp_path, field, capsys):
    out = tmp_path / "out"
    paths = fit_image.main(
        fit_image.Config(image=photo, out=out, device=DEVICE, scale=2, train=TRAIN, field=field)
    )
    assert files(out) == sorted([*RUN, "prediction_x2.png"])
    result = json.loads((out / "result.json").read_text())
    assert {
        "psnr",
        "ssim",
        "loss",
        "parameters",
        "steps",
        "seconds_train",
        "seconds_total",
        "device",
    } <= result.keys()
    assert result["steps"] == 4 and result["device"] == DEVICE and result["parameters"] > 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4] and lines[-1]["psnr"] == result["psnr"]
    config = json.loads((out / "config.json").read_text())
    assert (
        config["field"] == field_to_dict(field)
        and config["train"]["steps"] == 4
        and config["image"] == str(photo)
    )
    assert load_image(out / "prediction.png").shape == (HEIGHT, WIDTH, 3)
    assert load_image(out / "prediction_x2.png").shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert set(paths) == {out / name for name in files(out) if name.endswith(".png")}
    printed = capsys.readouterr().out
    assert f"{result['psnr']:.2f} dB" in printed and all(str(path) in printed for path in paths)

    again = tmp_path / "again"
    fit_image.main(
        fit_image.Config(
            from_=out / "model.safetensors",
            out=again,
            device=DEVICE,
            scale=2,
            train=TRAIN,
            field=field,
        )
    )
    assert files(again) == ["prediction.png", "prediction_x2.png"]
    for name in files(again):
        np.testing.assert_array_equal(load_image(again / name), load_image(out / name))
    assert (
        str(again_folder("fit_image", out / "model.safetensors", "rendered"))
        == f"out/{out.name}-rendered"
    )
    assert (
        str(again_folder("fit_image", out / "photo.safetensors", "rendered"))
        == "out/fit_image-photo-rendered"
    )


def test_held_out_pixels_are_reported(photo, tmp_path, capsys):
    config = fit_image.Config(
        image=photo,
        out=tmp_path / "out",
        device=DEVICE,
        held_out=0.25,
        train=TRAIN,
        field=SMALL[0],
    )
    fit_image.main(config)
    assert "held-out pixels are learned as the others let expect" in capsys.readouterr().out
    fit_image.main(dataclasses.replace(config, out=tmp_path / "alone", prior=False))
    assert "let expect" not in capsys.readouterr().out
    fit_image.main(dataclasses.replace(config, out=tmp_path / "whole", held_out=0.0))
    assert "let expect" not in capsys.readouterr().out
    result, alone = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("out", "alone")
    )
    assert {"psnr", "psnr_train", "psnr_held_out"} <= result.keys()
    assert result["psnr_held_out"] != alone["psnr_held_out"]
    assert "psnr_held_out" in json.loads(
        (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0]
    )


# one level, which is solved exactly, and kernels with parameters, trained or not
@pytest.mark.parametrize(
    "field, steps, lines",
    [
        (DenseGridConfig(finest=8, levels=1, decoder=DecoderConfig(depth=0)), 1, [1]),
        (
            HashGridConfig(
                finest=16, coarsest=4, levels=2, table_size=50, decoder=DecoderConfig(depth=0)
            ),
            4,
            [2, 4],
        ),
        (RadialGridConfig(nodes=30, decoder=DecoderConfig(depth=0)), 4, [2, 4]),
    ],
    ids=["exact", "hash", "radial"],
)
def test_a_solved_field_leaves_the_same_behind(photo, tmp_path, field, steps, lines):
    out = tmp_path / "out"
    solve = SolveConfig(iterations=4, tolerance=0.0, eval_every=2)
    fit_image.main(
        fit_image.Config(
            image=photo, out=out, device=DEVICE, solver="cg", solve=solve, train=TRAIN, field=field
        )
    )
    assert files(out) == RUN
    result = json.loads((out / "result.json").read_text())
    assert {
        "psnr",
        "ssim",
        "loss",
        "parameters",
        "steps",
        "seconds_train",
        "seconds_total",
        "device",
    } <= result.keys()
    assert result["steps"] == steps
    assert [
        json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()
    ] == lines
    config = json.loads((out / "config.json").read_text())
    assert config["solver"] == "cg" and config["solve"]["iterations"] == 4
    again = tmp_path / "again"
    fit_image.main(
        fit_image.Config(
            from_=out / "model.safetensors", out=again, device=DEVICE, train=TRAIN, field=field
        )
    )
    np.testing.assert_array_equal(
        load_image(again / "prediction.png"), load_image(out / "prediction.png")
    )


def test_the_app_has_no_other_flags():
    """The tests here make each of them count; a new one needs a test."""
    flags = {
        "image",
        "out",
        "resume",
        "device",
        "log",
        "held_out",
        "prior",
        "scale",
        "from_",
        "ops",
        "solver",
        "train",
        "solve",
        "field",
    }
    assert {f.name for f in dataclasses.fields(fit_image.Config)} == flags


def test_every_kind_of_field_is_run():
    assert {type(field) for field in SMALL} == set(FIELDS.values())


def test_same_seed_same_picture(photo, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train = TrainConfig(steps=4, batch=64, eval_every=2, warmup=1, seed=seed)
        fit_image.main(
            fit_image.Config(
                image=photo, out=tmp_path / name, device=DEVICE, train=train, field=SMALL[0]
            )
        )
    weights = [
        checkpoint.read(tmp_path / name / "model.safetensors")[0]["grid.w"] for name in "abc"
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_default_folder_is_named_after_picture_and_field(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit_image.main(fit_image.Config(image=photo, device=DEVICE, train=TRAIN, field=SMALL[0]))
    assert files(tmp_path / "out") == ["fit_image-photo-grid-dense"]
    assert files(tmp_path / "out" / "fit_image-photo-grid-dense") == RUN


def test_grey_and_transparent_pictures(tmp_path):
    for mode, channels in (("L", 1), ("RGBA", 4)):
        Image.fromarray(np.full((HEIGHT, WIDTH, channels), 99, np.uint8).squeeze(), mode).save(
            tmp_path / f"{mode}.png"
        )
        fit_image.main(
            fit_image.Config(
                image=tmp_path / f"{mode}.png",
                out=tmp_path / mode,
                device=DEVICE,
                train=TRAIN,
                field=SMALL[0],
            )
        )
        assert load_image(tmp_path / mode / "prediction.png").shape == (HEIGHT, WIDTH, channels)


# The flags a user may get wrong, and a word the line must contain. {photo}, {tmp} are filled in.
WRONG = {
    "missing picture": (["--image", "{tmp}/nowhere.png"], "nowhere.png: no such file"),
    "line break in a name": (["--image", "{tmp}/no\nwhere.png"], "where.png: no such file"),
    "not a picture": (["--image", "{tmp}/text.png"], "text.png: not a picture"),
    "unknown field": (["--image", "{photo}", "grid:nope"], "grid:nope"),
    "unknown flag": (["--image", "{photo}", "--bogus", "3"], "bogus"),
    "no number": (["--image", "{photo}", "--train.steps", "many"], "many"),
    "no steps": (["--image", "{photo}", "--train.steps", "0"], "train.steps"),
    "negative batch": (["--image", "{photo}", "--train.batch", "-5"], "train.batch"),
    "negative seed": (["--image", "{photo}", "--train.seed", "-1"], "seed"),
    "negative size": (["--image", "{photo}", "grid:dense", "--field.finest", "-3"], "finest"),
    "no levels": (["--image", "{photo}", "grid:hash", "--field.levels", "0"], "levels"),
    "negative decoder": (
        ["--image", "{photo}", "grid:dense", "--field.decoder.depth", "-1"],
        "decoder",
    ),
    "negative width": (["--image", "{photo}", "net:siren", "--field.width", "-1"], "width"),
    "unknown profile": (
        ["--image", "{photo}", "grid:dense", "--field.profile", "cubist"],
        "cubist",
    ),
    "too large": (
        ["--image", "{photo}", "grid:dense", "--field.finest", "90000"],
        "memory|nodes|large",
    ),
    "all held out": (["--image", "{photo}", "--held-out", "1"], "held-out"),
    "scale": (["--image", "{photo}", "--scale", "0"], "scale"),
    "unknown device": (["--image", "{photo}", "--device", "tpu"], "tpu"),
    "missing model": (["--from", "{tmp}/nowhere.safetensors"], "nowhere.safetensors: no such file"),
    "not a model": (["--from", "{tmp}/text.png"], "text.png: damaged or not"),
    "model of another app": (
        ["--from", "{tmp}/other.safetensors"],
        "other.safetensors: not a model of fit_image",
    ),
    "model and picture": (["--from", "{tmp}/other.safetensors", "--image", "{photo}"], "from"),
    "solver and decoder": (
        ["--image", "{photo}", "--solver", "cg", "grid:dense"],
        "grid with --field.decoder.depth 0",
    ),
    "solver and network": (
        ["--image", "{photo}", "--solver", "cg", "net:siren"],
        "a field must be linear in its features",
    ),
    "unknown solver": (["--image", "{photo}", "--solver", "newton"], "newton"),
    "no iterations": (["--image", "{photo}", "--solve.iterations", "0"], "iterations"),
    "kernel without parameters": (
        [
            "--image",
            "{photo}",
            "--solver",
            "cg",
            "--solve.kernel-steps",
            "2",
            "grid:dense",
            "--field.decoder.depth",
            "0",
        ],
        "--solve.kernel-steps must be 0",
    ),
    "nothing to resume": (["--resume", "--from", "{tmp}/other.safetensors"], "--resume"),
    "resume a solver": (["--image", "{photo}", "--resume", "--solver", "cg"], "--resume"),
    "resume with another flag": (
        ["--image", "{photo}", "--out", "{tmp}/unfinished", "--resume", "--train.steps", "7"],
        "--train.steps 7",
    ),
    "begin anew over a run": (["--image", "{photo}", "--out", "{tmp}/unfinished"], "--resume"),
    "no CUDA": (["--image", "{photo}", "--device", "cuda"], "cuda"),
    "out is a file": (["--image", "{photo}", "--out", "{tmp}/text.png"], "text.png"),
    "out in a file": (["--image", "{photo}", "--out", "{tmp}/text.png/deeper"], "text.png"),
}


def filled(arguments, photo, tmp_path):
    (tmp_path / "text.png").write_text("this is no picture")
    checkpoint.save(
        tmp_path / "other.safetensors",
        {"a": np.zeros(2, np.float32)},
        {"field": {"kind": "grid:dense"}},
    )
    (tmp_path / "unfinished").mkdir(exist_ok=True)
    checkpoint.save(
        tmp_path / "unfinished" / "resume.safetensors",
        {"a": np.zeros(2, np.float32)},
        {"run": {"train": {"steps": 6}}, "step": 3, "seconds": 1.0, "loss": 0.1, "history": []},
    )
    arguments = [a.format(photo=photo, tmp=tmp_path) for a in arguments]
    return arguments if "--out" in arguments else ["--out", str(tmp_path / "out"), *arguments]


def assert_one_clear_line(stderr, words):
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert any(word in lines[0] for word in words.split("|")), lines[0]


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_line_and_exit_code_2(
    photo, tmp_path, monkeypatch, capfd, arguments, words
):
    if "cuda" in arguments and jt.has_cuda:
        pytest.skip("CUDA is here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit_image.py", *filled(arguments, photo, tmp_path)])
    before = files(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_image.Config, fit_image.main)
    assert ended.value.code == 2
    assert_one_clear_line(capfd.readouterr().err, words)
    assert files(tmp_path) == before  # no folder was made


# the same through the real command, where an import or an exit hook could add lines of its own
@pytest.mark.parametrize("name", ["not a picture", "unknown field", "negative size"])
def test_a_user_error_ends_the_command(photo, tmp_path, repository, name):
    arguments, words = WRONG[name]
    command = [
        sys.executable,
        str(repository / "apps" / "fit_image.py"),
        *filled(arguments, photo, tmp_path),
    ]
    before = files(tmp_path)
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "60"}
    )
    assert ended.returncode == 2
    assert_one_clear_line(ended.stderr, words)
    assert ended.stdout == ""
    assert files(tmp_path) == before


def test_the_command_reads_its_flags(photo, tmp_path, monkeypatch):
    """Common flags before the field, the field's own after it."""
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "fit_image.py",
            "--image",
            str(photo),
            "--out",
            str(tmp_path / "out"),
            "--device",
            "cpu",
            "--scale",
            "3",
            "--train.steps",
            "2",
            "--train.batch",
            "64",
            "--train.eval-every",
            "1",
            "grid:hash",
            "--field.finest",
            "16",
            "--field.coarsest",
            "4",
            "--field.levels",
            "2",
            "--field.table-size",
            "50",
            "--field.decoder.width",
            "8",
            "--field.decoder.depth",
            "1",
        ],
    )
    cli.run(fit_image.Config, fit_image.main)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["scale"] == 3 and config["train"]["steps"] == 2
    assert {
        "kind": "grid:hash",
        "finest": 16,
        "coarsest": 4,
        "levels": 2,
        "table_size": 50,
    }.items() <= config["field"].items()
    assert config["field"]["decoder"] == {"width": 8, "depth": 1, "gated": False}
    assert load_image(tmp_path / "out" / "prediction_x3.png").shape == (3 * HEIGHT, 3 * WIDTH, 3)


def test_help_lists_the_flags(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fit_image.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_image.Config, fit_image.main)
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("--image", "--out", "--train.steps", *FIELDS))


def test_training_that_stops_is_one_line_and_exit_code_1(photo, tmp_path, monkeypatch, capfd):
    arguments = [
        "--image",
        str(photo),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--train.steps",
        "30",
        "grid:dense",
        "--field.lr-features",
        "1e30",
        "--field.lr-network",
        "1e30",
    ]
    monkeypatch.setattr(sys, "argv", ["fit_image.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_image.Config, fit_image.main)
    assert ended.value.code == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "learning rate" in lines[0]
