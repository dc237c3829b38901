"""What people bring does not fail silently: the habits that need no training, each a test."""

import json

import habits
import pytest
from habits import Habit, Wrong

# Of each kind, what is still wrong. What is mended must be taken out: the list only shrinks.
KNOWN_WRONG = {
    "silhouette carving": [
        "one of 28 pictures is all transparent",
        "two of 28 pictures are all transparent",
        "half of a mask is lost in one picture",
        "the top of a mask is lost in two pictures",
        "a mask is shifted by twelve pixels",
        "a mask is the wrong way round in one picture",
        "two pictures have changed places",
        "holes in every third mask",
        "what is dark is lost in three masks",
        "masks the wrong way round",
    ],
    "scene geometry and cameras": [
        "5 units off the origin",
        "5 units off the origin, with alpha",
        "off the origin along three axes",
        "a thousand times too small (millimetres as metres)",
        "a thousand times too small, with alpha",
        "a thousand times too large (in millimetres)",
        "ten times as large and far off",
        "in metres of UTM",
        "the cameras on one side, the origin among them",
        "axes of OpenCV",
        "axes of OpenCV, with alpha",
        "world to camera",
        "world to camera, axes of OpenCV",
        "all cameras in one place",
        "every frame has the same pose",
        "one camera 300 times as far",
        "a frame left at the identity",
        "a large scene with aabb_scale",
    ],
}

QUICK = habits.habits(slow=False)


@pytest.mark.parametrize("habit", QUICK, ids=lambda habit: habit.key)
def test_what_people_bring(habit):
    """`python -m tests.habits` tries those that train, too."""
    verdict, detail = habits.judge(habit)
    if habit.name in KNOWN_WRONG.get(habit.kind, ()):
        assert verdict in ("silent_wrong", "crash"), f"mended: take it from KNOWN_WRONG ({detail})"
    else:
        assert verdict in ("right", "refused_clearly"), detail


def test_the_list_is_of_habits():
    known = {f"{kind}: {name}" for kind, names in KNOWN_WRONG.items() for name in names}
    assert known <= {habit.key for habit in QUICK}


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
