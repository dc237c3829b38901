"""The documents: their links lead somewhere, their commands parse, their snippets and the lessons
run, as scripts and as notebooks; the site is built of them."""

import argparse
import ast
import dataclasses
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

from jgrid import cli, data
from jgrid.field import FIELDS, DecoderConfig, FilterConfig

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image

PAGES = sorted(
    path
    for path in [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("data/*.md"),
        *REPOSITORY.glob("docs/**/*.md"),
    ]
)
LESSONS = sorted(REPOSITORY.glob("docs/lessons/*.py"))
APPS = sorted(
    path.stem for path in REPOSITORY.glob("apps/*.py") if "\ndef main(config" in path.read_text()
)
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def without_code(text):
    return re.sub(r"^```.*?^```|^    .*?$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def broken_links(page, text):
    """Relative links, and anchors in them, that lead nowhere."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        anchors = []
        if anchor and path.is_file():
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            ]
        if not path.exists() or (anchor and anchor not in anchors):
            yield target


def width(line):
    """Columns of a line; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


@by_page
def test_pages_are_narrow_enough_to_compare(page):
    """Tables may be wider, and commands, which nobody can break."""
    lines = page.read_text(encoding="utf-8").splitlines()
    wide = [line for line in lines if width(line) > 100 and not re.match(r"\||    .*\.py |`", line)]
    assert not wide


def test_every_page_is_reachable():
    found = set()
    to_do = [REPOSITORY / "README.md"]
    while to_do:
        page = to_do.pop()
        found.add(page)
        links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", without_code(page.read_text(encoding="utf-8")))
        paths = {(page.parent / link).resolve() for link in links if ":" not in link}
        to_do += sorted(path for path in paths & set(PAGES) if path not in found)
        found |= {path for path in paths if path.suffix == ".py"}
    assert found >= {*PAGES, *LESSONS}


@by_page
def test_links_lead_somewhere(page):
    assert not list(broken_links(page, page.read_text(encoding="utf-8")))


def test_broken_links_are_seen(tmp_path):
    (tmp_path / "a.md").write_text(
        "# One thing\n[b](b.md) [x](#one-thing) [y](#two) [z](https://b.c) `[k](k.md)`\n"
    )
    assert list(broken_links(tmp_path / "a.md", (tmp_path / "a.md").read_text())) == [
        "b.md",
        "#two",
    ]


def commands(page):
    """Shell commands of a page, or of the docstring of a script: indented, fenced or inline, that
    start a program of this repository."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        text = ast.get_docstring(ast.parse(text))
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [
        *(line[4:] for line in prose.splitlines() if line.startswith("    ")),
        *(
            line
            for language, block in fenced
            if language != "python"
            for line in block.splitlines()
        ),
        *(code for code in re.findall(r"`([^`\n]+)`", prose) if " " in code),
    ]
    for line in lines:
        if re.match(r"(\S*python|mpirun .*python) (-m \w|\S+\.py\b)|apps/\w+\.py|make \w+", line):
            yield shlex.split(line.partition("  #")[0])


def parse(words):
    """What a command's own parser makes of it; SystemExit or AssertionError where it is wrong."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), (
            words
        )
        return
    while words and not words[0].endswith(".py") and words[0] != "-m":
        words = words[1:]  # mpirun -np 2, variables, the interpreter
    if words[0] == "-m":
        module = words[1]
        arguments = words[2:]
        if module == "jgrid.data":
            data.parse(arguments)
        elif module == "benchmarks":
            import benchmarks.__main__ as benchmarks

            cli.parse(benchmarks.Config, arguments)
        elif module not in ("pip", "pytest", "ruff", "jittor_utils.install_cuda"):
            place = REPOSITORY / module.replace(".", "/")
            files = [place.with_suffix(".py"), place / "__main__.py"]
            assert any(file.is_file() for file in files), module
        return
    script = REPOSITORY / words[0]
    assert script.is_file(), script
    if script.parent.name == "apps":
        app = importlib.import_module(script.stem)
        try:
            cli.parse(app.Command if hasattr(app, "Command") else app.Config, words[1:])
        except SystemExit as stop:
            assert not stop.code, words


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(REPOSITORY / "apps" / f"{name}.py" for name in APPS), *LESSONS],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_commands_parse(page, capsys):
    for words in commands(page):
        parse(words)


