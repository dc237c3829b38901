"""The table of a published protocol: fields on whole pictures, trained to the end, beside the
published rows."""

import sys
from dataclasses import asdict
from typing import Any

from jgrid import checkpoint, report
from jgrid.comparison import Result, file_name, kept, resized
from jgrid.field import count_parameters, field_to_dict
from jgrid.image.task import ImageTask
from jgrid.optimizer import Adam
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from table_presets import PRESETS, Preset
from table_subjects import digest

NEAR = 0.01  # parameters that differ by less count as those asked for
ACROSS = 8  # pictures that have columns of their own
SHOWN = {  # in result.json: of the runs' results
    "psnr": "psnr",
    "ssim": "ssim",
    "parameters": "parameters",
    "steps": "steps",
    "seconds": "seconds_train",
}
Rows = dict[str, list[Result]]  # {field: the result of each run so far}


def run_all(config: Any, sizes: Preset, pictures: dict[str, np.ndarray]) -> Rows:
    """All fields on one picture, then on the next; result.json holds what there is after each
    run."""
    rows: Rows = {name: [] for name in sizes.fields}
    for subject, pixels in pictures.items():
        for name in sizes.fields:
            for seed in range(config.seed, config.seed + sizes.seeds):
                result = _run(config, sizes, subject, pixels, name, seed)
                rows[name].append({**result, "subject": subject})
                checkpoint.write_json(config.out / "result.json", _result(config, sizes, rows))
                print(f"{subject}, {name}, seed {seed}: {_in_words(result)}", flush=True)
    return rows


def _in_words(result: Result) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    return (
        f"{result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}, {result['parameters']:,} parameters,"
        f" {result['seconds_train']:.0f} s"
    )


def _train(sizes: Preset, seed: int) -> TrainConfig:
    return TrainConfig(steps=sizes.steps, batch=sizes.batch, seed=seed, eval_every=sizes.steps)


def _run(
    config: Any, sizes: Preset, subject: str, pixels: np.ndarray, name: str, seed: int
) -> Result:
    """A field on a picture, or its result from an earlier call, by `kept`."""
    field = sizes.fields[name]
    train = _train(sizes, seed)

    def fit() -> dict[str, Any]:
        task = ImageTask(pixels, seed)
        sized = _sized(field, config.parameters, task) if config.parameters else field
        jt.set_global_seed(seed)
        fitted = Trainer(task, task.build(sized), train, progress=sys.stderr.isatty()).fit()
        return {**fitted, "field": field_to_dict(sized)}

    wanted = {
        "field": field_to_dict(field),
        "parameters": config.parameters,
        "content": digest(pixels),
        **asdict(train),
    }
    folder = config.folder("image") / subject / file_name(name) / f"seed-{seed}"
    result = kept(folder, wanted, fit)
    # JSON has no word for what is not finite
    return {entry: np.nan if value is None else value for entry, value in result.items()}


def _sized(field: Any, wanted: int, task: ImageTask) -> Any:
    """The field with as many parameters as are wanted; ValueError where no size of it has them."""

    def count(candidate: Any) -> int:
        return count_parameters(task.build(candidate))

    sized = resized(field, wanted, count)
    nearest = count(sized)
    if abs(nearest / wanted - 1) > NEAR:
        raise ValueError(f"has {nearest:,} parameters at the nearest, not {wanted:,}")
    return sized


def _result(config: Any, sizes: Preset, rows: Rows) -> dict[str, Any]:
    """What result.json holds."""
    return {"protocol": _protocol(config, sizes), "fields": {k: _row(v) for k, v in rows.items()}}


