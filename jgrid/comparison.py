"""Fields side by side under three protocols: equal parameters, equal steps, equal time. Finished
runs are kept."""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from jgrid import checkpoint
from jgrid.field import count_parameters, field_to_dict
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np

PROTOCOLS = ("parameters", "steps", "time")
# what makes a field larger: the first of these that does
SIZES = ("table_size", "nodes", "rank", "finest", "width")
NEAR = 0.03  # parameters that differ by less count as equal
LEAST = 20  # steps of a run
ROUNDS = 7  # of the paces


def resized(config, wanted, count):
    """A field's config with its size (table, nodes, rank, width or cells) such that count(config)
    comes nearest to `wanted`.

    count: config -> parameters, rising with the size; ValueError and MemoryError of it count as too
    large."""

    def parameters(name, size):
        try:
            return count(replace(config, **{name: size}))
        except (ValueError, MemoryError):
            return np.inf

    names = [name for name in SIZES if hasattr(config, name)]
    # a table that no level fills makes nothing larger
    name = next(
        (
            n
            for n in names
            if parameters(n, 2 * getattr(config, n)) > parameters(n, getattr(config, n))
        ),
        names[-1],
    )
    # a size whose count is below `wanted`, and one beyond it
    low = 1
    high = 16 * getattr(config, name)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(name, middle) < wanted else (low, middle)
    return replace(
        config, **{name: min((low, high), key=lambda size: abs(parameters(name, size) - wanted))}
    )


def kept(folder, wanted, make):
    """folder/result.json of an earlier call for the same `wanted` (JSON-able), or of make() now,
    with "wanted" and "folder".

    Where make() fails, {"failed": why}, to be tried again the next time.
    """
    file = folder / "result.json"
    wanted = json.loads(json.dumps(wanted))
    if file.is_file():
        found = json.loads(file.read_text())
        if found.get("wanted") == wanted:
            return {**found, "folder": folder}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = {**make(), "wanted": wanted}
    except (RuntimeError, ValueError, MemoryError, OSError) as error:
        print(f"failed: {error}", flush=True)
        return {
            "failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:200],
            "wanted": wanted,
            "folder": folder,
        }
    checkpoint.write_json(file, result)
    jt.gc()
    return {**result, "folder": folder}


