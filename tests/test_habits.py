"""What people bring does not fail silently: the habits that need no training, each a test."""

import json

import habits
import pytest
from habits import Habit, Wrong

QUICK = habits.habits(slow=False)


@pytest.mark.parametrize("habit", QUICK, ids=lambda habit: habit.key)
def test_what_people_bring(habit):
    """`python -m tests.habits` tries those that train, too."""
    verdict, detail = habits.judge(habit)
    assert verdict in ("right", "refused_clearly"), detail


def test_there_are_enough():
    everything = habits.habits()
    assert len({habit.key for habit in everything}) == len(everything) >= 150
    assert sum(habit.reported for habit in everything) >= 60


def refuse(message):
    def ask(folder):
        raise ValueError(message)

    return ask


def be_wrong(folder):
    print("warning: the lens is odd")
    raise Wrong("off by 3")


def leave(code):
    def ask(folder):
        habits.sys.stderr.write("error: the lens is odd\n")
        raise SystemExit(code)

    return ask


@pytest.mark.parametrize(
    "verdict, ask, options",
    [
        ("right", lambda folder: "as it was", {}),
        ("silent_wrong", be_wrong, {"words": ("lens",)}),
        ("refused_clearly", be_wrong, {"words": ("lens",), "warned": True}),
        ("refused_clearly", refuse("transforms.json: the lens is odd"), {"words": ("Lens",)}),
        ("silent_wrong", refuse("transforms.json: no"), {"words": ("transforms.json",)}),
        ("silent_wrong", refuse("the lens is odd"), {}),
        ("refused_clearly", leave(2), {"words": ("lens",)}),
        ("crash", leave(1), {"words": ("lens",)}),
        ("crash", lambda folder: {}["key"], {"words": ("key",)}),
    ],
)
def test_verdicts(verdict, ask, options):
    assert habits.judge(Habit("kind", "name", ask, **options))[0] == verdict


def test_the_table_is_written(tmp_path, capsys):
    out = tmp_path / "habits.json"
    code = habits.main(["--kinds", "tiny units", "--out", str(out)])
    read = json.loads(out.read_text())
    counts = read["kinds"]["tiny units"]
    wrong = counts["silent_wrong"] + counts["crash"]
    assert code == int(wrong > 0) and sum(counts.values()) == len(read["habits"]) > 0
    assert read["totals"] == counts and "tiny units" in capsys.readouterr().out
