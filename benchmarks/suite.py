"""What is measured: each function returns one entry of the results, from summaries of interleaved
samples."""

from benchmarks import problem
from benchmarks.race import race

import numpy as np

ROUNDS = 9
LOSS_TOLERANCE = 1e-4  # relative
UNITS = {"copy": "GB/s", "gather": "G rows/s", "scatter": "G rows/s", "product": "GFLOP/s"}


def _rounds(quick):
    return 1 if quick else ROUNDS


def _field(field, quick):
    if not quick:
        return field
    return {**field, **(problem.LITTLE_TABLE if field["kind"] == "grid:hash" else problem.LITTLE)}


def _batch(quick):
    return 1024 if quick else problem.BATCH


def compare(entrants, quick, peers):
    """jgrid's milliseconds and, for {key: entrant}, the peers' time over jgrid's; null where a peer
    failed, with the reason.

    All must compute jgrid's model: from the same parameters the same losses over a few steps of
    Adam on the same batch."""
    runs = race(entrants, _rounds(quick), quick)
    jgrid = runs["jgrid"]
    entry = {"jgrid_ms": jgrid["ms"]}
    reasons = {}
    if jgrid["ms"] is None:
        reasons["jgrid"] = jgrid["reason"]
    for key, name in peers.items():
        run = runs.get(name, {"ms": None, "reason": "left out of the quick form"})
        entry[key] = None
        if run["ms"] is None:
            reasons[key] = run["reason"]
        elif jgrid["ms"] is not None:
            if np.allclose(run["losses"], jgrid["losses"], rtol=LOSS_TOLERANCE, atol=0):
                entry[key] = run["ms"] / jgrid["ms"]
            else:
                reasons[key] = (
                    f"not the same model: losses {run['losses']}, jgrid's {jgrid['losses']}"
                )
    return {**entry, "reasons": reasons, "runs": runs}


def limits(quick, _=None):
    """{kind: {size: best rate}}: copies (read and written bytes), random 8-byte rows read and added
    to, matrix products."""
    options = {
        "copy_mib": [16, 256],
        "table_mib": [2, 16, 64],
        "rows": 2**22,
        "products": [(65536, 64, 64), (2048, 2048, 2048)],
    }
    if quick:
        options = {"copy_mib": [1], "table_mib": [1], "rows": 2**12, "products": [(64, 64, 64)]}
    results = race({"limits": ("limits", "measure", options)}, 1 if quick else 3, quick)
    if "limits" in results:
        raise RuntimeError(f"the limits could not be measured: {results['limits']['reason']}")
    rates = {kind: {"unit": unit} for kind, unit in UNITS.items()}
    for name, run in results.items():
        kind, size = name.split(" ", 1)
        rates[kind][size] = run.pop("work")[name] / run["range_ms"][0] / 1e6
    return {**rates, "runs": results}


def step(quick, _=None):
    """A step of the 2-D hash grid with Adam, sampling included, beside PyTorch, JAX and Jittor's
    own ops."""
    options = {"field": _field(problem.HASH, quick), "batch": _batch(quick)}
    entrants = {
        "jgrid": ("jgrid_side", "step", options),
        "jgrid plain": ("jgrid_side", "step", {**options, "plain": True}),
        "torch eager, index_select": ("torch_side", "step", options),
        "torch eager, table[node]": ("torch_side", "step", {**options, "naive": True}),
        "torch.compile": ("torch_side", "step", {**options, "compiled": True}),
        "jax.jit": ("jax_side", "step", options),
    }
    if quick:
        del entrants["torch.compile"]
    return compare(
        entrants,
        quick,
        {
            "torch_eager": "torch eager, index_select",
            "torch_eager_naive": "torch eager, table[node]",
            "torch_compile": "torch.compile",
            "jax": "jax.jit",
            "jgrid_plain": "jgrid plain",
        },
    )


def mulfa(quick, _=None):
    """A step of a MulFAGrid of two levels and a plain decoder beside the same field with the linear
    kernel, plain ops and PyTorch.

    Here `linear` is the other way round: the MulFA step's time over the linear one's.
    """
    options = {"field": _field(problem.MULFA, quick), "batch": _batch(quick)}
    entrants = {
        "jgrid": ("jgrid_side", "step", options),
        "linear kernel": (
            "jgrid_side",
            "step",
            {**options, "field": _field(problem.LINEAR, quick)},
        ),
        "jgrid plain": ("jgrid_side", "step", {**options, "plain": True}),
        "torch eager, index_select": ("torch_side", "step", options),
    }
    entry = compare(
        entrants, quick, {"torch_eager": "torch eager, index_select", "jgrid_plain": "jgrid plain"}
    )
    linear = entry["runs"]["linear kernel"]["ms"]
    return {**entry, "linear": entry["jgrid_ms"] / linear if linear and entry["jgrid_ms"] else None}


