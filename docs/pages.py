"""What the site is made of: a hook of MkDocs, see mkdocs.yml.

The site mirrors the repository, so a link that leads somewhere here leads there as well. Two kinds
of pages are made: a page and a notebook of each lesson, and the reference, a page of each module.
"""

import ast
import re
from pathlib import Path

import jupytext
from mkdocs.structure.files import File
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = ("*.md", "data/*.md", "docs/**/*.md", "docs/images/*", "CITATION.cff")


def on_config(config):
    """The reference's part of the navigation: its index, then the modules by name."""
    pages = ["reference/index.md", *(f"reference/{module}.md" for module in modules())]
    config.nav = [{"Reference": pages} if "Reference" in entry else entry for entry in config.nav]
    return config


def on_files(files, config):
    """The pages of the repository in the place of `docs_dir`'s, and those that are made."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(path for pattern in WRITTEN for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, content in made_pages():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to a lesson's script lead to its page."""
    return re.sub(r"(lessons/\d\d_\w+)\.py\)", r"\1.md)", markdown)


def made_pages():
    """(name, text) of each page and notebook that is made."""
    for path in sorted(ROOT.glob("docs/lessons/*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        yield f"{name}.md", lesson_page(path)
        yield f"{name}.ipynb", jupytext.writes(notebook_of(path), fmt="ipynb")
    yield "reference/index.md", reference_index()
    for module in modules():
        yield f"reference/{module}.md", f"# {module}\n\n::: {module}\n"


def notebook_of(path):
    """A lesson as a notebook, which shows at its end what it drew."""
    notebook = jupytext.read(path)
    picture = f"{path.stem[:2]}.png"
    if picture in path.read_text(encoding="utf-8"):
        code = f'from IPython.display import Image\n\nImage("out/lessons/{picture}")'
        notebook.cells.append(new_code_cell(code))
    return notebook


def lesson_page(path):
    """A lesson as a page: its text as it stands, its code in fences."""
    first, *cells = jupytext.read(path).cells
    title, _, text = first.source.partition("\n")
    parts = [f"# {title.rstrip('.')}", f"[As a notebook]({path.stem}.ipynb)", text.strip()]
    parts += [f"```python\n{cell.source}\n```" for cell in cells]
    return "\n\n".join(parts) + "\n"


def modules():
    """Every module of jgrid by its dotted name, a package before what is in it."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "jgrid").rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def reference_index():
    """All modules, each with the first paragraph of its docstring."""
    lines = ["# Reference\n", "Every module of the library, from its docstrings.\n"]
    lines += ["| module | what |", "|---|---|"]
    for name in modules():
        path = ROOT / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = " ".join(docstring.partition("\n\n")[0].split()).replace("|", "\\|")
        lines.append(f"| [{name}]({name}.md) | {first} |")
    return "\n".join(lines) + "\n"
