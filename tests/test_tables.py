"""The tables: what they run, keep and write, and how they end when a run fails or the user errs."""

import csv
import json
from dataclasses import replace

from jgrid import cli, comparison, report
from jgrid.comparison import resized
from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    Domain,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MulFAGridConfig,
    OptDNNGridConfig,
    SirenConfig,
)
from jgrid.image.task import ImageTask
from jgrid.surface import task as sdf_task
from jgrid.surface.mesh import make_mesh
from jgrid.theory import figures
from jgrid.trainer import TrainConfig

import numpy as np
import pytest
import table_published
import table_subjects
import tables
import trimesh
from conftest import DEVICE
from PIL import Image
from table_presets import MULFA, PRESETS, Preset

DECODER = DecoderConfig(width=8, depth=1)
FIELDS = {
    MULFA: MulFAGridConfig(finest=8, coarsest=4, levels=2, channels=2, decoder=DECODER),
    "SIREN": SirenConfig(width=11, depth=1),
}
LINEAR = DecoderConfig(depth=0)


@pytest.fixture
def pictures(tmp_path):
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def use(monkeypatch, table, name, preset):
    monkeypatch.setitem(PRESETS[table], name, preset)


def test_the_image_table_is_written_and_runs_are_kept(pictures, tmp_path, monkeypatch, capsys):
    use(monkeypatch, "image", "pictures", Preset(FIELDS, 20, 2**16, seeds=2, patience=100))
    config = tables.Config(table="image", pictures=pictures, out=tmp_path / "out", device=DEVICE)
    rows = tables.main(config)["image"]
    assert set(rows) == set(FIELDS) and all(
        len(rows["SIREN"][protocol]) == 4 for protocol in comparison.PROTOCOLS
    )
    table = list(csv.reader((tmp_path / "out" / "image.csv").open()))
    assert [line[0] for line in table[1:]] == list(FIELDS)
    by_seed = [
        np.mean([r["psnr"] for r in rows[MULFA]["steps"] if r["wanted"]["seed"] == seed])
        for seed in (0, 1)
    ]
    assert table[1][4] == f"{np.mean(by_seed):.2f} ± {np.std(by_seed, ddof=1):.2f}"
    written = (tmp_path / "out" / "image.md").read_text()
    assert (
        table[1][4] in written
        and "GaussianImage, table 1a" in written
        and "43.88" in written
        and str(tmp_path) not in written
    )
    assert all((tmp_path / "out" / "image" / "pictures" / f"{name}.png").is_file() for name in "ab")

    reference = rows[MULFA]["steps"][0]["parameters"]
    assert all(abs(r["parameters"] / reference - 1) < 0.1 for r in rows["SIREN"]["parameters"])
    assert abs(rows["SIREN"]["steps"][0]["parameters"] / reference - 1) > 0.1
    pace = json.loads((tmp_path / "out" / "image" / "pictures" / "a" / "pace.json").read_text())[
        "milliseconds"
    ]
    # equal time: as many steps as the paces say
    steps = max(20, round(20 * pace[MULFA] / pace["SIREN"] / 10) * 10)
    assert {r["steps"] for r in rows["SIREN"]["time"] if r["subject"] == "a"} == {steps}
    assert all("psnr_held_out" in r for r in rows["SIREN"]["held-out"])

    monkeypatch.setattr(comparison.Trainer, "fit", None)  # a second call trains nothing
    again = tables.main(config)["image"]
    assert [r["psnr"] for r in again[MULFA]["steps"]] == [r["psnr"] for r in rows[MULFA]["steps"]]

    file = tmp_path / "out" / "image" / "pictures" / "a" / "pace.json"
    kept = json.loads(file.read_text())
    # as if SIREN had been another when its pace was measured
    kept["fields"]["SIREN"]["width"] += 1
    file.write_text(json.dumps(kept))
    monkeypatch.setattr(comparison.Trainer, "advance", lambda self, steps: None)
    black = {"a": lambda seed: ImageTask(np.zeros((4, 4, 3), np.float32))}
    new = comparison.Comparison(
        FIELDS,
        black,
        TrainConfig(20),
        (0,),
        100,
        tmp_path / "out" / "image" / "pictures",
        contents={"a": kept["content"]},
    ).paces("a")
    assert new[MULFA] == pace[MULFA] and new["SIREN"] != pace["SIREN"]


