"""The house rules that a machine can hold: floors, lengths, hints, and who may speak of flags."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

LIBRARY = sorted(REPOSITORY.glob("jgrid/**/*.py"))
APPS = sorted(REPOSITORY.glob("apps/*.py"))
LONGEST_LINE = 100
LONGEST_FUNCTION = 60
SPEAK_OF_FLAGS = {
    "cli.py",
    "runtime.py",
    "data.py",
}  # commands of their own, with flags of their own


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]


def public(body):
    """The public functions and methods of a module or class, those of public classes included."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def hinted(function):
    arguments = function.args
    named = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    missing = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
    return not missing and function.returns is not None


def test_imports_keep_to_the_floors():
    """pyproject.toml lists the floors; what a file imports lies on lower ones, and nothing goes
    in circles."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*LIBRARY, *APPS], ids=name_of)
def test_no_line_is_long(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [n for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]


@pytest.mark.parametrize("path", [*LIBRARY, *APPS], ids=name_of)
def test_no_function_is_long_without_a_reason(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    for function in functions(path):
        text = lines[function.lineno - 1 : function.end_lineno]
        if len(text) > LONGEST_FUNCTION:
            assert any("# long because" in line for line in text), (function.name, len(text))


@pytest.mark.parametrize("path", [*LIBRARY, *APPS], ids=name_of)
def test_one_assignment_a_line(path):
    """`a, b = 1, 2` hides two thoughts; unpacking and swapping are one."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            value = node.value
            if isinstance(value, ast.Tuple):
                targets = {ast.unparse(target) for target in node.targets[0].elts}
                read = {ast.unparse(n) for n in ast.walk(value) if isinstance(n, ast.expr)}
                assert targets & read, f"{name_of(path)}:{node.lineno} {ast.unparse(node)}"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_public_functions_have_hints(path):
    bare = [f.name for f in public(tree(path).body) if not hinted(f)]
    assert not bare


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_names_arguments_and_not_flags(path):
    """The command line adds its flags to a message; a user of the library knows none."""
    if path.name in SPEAK_OF_FLAGS:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Raise):
            assert not re.search(r"--[a-z]", ast.unparse(node)), f"{name_of(path)}:{node.lineno}"
