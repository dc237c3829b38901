# make demo: set everything up in .venv and fit a photograph.
# make test: the same, then style, types and tests.
# make test-cuda-emulated: of these, the CUDA text of the fused ops, run on the CPU.
# make docs: the site, with the API reference and the lessons as notebooks, in out/site.
# make coverage: the tests once more, a third slower, and how much of jgrid/ they run; it fails
# below the figure in pyproject.toml.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --editable

.PHONY: coverage demo docs test test-cuda-emulated

$(VENV)/ready: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[test]'
	touch $@

demo: $(VENV)/ready
	$(RUN) apps/fit_image.py

test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest

test-cuda-emulated: $(VENV)/ready
	$(RUN) -m pytest -m cuda_emulated

docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

coverage: $(VENV)/ready
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report