def test_another_picture_of_the_same_name_is_fitted_anew(pictures, tmp_path, monkeypatch, capsys):
    use(monkeypatch, "image", "pictures", Preset({MULFA: FIELDS[MULFA]}, 20, 2**16, patience=100))
    config = tables.Config(
        table="image", pictures=pictures[:1], out=tmp_path / "out", device=DEVICE
    )
    first = tables.main(config)["image"][MULFA]["steps"][0]["psnr"]
    pixels = Image.open(pictures[0])
    pixels.load()
    pixels.crop((0, 0, 20, 24)).save(pictures[0])
    assert tables.main(config)["image"][MULFA]["steps"][0]["psnr"] != first
    (tmp_path / "other").mkdir()
    pixels.save(tmp_path / "other" / pictures[0].name)
    with pytest.raises(SystemExit):
        tables.main(replace(config, pictures=(pictures[0], tmp_path / "other" / pictures[0].name)))
    assert "two are called a" in capsys.readouterr().err


def test_a_run_that_fails_says_why_and_is_tried_again(pictures, tmp_path, monkeypatch):
    use(
        monkeypatch,
        "image",
        "pictures",
        # more nodes than 32-bit indices can name
        Preset({**FIELDS, "hash grid": DenseGridConfig(finest=2**17)}, 20, 2**16, patience=100),
    )
    config = tables.Config(
        table="image", pictures=pictures[:1], out=tmp_path / "out", device=DEVICE, fields=("hash",)
    )
    rows = tables.main(config)["image"]
    assert "psnr" in rows[MULFA]["steps"][0] and "finest" in rows["hash grid"]["steps"][0]["failed"]
    table = list(csv.reader((tmp_path / "out" / "image.csv").open()))
    assert (
        "failed on a" in table[2][4]
        and "does not fit into 32-bit indices; lower `finest`" in table[2][4]
        and "failed" not in "".join(table[1])
    )
    use(
        monkeypatch,
        "image",
        "pictures",
        Preset(
            {
                **FIELDS,
                "hash grid": HashGridConfig(
                    finest=16, coarsest=4, levels=2, table_size=50, decoder=DECODER
                ),
            },
            20,
            2**16,
            patience=1e-9,
        ),
    )
    rows = tables.main(config)["image"]
    # patience: for the time only
    assert rows["hash grid"]["steps"] == [] and rows["hash grid"]["time"][0]["steps"] >= 20


def test_all_tables_fill_their_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(table_subjects, "PICTURES", ("astronaut",))
    monkeypatch.setattr(sdf_task, "EVALUATED", 1000)
    monkeypatch.setattr(sdf_task, "NEAR", 500)
    ball = trimesh.creation.icosphere(2)
    monkeypatch.setattr(table_subjects, "gyroid_ball", lambda: make_mesh(ball.vertices, ball.faces))
    monkeypatch.setattr(table_subjects, "knot", lambda: ball)
    monkeypatch.setattr(table_subjects, "SDFConfig", lambda pool: sdf_task.SDFConfig(pool=2000))
    monkeypatch.setattr(
        figures,
        "bound",
        lambda: (None, {"FourierGrid": {"difference_largest": 0.7, "difference_least": 0.0}}),
    )
    monkeypatch.setattr(figures, "spectrum", lambda: (None, {"VoxelGrid": {"peak": 1.0}}))
    mulfa = {MULFA: FIELDS[MULFA]}
    linear = {
        "linear": DenseGridConfig(finest=12, coarsest=4, levels=2, decoder=LINEAR),
        "literal": LiteralMulFAGridConfig(finest=8, coarsest=4, levels=2, decoder=LINEAR),
    }
    small = {
        "image": Preset(mulfa, 20, 64, side=24),
        "sdf": Preset(mulfa, 20, 64),
        "views": Preset(mulfa, 20, 64, side=12),
        "theory": Preset(linear, 20, side=24),
        "fourier": Preset({"none": 0, "gaussian": 2}, 2, side=16),
    }
    for table, preset in small.items():
        use(monkeypatch, table, "cpu", preset)
        (tmp_path / f"{table}.md").write_text(
            f"before {table}\n<!-- table: {table} -->\nSTALE\n<!-- end -->\nafter\n"
        )
    found = tables.main(
        tables.Config(table="all", pages=tmp_path, out=tmp_path / "out", device=DEVICE)
    )
    assert set(found) == set(tables.TABLES)
    for table in tables.TABLES:
        page = (tmp_path / f"{table}.md").read_text()
        assert page.startswith(f"before {table}\n<!-- table: {table} -->\n") and page.endswith(
            "\n<!-- end -->\nafter\n"
        )
        assert (
            "STALE" not in page and f"`python apps/tables.py {table} --preset cpu`, commit " in page
        )
        assert "failed" not in page.split("| figure")[0]
    assert (
        all(row["steps"][0]["iou"] >= 0 for row in found["sdf"].values())
        and found["views"][MULFA]["steps"][0]["psnr"] > 0
    )
    assert found["theory"]["linear"][0]["prediction_error_db"] < 0.01
    assert "| 0.7000 | 0.75 |" in (tmp_path / "theory.md").read_text()
    assert found["fourier"]["gaussian"][0]["kernel"] > 3


