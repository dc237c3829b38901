"""Fields side by side under three protocols: equal parameters, equal steps, equal time. Finished
runs are kept."""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Optional

from jgrid import checkpoint
from jgrid.field import count_parameters, field_to_dict
from jgrid.task import AbstractTask
from jgrid.trainer import TrainConfig, Trainer

import jittor as jt
import numpy as np
from jittor import nn

PROTOCOLS = ("parameters", "steps", "time")
# what makes a field larger: the first of these that does
SIZES = ("table_size", "nodes", "rank", "finest", "width")
NEAR = 0.03  # parameters that differ by less count as equal
LEAST = 20  # steps of a run
ROUNDS = 7  # of the paces

MakeTask = Callable[[int], AbstractTask]  # of a seed
Result = dict[str, Any]  # of a run, as `kept` returns it


@dataclass(frozen=True)
class Comparison:
    """Fields on subjects. The first field is the reference, whose parameters, steps and time the
    others get:

    "parameters": as many parameters and steps; "steps": each field's own size, as many steps;
    "time": each field's own size, and as many steps as take the reference's time for its steps, by
    paces measured in turn (median milliseconds a step), as other work on the machine would make
    long runs unfair.

    fields: {name: config}; subjects: {name: make_task(seed) -> task}; train: steps are the
    reference's; seeds; patience: fields whose step takes more than so many times the reference's
    run for the time only; out: folder of the runs, subject/field/protocol-seed; keep: (task, model,
    folder) -> more entries of the result; others: {protocol: subjects} that are fitted at equal
    steps too, for measurements on other tasks; contents: {subject: JSON-able}, which tells subjects
    of one name apart: what was run on others is not taken for theirs.
    """

    fields: dict[str, Any]
    subjects: dict[str, MakeTask]
    train: TrainConfig
    seeds: tuple[int, ...]
    patience: float
    out: Path
    keep: Callable[[Any, nn.Module, Path], dict[str, Any]] = lambda task, model, folder: {}
    others: Optional[dict[str, dict[str, MakeTask]]] = None
    contents: Optional[dict[str, Any]] = None

    def rows(self) -> dict[str, dict[str, Any]]:
        """{field: {"pace": ms a step, protocol: [a result for each subject and seed]}}; of a run
        that failed {"failed": why}."""
        paces = {subject: self.paces(subject) for subject in self.subjects}
        protocols = (*PROTOCOLS, *(self.others or {}))
        rows: dict[str, dict[str, Any]] = {}
        for name in self.fields:
            measured = [pace[name] for pace in paces.values() if name in pace]
            rows[name] = {"pace": float(np.mean(measured or [np.nan]))}
            rows[name].update({protocol: [] for protocol in protocols})
        for subject, pace in paces.items():
            for name in self.fields:
                relative = 1.0
                if name != self._reference:
                    relative = pace.get(name, np.inf) / pace.get(self._reference, np.inf)
                for protocol in protocols:
                    for seed in self.seeds if self._is_patient(relative, protocol) else ():
                        steps = self._steps(relative, protocol)
                        result = self.run(subject, name, protocol, steps, seed)
                        rows[name][protocol].append({**result, "subject": subject})
        return rows

    def _is_patient(self, relative: float, protocol: str) -> bool:
        """Whether a field is run whose step takes `relative` times the reference's; where that
        could not be measured, its runs will say why."""
        return protocol == "time" or relative <= self.patience or not np.isfinite(relative)

    def _steps(self, relative: float, protocol: str) -> int:
        if protocol != "time" or relative == 1.0 or not np.isfinite(relative):
            return self.train.steps
        return max(LEAST, round(self.train.steps / relative / 10) * 10)

    @property
    def _reference(self) -> str:
        return next(iter(self.fields))

    def paces(self, subject: str) -> dict[str, float]:
        """{field: milliseconds a step} on a subject: medians of short runs in turn; without the
        fields that fail.

        What was measured before is kept for as long as neither the field nor the reference has
        changed.
        """
        file = self.out / subject / "pace.json"
        configs = {name: field_to_dict(config) for name, config in self.fields.items()}
        configs = json.loads(json.dumps(configs))
        known, known_configs = self._known_paces(subject, file, configs)
        if set(self.fields) <= set(known):
            return known
        print(f"{subject}, milliseconds a step", flush=True)
        new = self._measure_paces(subject)
        scale = 1.0
        if self._reference in known and self._reference in new:
            scale = known[self._reference] / new[self._reference]
        # what was measured before stays
        found = {**{name: pace * scale for name, pace in new.items()}, **known}
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_json(
            file,
            {
                "milliseconds": found,
                "fields": {**known_configs, **configs},
                "content": self._content(subject),
            },
        )
        jt.gc()
        return found

    def _known_paces(
        self, subject: str, file: Path, configs: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The paces that still hold, and the configs of all fields that were measured."""
        saved = json.loads(file.read_text()) if file.is_file() else {}
        if "fields" not in saved or saved.get("content") != self._content(subject):
            return {}, {}  # another picture's, or of an earlier version
        before = saved["fields"]
        changed = {name for name, config in configs.items() if before.get(name, config) != config}
        if self._reference in changed:
            return {}, before
        paces = saved["milliseconds"]
        return {name: pace for name, pace in paces.items() if name not in changed}, before

    def _measure_paces(self, subject: str) -> dict[str, float]:
        trainers = {}
        for name, config in self.fields.items():
            try:
                task = self.subjects[subject](self.seeds[0])
                trainers[name] = Trainer(task, task.build(config), self.train, progress=False)
            except (ValueError, MemoryError, RuntimeError):
                continue  # a run of it will say why
        samples: dict[str, list[float]] = {name: [] for name in self.fields}
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
        return {name: 1e3 * float(np.median(samples[name])) for name in trainers}

    def run(self, subject: str, name: str, protocol: str, steps: int, seed: int) -> Result:
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

        def fit() -> dict[str, Any]:
            print(f"{subject}, {name}, equal {protocol}, seed {seed}: {steps} steps", flush=True)
            jt.set_global_seed(seed)
            task = make_task(seed)
            model = task.build(config)
            train = replace(self.train, steps=steps, eval_every=steps, seed=seed)
            result = Trainer(task, model, train, progress=sys.stderr.isatty()).fit()
            return {**result, **self.keep(task, model, folder)}

        wanted = {
            "field": field_to_dict(config),
            "steps": steps,
            "batch": self.train.batch,
            "seed": seed,
            "content": self._content(subject),
        }
        return kept(folder, wanted, fit)

    def _as_large_as_the_reference(self, name: str, task: AbstractTask) -> Any:
        def count(config: Any) -> int:
            return count_parameters(task.build(config))

        config = self.fields[name]
        wanted = count(self.fields[self._reference])
        return config if abs(count(config) / wanted - 1) <= NEAR else resized(config, wanted, count)

    def _content(self, subject: str) -> Any:
        return (self.contents or {}).get(subject)


def kept(folder: Path, wanted: dict[str, Any], make: Callable[[], dict[str, Any]]) -> Result:
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


def resized(config: Any, wanted: int, count: Callable[[Any], int]) -> Any:
    """A field's config with its size (table, nodes, rank, width or cells) such that count(config)
    comes nearest to `wanted`.

    count: config -> parameters, rising with the size; ValueError and MemoryError of it count as too
    large.
    """

    def parameters(name: str, size: int) -> float:
        try:
            return count(replace(config, **{name: size}))
        except (ValueError, MemoryError):
            return np.inf

    names = [name for name in SIZES if hasattr(config, name)]
    for name in names:
        size = getattr(config, name)
        if parameters(name, 2 * size) > parameters(name, size):
            break  # a table that no level fills makes nothing larger
    low = 1  # a size whose count is below `wanted`
    high = 16 * getattr(config, name)  # and one beyond it
    while high - low > 1:
        middle = (low + high) // 2
        if parameters(name, middle) < wanted:
            low = middle
        else:
            high = middle
    nearest = min((low, high), key=lambda size: abs(parameters(name, size) - wanted))
    return replace(config, **{name: nearest})


def file_name(name: str) -> str:
    """A field's name as a folder's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())