def _protocol(config: Any, sizes: Preset) -> dict[str, Any]:
    adam = Adam([])  # as a Trainer makes it
    train = _train(sizes, config.seed)
    return {
        "pictures": [path.stem for path in config.pictures],
        "seeds": list(range(config.seed, config.seed + sizes.seeds)),
        "batch": train.batch,
        "steps": train.steps,
        "parameters": config.parameters,
        "optimiser": "Adam",
        "betas": adam.betas,
        "eps": adam.eps,
        "schedule": "cosine",
        "warmup": train.warmup,
        "decay": train.decay,
        "loss": "L2",
        "scored": "every pixel",
    }


def _row(results: list[Result]) -> dict[str, Any]:
    """Of a field: its pictures so far, and the mean over those of them that did not fail."""
    subjects = dict.fromkeys(result["subject"] for result in results)
    pictures = {
        subject: _picture([result for result in results if result["subject"] == subject])
        for subject in subjects
    }
    fitted = [picture for picture in pictures.values() if "failed" not in picture]
    mean = {name: float(np.mean([p[name] for p in fitted])) for name in SHOWN} if fitted else {}
    return {"pictures": pictures, "mean": {**mean, "pictures": len(fitted)}}


def _picture(results: list[Result]) -> dict[str, Any]:
    """Of a field on a picture: means over the seeds so far, or why one of them failed."""
    for result in results:
        if "failed" in result:
            return {"failed": result["failed"]}
    if len(results) == 1:
        return {name: results[0][entry] for name, entry in SHOWN.items()}
    means = {name: float(np.mean([r[entry] for r in results])) for name, entry in SHOWN.items()}
    return {**means, "psnr_sd": float(np.std([r["psnr"] for r in results], ddof=1))}


def tabulated(
    config: Any, sizes: Preset, subjects: list[str], rows: Rows
) -> tuple[list[str], list[list[Any]], list[str]]:
    """The head and the lines of the table, the published ones last, and the paragraphs below it."""
    across = subjects if len(subjects) <= ACROSS else []
    head = ["field", "parameters", "PSNR", "SSIM", "seconds", *(f"PSNR, {s}" for s in across)]
    lines = [
        [
            name,
            _parameters(row),
            report.cell(row, "psnr"),
            report.cell(row, "ssim", 4),
            report.cell(row, "seconds_train", 1),
            *(report.cell([r for r in row if r["subject"] == s], "psnr") for s in across),
        ]
        for name, row in rows.items()
    ]
    published = report.published("kodak")
    numbers, sources = report.numbered(published)
    for row, number in zip(published, numbers):
        value = f"{row['value']} [{number}]"
        empty = ["-"] * (len(head) - 3)
        lines.append([f"{row['field']}, published", row["parameters"], value, *empty])
    return head, lines, _notes(config, sizes, subjects, sources)


def _parameters(results: list[Result]) -> str:
    """Their mean over the runs that did not fail."""
    counts = [result["parameters"] for result in results if "failed" not in result]
    return f"{np.mean(counts):,.0f}" if counts else "-"


def _notes(config: Any, sizes: Preset, subjects: list[str], sources: list[str]) -> list[str]:
    protocol = _protocol(config, sizes)
    size = (
        f"resized to {config.parameters:,} parameters" if config.parameters else "at its own size"
    )
    spread = f", ± the standard deviation over {sizes.seeds} seeds" if sizes.seeds > 1 else ""
    measured = (
        f"Measured: means over {', '.join(subjects)}{spread}; every field {size}, {sizes.steps:,}"
        f" steps of {sizes.batch:,} points, Adam ({', '.join(map(str, protocol['betas']))},"
        f" {protocol['eps']}), cosine to {protocol['decay']:.0%} of the rates, L2, every pixel"
        " scored; seconds are of training."
    )
    there = PRESETS["image"]["published"].steps
    others = (
        f", and the steps: {there:,} there, {sizes.steps:,} here" if sizes.steps != there else ""
    )
    published = (
        "Published, each a mean over Kodak's 24 pictures, under the same protocol but for the"
        f" batch: 2^18 points there, {sizes.batch:,} here{others}:"
    )
    return ["", measured, "", published, "", *(f"* {source}" for source in sources)]
