"""python -m benchmarks [NAME ...] --out FILE.json: measure, write FILE.json, print the tables."""

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path

from benchmarks import race, suite

import tyro
from typing_extensions import Literal


def solver(quick, _):
    # last and late: it imports Jittor, which ends a process whose children are stopped
    from benchmarks import solver

    return solver.run(quick)


def zoo(quick, _):
    from benchmarks import zoo  # as late as the solver

    return zoo.run(quick)


# name: function of (quick, the measured limits); the limits themselves are measured in every run
BENCHMARKS = {
    "step": suite.step,
    "mulfa": suite.mulfa,
    "ops": suite.ops,
    "scaling": suite.scaling,
    "image": suite.image,
    "sdf": suite.sdf,
    "views": suite.views,
    "zoo": zoo,
    "solver": solver,
}


@dataclass(frozen=True)
class Config:
    """Time jgrid beside its peers and the machine's limits."""

    names: tyro.conf.Positional[tuple[Literal[("limits", *BENCHMARKS)], ...]] = ()
    """What to measure; nothing: everything."""
    out: Path = Path("out/benchmarks.json")
    """The results, as JSON."""
    quick: bool = False
    """Tiny sizes and one round, to see that everything runs; the numbers mean nothing."""


def machine():
    """Where and with what the numbers were measured."""
    cpu = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    installed = {}
    for package in ("jittor", "numpy", "torch", "jax"):
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = None
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": len(cpu),
        "threads": race.THREADS,
        "python": platform.python_version(),
        **installed,
    }


def markdown(results):
    """The results as Markdown tables."""
    tables = [_limits(results["limits"])]
    for name in ("step", "mulfa", "views", "zoo"):
        if name in results:
            tables.append(_runs(name, results[name]))
    if results.get("ops", {}).get("parts"):
        tables.append(_parts(results["ops"]))
    if results.get("scaling", {}).get("ms"):
        tables.append(_scaling(results["scaling"]))
    for field, fit in results.get("image", {}).items():
        if field != "reasons" and fit:
            rows = [(t, fit["seconds"][t], fit["steps"][t]) for t in fit["seconds"]]
            tables.append(_table(f"image, {field}", ["dB", "seconds", "steps"], rows))
    if results.get("sdf", {}).get("faces"):
        tables.append(_extraction(results["sdf"]))
    return "\n".join(tables)


def _table(title, columns, rows):
    def cell(value):
        return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [f"\n### {title}\n", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _limits(limits):
    rows = [
        (kind, size, f"{rate:.3g} {sizes['unit']}")
        for kind, sizes in limits.items()
        for size, rate in sizes.items()
        if kind != "runs" and size != "unit"
    ]
    return _table("limits", ["what", "size", "best"], rows)


def _runs(name, entry):
    """The competitors, each beside jgrid; of one that failed the reason."""
    rows = []
    for run, r in entry["runs"].items():
        if r["ms"] is None:
            rows.append((run, None, r["reason"], None, None, None))
            continue
        milliseconds = "{:.3g}-{:.3g}".format(*r["range_ms"])
        over = r["ms"] / entry["jgrid_ms"] if entry["jgrid_ms"] else None
        rows.append((run, r["ms"], milliseconds, f"{r['clean']}/{r['samples']}", r["cpu_ms"], over))
    return _table(name, ["run", "ms", "range", "clean", "core ms", "over jgrid"], rows)


def _parts(entry):
    rows = []
    for part, p in entry["parts"].items():
        rate = f"{p['rate']:.3g} {p['unit']}" if "rate" in p else None
        rows.append((part, p["ms"], rate, p.get("limit"), p.get("of_limit")))
    rows.append(("step", entry["jgrid_ms"], None, None, None))
    return _table("ops", ["part", "ms", "rate", "limit", "of limit"], rows)


def _scaling(entry):
    rows = [(axis, value, ms) for axis, row in entry["ms"].items() for value, ms in row.items()]
    return _table("scaling", ["what", "value", "ms"], rows)


def _extraction(entry):
    rows = [
        (name, entry["runs"][name]["ms"], faces, entry["peak_mib"][name])
        for name, faces in entry["faces"].items()
    ]
    columns = ["extraction", "ms", "faces", "peak MiB"]
    return _table(f"sdf, {entry['resolution']}^3", columns, rows)


def main(config):
    results = {"machine": machine(), "limits": suite.limits(config.quick)}
    for name in config.names or BENCHMARKS:
        if name != "limits":
            results[name] = BENCHMARKS[name](config.quick, results["limits"])
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(results))
    for name, entry in results.items():
        for key, reason in entry.get("reasons", {}).items():
            print(f"{name}: no {key}: {reason}")


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m benchmarks"))
