# make demo: set everything up in .venv and fit a photograph.  make test: the same, then lint and tests.  make docs: the API reference in out/api.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
MODULES = $(patsubst %.__init__,%,$(subst /,.,$(basename $(sort $(wildcard jgrid/*.py jgrid/*/*.py)))))

.PHONY: demo test docs

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
