"""apps/diagnose.py as its users meet it: what it leaves behind, that predictions hold, how it ends
when the user errs."""

import dataclasses
import json
import sys

from jgrid import cli, picture
from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    Domain,
    HashGridConfig,
    LiteralMulFAGridConfig,
)
from jgrid.theory import figures

import diagnose
import numpy as np
import pytest
from conftest import DEVICE
from PIL import Image

LINEAR = DecoderConfig(depth=0)
SMALL = {
    "linear": DenseGridConfig(finest=12, coarsest=4, levels=2, decoder=LINEAR),
    "hash": HashGridConfig(finest=16, coarsest=4, levels=2, table_size=60, decoder=LINEAR),
    "literal": LiteralMulFAGridConfig(finest=8, coarsest=4, levels=2, decoder=LINEAR),
}


@pytest.fixture
def photo(tmp_path):
    y, x = np.mgrid[:20, :24] / 24
    pixels = np.stack(
        [x, y, 0.5 + 0.4 * np.sin(9 * x * y)], axis=-1
    ) + 0.05 * np.random.default_rng(0).normal(size=(20, 24, 3))
    Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(monkeypatch, photo, out, **flags):
    monkeypatch.setattr(diagnose, "MODELS", SMALL)
    monkeypatch.setattr(diagnose, "CANDIDATES", SMALL)
    flags = {"fields": tuple(SMALL), "steps": 60, **flags}
    paths = diagnose.main(diagnose.Config(image=photo, out=out, device=DEVICE, **flags))
    assert all(path.is_file() for path in paths)
    return json.loads((out / "result.json").read_text())


def test_what_is_predicted_comes_true(photo, tmp_path, monkeypatch, capsys):
    result = run(monkeypatch, photo, tmp_path / "out", verify=True)
    assert (
        result["prediction_error_db"] < 0.01
        and result["predict_seconds"] > 0
        and result["train_seconds"] > 0
    )
    rows = {row["name"]: row for row in result["fields"]}
    by_psnr = sorted(
        rows, key=lambda name: rows[name]["trained"]["psnr_held_out"][-1], reverse=True
    )
    assert result["ranking"] == by_psnr
    for row in rows.values():
        assert (
            row["steps"][-1] == 60
            and row["psnr"] == row["predicted"]["psnr"][-1] > row["predicted"]["psnr"][0]
        )
        assert row["halving"]["1/16 to 1/4"] < row["halving"]["1/2 to 1"]
        assert row["fair"] < row["bound"] and row["condition"] > 1 and row["norm"] > 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"config.json", "result.json", "table.md", "curves.png"}
    assert (
        "| literal |" in capsys.readouterr().out
        and "| hash |" in (tmp_path / "out" / "table.md").read_text()
    )


def test_without_held_out_pixels_and_without_training(photo, tmp_path, monkeypatch):
    result = run(monkeypatch, photo, tmp_path / "out", held_out=0.0, fields=("hash",))
    assert "prediction_error_db" not in result and result["ranking"] == ["hash"]
    assert (
        result["fields"][0]["psnr_held_out"] is None
        and result["fields"][0]["predicted"]["psnr_held_out"] == []
    )


def test_seed_and_held_out_count(photo, tmp_path, monkeypatch):
    values = [
        run(monkeypatch, photo, tmp_path / str(n), fields=("linear",), **flags)["fields"][0]["psnr"]
        for n, flags in enumerate(({}, {}, {"seed": 1}, {"held_out": 0.5}))
    ]
    assert values[0] == values[1] and len(set(values)) == 3


def test_choose(photo, tmp_path, monkeypatch):
    """On the user's picture without training, unless that is asked for; then by how much the chosen
    is worse than the best."""
    plain = run(monkeypatch, photo, tmp_path / "a", choose=True)
    fields = plain["pictures"]["image"]["fields"]
    rows = {row["name"]: row["adam"]["psnr_held_out"][-1] for row in fields}
    assert plain["chosen"]["image"] == max(rows, key=rows.get) and "spearman" not in plain
    verified = run(monkeypatch, photo, tmp_path / "b", choose=True, verify=True)
    assert verified["spearman"] == 1.0 and verified["regret_db"] < 1e-3
    assert verified["prediction_error_db_adam"] < 3  # radial shapes are trained, not foretold
    for label in ("adam", "adam_descent", "adam_features", "bound"):
        assert -1 <= verified[f"spearman_{label}"] <= 1 and verified[f"regret_db_{label}"] >= 0


