"""The tables of docs/results: fields on subjects at equal parameters, equal steps and equal time,
beside published values.

    python apps/tables.py all --preset cpu --pages docs/results
    python apps/tables.py image --pictures kodak/kodim05.png kodak/kodim15.png --steps 600
    python apps/tables.py image --preset published --pictures kodak/*.png --parameters 341000

Every finished run is kept in --out, so a table that was interrupted goes on where it stopped; a run
that failed says why in its row and is tried again the next time. Writes TABLE.md and TABLE.csv, and
with --pages the table's place in the page TABLE.md there."""

import time
from pathlib import Path
from typing import Annotated, Any, Callable, NamedTuple, Optional

from jgrid import cli, picture, report
from jgrid.comparison import PROTOCOLS, Comparison, MakeTask, Result, file_name, kept
from jgrid.config import MOST, ArgumentError, Count, config
from jgrid.field import field_to_dict
from jgrid.image.files import load_image
from jgrid.image.task import ImageTask, render
from jgrid.run import make_folder
from jgrid.surface.task import surface_of
from jgrid.theory import figures
from jgrid.theory.diagnosis import diagnose, verify
from jgrid.theory.encodings import encoded_fit, kernel_fit
from jgrid.trainer import TrainConfig

import numpy as np
import tyro
from annotated_types import Interval
from table_presets import PRESETS, Preset
from table_published import run_all, tabulated
from table_subjects import SUBJECTS, crop, digest
from typing_extensions import Literal

HELD_OUT = 0.3  # of the pixels, in the image table's held-out column
DIAGNOSED = 0.25  # of the pixels, held out where training is predicted
OTHER_PROTOCOLS = (
    "Published, each under a protocol of its own, so not comparable with what was measured here;"
    " MulFAGrid's own tables were not available to this project. The hash grid's published rows are"
    " Instant-NGP's, the radial kernels' NeuRBF's (which has a hash grid besides), VM's TensoRF's:"
)


@config
class Config:
    """Run fields on subjects and write the tables of docs/results."""

    table: tyro.conf.Positional[Literal["image", "sdf", "views", "theory", "fourier", "all"]]
    """image, sdf, views: fields at equal parameters, steps and time; theory: predicted beside
    trained; fourier: encodings and their NTK."""
    preset: Literal["cpu", "paper", "published"] = "cpu"
    """cpu: small fields and subjects, minutes on two cores; paper: full sizes, for a CUDA machine;
    published: MulFAGrid, the hash grid and the linear grid of MulFAGrid's index on `pictures`, as
    published Kodak tables train them."""
    pictures: tuple[Path, ...] = ()
    """image: pictures to fit, whole, by fields of full size."""
    parameters: Optional[Count] = None
    """preset published: of every field, within 1 %; without it, fields keep their own size."""
    fields: tuple[str, ...] = ()
    """Which of the table's fields, by the start of their names; without it, all. The first is
    always there."""
    data: Optional[Path] = None
    """Folder with kodak/*.png, meshes/* and scenes/*/ to take as subjects; without it, what
    packages ship and the app makes."""
    pages: Optional[Path] = None
    """Folder of pages whose places for tables are filled too: docs/results."""
    out: Path = Path("out/tables")
    """Folder for the runs and the tables."""
    device: cli.Device = "auto"
    """auto takes CUDA where it is usable."""
    steps: Optional[Annotated[int, Interval(ge=20, le=MOST)]] = None
    """Steps of the equal-steps column; default the preset's."""
    seeds: Optional[Count] = None
    """Runs of each field on each subject; default the preset's."""
    seed: Annotated[int, Interval(ge=0, le=MOST)] = 0
    """Of weights, samples and held-out pixels of the first."""

    def check(self) -> None:
        if self.pictures and (self.table != "image" or self.data or self.pages):
            raise ArgumentError(
                "pictures", "goes with the table image, and without `data` and `pages`"
            )
        if self.preset == "published" and (self.table != "image" or not self.pictures):
            raise ArgumentError("preset", "published goes with the table image and `pictures`")
        if self.parameters and self.preset != "published":
            raise ArgumentError("parameters", "goes with `preset` published alone")
        names = [name for table in self.tables() for name in self.sizes(table).fields]
        for start in self.fields:
            if not any(name.startswith(start) for name in names):
                raise ArgumentError(
                    "fields",
                    f"must begin as names of fields do, unlike {start!r}; there are"
                    f" {', '.join(dict.fromkeys(names))}",
                )

    def tables(self) -> tuple[str, ...]:
        """The tables that are asked for."""
        return tuple(PRESETS) if self.table == "all" else (self.table,)

    def kind(self) -> str:
        """The name of the preset: pictures have one of their own, unless it is the published."""
        return "pictures" if self.pictures and self.preset != "published" else self.preset

    def sizes(self, table: str) -> Preset:
        """The preset of a table."""
        return PRESETS[table][self.kind()]

    def chosen(self, table: str) -> Preset:
        """The preset of a table with the flags applied."""
        sizes = self.sizes(table)
        fields = {
            name: field
            for n, (name, field) in enumerate(sizes.fields.items())
            if n == 0 or not self.fields or name.startswith(self.fields)
        }
        return sizes._replace(
            fields=fields, steps=self.steps or sizes.steps, seeds=self.seeds or sizes.seeds
        )

    def folder(self, table: str) -> Path:
        """Of a table's runs."""
        return self.out / table / self.kind()