def ops(quick, limits):
    """The parts of jgrid's step, each alone, in ms and as a fraction of the machine's limit;
    `rest`: the step less its parts."""
    options = {"field": _field(problem.HASH, quick), "batch": _batch(quick)}
    runs = race({"ops": ("jgrid_side", "ops", options)}, _rounds(quick), quick)
    if "ops" in runs:
        return {"jgrid_ms": None, "reasons": {"jgrid": runs["ops"]["reason"]}}
    work = runs["step"]["work"]
    table_mib = runs["step"]["table_mib"]

    def nearest(kind, mib):
        sizes = [size for size in limits[kind] if size.endswith("MiB")]
        return f"{kind} {min(sizes, key=lambda size: abs(float(size.split()[0]) - mib))}"

    largest = max((size for size in limits["product"] if size != "unit"), key=limits["product"].get)
    against = {
        "gather": nearest("gather", table_mib),
        "gather_backward": nearest("scatter", table_mib),
        # parameters, gradients and two moments; a copy has two arrays of its size
        "adam": nearest("copy", 2 * table_mib),
        "mlp": f"product {largest}",
        "mlp_backward": f"product {largest}",
    }
    entry = {}
    for name, run in runs.items():
        run.pop("work"), run.pop("table_mib")
        entry[name] = {"ms": run["ms"]}
        if name in against:
            kind, size = against[name].split(" ", 1)
            rate = work[name] / run["ms"] / 1e6
            entry[name].update(
                {
                    "rate": rate,
                    "unit": UNITS[kind],
                    "limit": against[name],
                    "of_limit": rate / limits[kind][size],
                }
            )
    step_ms = entry.pop("step")["ms"]
    rest = step_ms - sum(part["ms"] for part in entry.values())
    return {"jgrid_ms": step_ms, "parts": {**entry, "rest": {"ms": rest}}, "runs": runs}


def scaling(quick, _=None):
    """Milliseconds of jgrid's step as one thing changes at a time, on a fixed batch: {what: {value:
    ms}}."""
    base = _field({**problem.HASH, "finest": 256, "levels": 8}, quick)
    axes = {
        "batch": [2**14, 2**16, 2**18],
        "levels": [4, 8, 16],
        "table_size": [2**14, 2**16, 2**18, 2**20],
        "channels": [1, 2, 4, 8],
        "dim": [1, 2, 3],
    }
    if quick:
        axes = {"batch": [256, 512], "dim": [2]}
    changes = {
        f"{axis} {value}": {axis: value} for axis, values in axes.items() for value in values
    }
    # a hashed level is what a table bounds: in 2-D only fine grids have them
    changes.update(
        {
            name: {**change, "finest": 2048}
            for name, change in changes.items()
            if name.startswith("table_size")
        }
    )
    runs = race(
        {
            "scaling": (
                "jgrid_side",
                "scaling",
                {"base": base, "batch": _batch(quick), "changes": changes},
            )
        },
        _rounds(quick),
        quick,
    )
    if "scaling" in runs:
        return {"jgrid_ms": None, "reasons": {"jgrid": runs["scaling"]["reason"]}}
    table = {
        axis: {str(value): runs[f"{axis} {value}"]["ms"] for value in values}
        for axis, values in axes.items()
    }
    return {"jgrid_ms": table["dim"]["2"], "field": base, "ms": table, "runs": runs}


def image(quick, _=None):
    """Seconds of training until astronaut is fitted to 30, 35 and 40 dB, evaluations and
    compilation excluded; null where never."""
    targets = [10] if quick else [30, 35, 40]
    entry = {}
    reasons = {}
    for name, field in {
        "hash": {**problem.HASH, "lr_features": 2e-2},
        "mulfa": problem.MULFA,
    }.items():
        options = {
            "field": _field(field, quick),
            "targets": targets,
            "every": 5,
            "steps": 10 if quick else 800,
        }
        runs = race(
            {"fit": ("jgrid_side", "fit", options)}, 1 if quick else 3, quick, one_step=True
        )
        if runs["fit"]["ms"] is None:
            entry[name] = None
            reasons[name] = runs["fit"]["reason"]
            continue
        fits = runs["fit"].pop("values")
        medians = {}
        for target in map(str, targets):
            reached = sorted(fit[target] for fit in fits if target in fit)
            medians[target] = reached[len(reached) // 2] if reached else [None, None]
        entry[name] = {
            "seconds": {t: m[0] for t, m in medians.items()},
            "steps": {t: m[1] for t, m in medians.items()},
            "fits": fits,
            "clean": runs["fit"]["clean"],
        }
    return {**entry, "reasons": reasons}


def sdf(quick, _=None):
    """Meshing a fitted field at 512^3: evaluating it near the surface alone, and, over that,
    everywhere."""
    options = {
        "change": problem.LITTLE_TABLE if quick else {},
        "resolution": 32 if quick else 512,
        "steps": 60 if quick else 150,
    }
    entrants = {
        name: ("jgrid_side", "extraction", {**options, "sparse": name == "sparse"})
        for name in ("sparse", "dense")
    }
    runs = race(entrants, 1, quick, one_step=True)  # the dense one takes minutes
    reasons = {name: run["reason"] for name, run in runs.items() if run["ms"] is None}
    last = {name: run.pop("values")[-1] for name, run in runs.items() if name not in reasons}
    ratio = None if reasons else runs["dense"]["ms"] / runs["sparse"]["ms"]
    return {
        "jgrid_ms": runs["sparse"]["ms"],
        "dense": ratio,
        "resolution": options["resolution"],
        "reasons": reasons,
        "runs": runs,
        **{
            key: {name: value[key] for name, value in last.items()} for key in ("faces", "peak_mib")
        },
    }


def views(quick, _=None):
    """A step of a radiance field of DVGO's shape, on the same fixed samples, beside PyTorch."""
    options = {
        "size": {**problem.VIEWS, **({"nodes": 8, "rays": 64, "samples": 8} if quick else {})}
    }
    return compare(
        {
            "jgrid": ("jgrid_side", "views", options),
            "torch eager, grid_sample": ("torch_side", "views", options),
        },
        quick,
        {"torch_eager": "torch eager, grid_sample"},
    )
