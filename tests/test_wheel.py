"""The wheel: it holds all that jgrid needs, and fits a picture away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile

import jgrid

import pytest
from conftest import REPOSITORY

FIT = """
import numpy as np, jgrid
task = jgrid.ImageTask(np.random.default_rng(0).uniform(size=(16, 24, 3)))
fit = jgrid.fit(task, jgrid.HashGridConfig(levels=2, finest=8), steps=3)
print(jgrid.__file__, fit.result["psnr"])
"""


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as setuptools leaves its work in the source, where the next wheel would
    take it up."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(
        REPOSITORY / "jgrid", source / "jgrid", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(source))
    (found,) = source.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "jgrid").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected == {name for name in files if name.startswith("jgrid/")}
    assert any(name.endswith(".h") for name in expected) and "jgrid/py.typed" in expected


def test_the_wheel_names_its_version_and_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(name).decode()
    assert f"\nVersion: {jgrid.__version__}\n" in metadata
    assert "\nRequires-Dist: jittor==1.3.11.0\n" in metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert all("extra ==" in line for line in needed if "scikit-learn" in line)


def test_the_wheel_fits_a_picture_away_from_the_checkout(wheel, tmp_path):
    """In a folder of its own, before this environment's: the environment's Jittor is compiled."""
    folder = tmp_path / "site"
    pip("install", str(wheel), "--no-deps", "--target", str(folder))
    done = subprocess.run(
        [sys.executable, "-c", FIT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    module, psnr = done.stdout.split()[-2:]
    assert module == str(folder / "jgrid" / "__init__.py") and 0 < float(psnr) < 60
