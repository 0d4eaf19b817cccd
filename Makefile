# Every target does its own set-up. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
SHELL_SCRIPTS = .ci/run $(wildcard tools/*.sh)
# common.sh is read with each of them.
REMOTE_SCRIPTS = $(filter-out %/common.sh,$(wildcard src/irflow/remote/*.sh))
# How many test processes run side by side; a file's tests stay together. Each brings servers and hosts of its own.
JOBS ?= 4
# Arguments for pytest, the drill and the benchmarks: make test ARGS="tests/core -k clock"
ARGS ?=

# Without its byte code every start of irflow would be slower than what is measured here.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup check format test drill bench lock clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
	    printf '  make %-8s %s\n' "$$target" "$$text"; done

setup: ## Install what everything else needs: Debian packages, .venv; does nothing when all is there
	@PYTHON=$(PYTHON) tools/setup.sh

check: setup ## Lint, format, types, import boundaries, shell scripts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src tests $(wildcard benchmarks/*.py)
	$(BIN)/lint-imports --no-logo
	shellcheck $(SHELL_SCRIPTS)
	$(if $(REMOTE_SCRIPTS),shellcheck -s sh -x -a -P SCRIPTDIR $(REMOTE_SCRIPTS))

format: setup ## Put imports and layout in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: setup ## Run every test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

drill: setup ## Attack a lab host, contain it, prove it, recover it, and print the scorecard
	$(BIN)/irflow drill $(ARGS)

bench: setup ## Measure against the limits and write bench.json
	$(BIN)/python -m benchmarks $(ARGS)

lock: ## Resolve requirements.lock anew from pyproject.toml
	@PYTHON=$(PYTHON) tools/lock.sh

clean: ## Remove what the other targets made
	rm -rf .venv dist build bench.json .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
