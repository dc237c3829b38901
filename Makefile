# make demo: set everything up in .venv and fit a photograph.  make test: the same, then lint and tests.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test

$(VENV)/ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: $(VENV)/ready
	$(RUN) apps/fit_image.py

test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m pytest
