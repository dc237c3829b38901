# make demo: set everything up in .venv and fit a photograph.  make test: the same, then lint and tests.  make docs: the API reference in out/api.
# make coverage: the tests once more, a third slower, and how much of jgrid/ they run; it fails below the figure in pyproject.toml.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
MODULES = $(patsubst %.__init__,%,$(subst /,.,$(basename $(sort $(wildcard jgrid/*.py jgrid/*/*.py)))))

.PHONY: coverage demo docs test

$(VENV)/ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: $(VENV)/ready
	$(RUN) apps/fit_image.py

test: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m pytest

docs: $(VENV)/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	PDOC_ALLOW_EXEC=1 $(RUN) -m pdoc -o out/api $(MODULES)

coverage: $(VENV)/ready
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report
