# make run: environment, install, quickstart.  make test: the whole suite.  make check: what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := graph selector jobs tests benchmarks examples

.PHONY: install run test test-fast check format lint types layers wheel clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: install
	$(BIN)/prereq run configs/quickstart.yaml

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

test-fast: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not ray'

format: install
	$(BIN)/ruff format $(FOLDERS)
	$(BIN)/ruff check --fix $(FOLDERS)

lint: install
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/ruff check $(FOLDERS)

types: install
	mkdir -p .typecheck/prereq
	for folder in graph selector jobs; do ln -sfn ../../$$folder .typecheck/prereq/$$folder; done
	$(BIN)/mypy

layers: install
	$(BIN)/lint-imports

check: lint types layers test

wheel: install
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) .typecheck build dist *.egg-info
