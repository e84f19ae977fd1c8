# make demo: install and generate.   make test: every test.   make check: the fast loop.
# make lint: style and types alone.  make experiments: docs/results.md, docs/backbones.md.
# make docs: the documentation site, in docs/_build.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The version that is tested; installed first, so that no range below asks for another one.
TORCH ?= torch==2.13.0
# Two workers of one thread each are faster than threads that wait for each other. A file stays with
# one, which makes its fixtures once; files come in the order of tests/conftest.py.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint check docs experiments clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py

test: $(VENV)/developing
	$(PYTEST)

lint: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

check: lint
	$(PYTEST) -m "not slow"

# Strict: a link to nowhere, or a public name without an explanation, is an error. Needs no network.
docs: $(VENV)/developing
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W -n --keep-going -q docs docs/_build
	@echo "open docs/_build/index.html"

# From the figures in experiments/kept; what is missing there is trained and measured anew.
experiments: $(VENV)/developing
	OMP_NUM_THREADS=1 $(BIN)/python experiments/results.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -e ".[train,eval,text]"
	touch $@

$(VENV)/developing: $(VENV)/installed
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) outputs docs/_build
