# `make` alone prints this help.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PRESET ?= geometric_lambda
ARGS ?=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES = setup.cfg setup.py constraints.txt pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup train web test unit check fix bench clean

help:  ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(VENV)/.web-installed: $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing MoE Hub into $(VENV); the first time this takes a few minutes"
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --editable '.[web]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.web-installed
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

.PHONY: browser
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "Installing chromium with the system's package manager"; \
	    if command -v apt-get >/dev/null; then \
	      SUDO=$$(test "$$(id -u)" = 0 || echo sudo); \
	      $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq chromium >/dev/null; \
	    else echo "Install chromium, then run this again" >&2; exit 1; fi; }

setup: $(VENV)/.web-installed  ## Make .venv and install the package with its web extras

train: $(VENV)/.web-installed  ## Train PRESET=geometric_lambda; ARGS="--set train.max_steps=50" passes flags on
	@$(BIN)/python -m moe_hub.train --preset $(PRESET) $(ARGS)

web: $(VENV)/.web-installed  ## Open the dashboard on http://127.0.0.1:8050
	@$(BIN)/python -m moe_hub.web $(ARGS)

test: $(VENV)/.test-installed browser  ## Run all tests, browser and training tests included
	@$(BIN)/python -m pytest $(ARGS)

unit: $(VENV)/.test-installed  ## Run the unit tests alone (under a minute)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not browser and not training" $(ARGS)

check: $(VENV)/.test-installed  ## Formatter, linter, types, import layers: changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(VENV)/.test-installed  ## Format and apply safe lint fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.test-installed  ## Benchmarks: a table of ratios, and JSON in bench-results/
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove .venv and caches; runs stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
