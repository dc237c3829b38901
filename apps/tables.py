"""The tables of docs/results: fields on subjects at equal parameters, equal steps and equal time,
beside published values.

    python apps/tables.py all --preset cpu --pages docs/results
    python apps/tables.py image --pictures kodak/kodim05.png kodak/kodim15.png --steps 600

Every finished run is kept in --out, so a table that was interrupted goes on where it stopped; a run
that failed says why in its row and is tried again the next time. Writes TABLE.md and TABLE.csv, and
with --pages the table's place in the page TABLE.md there."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from jgrid import cli, picture, report
from jgrid.comparison import PROTOCOLS, Comparison, file_name, kept
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
from table_presets import PRESETS
from table_subjects import SUBJECTS, crop, digest
from typing_extensions import Literal

HELD_OUT = 0.3  # of the pixels, in the image table's held-out column
DIAGNOSED = 0.25  # of the pixels, held out where training is predicted


@dataclass(frozen=True)
class Config:
    """Run fields on subjects and write the tables of docs/results."""

    table: tyro.conf.Positional[Literal["image", "sdf", "views", "theory", "fourier", "all"]]
    """image, sdf, views: fields at equal parameters, steps and time; theory: predicted beside
    trained; fourier: encodings and their NTK."""
    preset: Literal["cpu", "paper"] = "cpu"
    """cpu: small fields and subjects, minutes on two cores; paper: full sizes, for a CUDA
    machine."""
    pictures: tuple[Path, ...] = ()
    """image: pictures to fit, whole, by fields of full size."""
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
    steps: Optional[int] = None
    """Steps of the equal-steps column; default the preset's."""
    seeds: Optional[int] = None
    """Runs of each field on each subject; default the preset's."""
    seed: int = 0
    """Of weights, samples and held-out pixels of the first."""

    def __post_init__(self):
        if self.steps is not None and self.steps < 20:
            raise ValueError(f"--steps must be at least 20, got {self.steps}")
        if self.seeds is not None and self.seeds < 1 or self.seed < 0:
            raise ValueError(
                f"--seeds must be positive and --seed not negative, got {self.seeds} and"
                f" {self.seed}"
            )
        if self.pictures and (self.table != "image" or self.data or self.pages):
            raise ValueError("--pictures goes with the table image, and without --data and --pages")
        for start in self.fields:
            names = [name for table in self.tables() for name in self.sizes(table).fields]
            if not any(name.startswith(start) for name in names):
                raise ValueError(
                    f"--fields: no field starts with {start!r}; there are"
                    f" {', '.join(dict.fromkeys(names))}"
                )

    def tables(self):
        return tuple(PRESETS) if self.table == "all" else (self.table,)

    def sizes(self, table):
        return PRESETS[table]["pictures" if self.pictures else self.preset]

    def chosen(self, table):
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

    def folder(self, table):
        return self.out / table / ("pictures" if self.pictures else self.preset)


def main(config):
    """Run, tabulate; returns {table: rows}."""
    with cli.user_errors(config):
        cli.start(config.device, config.seed)
        for table in config.tables() if config.pages else ():
            report.check_place(config.pages / f"{table}.md", table)
        subjects = {
            table: SUBJECTS[table](config, config.chosen(table)) for table in config.tables()
        }
        make_folder(config.out)
    # before the pages change
    found = {}
    began = time.time()
    version = report.version()
    for table in config.tables():
        started = time.time()
        found[table], head, lines, notes = TABLES[table](
            config, config.chosen(table), subjects[table]
        )
        text = "\n".join(
            [
                report.provenance(command_of(config, table), version),
                "",
                report.markdown(head, lines),
                *notes,
            ]
        )
        report.write_csv(config.out / f"{table}.csv", head, lines)
        report.write(config.out / f"{table}.md", text)
        if config.pages:
            report.insert(config.pages / f"{table}.md", table, text)
        print(f"\n{text}\n\n{table}: {time.time() - started:.0f} s", flush=True)
    print(f"all in {(time.time() - began) / 60:.1f} min: {config.out}")
    return found


def command_of(config, table):
    """The command that makes a table again, without the folders of the machine."""
    flags = (
        ["--pictures " + " ".join(path.name for path in config.pictures)]
        if config.pictures
        else [f"--preset {config.preset}"]
    )
    flags += [
        f"--{name} {getattr(config, name)}" for name in ("steps", "seeds") if getattr(config, name)
    ]
    flags += ["--fields " + " ".join(config.fields)] if config.fields else []
    flags += ["--data DATA"] if config.data else []
    return f"python apps/tables.py {table} {' '.join(flags)}" + (
        f" --seed {config.seed}" if config.seed else ""
    )