class Table(NamedTuple):
    """What was found, and how it is shown: results of each field, the head and the lines of a
    table, and the paragraphs below it."""

    rows: dict[str, Any]
    head: list[str]
    lines: list[list[Any]]
    notes: list[str]


class Column(NamedTuple):
    """A metric of runs under a protocol of `Comparison`."""

    metric: str
    title: str
    digits: int
    protocol: str = "time"


def main(config: Config) -> dict[str, Any]:
    """Run, tabulate; returns {table: rows}."""
    with cli.user_errors(config):
        cli.start(config.device, config.seed)
        for table in config.tables() if config.pages else ():
            report.check_place(config.pages / f"{table}.md", table)
        subjects = {
            table: SUBJECTS[table](config, config.chosen(table)) for table in config.tables()
        }
        make_folder(config.out)
    found = {}
    began = time.time()
    version = report.version()  # before the pages change
    for table in config.tables():
        started = time.time()
        made = TABLES[table](config, config.chosen(table), subjects[table])
        found[table] = made.rows
        provenance = report.provenance(command_of(config, table), version)
        text = "\n".join([provenance, "", report.markdown(made.head, made.lines), *made.notes])
        report.write_csv(config.out / f"{table}.csv", made.head, made.lines)
        report.write(config.out / f"{table}.md", text)
        if config.pages:
            report.insert(config.pages / f"{table}.md", table, text)
        print(f"\n{text}\n\n{table}: {time.time() - started:.0f} s", flush=True)
    print(f"all in {(time.time() - began) / 60:.1f} min: {config.out}")
    return found


def command_of(config: Config, table: str) -> str:
    """The command that makes a table again, without the folders of the machine."""
    words = ["python apps/tables.py", table]
    if config.kind() != "pictures":
        words += ["--preset", config.preset]
    if config.pictures:
        words += ["--pictures", *(path.name for path in config.pictures)]
    for name in ("parameters", "steps", "seeds"):
        if getattr(config, name):
            words += [f"--{name}", str(getattr(config, name))]
    if config.fields:
        words += ["--fields", *config.fields]
    if config.data:
        words += ["--data DATA"]
    if config.seed:
        words += ["--seed", str(config.seed)]
    return " ".join(words)