def published(pictures, tmp_path, **flags):
    return tables.Config(
        table="image",
        preset="published",
        pictures=pictures,
        steps=20,
        out=tmp_path / "out",
        device=DEVICE,
        **flags,
    )


def result_in(folder):
    return json.loads((folder / "out" / "result.json").read_text())


class Fits:
    """The trainings that began, a TrainConfig each; the one after `most` is interrupted."""

    def __init__(self, monkeypatch):
        fit = table_published.Trainer.fit
        self.begun = []
        self.most = 1000

        def noted(trainer):
            if len(self.begun) == self.most:
                raise KeyboardInterrupt
            self.begun.append(trainer.config)
            return fit(trainer)

        monkeypatch.setattr(table_published.Trainer, "fit", noted)


def test_the_published_protocol_is_run_and_written(pictures, tmp_path, monkeypatch, capsys):
    """With the fields themselves; steps and points are fewer."""
    preset = PRESETS["image"]["published"]
    assert (preset.steps, preset.batch, preset.seeds) == (20000, 2**16, 1)
    use(monkeypatch, "image", "published", preset._replace(batch=2**10))
    rows = tables.main(published(pictures, tmp_path, parameters=341000))["image"]
    result = result_in(tmp_path)
    assert list(result["fields"]) == [MULFA, "hash grid", "linear grid of the same index"]
    for name, field in result["fields"].items():
        assert list(field["pictures"]) == ["a", "b"]
        for run, (stem, found) in zip(rows[name], field["pictures"].items()):
            assert run["subject"] == stem and set(found) == set(table_published.SHOWN)
            assert found["psnr"] == run["psnr"] and found["seconds"] == run["seconds_train"]
            assert abs(found["parameters"] / 341000 - 1) <= 0.01 and found["steps"] == 20
        both = [found["psnr"] for found in field["pictures"].values()]
        assert both[0] != both[1] and field["mean"]["psnr"] == pytest.approx(np.mean(both))
        assert field["mean"]["pictures"] == 2
    protocol = result["protocol"]
    expected = {"batch": 2**10, "steps": 20, "parameters": 341000, "pictures": ["a", "b"]}
    assert expected.items() <= protocol.items()
    assert protocol["betas"] == [0.9, 0.95] and protocol["eps"] == 1e-15
    written = (tmp_path / "out" / "image.md").read_text()
    command = "image --preset published --pictures a.png b.png --parameters 341000 --steps 20`"
    assert f"`python apps/tables.py {command}, commit " in written
    assert "batch: 2^18 points there, 1,024 here, and the steps: 20,000 there, 20 here" in written
    table = list(csv.DictReader((tmp_path / "out" / "image.csv").open()))
    assert table[1]["PSNR, b"] == f"{rows['hash grid'][1]['psnr']:.2f}"
    found = {(line["field"], line["parameters"], line["PSNR"]) for line in table}
    assert {
        ("CARA, published", "341K", "46.24 [1]"),
        ("hash grid (I-NGP), published", "about 207K", "37.06 [2]"),
    } <= found


