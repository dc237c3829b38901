"""Bad inputs by the thousand, for everything that reads what users give.

    python -m tests.fuzz --cases 2000 --out fuzz.json

Hypothesis damages good files, JSON and command lines: cut, flipped, spliced, with headers that
announce too much, values of other types, names that lead elsewhere, bombs and pickles. A reader may
accept a case or refuse it by ValueError or OSError (a command line: end with exit code 0 or 2).
Anything else is a traceback to users and is counted, with the cases that took too long, too much
memory, or wrote a file, started a program or opened a connection. The first of each kind are
printed."""

import argparse
import contextlib
import faulthandler
import gc
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from jgrid import memory

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "apps")]
from fuzz_cases import READERS  # noqa: E402
from fuzz_damage import Link  # noqa: E402

SECONDS = 20  # that a case may take; a good one of this size takes a fraction of one
# that a case may take of memory: a mesh may take 1 GiB whatever its file's size, a picture 90
# million pixels
MOST_BYTES = 3 * 2**30
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
    "pickle.find_class",
)
KINDS = ("tracebacks", "hangs", "memory", "escaped_writes")


class TookTooLong(BaseException):
    """Not an Exception, which a reader would take for damage of its file."""


class Watch:
    """What happens inside `with`: acts, what was written or started by it."""

    watching = None

    def __enter__(self):
        if Watch.watching is None:
            sys.addaudithook(Watch._hear)  # for ever: Python knows no way back
        self.acts = []
        self.bytecode = sys.dont_write_bytecode
        sys.dont_write_bytecode = True  # a reader's late import would count as a write
        Watch.watching = self
        signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        Watch.watching = False
        sys.dont_write_bytecode = self.bytecode

    @staticmethod
    def _hear(event, arguments):
        if Watch.watching and (
            event in ACTS
            or event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & WRITES
        ):
            Watch.watching.acts.append(f"{event} {arguments[0]!r}")

    @staticmethod
    def _stop(*_):
        raise TookTooLong


def place(folder, files):
    """The files of a case: bytes, or a Link to another place."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            (folder / name).symlink_to(content.target)
        else:
            (folder / name).write_bytes(content)


def attempt(read, case, folder):
    """{kind: what was seen} of a reader on a case, {} where it behaves; whether it refused it."""
    seen = {}
    refused = False
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inside = {p: p.lstat().st_mtime_ns for p in folder.parent.rglob("*")}
    silent = io.StringIO()
    with (
        Watch() as watch,
        memory.bounded(2 * MOST_BYTES),
        contextlib.redirect_stdout(silent),
        contextlib.redirect_stderr(silent),
    ):
        try:
            read(case)
        except (ValueError, OSError) as error:
            refused = True
            if "MemoryError" in str(error):  # it had to run into the bound before it was refused
                seen["memory"] = str(error)
        except TookTooLong:
            seen["hangs"] = traceback.format_exc()
        except SystemExit as ended:
            refused = ended.code == 2
            if ended.code not in (0, 2):
                seen["tracebacks"] = traceback.format_exc()
        except MemoryError:
            seen["memory"] = traceback.format_exc()
        except Exception:
            seen["tracebacks"] = traceback.format_exc()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > MOST_BYTES:
        seen["memory"] = f"{grown:,} bytes"
    if watch.acts or inside != {p: p.lstat().st_mtime_ns for p in folder.parent.rglob("*")}:
        seen["escaped_writes"] = str(watch.acts)
    return seen, refused


def fuzz(name, cases, seed=0, strict=False, report=print, advance=lambda: None):
    """{"cases", "refused", "tracebacks", "hangs", "memory", "escaped_writes"} of a reader.

    strict: AssertionError, with the smallest case hypothesis finds, where it misbehaves.
    """
    strategy, read = READERS[name]
    counts = Counter(dict.fromkeys(("cases", "refused", *KINDS), 0))
    phases = [Phase.generate, Phase.shrink] if strict else [Phase.generate]

    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @seeded(seed)
    @given(strategy)
    def run(case):
        root = Path(tempfile.mkdtemp(prefix="jgrid-fuzz-"))
        try:
            folder = root / "case"
            folder.mkdir()
            if isinstance(case, dict) and all(
                isinstance(content, (bytes, Link)) for content in case.values()
            ):
                place(root, {"outside/secret.png": READERS.secret})
                place(folder, case)
                seen, refused = attempt(read, folder, folder)
            else:
                seen, refused = attempt(read, case, folder)
        finally:
            shutil.rmtree(root)
        counts.update(cases=1, refused=refused, **dict.fromkeys(seen, 1))
        for kind, text in seen.items():
            if counts[kind] <= 3:
                report(f"{name}, {kind}: {text}\ncase: {case!r:.1000}\n")
        assert not strict or not seen, seen
        advance()

    run()
    # Jittor would otherwise compute, at some later time, the weights of the models that were only
    # built
    gc.collect()
    return dict(counts)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="of each reader")
    parser.add_argument("--out", type=Path, help="a JSON file of the counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    config = parser.parse_args(arguments)
    results = {}
    for name in config.readers:
        started = time.time()
        with tqdm(total=config.cases, desc=name, dynamic_ncols=True) as bar:
            results[name] = fuzz(
                name, config.cases, config.seed, report=bar.write, advance=bar.update
            )
        results[name]["seconds"] = round(time.time() - started, 1)
        print(name, results[name], flush=True)
        if config.out:
            config.out.write_text(json.dumps(results, indent=2) + "\n")
    return int(any(result[kind] for result in results.values() for kind in KINDS))


if __name__ == "__main__":
    faulthandler.enable()  # should a library's native code end the process
    sys.exit(main())