def race(config, table, sizes, subjects, build, metric, keep, extra, others=None, contents=None):
    """Rows of a Comparison, with their table: metric and extra are (name, title, digits); extra
    ones also have a protocol."""
    train = TrainConfig(steps=sizes.steps, batch=sizes.batch)
    seeds = tuple(range(config.seed, config.seed + sizes.seeds))
    rows = Comparison(
        sizes.fields,
        subjects,
        build,
        train,
        seeds,
        sizes.patience,
        config.folder(table),
        keep,
        others,
        contents,
    ).rows()
    name, title, digits = metric
    published, sources = report.beside(table, sizes.fields)
    head = [
        "field",
        "parameters",
        "ms a step",
        *(f"{title}, equal {protocol}" for protocol in PROTOCOLS),
        *(e[1] for e in extra),
        "steps in equal time",
        "seconds of equal steps",
        f"{title}, published",
    ]
    lines = []
    for field, row in rows.items():
        at_all = [
            result
            for protocol in ("steps", "time")
            for result in row[protocol]
            if "failed" not in result
        ]
        parameters = f"{at_all[0]['parameters']:,}" if at_all else "-"
        lines.append(
            [
                field,
                parameters,
                f"{row['pace']:.3g}",
                *(report.cell(row[protocol], name, digits) for protocol in PROTOCOLS),
                *(
                    report.cell(row[protocol], key, decimals)
                    for key, _, decimals, protocol in extra
                ),
                report.cell(row["time"], "steps", 0),
                report.cell(row["steps"], "seconds_train", 1),
                published[field],
            ]
        )
    first = next(iter(sizes.fields))
    spread = f", ± the standard deviation over {sizes.seeds} seeds" if sizes.seeds > 1 else ""
    notes = [
        "",
        f"Means over {', '.join(subjects)}{spread}; {sizes.batch:,} points a step. Equal"
        f" parameters: fields resized to {first}'s,"
        f" {sizes.steps} steps; equal steps: the sizes in the table, {sizes.steps} steps; equal"
        f" time: as many as take {first}'s time for these, by paces measured in turn."
        + (
            f" A dash: a step takes more than {sizes.patience} times {first}'s."
            if sizes.patience < np.inf
            else ""
        ),
        "",
        (
            "Published, each under a protocol of its own, so not comparable with what was measured"
            " here; MulFAGrid's own tables were not available to this project. The hash grid's"
            " published rows are Instant-NGP's, the radial kernels' NeuRBF's (which has a hash grid"
            " besides), VM's TensoRF's:"
        ),
        "",
        *(f"* {note}" for note in sources),
    ]
    return rows, head, lines, notes


def image(config, sizes, pictures):
    def task(name, held_out=0.0):
        return lambda seed: ImageTask(pictures[name], seed, held_out)

    def keep(task, model, folder):
        picture.save(folder / "prediction.png", render(model, task.height, task.width))
        return {}

    found = race(
        config,
        "image",
        sizes,
        {name: task(name) for name in pictures},
        lambda field, task: field.build(task),
        ("psnr", "PSNR", 2),
        keep,
        [
            ("ssim", "SSIM, equal time", 4, "time"),
            ("psnr_held_out", f"PSNR of {HELD_OUT:.0%} held out", 2, "held-out"),
        ],
        {"held-out": {name: task(name, HELD_OUT) for name in pictures}},
        {name: digest(p) for name, p in pictures.items()},
    )
    for name, pixels in pictures.items():
        print(compare(config.folder("image") / f"{name}.png", name, pixels, found[0]))
    return found


def compare(path, subject, target, rows, side=240):
    """All fields on one picture at equal time: a detail of each fit, its error map below."""
    columns = [("target", crop(target, side))]
    starts = [name.split(",")[0] for name in rows]
    # as short as tells them apart; the others' places in the table are said
    short = {
        name: start if starts.count(start) == 1 else f"{start} ({n + 1})"
        for n, (name, start) in enumerate(zip(rows, starts))
    }
    for name, row in rows.items():
        result = next(
            (r for r in row["time"] if r["subject"] == subject and "failed" not in r), None
        )
        if result:
            pixels = load_image(result["folder"] / "prediction.png")
            columns.append((f"{short[name]} {result['psnr']:.1f}", crop(pixels, side)))
    errors = [
        picture.heat(np.abs(pixels - columns[0][1]).max(axis=2), 0.1) for _, pixels in columns
    ]
    gap = np.ones((8, columns[0][1].shape[1], 3))
    panels = [
        (name, np.concatenate([picture.as_rgb(pixels), gap, error]))
        for (name, pixels), error in zip(columns, errors)
    ]
    return picture.save(path, picture.side_by_side(panels))


def sdf(config, sizes, meshes):
    resolution = 96 if config.preset == "cpu" else 256
    return race(
        config,
        "sdf",
        sizes,
        meshes,
        lambda field, task: field.build(task),
        ("iou", "IoU", 4),
        lambda task, model, folder: task.measure(surface_of(model, resolution)),
        [
            ("iou_near", "IoU near, equal time", 4, "time"),
            ("normal_error_deg", "normals, equal time (degrees)", 1, "time"),
        ],
    )