def test_the_linear_grid_is_the_others_without_kernel_and_gates():
    """What they share is MulFAGrid's, decoder and rates are the hash grid's."""
    mulfa, hashed, linear = PRESETS["image"]["published"].fields.values()
    shared = ("finest", "coarsest", "levels", "channels", "table_size", "fold", "profile")
    assert all(getattr(linear, name) == getattr(mulfa, name) for name in shared)
    assert linear.decoder == hashed.decoder and mulfa.decoder.gated
    assert linear.lr_features == hashed.lr_features and linear.lr_network == hashed.lr_network


def test_the_published_protocol_goes_on_where_it_stopped(pictures, tmp_path, monkeypatch):
    use(monkeypatch, "image", "published", Preset(FIELDS, 20000, 2**10))
    fits = Fits(monkeypatch)
    config = published(pictures, tmp_path, seeds=2, seed=3)
    fits.most = 5  # of eight: in the second picture's first field
    with pytest.raises(KeyboardInterrupt):
        tables.main(config)
    stopped = result_in(tmp_path)["fields"]
    assert set(stopped["SIREN"]["pictures"]) == {"a"}
    assert set(stopped[MULFA]["pictures"]) == {"a", "b"}
    assert "psnr_sd" not in stopped[MULFA]["pictures"]["b"]  # of one seed so far
    fits.most = 1000
    rows = tables.main(config)["image"]
    assert [train.seed for train in fits.begun] == [3, 4, 3, 4, 3, 4, 3, 4]

    whole = result_in(tmp_path)
    values = [run["psnr"] for run in rows["SIREN"] if run["subject"] == "b"]
    found = whole["fields"]["SIREN"]["pictures"]["b"]
    assert found["psnr"] == pytest.approx(np.mean(values)) and values[0] != values[1]
    assert found["psnr_sd"] == pytest.approx(np.std(values, ddof=1))
    (rows["SIREN"][-1]["folder"] / "result.json").unlink()
    tables.main(config)
    assert len(fits.begun) == 9 and fits.begun[-1].seed == 4
    psnr = result_in(tmp_path)["fields"]["SIREN"]["pictures"]["b"]["psnr"]
    assert psnr == pytest.approx(found["psnr"], abs=1e-3)
    sized = replace(config, parameters=rows[MULFA][0]["parameters"])
    for other in (sized, replace(sized, steps=21)):  # of another size, of other steps: anew
        before = len(fits.begun)
        tables.main(other)
        assert len(fits.begun) > before


def test_a_field_that_cannot_have_the_parameters_says_so(pictures, tmp_path, monkeypatch):
    grid = DenseGridConfig(finest=8, coarsest=4, levels=2, decoder=DECODER)
    small = HashGridConfig(finest=40, coarsest=20, levels=2, table_size=50, decoder=DECODER)
    use(monkeypatch, "image", "published", Preset({"hash": small, "grid": grid}, 20, 2**10))
    rows = tables.main(published(pictures[:1], tmp_path, parameters=3001))["image"]
    fields = result_in(tmp_path)["fields"]
    assert abs(rows["hash"][0]["parameters"] / 3001 - 1) <= 0.01
    failed = fields["grid"]["pictures"]["a"]["failed"]
    assert "parameters at the nearest, not 3,001" in failed
    assert fields["grid"]["mean"] == {"pictures": 0} and fields["hash"]["mean"]["pictures"] == 1
    table = list(csv.DictReader((tmp_path / "out" / "image.csv").open()))
    assert failed in table[1]["PSNR"] and "failed" not in table[0]["PSNR"]


def test_equal_parameters():
    """The size whose count comes nearest, where there is a largest that may be asked for too."""

    def count(config):
        if config.width > 300:
            raise ValueError("too large")
        return 10 * config.width

    assert resized(SirenConfig(width=50), 1234, count).width == 123
    assert resized(SirenConfig(width=50), 1236, count).width == 124
    assert resized(SirenConfig(width=50), 9999, count).width == 300
    # whose tables are not full
    assert resized(HashGridConfig(), 500, lambda config: config.finest).finest == 500
    assert resized(HashGridConfig(), 7, lambda config: config.table_size).table_size == 7
    assert resized(DenseGridConfig(), 500, lambda config: config.finest).finest == 500
    assert (
        resized(
            OptDNNGridConfig(),
            500,
            lambda config: config.finest + 10**6 * config.width - 32 * 10**6,
        ).width
        == 32
    )


