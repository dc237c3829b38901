"""The image table: what it runs, keeps and writes."""
import csv

from jgrid import cli
from jgrid.field import DecoderConfig, MulFAGridConfig, SirenConfig

import numpy as np
import pytest
import tables
from conftest import DEVICE
from PIL import Image

MODELS = {tables.MULFA: MulFAGridConfig(finest=8, coarsest=4, levels=2, channels=2, decoder=DecoderConfig(width=8, depth=1)),
          "SIREN": SirenConfig(width=11, depth=1)}


@pytest.fixture
def pictures(tmp_path):
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_table_is_written_and_runs_are_kept(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "MODELS", MODELS)
    config = tables.Config(pictures=pictures, out=tmp_path / "out", device=DEVICE, steps=20)
    rows = tables.main(config)
    assert set(rows) == set(pictures) and all(set(row) == set(MODELS) for row in rows.values())
    table = list(csv.reader((tmp_path / "out" / "image.csv").open()))
    assert [line[0] for line in table[1:]] == list(MODELS)
    mean = np.mean([row[tables.MULFA]["steps"]["psnr"] for row in rows.values()])
    assert table[1][3] == f"{mean:.2f}" and f"{mean:.2f}" in (tmp_path / "out" / "image.md").read_text()
    assert all((tmp_path / "out" / f"{name}.png").is_file() for name in "ab")
    for row in rows.values():  # equal seconds: as many steps as the paces say
        share = row[tables.MULFA]["pace"] / row["SIREN"]["pace"]
        assert row["SIREN"]["seconds"]["steps"] == max(20, round(20 * share / 10) * 10)

    assert tables.Config(pictures=pictures, fields=("SI",)).names() == list(MODELS)
    assert tables.Config(pictures=pictures, fields=(tables.MULFA,)).names() == [tables.MULFA]
    monkeypatch.setattr(tables, "Trainer", None)  # a second call trains nothing
    assert tables.main(config)[pictures[0]][tables.MULFA]["steps"]["psnr"] == rows[pictures[0]][tables.MULFA]["steps"]["psnr"]


def test_wrong_flags_end_with_one_line(pictures, tmp_path, capsys):
    picture = ["--pictures", str(pictures[0])]
    for arguments in ([*picture, "--steps", "3"], ["--steps", "30"], [*picture, "--fields", "nope"]):
        with pytest.raises(SystemExit) as stop:
            cli.parse(tables.Config, arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(SystemExit):
        tables.main(tables.Config(pictures=(tmp_path / "nowhere.png",), out=tmp_path / "out", device=DEVICE, steps=20))
    assert not (tmp_path / "out").exists()