def test_choose_on_four_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnose, "SIDE", 16)
    result = run(monkeypatch, None, tmp_path / "out", choose=True, steps=5)
    assert (
        set(result["chosen"]) == set(diagnose.PICTURES)
        and {"spearman", "regret_db"} <= result.keys()
    )


def test_the_published_list_of_configurations():
    assert len(diagnose.CANDIDATES) >= 12 and len(diagnose.PICTURES) == 4
    for field in [*diagnose.MODELS.values(), *diagnose.CANDIDATES.values()]:
        assert field.decoder.depth == 0
        assert field.build(Domain(2, 3, (1.0, 1.0))).network is None


@pytest.mark.parametrize("name", ["spectrum", "bound"])
def test_figures(name, tmp_path):
    paths = diagnose.main(diagnose.Config(figure=name, out=tmp_path, device=DEVICE))
    assert paths == [tmp_path / f"{name}.png"] and Image.open(paths[0]).size[0] > 300
    numbers = json.loads((tmp_path / f"{name}.json").read_text())
    if name == "bound":
        assert abs(numbers["FourierGrid"]["difference_largest"] - 0.7458) < 1e-4
        assert numbers["FourierGrid"]["share_lower_fair_unlike_signs"] == 0
    else:
        assert numbers["VoxelGrid"]["peak"] == pytest.approx(1.0) and len(numbers) == 8


def test_slow_figures_small(monkeypatch, tmp_path):
    """The other figures with less training."""
    monkeypatch.setattr(
        figures,
        "text_picture",
        lambda: np.random.default_rng(0).uniform(size=(16, 16, 1)).astype(np.float32),
    )
    monkeypatch.setattr(figures, "_modes", lambda p, steps: np.ones((2, len(steps), 17)))
    monkeypatch.setattr(figures, "drifts", lambda: {"kernel frozen, Adam": 0.0})
    for name, steps in (("fourier", 2), ("regression", 1), ("kernel", 1)):
        diagnose.main(diagnose.Config(figure=name, steps=steps, out=tmp_path, device=DEVICE))
        assert {f"{name}.png", f"{name}.json"} <= {path.name for path in tmp_path.iterdir()}
    assert len(json.loads((tmp_path / "fourier.json").read_text())["picture"]) == 6


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--held-out", "1"], "--held-out must be at least 0 and less than 1, got 1.0"),
        (["--choose", "--held-out", "0"], "--held-out must be more than 0 with --choose"),
        (["--fields", "x"], "--fields must be among"),
        (["--image", "ONE PIXEL"], "--held-out is 0.25, which of 1 x 1 pixels is none"),
        (["--figure", "bound", "--verify"], "--figure goes with neither --verify nor --choose"),
        (["--image", "no.png"], "no such file"),
        (["--figure", "x"], "figure"),
    ],
)
def test_mistakes_end_with_one_line(flags, message, tmp_path, monkeypatch, capsys):
    picture.save(tmp_path / "one.png", np.ones((1, 1, 3)))
    flags = [str(tmp_path / "one.png") if flag == "ONE PIXEL" else flag for flag in flags]
    monkeypatch.setattr(sys, "argv", ["diagnose.py", "--out", str(tmp_path), *flags])
    with pytest.raises(SystemExit) as stop:
        cli.run(diagnose.Config, diagnose.main)
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and message in errors and len(errors.splitlines()) == 1


def test_the_app_has_no_other_flags():
    assert {f.name for f in dataclasses.fields(diagnose.Config)} == {
        "image",
        "out",
        "device",
        "fields",
        "steps",
        "held_out",
        "verify",
        "choose",
        "figure",
        "seed",
    }