def test_cells_of_a_table():
    runs = [
        {"psnr": value, "wanted": {"seed": seed}, "subject": "a"}
        for value, seed in ((1.0, 0), (3.0, 0), (4.0, 1), (6.0, 1))
    ]
    assert (
        report.cell(runs[:2], "psnr") == "2.00"
        and report.cell(runs, "psnr", 1) == "3.5 ± 2.1"
        and report.cell([], "psnr") == "-"
    )
    assert report.cell([*runs, {"failed": "why", "subject": "b"}], "psnr") == "failed on b: why"
    assert report.cell([{**runs[0], "psnr": None}], "psnr") == "nan"
    assert report.markdown(["a", "b"], [["x|y", 1]]).splitlines()[-1] == "| x/y | 1 |"


def test_published_values_are_whole():
    for table in tables.TABLES:
        rows = report.published(table)
        assert rows and all(
            row[name] for row in rows for name in ("field", "data", "protocol", "source")
        )
        assert all(np.isfinite(float(row["value"])) for row in rows)
        known = {name for preset in PRESETS[table].values() for name in preset.fields}
        # else no row would have one beside it
        assert table == "theory" or known & {row["field"] for row in rows}
    rows = report.published("kodak")
    assert rows and all(row["value"] and row["parameters"] for row in rows)
    assert all("20,000 steps of 2^18" in row["protocol"] for row in rows)
    assert not any(
        "MulFA" in row["field"] for table in tables.TABLES for row in report.published(table)
    )


def test_what_is_put_into_a_page_is_as_narrow_as_the_page(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("above\n<!-- table: a -->\nold\n<!-- end -->\nbelow\n")
    words = " ".join(["word"] * 40)
    table = "| " + " | ".join(["column"] * 20) + " |"
    report.insert(page, "a", f"{words}\n\n{table}\n\n* {words}\n* short\n")
    lines = page.read_text().splitlines()
    assert all(len(line) <= 100 for line in lines if line != table) and table in lines
    assert page.read_text().split() == [
        *("above <!-- table: a --> " + words).split(),
        *f"{table} * {words} * short <!-- end --> below".split(),
    ]
    assert sum(line.startswith("  word") for line in lines) == 2  # the point's further lines


def test_a_page_without_its_place_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "sdf.md").write_text("no place")
    with pytest.raises(SystemExit) as stop:
        tables.main(tables.Config(table="sdf", pages=tmp_path, out=tmp_path / "out", device=DEVICE))
    assert (
        stop.value.code == 2
        and "<!-- table: sdf -->" in capsys.readouterr().err
        and not (tmp_path / "out").exists()
    )


def test_wrong_flags_end_with_one_line(pictures, tmp_path, capsys):
    picture = ["--pictures", str(pictures[0])]
    for arguments in (
        ["image", *picture, "--steps", "3"],
        [],
        ["image", "--fields", "nope"],
        ["sdf", *picture],
        ["image", "--seeds", "0"],
        ["image", *picture, "--pages", "docs"],
        ["paintings"],
        ["image", "--preset", "published"],
        ["sdf", "--preset", "published"],
        ["all", "--preset", "published", *picture],
        ["image", "--preset", "published", *picture, "--data", "data"],
        ["image", "--preset", "published", *picture, "--parameters", "0"],
        ["image", *picture, "--parameters", "30000"],
        ["sdf", "--parameters", "30000"],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.parse(tables.Config, arguments)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    for wrong in ({"pictures": (tmp_path / "nowhere.png",)}, {"data": tmp_path}):
        with pytest.raises(SystemExit):
            tables.main(tables.Config(table="image", out=tmp_path / "out", device=DEVICE, **wrong))
        assert not (tmp_path / "out").exists()


def test_the_published_presets_can_be_built():
    for table in ("image", "sdf", "views"):
        for name, config in PRESETS[table]["cpu"].fields.items():
            assert config.build(Domain(2 if table == "image" else 3, 3)) is not None, name