@pytest.mark.parametrize(
    "line",
    [
        "python apps/nope.py",
        "python apps/fit_image.py --nope 3",
        "python apps/tables.py paintings",
        "make lunch",
        "python -m jgrid.data x --nope",
    ],
)
def test_wrong_commands_are_seen(line, tmp_path, capsys):
    (tmp_path / "page.md").write_text(f"    {line}\n")
    (words,) = commands(tmp_path / "page.md")
    with pytest.raises((AssertionError, SystemExit, argparse.ArgumentError)):
        parse(words)


def test_commands_are_found():
    assert len(list(commands(REPOSITORY / "docs" / "guide.md"))) > 20
    assert all(list(commands(path)) for path in [REPOSITORY / "README.md", *LESSONS])


def test_every_app_has_a_page():
    assert {path.stem for path in REPOSITORY.glob("docs/apps/*.md")} == set(APPS)


def test_the_page_of_fields_is_true():
    """Every field with its options and their defaults."""
    parts = re.split(r"^## ", (REPOSITORY / "docs" / "fields.md").read_text(), flags=re.MULTILINE)[
        1:
    ]
    pages = {part.splitlines()[0].strip("`"): part for part in parts}
    assert set(pages) == {*FIELDS, "The decoder and the filter network"}

    def options(text):
        return dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \|", text, re.MULTILINE))

    def shown(value):
        return (
            ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(value).items())
            if dataclasses.is_dataclass(value)
            else str(value)
        )

    for kind, cls in FIELDS.items():
        assert options(pages[kind]) == {
            f.name: shown(getattr(cls(), f.name)) for f in dataclasses.fields(cls)
        }, kind
    both = {
        f"{name}.{k}": str(v)
        for name, part in (("decoder", DecoderConfig()), ("filter", FilterConfig()))
        for k, v in dataclasses.asdict(part).items()
    }
    assert options(pages["The decoder and the filter network"]) == both


SNIPPETS = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", SNIPPETS, ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch, capsys):
    """Those of a page one after the other, with fewer steps; an excerpt of a file must be in it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)).save(
        "photo.jpg"
    )
    names = {"__name__": page.stem}
    for before, code in re.findall(
        r"([^\n]*)\n+```python\n(.*?)^```",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    ):
        excerpt = re.search(r"<!-- excerpt: (\S+) -->", before)
        if excerpt:
            there = (REPOSITORY / excerpt[1]).read_text()
            assert all(
                " ".join(line.split()) in " ".join(there.split()) for line in code.splitlines()
            )
        else:
            exec(compile(re.sub(r"steps=\d+", "steps=4", code), str(page), "exec"), names)


def test_the_front_door_is_short():
    """A picture and a prediction in five lines, an index and a kernel of one's own in twenty."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lengths = [len([line for line in code.splitlines() if line]) for code in snippets]
    assert [most >= n for most, n in zip((5, 5, 3, 20), lengths)] == [True] * 4, lengths


def test_a_field_of_ones_own_index_and_kernel_takes_twenty_lines():
    text = (REPOSITORY / "docs" / "extend.md").read_text(encoding="utf-8")
    code = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    assert "AbstractIndex" in code and "AbstractKernel" in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names = {}
    exec(code, names)
    points = np.array([[0.0], [0.3], [1.0]], np.float32)
    values = names["field"].values(points)
    assert values.shape == (3, 1)
    np.testing.assert_allclose(values[0], values[2], atol=1e-6)  # a ring


def lines_of(path, name):
    """How long a file is, or a class, function or method in it."""
    text = path.read_text(encoding="utf-8")
    node = ast.parse(text)
    if name == "all":
        return len(text.splitlines())
    for part in name.split("."):
        (node,) = (inner for inner in node.body if getattr(inner, "name", "") == part)
    return node.end_lineno - min(n.lineno for n in [node, *node.decorator_list]) + 1


def test_a_newcomer_reads_four_files():
    """CONTRIBUTING's way to see how a picture is fitted, about as long as it says."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| `(\S+\.py)` \| (.+) \| (\d+) \|$", text, re.MULTILINE)
    found = [
        sum(lines_of(REPOSITORY / file, name) for name in names.replace("`", "").split(", "))
        for file, names, _ in rows
    ]
    assert 0 < len(rows) <= 4 and sum(found) <= 500, found
    assert all(abs(n - int(said)) <= 20 for n, (*_, said) in zip(found, rows)), found


SMALL = {"STEPS": "40", "SIDE": "32", "POINTS": "5000"}  # of lessons, in tests


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lessons_run(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {**SMALL, "SIDE": "16"} if lesson.stem.startswith("04") else SMALL
    for name, value in small.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(lesson), run_name="__main__")
    drawn = sorted(Path("out/lessons").glob("*.png")) if Path("out").is_dir() else []
    assert capsys.readouterr().out and (drawn or lesson.stem[:2] in ("05", "07"))
    assert all(Image.open(path).size[0] > 100 for path in drawn)


def test_lessons_are_short_and_in_both_languages():
    """A lesson fits on two pages; the paper, without its text, in eighty lines."""
    assert [path.stem[:2] for path in LESSONS] == [f"{n:02}" for n in range(9)]
    for path in LESSONS:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 125
        assert f"Lesson {int(path.stem[:2])}" in text and "课：" in text
    text = LESSONS[0].read_text(encoding="utf-8")
    code = text.split('"""\n', 1)[1]
    assert len([line for line in code.splitlines() if line and line != "# %%"]) <= 80