def views(config, sizes, scenes):
    def keep(task, model, folder):
        picture.save(
            folder / "prediction.png",
            task.viewer.picture(model, task.test.poses[0], task.test.camera)[0],
        )
        return {}

    return race(
        config,
        "views",
        sizes,
        scenes,
        lambda field, task: task.build(field),
        ("psnr", "PSNR", 2),
        keep,
        [("ssim", "SSIM, equal time", 4, "time")],
    )


def theory(config, sizes, pictures):
    """What apps/diagnose.py predicts, beside training; and the published figures' numbers."""
    rows = {}
    for name, field in sizes.fields.items():
        rows[name] = []
        for subject, pixels in pictures.items():

            def run(name=name, field=field, pixels=pixels):
                task = ImageTask(pixels, config.seed, DIAGNOSED)
                row = diagnose(task, name, field, sizes.steps, config.seed)
                verify(row, task, field, config.seed)
                trained = {key: row["trained"][key][-1] for key in ("psnr", "psnr_held_out")}
                return {
                    **row,
                    "trained_psnr": trained["psnr"],
                    "trained_psnr_held_out": trained["psnr_held_out"],
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
            rows[name].append(
                {
                    **kept(config.folder("theory") / subject / file_name(name), wanted, run),
                    "subject": subject,
                }
            )
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

    def published_figures():
        bound = figures.bound()[1]["FourierGrid"]
        spectrum = figures.spectrum()[1]
        maps = {
            f"{which} difference of the two-point maps, VoxelGrid - FourierGrid": bound[
                f"difference_{which}"
            ]
            for which in ("largest", "least")
        }
        return {
            "values": {
                **maps,
                **{f"peak of the spectrum, {name}": row["peak"] for name, row in spectrum.items()},
            }
        }

    values = kept(
        config.folder("theory") / "figures", {"seed": config.seed}, published_figures
    ).get("values", {})
    compared = [
        [
            row["field"],
            f"{values[row['field']]:.4f}" if row["field"] in values else "failed",
            row["value"],
            f"{row['source']}, {row['protocol']}",
        ]
        for row in report.published("theory")
    ]
    notes = [
        "",
        (
            f"{', '.join(pictures)}; {sizes.steps} steps of full-batch gradient descent at 1 /"
            " lambda_max, a quarter of the pixels held out. Half of: steps until half of a band of"
            " frequencies is learned."
        ),
        "",
        report.markdown(["figure", "measured", "published", "source"], compared),
    ]
    return rows, ["field", *columns], lines, notes


def fourier(config, sizes, pictures):
    """Encodings on pictures: the network trained, and its kernel's regression, on every second
    pixel."""
    rows = {}
    for name, sigma in sizes.fields.items():
        encoding = "log-linear" if name == "positional" else name.split(",")[0]
        rows[name] = []
        for subject, pixels in pictures.items():
            for seed in range(config.seed, config.seed + sizes.seeds):

                def run(encoding=encoding, sigma=sigma, pixels=pixels, seed=seed):
                    print(f"{encoding} {sigma}, seed {seed}", flush=True)
                    started = time.time()
                    trained = encoded_fit(pixels, encoding, sigma, sizes.steps, seed=seed)
                    return {
                        "trained": trained,
                        "seconds": time.time() - started,
                        "kernel": kernel_fit(pixels, encoding, sigma, seed),
                    }

                wanted = {
                    "encoding": encoding,
                    "sigma": sigma,
                    "steps": sizes.steps,
                    "seed": seed,
                    "content": digest(pixels),
                }
                folder = config.folder("fourier") / subject / f"{file_name(name)}-{seed}"
                rows[name].append({**kept(folder, wanted, run), "subject": subject})
    published, sources = report.beside("fourier", sizes.fields)
    head = [
        "encoding",
        "sigma",
        *(
            f"test PSNR, {what}, {subject}"
            for subject in pictures
            for what in ("trained", "by the NTK")
        ),
        "seconds of training",
        "test PSNR, published",
    ]
    lines = [
        [
            name,
            sizes.fields[name] or "-",
            *(
                report.cell([r for r in row if r["subject"] == subject], key)
                for subject in pictures
                for key in ("trained", "kernel")
            ),
            report.cell(row, "seconds", 1),
            published[name],
        ]
        for name, row in rows.items()
    ]
    size = " x ".join(str(n) for n in next(iter(pictures.values())).shape[:2])
    notes = [
        "",
        f"{size} pixels, every second trained, those between tested; a network of 3 x 128 and"
        f" {sizes.steps} steps of Adam for all, beside regression with the encoding's tangent"
        " kernel, which trains nothing"
        + (f"; ± the standard deviation over {sizes.seeds} seeds." if sizes.seeds > 1 else "."),
        "",
        "Published, under protocols of their own:",
        "",
        *(f"* {note}" for note in sources),
    ]
    return rows, head, lines, notes


TABLES = {"image": image, "sdf": sdf, "views": views, "theory": theory, "fourier": fourier}


if __name__ == "__main__":
    cli.run(Config, main)
