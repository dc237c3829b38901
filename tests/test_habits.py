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
    "orientation per component": [
        "three boxes, one inside out",
        "three boxes, two inside out",
        "two balls, one inside out",
        "two balls, one inside out, as STL",
        "a shell with a hollow beside a box inside out",
        "an open box beside a closed one that is inside out",
        "two boxes that meet in an edge, one inside out",
        "two boxes that overlap, one inside out",
    ],
    "polygons taken on trust": [
        "an L whose caps begin at another corner",
        "a gear whose caps are one polygon",
        "a gear as OFF",
        "a gear as PLY",
        "a gear as binary PLY",
        "quads that are not convex",
        "quads that are not convex, as PLY",
        "a gear in a tilted plane",
        "a hole joined to its outline by a slit",
        "three blocks with indices relative to their own vertices",
        "relative indices of normals and textures too",
        "a continued line, the backslash at a number",
        "names in Latin-1, no detector installed",
        "a material file's name in Latin-1",
        "names in Shift-JIS",
        "a byte order mark",
        "tabs",
        "indented lines",
        "line ends of old Macs",
        "decimal commas",
        "comments at the ends of lines",
        "indices that begin at 0",
        "an index beyond the vertices",
    ],
    "formats of meshes": [
        "PLY: strips",
        "PLY: triangles and quads, binary",
        "PLY: bytes behind the end",
        "STL: text with its end in two words",
        "STL: the header says 0 faces",
        "STL: the header says half of the faces",
        "OFF: no first word",
        "glTF: strips and fans",
        "glTF: sparse places",
        "glTF: shortened places (KHR_mesh_quantization)",
        "glTF: compressed by Draco",
        "glTF: compressed by meshopt",
        "glTF: a space in the buffer's name",
    ],
    "copies of faces": [
        "a side of many faces twice, back to back",
        "a hundred faces of a ball back to back",
        "every face twice, back to back",
        "an object duplicated in place and turned",
        "one of two boxes back to back",
    ],
    "output loses precision": [
        "8 m at 4.6 million m (UTM)",
        "a city block in feet (state plane)",
        "a house from the Earth's centre (ECEF)",
        "a screw at a machine's corner",
        "a site grid",
    ],
    "two answers to one question": [
        "a room without a ceiling",
        "a room without a ceiling, turned inwards",
        "a bowl",
        "a dish",
        "a box without its top",
        "a tube without ends",
        "two boxes that overlap",
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