def notebook_of(lesson):
    """As the site offers it."""
    pytest.importorskip("mkdocs")
    return runpy.run_path(str(REPOSITORY / "docs" / "pages.py"))["notebook_of"](lesson)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_lessons_are_notebooks(lesson):
    """Their text is the first cell; each cell of code can be compiled."""
    first, *cells = notebook_of(lesson).cells
    assert first.cell_type == "markdown" and first.source.startswith("Lesson ")
    assert len(cells) >= 3
    for cell in cells:
        compile(cell.source, str(lesson), "exec")


@pytest.mark.parametrize("lesson", [LESSONS[0], LESSONS[2]], ids=lambda lesson: lesson.stem)
def test_notebooks_run(lesson, tmp_path, monkeypatch):
    notebook = notebook_of(lesson)
    nbclient = pytest.importorskip("nbclient")
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    (shown,) = notebook.cells[-1].outputs
    assert "image/png" in shown["data"]


@pytest.mark.parametrize("name", ["README", "docs/guide"])
def test_both_languages_say_the_same(name):
    """The same headings, commands, code, pictures, tables and numbers in the same order."""
    english, chinese = (
        (REPOSITORY / f"{name}{end}").read_text(encoding="utf-8") for end in (".md", ".cn.md")
    )
    for what in (
        r"^(#+) ",
        r"^    ((?:mpirun|python|make).*?)(?: +#.*)?$",
        r"!\[[^]]*\]\((.*?)\)",
        r"(?m)^\|(.*)\|$",
    ):
        found = [re.findall(what, text, re.MULTILINE) for text in (english, chinese)]
        if what.endswith(r"\|$"):
            found = [[line.count("|") for line in lines] for lines in found]
        assert found[0] == found[1], what
    code = [
        re.sub(r"  #.*", "", "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
        for text in (english, chinese)
    ]
    assert code[0] == code[1]
    numbers = [sorted(re.findall(r"\d+\.\d+", text)) for text in (english, chinese)]
    assert numbers[0] == numbers[1]


def build(folder, site):
    """`make docs`, in a folder with the repository's pages."""
    pytest.importorskip("mkdocs")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_site_is_built(tmp_path):
    """Of all pages, lessons and modules; no link between its pages leads nowhere."""
    done = build(REPOSITORY, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    for page in pages:
        for target in re.findall(
            r'(?:href|src)="([^"#:?]+)[#"?]', page.read_text(encoding="utf-8")
        ):
            assert (page.parent / target).resolve().exists() or page.name == "404.html", (
                page,
                target,
            )
    for path in [page for page in PAGES if page.name not in ("README.md", "index.md")] + LESSONS:
        name = path.relative_to(REPOSITORY).with_suffix("")
        assert (tmp_path / name / "index.html").is_file(), name
    assert len(list(tmp_path.rglob("*.ipynb"))) == len(LESSONS)
    grid = (tmp_path / "reference" / "jgrid.grid" / "index.html").read_text(encoding="utf-8")
    assert "paper, section 3" in grid and "total_variation" in grid


def test_a_broken_link_stops_the_site(tmp_path):
    for name in ("docs", "jgrid"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignore)
    (tmp_path / "data").mkdir()
    for path in [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("data/*.md"),
        REPOSITORY / "mkdocs.yml",
    ]:
        shutil.copy(path, tmp_path / path.relative_to(REPOSITORY))
    with (tmp_path / "docs" / "extend.md").open("a") as page:
        page.write("\n[x](nowhere.md)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0 and "nowhere.md" in done.stderr


def test_the_citation_names_this_version():
    text = (REPOSITORY / "CITATION.cff").read_text()
    assert f"version: {sys.modules['jgrid'].__version__}\n" in text and "2403.20002" in text