def image(config: Config, sizes: Preset, pictures: dict[str, np.ndarray]) -> Table:
    """Fields on pictures, and a picture of all fits beside each; or the published protocol's."""
    if config.preset == "published":
        results = run_all(config, sizes, pictures)
        return Table(results, *tabulated(config, sizes, list(pictures), results))

    def tasks(held_out: float = 0.0) -> dict[str, MakeTask]:
        return {
            name: lambda seed, pixels=pixels: ImageTask(pixels, seed, held_out)
            for name, pixels in pictures.items()
        }

    def keep(task: ImageTask, model: Any, folder: Path) -> dict[str, Any]:
        picture.save(folder / "prediction.png", render(model, task.height, task.width))
        return {}

    columns = [
        Column("ssim", "SSIM, equal time", 4),
        Column("psnr_held_out", f"PSNR of {HELD_OUT:.0%} held out", 2, "held-out"),
    ]
    comparison = compared(
        config,
        "image",
        sizes,
        tasks(),
        keep,
        others={"held-out": tasks(HELD_OUT)},
        contents={name: digest(pixels) for name, pixels in pictures.items()},
    )
    made = race("image", comparison, sizes, Column("psnr", "PSNR", 2), columns)
    for name, pixels in pictures.items():
        print(show_all(config.folder("image") / f"{name}.png", name, pixels, made.rows))
    return made


def show_all(
    path: Path, subject: str, target: np.ndarray, rows: dict[str, Any], side: int = 240
) -> Path:
    """All fields on one picture at equal time: a detail of each fit, its error map below."""
    detail = crop(target, side)
    columns = [("target", detail)]
    for short, row in zip(short_names(rows), rows.values()):
        results = [r for r in row["time"] if r["subject"] == subject and "failed" not in r]
        if results:
            pixels = load_image(results[0]["folder"] / "prediction.png")
            columns.append((f"{short} {results[0]['psnr']:.1f}", crop(pixels, side)))
    gap = np.ones((8, detail.shape[1], 3))
    panels = []
    for name, pixels in columns:
        error = picture.heat(np.abs(pixels - detail).max(axis=2), 0.1)
        panels.append((name, np.concatenate([picture.as_rgb(pixels), gap, error])))
    return picture.save_panels(path, panels)


def short_names(names: Any) -> list[str]:
    """Names up to their comma, with their places in the table where that does not tell them
    apart."""
    starts = [name.split(",")[0] for name in names]
    return [
        start if starts.count(start) == 1 else f"{start} ({n})" for n, start in enumerate(starts, 1)
    ]


def sdf(config: Config, sizes: Preset, meshes: dict[str, MakeTask]) -> Table:
    """Fields on surfaces."""
    resolution = 96 if config.preset == "cpu" else 256

    def keep(task: Any, model: Any, folder: Path) -> Any:
        return task.measure(surface_of(model, resolution))

    columns = [
        Column("iou_near", "IoU near, equal time", 4),
        Column("normal_error_deg", "normals, equal time (degrees)", 1),
    ]
    comparison = compared(config, "sdf", sizes, meshes, keep)
    return race("sdf", comparison, sizes, Column("iou", "IoU", 4), columns)


def views(config: Config, sizes: Preset, scenes: dict[str, MakeTask]) -> Table:
    """Fields on scenes."""

    def keep(task: Any, model: Any, folder: Path) -> dict[str, Any]:
        seen = task.viewer.picture(model, task.test.poses[0], task.test.cameras[0])[0]
        picture.save(folder / "prediction.png", seen)
        return {}

    columns = [Column("ssim", "SSIM, equal time", 4)]
    comparison = compared(config, "views", sizes, scenes, keep)
    return race("views", comparison, sizes, Column("psnr", "PSNR", 2), columns)


def compared(
    config: Config,
    table: str,
    sizes: Preset,
    subjects: dict[str, MakeTask],
    keep: Callable[[Any, Any, Path], dict[str, Any]],
    others: Optional[dict[str, dict[str, MakeTask]]] = None,
    contents: Optional[dict[str, str]] = None,
) -> Comparison:
    """The comparison of a table."""
    return Comparison(
        fields=sizes.fields,
        subjects=subjects,
        train=TrainConfig(steps=sizes.steps, batch=sizes.batch),
        seeds=tuple(range(config.seed, config.seed + sizes.seeds)),
        patience=sizes.patience,
        out=config.folder(table),
        keep=keep,
        others=others,
        contents=contents,
    )


