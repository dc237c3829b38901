"""What people bring: inputs as the world makes them, each with a value that is known.

    python -m tests.habits --out habits.json [--kinds ...] [--quick]

A habit takes an input that these tests generate (a made scene, mesh or picture whose right value is
known), does to it one thing that people or their tools do, and asks for the value again: the signed
distance, the poses, the pixels, the box, the PSNR within 1 dB. The verdicts:

    right            the value is right, mended or not
    refused_clearly  a ValueError, or exit code 2 with one line, that names what is wrong
    silent_wrong     a wrong value without a word; also a refusal that blames something else, or
                     that leaves to people what a reader can mend
    crash            anything else

`seen` names the tool and what its users reported; with "~" before it, the habit is common knowledge
of that tool and no report of it was read."""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "apps")]

# in a message: the name of the file that was asked for is no reason
OWN = re.compile(r"\b(mesh|picture|transforms\w*)\.\w+")
VERDICTS = ("right", "refused_clearly", "silent_wrong", "crash")


class Wrong(Exception):
    """The value is not the right one; the message says by how much."""


@dataclass(frozen=True)
class Habit:
    """kind: the row of the table it counts for; name: what people do; ask(folder): does it in an
    empty folder, asks for the value, and returns what was found, or raises Wrong; words: a refusal
    that has one of them is a clear one (none: a refusal is no answer); warned: a wrong value is
    forgiven where a warning has one of them; seen: the tool whose users do it; slow: it trains, or
    starts a process."""

    kind: str
    name: str
    ask: Callable[[Path], str]
    words: tuple = ()
    warned: bool = False
    seen: str = ""
    slow: bool = False

    @property
    def key(self):
        return f"{self.kind}: {self.name}"

    @property
    def reported(self):
        """Whether it was found in a report of a tool's users."""
        return bool(self.seen) and not self.seen.startswith("~")

    def named(self, text):
        """Whether a text names what is wrong."""
        return any(word.lower() in text.lower() for word in self.words)


def judge(habit):
    """(verdict, detail) of a habit."""
    said = io.StringIO()
    before = Path.cwd()
    with (
        tempfile.TemporaryDirectory(prefix="jgrid-habit-") as folder,
        warnings.catch_warnings(record=True) as heard,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        warnings.simplefilter("always")
        os.chdir(folder)  # the apps' default folders of results
        try:
            return "right", habit.ask(Path(folder)) or ""
        except Wrong as wrong:
            words = said.getvalue() + " ".join(str(w.message) for w in heard)
            if habit.warned and habit.named(words):
                return "refused_clearly", f"{wrong}, with a warning"
            return "silent_wrong", str(wrong)
        except SystemExit as ended:
            lines = [line for line in said.getvalue().splitlines() if line.startswith("error")]
            if ended.code != 2 or len(lines) != 1:
                return "crash", f"exit code {ended.code}, {said.getvalue()[-300:]!r}"
            return _refusal(habit, lines[0], folder)
        except (ValueError, OSError) as error:
            return _refusal(habit, str(error), folder)
        except Exception:
            return "crash", " ".join(traceback.format_exc().split())[-400:]
        finally:
            os.chdir(before)


def _refusal(habit, message, folder):
    message = " ".join(message.split()).replace(str(folder) + os.sep, "")
    if habit.named(OWN.sub("", message)):
        return "refused_clearly", message
    why = "the words are wrong" if habit.words else "it can be read"
    return "silent_wrong", f"refused, but {why}: {message}"


def habits(kinds=(), slow=True):
    """Those of the kinds, or all; slow: also those that train."""
    from habits_meshes import HABITS as meshes
    from habits_pictures import HABITS as pictures
    from habits_scenes import HABITS as scenes

    return [
        habit
        for habit in (*scenes, *meshes, *pictures)
        if (not kinds or habit.kind in kinds) and (slow or not habit.slow)
    ]


def run(chosen, advance=lambda habit, verdict, seconds: None):
    """{"kinds": {kind: {verdict: n}}, "habits": [...], "totals": {verdict: n}}."""
    table = []
    for habit in chosen:
        started = time.time()
        verdict, detail = judge(habit)
        advance(habit, verdict, time.time() - started)
        table.append(
            {
                "kind": habit.kind,
                "name": habit.name,
                "verdict": verdict,
                "detail": detail,
                "seen": habit.seen,
                "slow": habit.slow,
            }
        )
    kinds = {}
    for row in table:
        kinds.setdefault(row["kind"], Counter(dict.fromkeys(VERDICTS, 0)))[row["verdict"]] += 1
    totals = {verdict: sum(counts[verdict] for counts in kinds.values()) for verdict in VERDICTS}
    return {
        "kinds": {kind: dict(n) for kind, n in kinds.items()},
        "habits": table,
        "totals": totals,
    }


def show(results):
    print(f"{'kind':44}{'right':>7}{'refused':>9}{'silent wrong':>14}{'crash':>7}")
    for kind, counts in (*results["kinds"].items(), ("all", results["totals"])):
        right, refused, wrong, crash = (counts[verdict] for verdict in VERDICTS)
        print(f"{kind:44}{right:7}{refused:9}{wrong:14}{crash:7}")


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tests.habits", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file of the verdicts")
    parser.add_argument("--kinds", nargs="+", default=[], help="only these rows of the table")
    parser.add_argument("--quick", action="store_true", help="leave out those that train")
    config = parser.parse_args(arguments)
    chosen = habits(config.kinds, slow=not config.quick)
    known = sorted({habit.kind for habit in habits()})
    unknown = set(config.kinds) - set(known)
    if unknown:
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    def advance(habit, verdict, seconds):
        if verdict in ("silent_wrong", "crash"):
            print(f"{verdict:13} {seconds:5.1f} s  {habit.key}", flush=True)

    results = run(chosen, advance)
    show(results)
    if config.out:
        config.out.write_text(json.dumps(results, indent=2) + "\n")
    return int(results["totals"]["silent_wrong"] + results["totals"]["crash"] > 0)


if __name__ == "__main__":
    faulthandler.enable()  # should a library's native code end the process
    # this file is also the module that the lists of habits import
    sys.modules["habits"] = sys.modules["__main__"]
    sys.exit(main())
