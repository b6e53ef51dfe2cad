# Everything that people and CI run. Needed: git, make and Python 3.11 or newer; uv is used where it is present.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := $(CURDIR)/.demo
HERE := AUDIT_STATE_DIR="$(DEMO)/state" AUDIT_REPORTS_DIR="$(DEMO)/reports"

.PHONY: help setup demo dev test test-nightly lint format bench pictures constraints clean

help:  ## Show these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## Make .venv with the pinned versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv: a minute or two the first time ..."
	if command -v uv >/dev/null; then
	  uv venv --quiet --allow-existing --python "$(PYTHON)" .venv
	  uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	else
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	  "$(PYTHON)" -m venv .venv
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	fi
	touch $(READY)

demo: $(READY)  ## Record a small real analysis, report on it, run it again
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/audit-dagster demo --directory "$(DEMO)"

dev: $(READY)  ## Open Dagster on 127.0.0.1:3000 over the demo's data
	@exec env $(HERE) $(BIN)/audit-dagster dev

test: $(READY)  ## Run the whole suite, its chaos last and alone
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not chaos"
	$(BIN)/python -m pytest -m chaos

test-nightly: $(READY)  ## Run the suite with the long profiles
	@export AUDIT_TEST_PROFILE=nightly
	$(BIN)/python -m pytest -m "not chaos"
	$(BIN)/python -m pytest -m chaos

lint: $(READY)  ## Style, types, layers
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Mend the style
	@$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## Print the ratios of docs/benchmarks.md
	@$(BIN)/python -m audit_dagster_tests.bench

pictures: demo  ## Make the README's pictures anew from the demo, in a browser
	@$(HERE) $(BIN)/python -m audit_dagster_tests.pictures docs/images
	AUDIT_PICTURES="$(CURDIR)/docs/images" $(BIN)/python -m pytest --quiet audit_dagster_tests/daemons/test_ui.py audit_dagster_tests/test_demo.py

constraints: $(READY)  ## Pin what is installed now
	@{ head -n 1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable; } > .constraints.new
	mv .constraints.new constraints.txt

clean:  ## Remove what these targets made
	@if [ -x $(BIN)/audit-dagster ] && [ -d "$(DEMO)/state" ]; then $(HERE) $(BIN)/audit-dagster stop-server; fi
	rm -rf .venv .demo dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