def race(
    table: str, comparison: Comparison, sizes: Preset, main: Column, columns: list[Column]
) -> Table:
    """A Comparison as a table: `main` under all protocols, then the columns."""
    rows = comparison.rows()
    published, sources = report.beside(table, sizes.fields)
    head = [
        "field",
        "parameters",
        "ms a step",
        *(f"{main.title}, equal {protocol}" for protocol in PROTOCOLS),
        *(column.title for column in columns),
        "steps in equal time",
        "seconds of equal steps",
        f"{main.title}, published",
    ]
    everywhere = [main._replace(protocol=protocol) for protocol in PROTOCOLS]
    columns = [
        *everywhere,
        *columns,
        Column("steps", "", 0),
        Column("seconds_train", "", 1, "steps"),
    ]
    lines = [
        [
            field,
            _parameters(row),
            f"{row['pace']:.3g}",
            *(report.cell(row[c.protocol], c.metric, c.digits) for c in columns),
            published[field],
        ]
        for field, row in rows.items()
    ]
    return Table(rows, head, lines, _race_notes(sizes, list(comparison.subjects), sources))


def _parameters(row: dict[str, Any]) -> str:
    """Of the field at its own size, by the first run that did not fail."""
    for result in row["steps"] + row["time"]:
        if "failed" not in result:
            return f"{result['parameters']:,}"
    return "-"


def _race_notes(sizes: Preset, subjects: list[str], sources: list[str]) -> list[str]:
    first = next(iter(sizes.fields))
    protocol = (
        f"Means over {', '.join(subjects)}{_spread(sizes)}; {sizes.batch:,} points a step. Equal"
        f" parameters: fields resized to {first}'s, {sizes.steps} steps; equal steps: the sizes in"
        f" the table, {sizes.steps} steps; equal time: as many as take {first}'s time for these, by"
        " paces measured in turn."
    )
    if sizes.patience < np.inf:
        protocol += f" A dash: a step takes more than {sizes.patience} times {first}'s."
    return ["", protocol, "", OTHER_PROTOCOLS, "", *(f"* {source}" for source in sources)]


def _spread(sizes: Preset) -> str:
    if sizes.seeds == 1:
        return ""
    return f", ± the standard deviation over {sizes.seeds} seeds"


def theory(config: Config, sizes: Preset, pictures: dict[str, np.ndarray]) -> Table:
    """What apps/diagnose.py predicts, beside training; and the published figures' numbers."""
    rows = {
        name: [
            {**_diagnosed(config, sizes, name, subject, pixels), "subject": subject}
            for subject, pixels in pictures.items()
        ]
        for name in sizes.fields
    }
    columns = {
        "features": ("features", 0),
        "predicted PSNR": ("psnr", 2),
        "trained PSNR": ("trained_psnr", 2),
        "largest error of the curve (dB)": ("prediction_error_db", 4),
        "predicted held out": ("psnr_held_out", 2),
        "trained held out": ("trained_psnr_held_out", 2),
        "bound": ("bound", 3),
        "half of 1/16 to 1/4": ("half_low", 1),
        "half of 1/2 to 1": ("half_high", 0),
        "predicted in (s)": ("predict_seconds", 2),
        "trained in (s)": ("train_seconds", 2),
    }
    lines = [
        [name, *(report.cell(row, *column) for column in columns.values())]
        for name, row in rows.items()
    ]
    protocol = (
        f"{', '.join(pictures)}; {sizes.steps} steps of full-batch gradient descent at 1 /"
        " lambda_max, a quarter of the pixels held out. Half of: steps until half of a band of"
        " frequencies is learned."
    )
    notes = ["", protocol, "", _published_figures(config)]
    return Table(rows, ["field", *columns], lines, notes)


def _diagnosed(
    config: Config, sizes: Preset, name: str, subject: str, pixels: np.ndarray
) -> Result:
    """A field on a picture, predicted and trained."""
    field = sizes.fields[name]

    def run() -> dict[str, Any]:
        task = ImageTask(pixels, config.seed, DIAGNOSED)
        row = diagnose(task, name, field, sizes.steps, config.seed)
        verify(row, task, field, config.seed)
        return {
            **row,
            "trained_psnr": row["trained"]["psnr"][-1],
            "trained_psnr_held_out": row["trained"]["psnr_held_out"][-1],
            "predict_seconds": row["predicted"]["seconds"],
            "train_seconds": row["trained"]["seconds"],
            "half_low": row["halving"].get("1/16 to 1/4"),
            "half_high": row["halving"].get("1/2 to 1"),
        }

    wanted = {
        "field": field_to_dict(field),
        "steps": sizes.steps,
        "seed": config.seed,
        "content": digest(pixels),
    }
    return kept(config.folder("theory") / subject / file_name(name), wanted, run)


