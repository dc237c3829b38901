# make demo: set everything up in .venv and fit a photograph.  make test: the same, then lint and tests.
# make coverage: the tests once more, a third slower, and how much of jgrid/ they run; it fails below the figure in pyproject.toml.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: coverage demo test

$(VENV)/ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: $(VENV)/ready
	$(RUN) apps/fit_image.py

test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m pytest

coverage: $(VENV)/ready
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report