def file_name(name):
    """A field's name as a folder's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())


@dataclass(frozen=True)
class Comparison:
    """Fields on subjects. The first field is the reference, whose parameters, steps and time the
    others get:

    "parameters": as many parameters and steps; "steps": each field's own size, as many steps;
    "time": each field's own size, and as many steps as take the reference's time for its steps, by
    paces measured in turn (median milliseconds a step), as other work on the machine would make
    long runs unfair.

    fields: {name: config}; subjects: {name: make_task(seed) -> task}; build: (config, task) ->
    model; train: steps are the reference's; seeds; patience: fields whose step takes more than so
    many times the reference's run for the time only; out: folder of the runs,
    subject/field/protocol-seed; keep: (task, model, folder) -> more entries of the result; others:
    {protocol: subjects} that are fitted at equal steps too, for measurements on other tasks;
    contents: {subject: JSON-able}, which tells subjects of one name apart: what was run on others
    is not taken for theirs."""

    fields: dict
    subjects: dict
    build: Callable
    train: TrainConfig
    seeds: tuple
    patience: float
    out: Path
    keep: Callable = lambda task, model, folder: {}
    others: Optional[dict] = None
    contents: Optional[dict] = None

    def _content(self, subject):
        return (self.contents or {}).get(subject)

    def rows(self):
        """{field: {"pace": ms a step, protocol: [a result for each subject and seed]}}; of a run
        that failed {"failed": why}."""
        paces = {subject: self.paces(subject) for subject in self.subjects}
        reference = next(iter(self.fields))
        rows = {
            name: {
                "pace": float(
                    np.mean([pace[name] for pace in paces.values() if name in pace] or [np.nan])
                ),
                **{protocol: [] for protocol in (*PROTOCOLS, *(self.others or {}))},
            }
            for name in self.fields
        }
        for subject, pace in paces.items():
            for name, row in rows.items():
                relative = (
                    pace.get(name, np.inf) / pace.get(reference, np.inf)
                    if name != reference
                    else 1.0
                )
                # else its pace could not be measured, and the runs will say why
                fits = np.isfinite(relative)
                for protocol in [p for p in row if p != "pace"]:
                    if fits and relative > self.patience and protocol != "time":
                        continue
                    steps = (
                        max(LEAST, round(self.train.steps / relative / 10) * 10)
                        if protocol == "time" and fits and name != reference
                        else self.train.steps
                    )
                    row[protocol] += [
                        {**self.run(subject, name, protocol, steps, seed), "subject": subject}
                        for seed in self.seeds
                    ]
        return rows

    def paces(self, subject):
        """{field: milliseconds a step} on a subject: medians of short runs in turn; without the
        fields that fail.

        What was measured before is kept for as long as neither the field nor the reference has
        changed."""
        file = self.out / subject / "pace.json"
        reference = next(iter(self.fields))
        configs = json.loads(
            json.dumps({name: field_to_dict(config) for name, config in self.fields.items()})
        )
        kept = json.loads(file.read_text()) if file.is_file() else {}
        # another picture's, or of an earlier version
        if "fields" not in kept or kept.get("content") != self._content(subject):
            kept = {"milliseconds": {}, "fields": {}}
        changed = {
            name for name, config in configs.items() if kept["fields"].get(name, config) != config
        }
        found = (
            {}
            if reference in changed
            else {name: ms for name, ms in kept["milliseconds"].items() if name not in changed}
        )
        if set(self.fields) <= set(found):
            return found
        print(f"{subject}, milliseconds a step", flush=True)
        trainers = {}
        samples = {name: [] for name in self.fields}
        for name, config in self.fields.items():
            try:
                task = self.subjects[subject](self.seeds[0])
                trainers[name] = Trainer(task, self.build(config, task), self.train, progress=False)
            except (ValueError, MemoryError, RuntimeError):
                continue  # a run of it will say why
        for _ in range(ROUNDS):
            for name in list(trainers):
                try:
                    trainers[name].advance(2)  # compiles, the first time, and warms the caches
                    steps = 2 if samples[name] and samples[name][0] > 0.2 else 8
                    began = time.perf_counter()
                    trainers[name].advance(steps)
                    samples[name].append((time.perf_counter() - began) / steps)
                except RuntimeError:
                    del trainers[name]
        new = {name: 1e3 * float(np.median(samples[name])) for name in trainers}
        # what was measured before stays
        scale = (
            found[reference] / new[reference] if reference in found and reference in new else 1.0
        )
        found = {**{name: value * scale for name, value in new.items()}, **found}
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(
            file,
            {
                "milliseconds": found,
                "fields": {**kept["fields"], **configs},
                "content": self._content(subject),
            },
        )
        jt.gc()
        return found

    def run(self, subject, name, protocol, steps, seed):
        """One run, or its result from an earlier call, by `kept`."""
        if protocol == "time" and steps == self.train.steps:
            return self.run(subject, name, "steps", steps, seed)
        config = self.fields[name]
        folder = self.out / subject / file_name(name) / f"{protocol}-{seed}"
        make_task = ((self.others or {}).get(protocol) or self.subjects)[subject]
        if protocol == "parameters":
            try:
                config = self._as_large_as_the_reference(name, make_task(seed))
            except (RuntimeError, ValueError, MemoryError):
                pass  # the run will say why
            if config == self.fields[name]:
                return self.run(subject, name, "steps", steps, seed)

        def fit():
            print(f"{subject}, {name}, equal {protocol}, seed {seed}: {steps} steps", flush=True)
            jt.set_global_seed(seed)
            task = make_task(seed)
            model = self.build(config, task)
            result = Trainer(
                task,
                model,
                replace(self.train, steps=steps, eval_every=steps, seed=seed),
                progress=sys.stderr.isatty(),
            ).fit()
            return {**result, **self.keep(task, model, folder)}

        wanted = {
            "field": field_to_dict(config),
            "steps": steps,
            "batch": self.train.batch,
            "seed": seed,
            "content": self._content(subject),
        }
        return kept(folder, wanted, fit)

    def _as_large_as_the_reference(self, name, task):
        def count(config):
            return count_parameters(self.build(config, task))

        config = self.fields[name]
        wanted = count(next(iter(self.fields.values())))
        return config if abs(count(config) / wanted - 1) <= NEAR else resized(config, wanted, count)