def _published_figures(config: Config) -> str:
    """The table of the published figures' numbers, beside those measured here."""

    def run() -> dict[str, Any]:
        bound = figures.bound()[1]["FourierGrid"]
        values = {
            f"{which} difference of the two-point maps, VoxelGrid - FourierGrid": bound[
                f"difference_{which}"
            ]
            for which in ("largest", "least")
        }
        for name, row in figures.spectrum()[1].items():
            values[f"peak of the spectrum, {name}"] = row["peak"]
        return {"values": values}

    values = kept(config.folder("theory") / "figures", {"seed": config.seed}, run).get("values", {})
    lines = [
        [
            row["field"],
            f"{values[row['field']]:.4f}" if row["field"] in values else "failed",
            row["value"],
            f"{row['source']}, {row['protocol']}",
        ]
        for row in report.published("theory")
    ]
    return report.markdown(["figure", "measured", "published", "source"], lines)


def fourier(config: Config, sizes: Preset, pictures: dict[str, np.ndarray]) -> Table:
    """Encodings on pictures: the network trained, and its kernel's regression, on every second
    pixel."""
    seeds = range(config.seed, config.seed + sizes.seeds)
    rows = {
        name: [
            {**_encoded(config, sizes, name, subject, pixels, seed), "subject": subject}
            for subject, pixels in pictures.items()
            for seed in seeds
        ]
        for name in sizes.fields
    }
    columns = [
        (f"test PSNR, {what}, {subject}", key, subject)
        for subject in pictures
        for what, key in (("trained", "trained"), ("by the NTK", "kernel"))
    ]
    published, sources = report.beside("fourier", sizes.fields)
    lines = [
        [
            name,
            sizes.fields[name] or "-",
            *(report.cell([r for r in row if r["subject"] == of], key) for _, key, of in columns),
            report.cell(row, "seconds", 1),
            published[name],
        ]
        for name, row in rows.items()
    ]
    head = [
        "encoding",
        "sigma",
        *(title for title, _, _ in columns),
        "seconds of training",
        "test PSNR, published",
    ]
    size = " x ".join(str(n) for n in next(iter(pictures.values())).shape[:2])
    protocol = (
        f"{size} pixels, every second trained, those between tested; a network of 3 x 128 and"
        f" {sizes.steps} steps of Adam for all, beside regression with the encoding's tangent"
        f" kernel, which trains nothing{_spread(sizes).replace(',', ';', 1)}."
    )
    notes = ["", protocol, "", "Published, under protocols of their own:", ""]
    return Table(rows, head, lines, [*notes, *(f"* {source}" for source in sources)])


def _encoded(
    config: Config, sizes: Preset, name: str, subject: str, pixels: np.ndarray, seed: int
) -> Result:
    """An encoding on a picture, trained and by its kernel."""
    sigma = sizes.fields[name]
    encoding = "log-linear" if name == "positional" else name.split(",")[0]

    def run() -> dict[str, Any]:
        print(f"{encoding} {sigma}, seed {seed}", flush=True)
        started = time.time()
        trained = encoded_fit(pixels, encoding, sigma, sizes.steps, seed=seed)
        seconds = time.time() - started
        kernel = kernel_fit(pixels, encoding, sigma, seed)
        return {"trained": trained, "seconds": seconds, "kernel": kernel}

    wanted = {
        "encoding": encoding,
        "sigma": sigma,
        "steps": sizes.steps,
        "seed": seed,
        "content": digest(pixels),
    }
    return kept(config.folder("fourier") / subject / f"{file_name(name)}-{seed}", wanted, run)


TABLES = {"image": image, "sdf": sdf, "views": views, "theory": theory, "fourier": fourier}


if __name__ == "__main__":
    cli.run(Config, main)
