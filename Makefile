# `make help` lists what can be done. Every target makes .venv when it is missing; nothing but Python >= 3.11, make and pip is needed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install book test test-unit test-book lint format publish benchmarks clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, found: $$($(PYTHON) --version)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

install: $(STAMP)  ## make .venv with everything pinned in pyproject.toml

book: $(STAMP)  ## run every study's smoke profile here, then build the book into build/html
	$(BIN)/xai book --fresh

test: lint $(STAMP)  ## lint, types and all tests (browser checks too, if a book is built and Chromium is there)
	$(BIN)/python -m pytest

test-unit: $(STAMP)  ## the quick tests only, on all cores
	$(BIN)/python -m pytest -m "not slow and not browser" -n auto --dist loadfile

lint: $(STAMP)  ## style, types, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

format: $(STAMP)  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb

benchmarks: $(STAMP)  ## speed and memory against what a user would pick instead (long; --quick in benchmarks/README.md)
	$(BIN)/python -m benchmarks

clean:  ## remove what was built (not .venv, not runs)
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
