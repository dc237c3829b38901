"""The entry for old installers; what jgrid is and what it needs is in pyproject.toml."""

from setuptools import setup

setup()
