"""Competitors in processes of their own, sampled in turn."""

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = 2
CLEAN = 0.08  # of the cores, taken by everybody else during a sample
FEWEST_CLEAN = 3  # samples; with fewer the median is over all
LEAST_SECONDS = 0.5  # of a sample: /proc/stat counts hundredths of a second
PATIENCE = 2.0  # seconds to wait for a quiet moment before a sample


def busy_seconds(cores):
    """Core seconds that were not idle since the machine started, on these cores."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:] and int(name[3:]) in cores:
            # user, nice, system, irq, softirq, steal
            total += sum(int(ticks[i]) for i in (0, 1, 2, 5, 6, 7))
    return total / os.sysconf("SC_CLK_TCK")


def cores():
    """The cores all competitors share."""
    return sorted(os.sched_getaffinity(0))[:THREADS]


class WorkerFailed(RuntimeError):
    """A competitor ended; the message is the last line it wrote."""


class Worker:
    """A process that serves the runs of `benchmarks.module.function(**options)`."""

    def __init__(self, module, function, options):
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(THREADS)}
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.race", module, function, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )

    def ready(self):
        """Wait until it can be sampled; returns its runs and what it said of them."""
        answer = self._answer()
        return answer["runs"], answer["info"]

    def sample(self, run, steps):
        """{"seconds", "cpu": its own core seconds, "others": the fraction of the cores others took,
        "value": what the run returned}."""
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self.process.stdin.write(json.dumps([run, steps]) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            lines = [line.strip() for line in self.log if line.strip()]
            raise WorkerFailed(lines[-1] if lines else f"ended with code {self.process.returncode}")
        return json.loads(line)


def serve(module, function, options):
    """The worker's side: runs are functions of a number of steps that return when the steps are
    done."""
    mine = cores()
    os.sched_setaffinity(0, mine)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    runs, info = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**options)
    print(json.dumps({"runs": list(runs), "info": info}), file=answers, flush=True)
    for line in sys.stdin:
        run, steps = json.loads(line)
        busy = busy_seconds(mine)
        own = time.process_time()
        start = time.perf_counter()
        value = runs[run](steps)
        seconds = time.perf_counter() - start
        own = time.process_time() - own
        busy = busy_seconds(mine) - busy
        others = max(0.0, busy - own) / (seconds * len(mine))
        print(
            json.dumps({"seconds": seconds, "cpu": own, "others": others, "value": value}),
            file=answers,
            flush=True,
        )


def wait_for_quiet():
    mine = cores()
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        busy = busy_seconds(mine)
        time.sleep(0.2)
        if busy_seconds(mine) - busy < CLEAN * 0.2 * len(mine):
            return


def race(entrants, rounds, quick=False, one_step=False):
    """{run: its samples' summary} of entrants {name: (module, function, options)}; a failed entrant
    is {"ms": None, "reason"}.

    The only run of an entrant goes by the entrant's name. Each round takes one sample of every run,
    of as many steps as fill LEAST_SECONDS (quick or one_step: of one step).
    """
    workers = {}
    results = {}
    plan = []
    try:
        workers = {name: Worker(*entrant) for name, entrant in entrants.items()}
        for name, worker in workers.items():
            with _failing(name, results):
                runs, info = worker.ready()
                plan += [(name, run, name if len(runs) == 1 else run, info, []) for run in runs]
        steps = {}
        for name, run, key, _, _ in plan:
            steps[key] = 1
            with _failing(name, results):
                if not one_step:
                    workers[name].sample(run, 2)  # compiles what is left to compile
                if not (quick or one_step):
                    steps[key] = max(
                        2, round(LEAST_SECONDS / (workers[name].sample(run, 4)["seconds"] / 4))
                    )
        for _ in range(rounds):
            for name, run, key, _, samples in plan:
                if name in results:
                    continue
                with _failing(name, results):
                    if not quick:
                        wait_for_quiet()
                    samples.append({**workers[name].sample(run, steps[key]), "steps": steps[key]})
        results.update(
            {
                key: {**summary(samples), **info}
                for name, _, key, info, samples in plan
                if name not in results
            }
        )
        return results
    finally:
        for worker in workers.values():
            worker.close()


@contextlib.contextmanager
def _failing(name, results):
    """Writes down why an entrant failed, the first time; the others go on."""
    try:
        yield
    except WorkerFailed as failure:
        results.setdefault(name, {"ms": None, "reason": str(failure)})


def summary(samples):
    """Median and range in milliseconds a step, core milliseconds a step (which neighbours hardly
    change), how many samples were clean, and the values of those used."""
    clean = [s for s in samples if s["others"] < CLEAN]
    used = clean if len(clean) >= FEWEST_CLEAN else samples
    ms = [1e3 * s["seconds"] / s["steps"] for s in used]
    values = [s["value"] for s in used if s["value"] is not None]
    cpu = statistics.median(1e3 * s["cpu"] / s["steps"] for s in used)
    return {
        "ms": statistics.median(ms),
        "range_ms": [min(ms), max(ms)],
        "cpu_ms": cpu,
        "samples": len(samples),
        "clean": len(clean),
        "used": "clean" if used is clean else "all",
        **({"values": values} if values else {}),
    }


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
